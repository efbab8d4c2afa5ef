//! What `docs/operate/failures.md` says that the operator sees is what the engine says.

use std::fs;
use std::path::{Path, PathBuf};

/// Letters of a text below which it says too little to be looked for.
const LETTERS_MIN: usize = 4;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn sources(folder: &Path, all: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

/// The quoted texts of a cell. A text that holds a backtick itself stands between two.
fn quoted(cell: &str) -> Vec<String> {
    let mut texts = Vec::new();
    let mut rest = cell;
    while let Some(start) = rest.find('`') {
        let ticks = if rest[start..].starts_with("``") { "``" } else { "`" };
        let text = &rest[start + ticks.len()..];
        let Some(end) = text.find(ticks) else { break };
        texts.push(text[..end].to_owned());
        rest = &text[end + ticks.len()..];
    }
    texts
}

/// The parts of a text that do not depend on the case: what stands between numbers, names and places left open.
fn parts(text: &str) -> Vec<&str> {
    let parts = text.split(|c: char| "…`:()".contains(c) || c.is_ascii_digit()).map(str::trim);
    parts.filter(|part| part.chars().filter(|c| c.is_alphabetic()).count() >= LETTERS_MIN).collect()
}

fn word(text: &str) -> String {
    text.to_lowercase().replace('_', "")
}

#[test]
fn what_the_failures_page_quotes_is_what_the_engine_says() {
    let mut code = String::new();
    for krate in ["core", "store", "engine", "orbit"] {
        sources(&root().join("crates").join(krate).join("src"), &mut code);
    }
    let words = word(&code);
    let page = fs::read_to_string(root().join("docs/operate/failures.md")).unwrap();
    let (mut looked_at, mut unknown) = (0, Vec::new());
    for row in page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---")) {
        let Some(cell) = row.split('|').nth(1) else { continue };
        for text in quoted(cell) {
            for part in parts(&text) {
                looked_at += 1;
                // A word of a record may stand in the code as the variant that it is written from.
                let is_said = code.contains(part) || (!part.contains(' ') && words.contains(&word(part)));
                if !is_said {
                    unknown.push(format!("`{part}` of {row}"));
                }
            }
        }
    }
    assert!(looked_at > 50, "only {looked_at} texts were found: the page is written in another way");
    assert!(unknown.is_empty(), "quoted, and said nowhere: {unknown:#?}");
}
