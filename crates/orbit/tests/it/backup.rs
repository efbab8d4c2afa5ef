//! Backups while runs are in flight, restored elsewhere; and every damage named.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use orbit::backup::Manifest;
use serde_json::Value;

use crate::home::{Answer, Home, until};
use crate::receiver::{Receiver, Reply};

/// Runs that are fired while the backup is made.
const RUNS: usize = 12;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A home that delivers to this address.
fn delivering(url: &str) -> Home {
    let home = Home::lab_on_files(RUNS + 2);
    home.endpoint("archive", url, "retry: { attempts: 20, schedule: [100ms] }\nbreaker: { failures: 100 }\n");
    home.write("namespaces/lab/asset.bin", "an asset");
    let more = "asset_bindings: { it: asset.bin }\ndistribution_map: [ { endpoint: archive } ]\n";
    home.profile("plain", 1, more);
    home
}

fn keys(receiver: &Receiver) -> Vec<String> {
    receiver.requests().iter().map(|request| request.headers["idempotency-key"].clone()).collect()
}

#[test]
fn made_under_load_and_restored_elsewhere() {
    let open = Arc::new(AtomicBool::new(false));
    let is_open = Arc::clone(&open);
    let receiver = Receiver::start(move |_, _| {
        let status = if is_open.load(Ordering::SeqCst) { 201 } else { 503 };
        Reply::Status(status, "", "")
    });
    let home = delivering(&receiver.url("/in"));
    let backups = tempfile::tempdir().unwrap();
    let folder = backups.path().join("one");
    let serving = home.serve();
    assert_eq!(home.run(&["run", "--no-wait"]).code, 0);
    until("a delivery to be tried", || !receiver.requests().is_empty());
    let owed = keys(&receiver)[0].clone();
    // Every run of the loop is in some state when the database is copied.
    let made = std::thread::scope(|scope| {
        scope.spawn(|| (0..RUNS).for_each(|_| assert_eq!(home.run(&["run", "--no-wait"]).code, 0)));
        home.json(&["backup", text(&folder)], 0)
    });
    assert_eq!(made["with_secrets"], false);
    // What was owed is sent now, after the backup.
    open.store(true, Ordering::SeqCst);
    let finished = |home: &Home, count: usize| {
        let runs = home.json(&["runs", "list", "--limit", "100"], 0);
        let runs = runs["items"].as_array().unwrap();
        runs.len() >= count && runs.iter().all(|run| run["outcome"] == "succeeded")
    };
    until("every run to succeed", || finished(&home, RUNS + 1));
    let told = home.records().into_iter().find(|record| record["kind"] == "backup_made").unwrap();
    let entry = made["namespaces"].as_array().unwrap().iter().find(|one| one["namespace"] == "lab").unwrap();
    assert_eq!((&told["body"]["size"], &told["body"]["root"]), (&entry["log_size"], &entry["log_root"]));
    assert_eq!(serving.stop(), 0);
    let sent = keys(&receiver);

    assert_eq!(home.run(&["restore", text(&folder), "--check"]).code, 0);
    let elsewhere = Home::empty();
    let restored = elsewhere.json(&["restore", text(&folder)], 0);
    let of_lab =
        restored["namespaces"].as_array().unwrap().iter().find(|one| one["namespace"] == "lab").unwrap();
    assert!(of_lab["owed"]["count"].as_u64().unwrap() >= 1, "{restored}");
    let named = of_lab["owed"]["deliveries"].as_array().unwrap();
    assert!(named.iter().any(|delivery| delivery["delivery_id"] == *owed), "{restored}");
    let serving = elsewhere.serve();
    let status = elsewhere.json(&["status"], 4);
    let reason = status["halt"]["reason"].as_str().unwrap();
    assert!(reason.starts_with("restored from backup of 20"), "{reason}");
    assert_eq!(receiver.requests().len(), sent.len(), "nothing leaves before somebody looked");
    assert_eq!(elsewhere.run(&["resume"]).code, 0);
    let size = usize::try_from(entry["log_size"].as_u64().unwrap()).unwrap();
    let before = home.records();
    let begun = before[..size].iter().filter(|record| record["kind"] == "cycle_fired").count();
    until("the runs of the backup to succeed", || finished(&elsewhere, begun));
    // The log goes on where the backup ended, under another name.
    let after = elsewhere.records();
    assert_eq!(after[..size], before[..size]);
    assert_eq!(
        (&after[size]["kind"], &after[size]["body"]["old_size"]),
        (&Value::from("log_restored"), &entry["log_size"])
    );
    assert_eq!(after[size]["body"]["old_root"], entry["log_root"]);
    let node = elsewhere.run(&["log", "tail", "-n", "system", "--json"]).stdout;
    let told =
        ["log_restored", "halted", "resumed"].map(|kind| node.find(&format!("\"kind\":\"{kind}\"")).unwrap());
    assert!(told.is_sorted(), "{node}");
    let again = keys(&receiver);
    assert!(again[sent.len()..].contains(&owed), "what was owed is sent again with its key");
    assert_eq!(serving.stop(), 0);
    for namespace in ["lab", "system"] {
        let verified = elsewhere.run(&["log", "verify", "-n", namespace]);
        assert_eq!(verified.code, 0, "{verified:?}");
    }
}

#[test]
fn a_halt_of_a_restore_may_be_lifted_before_the_first_start() {
    let (_home, _backups, folder) = at_rest();
    let elsewhere = Home::empty();
    assert_eq!(elsewhere.run(&["restore", text(&folder)]).code, 0);
    refused(&elsewhere.run(&["run"]), 4, "restored from backup");
    let again = Home::empty();
    assert_eq!(again.run(&["restore", text(&folder)]).code, 0);
    assert_eq!(again.run(&["resume"]).code, 0);
    assert_eq!(again.run(&["run"]).code, 0);
    for home in [&elsewhere, &again] {
        for namespace in ["lab", "system"] {
            let verified = home.run(&["log", "verify", "-n", namespace]);
            assert_eq!(verified.code, 0, "{verified:?}");
        }
        let node = home.run(&["log", "tail", "-n", "system", "--json"]).stdout;
        assert_eq!(node.matches("\"kind\":\"halted\"").count(), 1, "{node}");
    }
}

/// A backup of a home that is at rest.
fn at_rest() -> (Home, tempfile::TempDir, PathBuf) {
    let receiver = Receiver::accepting();
    let home = delivering(&receiver.url("/in"));
    assert_eq!(home.run(&["run"]).code, 0);
    let backups = tempfile::tempdir().unwrap();
    let folder = backups.path().join("one");
    home.json(&["backup", text(&folder)], 0);
    (home, backups, folder)
}

fn a_payload(folder: &Path) -> PathBuf {
    let shards = fs::read_dir(folder.join("data/lab/blobs")).unwrap();
    let shard = shards.map(|entry| entry.unwrap().path()).min().unwrap();
    fs::read_dir(shard).unwrap().next().unwrap().unwrap().path()
}

fn flip(path: &Path, at: usize) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn every_damage_is_named() {
    let (home, backups, folder) = at_rest();
    assert_eq!(home.run(&["restore", text(&folder), "--check"]).code, 0);
    let copy = backups.path().join("copy");
    let check = |damage: &dyn Fn(&Path), expected: &[&str]| {
        _ = fs::remove_dir_all(&copy);
        let copied = std::process::Command::new("cp").arg("-a").args([&folder, &copy]).status().unwrap();
        assert!(copied.success());
        damage(&copy);
        let answer = home.run(&["restore", text(&copy), "--check"]);
        assert_eq!(answer.code, 1, "{expected:?}: {answer:?}");
        for word in expected {
            assert!(answer.stderr.contains(word), "{word}: {answer:?}");
        }
        let elsewhere = Home::empty();
        assert_eq!(elsewhere.run(&["restore", text(&copy)]).code, 1);
        assert_eq!(fs::read_dir(elsewhere.root()).unwrap().count(), 0, "nothing is written");
    };
    let database = "data/lab/orbit.db";
    let payload = name(&a_payload(&folder));
    check(&|copy| flip(&copy.join(database), 5000), &[database, "another digest"]);
    check(&|copy| flip(&a_payload(copy), 0), &[&payload, "damaged"]);
    check(&|copy| fs::remove_file(a_payload(copy)).unwrap(), &[&payload, "there is no blob"]);
    check(&|copy| fs::remove_file(copy.join(database)).unwrap(), &[database, "is missing"]);
    check(
        &|copy| fs::remove_file(copy.join("namespaces/lab/profiles/plain.yaml")).unwrap(),
        &["profiles/plain.yaml: the file is missing"],
    );
    check(&|copy| fs::write(copy.join("orbit.yaml"), "").unwrap(), &["orbit.yaml: it has 0 bytes"]);
    check(
        &|copy| fs::write(copy.join("data/lab/extra"), "").unwrap(),
        &["data/lab/extra: it does not belong"],
    );
    let manifest = |copy: &Path| copy.join("backup.json");
    let cut = |copy: &Path| {
        let text = fs::read_to_string(manifest(copy)).unwrap();
        fs::write(manifest(copy), &text[..text.len() / 2]).unwrap();
    };
    check(&cut, &["backup.json: it cannot be read"]);
    check(&|copy| flip(&manifest(copy), 60), &["backup.json: "]);
    // Somebody who can seal the manifest again still has to say what the database holds.
    let other_root = |copy: &Path| {
        let mut manifest = Manifest::read(copy).unwrap();
        manifest.namespaces[0].log_root.0[0] ^= 1;
        manifest.write(copy).unwrap();
    };
    check(&other_root, &[database, "with the root sha256:"]);
    let unlisted = |copy: &Path| {
        let mut manifest = Manifest::read(copy).unwrap();
        manifest.files.retain(|file| file.path != database);
        manifest.write(copy).unwrap();
    };
    check(&unlisted, &["`data/lab/orbit.db` is not listed"]);
}

fn refused(answer: &Answer, code: i32, expected: &str) {
    assert_eq!(answer.code, code, "{answer:?}");
    assert!(answer.stderr.contains(expected) && answer.stderr.contains("hint: "), "{expected}: {answer:?}");
}

#[test]
fn folders_that_cannot_be_used_are_refused() {
    let (home, backups, folder) = at_rest();
    refused(&home.run(&["backup", text(&folder)]), 1, "exists and is not empty");
    fs::create_dir(backups.path().join("two.partial")).unwrap();
    refused(&home.run(&["backup", text(&backups.path().join("two"))]), 1, "never finished");
    refused(&home.run(&["restore", text(&folder)]), 2, "exists and is not empty");
    refused(&home.run(&["restore", text(backups.path()), "--check"]), 2, "is no backup");
    // A backup lies as a home does, and is none.
    let inside = std::process::Command::new(env!("CARGO_BIN_EXE_orbit"))
        .args(["--home", text(&folder), "run"])
        .output()
        .unwrap();
    refused(&Answer::of(inside), 2, "is a backup and is not worked in");
    assert_eq!(home.run(&["restore", text(&folder), "--check"]).code, 0, "nobody wrote into it");
    // What an interrupted restore leaves is no home.
    let elsewhere = Home::empty();
    assert_eq!(elsewhere.run(&["restore", text(&folder)]).code, 0);
    fs::create_dir(elsewhere.path(".restore-partial")).unwrap();
    refused(&elsewhere.run(&["run"]), 2, "never finished");
    refused(&elsewhere.run(&["restore", text(&folder)]), 2, "never finished");
}

#[test]
fn secrets_are_left_out_unless_they_are_asked_for() {
    let home = Home::lab_on_files(3);
    home.endpoint("archive", "http://127.0.0.1:9/in", "auth: { bearer: \"${TOKEN}\" }\n");
    home.secret("TOKEN", "hush-hush-hush");
    assert_eq!(home.run(&["run"]).code, 0);
    let backups = tempfile::tempdir().unwrap();
    let (without, with) = (backups.path().join("without"), backups.path().join("with"));
    home.json(&["backup", text(&without)], 0);
    home.json(&["backup", text(&with), "--with-secrets"], 0);
    assert!(!without.join(".env").exists());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&with), mode(&with.join(".env"))), (0o700, 0o600));
    let missing = |folder: &Path| -> Value {
        let elsewhere = Home::empty();
        elsewhere.json(&["restore", text(folder)], 0)["missing_secrets"].clone()
    };
    let of_none = missing(&without).to_string();
    assert!(of_none.contains("ORBIT_SECRET_LAB_TOKEN"), "{of_none}");
    assert_eq!(missing(&with), Value::Array(Vec::new()));
}

#[test]
fn a_home_of_the_first_schema_works_on() {
    let home = Home::lab_on_files(9);
    let stored = concat!(env!("CARGO_MANIFEST_DIR"), "/../store/tests/stores/0001.db");
    fs::create_dir_all(home.path("data/lab")).unwrap();
    fs::copy(stored, home.path("data/lab/orbit.db")).unwrap();
    let doctor = home.run(&["doctor"]);
    assert!(doctor.stdout.contains("`lab` has schema 1, and this binary has 2"), "{doctor:?}");
    assert!(!home.path("data/lab/orbit.db.before-2").exists(), "a look changes nothing");
    assert_eq!(home.json(&["status"], 4)["namespaces"][0]["schema"], 2);
    assert!(home.run(&["doctor"]).stdout.contains("orbit.db.before-2"));
    let items = |args: &[&str]| home.json(args, 0)["items"].as_array().unwrap().clone();
    let runs = items(&["runs", "list"]);
    for list in ["cycles", "initiations", "deliveries"] {
        assert!(!items(&[list, "list"]).is_empty(), "{list}");
    }
    for run in &runs {
        assert_eq!(home.run(&["runs", "show", run["run_id"].as_str().unwrap()]).code, 0);
    }
    let dead = items(&["deliveries", "list", "--state", "dead"]);
    assert_eq!(home.run(&["deliveries", "show", dead[0]["delivery_id"].as_str().unwrap()]).code, 0);
    let before = home.records();
    assert_eq!(home.run(&["resume", "-n", "lab"]).code, 0);
    let answer = home.run(&["run"]);
    assert_eq!(answer.code, 0, "{answer:?}");
    assert_eq!(items(&["runs", "list"]).len(), runs.len() + 1);
    assert_eq!(home.records()[..before.len()], before);
}
