//! The house rules that neither the compiler nor clippy knows: arrows between crates, sizes, module docs, words.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;

/// Words of one domain or another: the crates know none of them.
const DOMAIN_WORDS: [&str; 14] = [
    "video",
    "audio",
    "song",
    "tweet",
    "podcast",
    "youtube",
    "subtitle",
    "narration",
    "clip",
    "movie",
    "blog",
    "invoice",
    "newsletter",
    "episode",
];

/// Names that say nothing.
const EMPTY_NAMES: [&str; 8] = ["util", "utils", "common", "helpers", "manager", "imp", "types", "misc"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn files(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            files(&path, extension, found);
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
}

fn sources(below: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for krate in ["core", "store", "engine", "orbit"] {
        let folder = root().join("crates").join(krate).join(below);
        if folder.is_dir() {
            files(&folder, "rs", &mut found);
        }
    }
    found.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn arrows_between_crates_point_up() {
    let check = |krate: &str, allowed: &[&str]| {
        let manifest = fs::read_to_string(root().join("crates").join(krate).join("Cargo.toml")).unwrap();
        // Tests may use what tests share.
        let own = manifest.split("[dev-dependencies]").next().unwrap();
        let used: BTreeSet<_> = own
            .lines()
            .filter_map(|line| line.split(['.', ' ']).next())
            .filter(|word| word.starts_with("orbit-"))
            .collect();
        let used: Vec<_> = used.into_iter().collect();
        assert_eq!(used, allowed, "dependencies of crates/{krate}");
    };
    check("core", &[]);
    check("store", &["orbit-core"]);
    check("engine", &["orbit-core", "orbit-store"]);
    check("orbit", &["orbit-core", "orbit-engine", "orbit-store"]);
}

#[test]
fn the_core_is_pure() {
    let manifest = fs::read_to_string(root().join("crates/core/Cargo.toml")).unwrap();
    for forbidden in ["tokio", "rusqlite", "getrandom", "hyper", "nix", "async-trait", "tempfile"] {
        let own = manifest.split("[dev-dependencies]").next().unwrap();
        assert!(!own.contains(forbidden), "`orbit-core` depends on `{forbidden}`");
    }
    for (path, text) in
        sources("src").into_iter().filter(|(path, _)| path.starts_with(root().join("crates/core")))
    {
        for forbidden in
            ["std::fs", "std::net", "std::process", "std::thread", "async fn", "SystemTime", "Instant::now"]
        {
            assert!(!text.contains(forbidden), "{} uses `{forbidden}`", path.display());
        }
    }
}

#[test]
fn only_the_store_speaks_sql() {
    for (path, text) in sources("src") {
        if !path.starts_with(root().join("crates/store")) {
            assert!(!text.contains("rusqlite"), "{} speaks to the database", path.display());
        }
    }
}

#[test]
fn files_and_functions_are_small() {
    for below in ["src", "tests"] {
        for (path, text) in sources(below) {
            let lines = text.lines().count();
            assert!(
                lines <= FILE_LINES_MAX,
                "{} has {lines} lines, at most {FILE_LINES_MAX}",
                path.display()
            );
            let of_tests = path
                .components()
                .any(|part| part.as_os_str().to_str().is_some_and(|part| part.starts_with("tests")));
            if below == "src" && !of_tests {
                functions_are_small(&path, &text);
            }
        }
    }
}

/// Counts from `fn` to the closing brace at the same indentation, which rustfmt guarantees.
fn functions_are_small(path: &Path, text: &str) {
    // Tables in tests may be as long as what they list.
    let lines: Vec<_> = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).collect();
    for (start, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let indentation = &line[..line.len() - code.len()];
        let is_function =
            ["fn ", "pub fn ", "async fn ", "pub async fn ", "const fn ", "pub const fn ", "pub(crate) fn "]
                .iter()
                .any(|word| code.starts_with(word));
        if !is_function {
            continue;
        }
        let end = format!("{indentation}}}");
        let length = lines[start..].iter().position(|line| *line == end).map_or(0, |length| length + 1);
        assert!(
            length <= FUNCTION_LINES_MAX,
            "{}:{}: a function of {length} lines, at most {FUNCTION_LINES_MAX}",
            path.display(),
            start + 1
        );
    }
}

#[test]
fn every_module_says_what_it_is_for() {
    for (path, text) in sources("src") {
        assert!(text.starts_with("//! "), "{} does not begin with a module doc", path.display());
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(!EMPTY_NAMES.contains(&name), "{}: the name says nothing", path.display());
    }
}

#[test]
fn no_domain_word_in_the_crates() {
    for (path, text) in sources("src") {
        for (number, line) in text.lines().enumerate() {
            let words = line.split(|c: char| !c.is_alphanumeric()).map(str::to_lowercase);
            for word in words {
                assert!(
                    !DOMAIN_WORDS.contains(&word.trim_end_matches('s')),
                    "{}:{}: `{word}` belongs to a domain",
                    path.display(),
                    number + 1
                );
            }
        }
    }
}

#[test]
fn nothing_is_left_open() {
    for (path, text) in sources("src") {
        for left in ["todo!", "unimplemented!", "FIXME", "XXX", "#[ignore]", "#[allow("] {
            assert!(!text.contains(left), "{} has `{left}`", path.display());
        }
    }
}

#[test]
fn the_links_between_documents_lead_somewhere() {
    let mut pages = vec![root().join("README.md"), root().join("ARCHITECTURE.md"), root().join("STYLE.md")];
    files(&root().join("docs"), "md", &mut pages);
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            assert!(
                page.parent().unwrap().join(target).exists(),
                "{}: `{link}` leads nowhere",
                page.display()
            );
        }
    }
}

#[test]
fn generated_pages_are_current() {
    let mut stale = Vec::new();
    let mut compare = |path: PathBuf, text: &str| {
        if fs::read_to_string(&path).is_ok_and(|found| found == text) {
            return;
        }
        // What is generated is written, so that the next run passes and the change can be reviewed.
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        stale.push(path);
    };
    for (name, text) in orbit::reference::pages() {
        compare(root().join("docs/reference").join(name), &text);
    }
    assert!(stale.is_empty(), "these were not current and are now written anew: {stale:?}");
}
