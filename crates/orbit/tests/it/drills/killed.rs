//! `kill -9` in the middle of giving back, backing up and restoring: nothing is lost, the log verifies, and the command can be made again.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::retention::{files, later, later_command};
use crate::home::{Home, until};
use crate::receiver::Receiver;

/// Moments at which a command is killed, spread over the time that it took undisturbed.
const MOMENTS: u32 = 8;

/// Starts a command and kills it this long afterwards, if it has not ended by then.
fn killed(mut command: Command, after: Duration) {
    let started = Instant::now();
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("the moment, or the end", || started.elapsed() >= after || child.try_wait().unwrap().is_some());
    _ = child.kill();
    child.wait().unwrap();
}

fn timed<T>(act: impl FnOnce() -> T) -> (T, Duration) {
    let started = Instant::now();
    let answer = act();
    (answer, started.elapsed())
}

fn verifies(home: &Home) {
    for namespace in ["lab", "system"] {
        let verified = home.run(&["log", "verify", "-n", namespace]);
        assert_eq!(verified.code, 0, "{verified:?}");
    }
}

/// Runs whose payloads are files, with evidence, and deliveries that arrived.
fn used(home: Home, receiver: &Receiver) -> Home {
    home.processor("two", "cat; seq 20000; echo said >&2", "");
    home.endpoint("archive", &receiver.url("/in"), "");
    home.profile("plain", 1, "distribution_map: [{ endpoint: archive }]\n");
    for _ in 0..4 {
        assert_eq!(home.run(&["run"]).code, 0);
    }
    home
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn gc_that_is_killed_goes_on_where_it_was() {
    let receiver = Receiver::accepting();
    let home = used(Home::lab(6), &receiver);
    let before = home.records();
    let blobs = home.path("data/lab/blobs");
    assert!(files(&blobs) >= 4);
    let (dry, span) = timed(|| later(&home, 100, &["gc", "--dry-run", "--json"]));
    assert_eq!(dry.code, 0, "{dry:?}");
    for moment in 1..=MOMENTS {
        killed(later_command(&home, 100, &["gc"]), span * 3 * moment / (2 * MOMENTS));
        verifies(&home);
    }
    let last = later(&home, 100, &["gc", "--json"]);
    assert!([0, 5].contains(&last.code), "{last:?}");
    assert_eq!(later(&home, 100, &["gc"]).code, 5, "nothing is left");
    assert_eq!(files(&blobs), 0);
    verifies(&home);
    let after = home.records();
    for (old, new) in before.iter().zip(&after) {
        let gone = new["body_class"] == "evidence";
        assert_eq!((new["body"].is_null(), new["dropped_at"].is_string()), (gone, gone), "{new}");
        assert!(gone || old == new, "{new}");
    }
    assert_eq!(home.run(&["run"]).code, 0, "new work goes on");
}

#[test]
fn a_backup_that_is_killed_is_whole_or_none() {
    let receiver = Receiver::accepting();
    let home = used(Home::lab_on_files(6), &receiver);
    let before = home.records();
    let backups = tempfile::tempdir().unwrap();
    let (made, span) = timed(|| home.run(&["backup", text(&backups.path().join("whole"))]));
    assert_eq!(made.code, 0, "{made:?}");
    for moment in 1..=MOMENTS {
        let folder = backups.path().join(moment.to_string());
        killed(home.command(&["backup", text(&folder)]), span * moment / MOMENTS);
        verifies(&home);
        let partial = backups.path().join(format!("{moment}.partial"));
        if partial.exists() {
            assert!(!folder.exists());
            let refused = home.run(&["backup", text(&folder)]);
            assert!(refused.code != 0 && refused.stderr.contains("hint:"), "{refused:?}");
            fs::remove_dir_all(&partial).unwrap();
        }
        if !folder.exists() {
            let again = home.run(&["backup", text(&folder)]);
            assert_eq!(again.code, 0, "{again:?}");
        }
        let checked = home.run(&["restore", text(&folder), "--check"]);
        assert_eq!(checked.code, 0, "{checked:?}");
    }
    assert_eq!(home.records()[..before.len()], before[..]);
}

#[test]
fn a_restore_that_is_killed_is_whole_or_none_and_keeps_its_halt() {
    let receiver = Receiver::accepting();
    let home = used(Home::lab_on_files(6), &receiver);
    let backups = tempfile::tempdir().unwrap();
    let folder = backups.path().join("one");
    assert_eq!(home.run(&["backup", text(&folder)]).code, 0);
    let (runs, arrived) = (home.json(&["runs", "list"], 0)["items"].clone(), receiver.requests().len());
    let first = Home::empty();
    let (restored, span) = timed(|| first.run(&["restore", text(&folder)]));
    assert_eq!(restored.code, 0, "{restored:?}");
    for moment in 1..=MOMENTS {
        let elsewhere = Home::empty();
        killed(elsewhere.command(&["restore", text(&folder)]), span * moment / MOMENTS);
        let again = elsewhere.run(&["restore", text(&folder)]);
        if again.code != 0 && again.stderr.contains("never finished") {
            assert!(again.stderr.contains("hint: remove what is in it"), "{again:?}");
            for entry in fs::read_dir(elsewhere.root()).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
            }
            let again = elsewhere.run(&["restore", text(&folder)]);
            assert_eq!(again.code, 0, "{again:?}");
        }
        // Whole, whether by the one that was killed or by the one after it: and it stays halted over starts until somebody resumes it.
        for _ in 0..2 {
            let refused = elsewhere.run(&["run"]);
            assert!(refused.code == 4 && refused.stderr.contains("restored from backup"), "{refused:?}");
        }
        assert_eq!(elsewhere.json(&["runs", "list"], 0)["items"], runs);
        verifies(&elsewhere);
        let told = elsewhere.run(&["log", "tail", "-n", "system", "--json"]).stdout;
        let halts = told.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        assert_eq!(halts.filter(|record| record["kind"] == "halted").count(), 1, "{told}");
    }
    assert_eq!(receiver.requests().len(), arrived, "nothing is sent twice");
}
