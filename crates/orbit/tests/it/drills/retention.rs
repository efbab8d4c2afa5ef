//! A hundred days later: what is too old leaves, the log stays whole, and who asks for what is gone is told.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::clock;
use crate::home::{Answer, Home};

/// As the command would answer so many days from now.
pub(super) fn later(home: &Home, days: u32, args: &[&str]) -> Answer {
    Answer::of(later_command(home, days, args).output().unwrap())
}

pub(super) fn later_command(home: &Home, days: u32, args: &[&str]) -> Command {
    let mut command = home.command(args);
    command.env("LD_PRELOAD", clock::library()).env("FAKETIME", format!("+{days}d"));
    command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("NO_FAKE_STAT", "1");
    command
}

fn dropped(answer: &Answer) -> Value {
    assert_eq!(answer.code, 0, "{answer:?}");
    serde_json::from_str::<Value>(&answer.stdout).unwrap()["dropped"].clone()
}

pub(super) fn files(folder: &Path) -> usize {
    let below = |path: &Path| if path.is_dir() { files(path) } else { 1 };
    fs::read_dir(folder).unwrap().map(|entry| below(&entry.unwrap().path())).sum()
}

#[test]
fn what_is_too_old_leaves_and_the_log_stays_whole() {
    let home = Home::lab(5);
    // One payload is a file, and there is evidence.
    home.processor("two", "cat; seq 20000; echo said >&2", "");
    assert_eq!(home.run(&["run"]).code, 0);
    let run = home.json(&["runs", "list"], 0)["items"][0]["run_id"].as_str().unwrap().to_owned();
    let shown = home.json(&["runs", "show", &run], 0);
    let digest = shown["steps"][1]["digest"].as_str().unwrap();
    let blobs = home.path("data/lab/blobs");
    fs::create_dir_all(blobs.join("ab")).unwrap();
    fs::write(blobs.join("ab").join("cd".repeat(31)), "a crash left this").unwrap();
    assert!(files(&blobs) >= 2);
    let records = home.records();
    let young = later(&home, 29, &["gc", "--dry-run", "--json"]);
    assert_eq!(young.code, 5, "{young:?}");
    let would = dropped(&later(&home, 100, &["gc", "--dry-run", "--json"]));
    assert_eq!(home.records(), records, "nothing was changed");
    let did = dropped(&later(&home, 100, &["gc", "--json"]));
    assert_eq!((&did["evidence"], &did["artifacts"]), (&would["evidence"], &would["artifacts"]));
    assert_eq!(did["files"], json!({ "count": 1, "bytes": 17 }));
    assert!(did["evidence"]["count"].as_u64() >= Some(1), "{did}");
    assert_eq!(later(&home, 100, &["gc"]).code, 5, "nothing is left");
    assert_eq!(files(&blobs), 0);
    let after = home.records();
    assert_eq!(after.len(), records.len() + 2);
    for (old, new) in records.iter().zip(&after) {
        let gone = new["body_class"] == "evidence";
        assert_eq!((new["body"].is_null(), new["dropped_at"].is_string()), (gone, gone), "{new}");
        assert!(gone || old == new, "{new}");
    }
    let told = home.run(&["log", "tail", "-n", "lab"]).stdout;
    assert!(told.contains("(dropped "), "{told}");
    let verified = home.run(&["log", "verify"]);
    assert_eq!(verified.code, 0, "{verified:?}");
    let got = home.run(&["artifacts", "get", digest]);
    assert!(
        got.code == 1 && got.stderr.contains("was dropped at") && got.stderr.contains("retention.artifacts"),
        "{got:?}"
    );
    let again = home.run(&["runs", "retry", &run, "--from", "tier3"]);
    assert!(
        again.code != 0 && again.stderr.contains(digest) && again.stderr.contains("retention.artifacts"),
        "{again:?}"
    );
    assert_eq!(home.run(&["run"]).code, 0, "new work goes on");
}

#[test]
fn databases_are_compacted_while_nobody_has_them_open() {
    let home = Home::lab_on_files(5);
    assert_eq!(home.run(&["run"]).code, 0);
    let file = home.path("data/lab/orbit.db");
    // As a file from before `auto_vacuum` that held much more once.
    let old = rusqlite::Connection::open(&file).unwrap();
    old.execute_batch(
        "PRAGMA journal_mode = delete; PRAGMA auto_vacuum = none; VACUUM; CREATE TABLE padding (x BLOB);
        INSERT INTO padding VALUES (zeroblob(3000000)); DROP TABLE padding;",
    )
    .unwrap();
    drop(old);
    let records = home.records();
    let serving = home.serve();
    let refused = home.run(&["gc", "--compact"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        refused.stderr.contains("holds this home") && refused.stderr.contains("hint: stop it first"),
        "{refused:?}"
    );
    assert_eq!(serving.stop(), 0);
    assert!(fs::metadata(&file).unwrap().len() > 3_000_000);
    assert_eq!(home.run(&["gc", "--compact", "-n", "elsewhere"]).code, 2);
    let done = home.json(&["gc", "--compact"], 0);
    let names: Vec<_> =
        done["compacted"].as_array().unwrap().iter().map(|one| one["namespace"].clone()).collect();
    assert_eq!(names, ["lab", "system"]);
    let lab = &done["compacted"][0];
    assert!(
        lab["bytes_before"].as_u64() > Some(3_000_000) && lab["bytes_after"].as_u64() < Some(1_000_000),
        "{done}"
    );
    assert_eq!(fs::metadata(&file).unwrap().len(), lab["bytes_after"]);
    let told = home.run(&["gc", "--compact", "-n", "lab"]);
    assert!(
        told.code == 0 && told.stdout.starts_with("lab: ") && told.stdout.contains(", before "),
        "{told:?}"
    );
    assert_eq!(home.records()[..records.len()], records);
    assert_eq!(home.run(&["log", "verify"]).code, 0);
    assert_eq!(home.run(&["run"]).code, 0);
}
