//! The log verified from outside: by another implementation of the tree, by a proof alone, against an anchor, over a change of keys.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use orbit_core::record::{Checkpoint, Rotation, Verifier, body_digest};
use serde_json::{Value, json};

use crate::home::{Answer, Home, until};

/// The implementation in Python, which shares no line with the crates.
fn python(export: &str, args: &[&str]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/rfc6962.py");
    let mut child = Command::new("/usr/bin/python3")
        .arg(script)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(export.as_bytes()).unwrap();
    let answer = Answer::of(child.wait_with_output().unwrap());
    assert_eq!(answer.code, 0, "{args:?}: {answer:?}");
    answer.stdout
}

fn ok(home: &Home, args: &[&str]) -> String {
    let answer = home.run(args);
    assert_eq!(answer.code, 0, "{args:?}: {answer:?}");
    answer.stdout
}

fn key(home: &Home) -> Verifier {
    ok(home, &["log", "checkpoint", "--key", "-n", "lab"]).trim().parse().unwrap()
}

/// Runs in an empty folder, with no home anywhere.
fn elsewhere(folder: &Path, args: &[&str]) -> Answer {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orbit"));
    command.current_dir(folder).args(args).stdin(Stdio::null()).env_remove("ORBIT_HOME");
    Answer::of(command.output().unwrap())
}

fn newest(home: &Home) -> Value {
    home.json(&["log", "checkpoint", "-n", "lab"], 0)
}

#[test]
fn another_implementation_makes_the_same_tree_of_an_export() {
    let home = Home::lab(3);
    home.json(&["run"], 0);
    let first = newest(&home);
    home.json(&["run"], 0);
    let export = ok(&home, &["log", "export", "-n", "lab"]);
    let last = newest(&home);
    let lines: Vec<Value> = export.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(json!(lines.len()), last["size"], "a node that stopped has signed all of it");
    let root = |checkpoint: &Value| {
        let told = Checkpoint::open(checkpoint["note"].as_str().unwrap(), &key(&home)).unwrap();
        assert_eq!(json!(told.size), checkpoint["size"]);
        told.text().lines().nth(2).unwrap().to_owned()
    };
    for checkpoint in [&first, &last] {
        let made = python(&export, &["root", &checkpoint["size"].to_string()]);
        assert_eq!(made, format!("{}\n{}\n", checkpoint["size"], root(checkpoint)));
    }
    assert!(first["size"].as_u64() < last["size"].as_u64() && first["size"].as_u64() > Some(0));
    for (position, line) in lines.iter().enumerate() {
        assert_eq!(line["position"], json!(position));
        let header: Value = serde_json::from_str(line["leaf"].as_str().unwrap()).unwrap();
        let salt =
            line["salt"].as_str().map(|hex| orbit_core::digest::unhex(hex).unwrap().try_into().unwrap());
        let body = orbit_core::canonical::to_string(&line["body"]);
        assert_eq!(header["body_digest"], json!(body_digest(salt.as_ref(), body.as_bytes())));
        assert_eq!(salt.is_some(), header["body_class"] == "evidence");
        if position % 9 != 0 && position + 1 != lines.len() {
            continue;
        }
        // The proof is the same to the byte, whoever makes it.
        let proof = ok(&home, &["log", "prove", &position.to_string(), "-n", "lab"]);
        let size = last["size"].to_string();
        let path = python(&export, &["inclusion", &position.to_string(), &size]);
        let own: Vec<_> = proof.lines().skip(3).take_while(|line| !line.is_empty()).collect();
        assert_eq!(own, path.lines().collect::<Vec<_>>(), "position {position}");
    }
    let part = ok(&home, &["log", "export", "-n", "lab", "--from", "2", "--to", "4"]);
    assert_eq!(part.lines().collect::<Vec<_>>(), export.lines().skip(2).take(2).collect::<Vec<_>>());
}

#[test]
fn an_export_is_made_while_a_node_serves() {
    let home = Home::lab(3);
    let serving = home.serve();
    home.json(&["run"], 0);
    until("a checkpoint of the whole log", || {
        let log = home.json(&["status"], 0)["namespaces"][0]["log"].clone();
        log["checkpoint"]["size"] == log["size"]
    });
    let export = ok(&home, &["log", "export"]);
    let last = newest(&home);
    assert_eq!(json!(export.lines().count()), last["size"]);
    let note = last["note"].as_str().unwrap();
    let made = python(&export, &["root"]);
    assert!(note.contains(made.trim_end()), "{note}{made}");
    let idle = home.json(&["status"], 0)["namespaces"][0]["log"].clone();
    assert_eq!(idle["checkpoint"]["number"], last["number"], "a log that does not grow is not signed again");
    let system = ok(&home, &["log", "export", "-n", "system"]);
    assert!(system.lines().next().unwrap().contains("log_opened"), "{system}");
    assert!(system.contains("node_started"), "{system}");
    assert_eq!(serving.stop(), 0);
    let system = ok(&home, &["log", "export", "-n", "system"]);
    let signed = home.json(&["log", "checkpoint", "-n", "system"], 0);
    assert_eq!(json!(system.lines().count()), signed["size"], "{system}");
}

#[test]
fn a_proof_is_checked_with_nothing_but_itself_and_the_key() {
    let home = Home::lab(1);
    let run = home.json(&["run"], 0)["runs"][0]["run_id"].as_str().unwrap().to_owned();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let proof = file("proof").to_str().unwrap().to_owned();
    ok(&home, &["log", "prove", "--run", &run, "--out", &proof]);
    assert_eq!(home.run(&["log", "prove", "0", "--out", &proof]).code, 2, "nothing is overwritten");
    fs::write(file("vkey"), format!("{}\n", key(&home))).unwrap();
    let vkey = key(&home).to_string();
    let check = |args: &[&str]| elsewhere(folder.path(), &[&["log", "verify", "--proof"], args].concat());
    let told = check(&["proof", "--key", &vkey]);
    assert_eq!(told.code, 0, "{told:?}");
    assert!(told.stdout.contains(&run) && told.stdout.contains(newest(&home)["origin"].as_str().unwrap()));
    let told = check(&["proof", "--key", "vkey", "--json"]);
    let answer: Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!((&answer["proven"], &answer["record"]["run_id"]), (&json!(true), &json!(run)));

    let text = fs::read_to_string(file("proof")).unwrap();
    let refused = |changed: &str, key: &str, expected: &str| {
        fs::write(file("changed"), changed).unwrap();
        let told = check(&["changed", "--key", key]);
        assert_eq!((told.code, &*told.stdout), (1, ""), "{told:?}");
        assert!(
            told.stderr.starts_with("error: `changed` proves nothing: ") && told.stderr.contains(expected),
            "{told:?}"
        );
    };
    let lines: Vec<_> = text.lines().collect();
    let with = |number: usize, line: &str| {
        let mut lines = lines.clone();
        lines[number] = line;
        lines.join("\n") + "\n"
    };
    refused(&with(1, "extra eA=="), &vkey, "leads to root");
    refused(&with(2, "index 0"), &vkey, "nothing: the proof ");
    refused(&with(3, &"A".repeat(43)), &vkey, "line 4");
    refused(&with(3, &format!("{}=", "A".repeat(43))), &vkey, "leads to root");
    refused(&text.replacen("\nindex", "\nindx", 1), &vkey, "line 3");
    let empty = lines.iter().position(|line| line.is_empty()).unwrap();
    refused(&with(empty + 2, "99"), &vkey, "is not over this text");
    refused(&with(empty + 1, "orbit/lab/0"), &vkey, "is of the log `orbit/lab/0`");
    refused(&text[..text.len() - 10], &vkey, "line");
    let stranger =
        home.json(&["log", "checkpoint", "--key", "-n", "system"], 0)["vkey"].as_str().unwrap().to_owned();
    refused(&text, &stranger, "is of the log");
    let told = check(&["proof", "--key", "nothing"]);
    assert!(told.code == 2 && told.stderr.contains("is not a verifier key"), "{told:?}");
    let told = home.run(&["log", "prove", "100000"]);
    assert!(told.code == 2 && told.stderr.contains("there is no record at position 100000"), "{told:?}");
}

fn env(home: &Home) -> String {
    fs::read_to_string(home.path(".env")).unwrap()
}

#[test]
fn the_first_start_writes_a_seed_and_the_next_ones_keep_it() {
    let home = Home::lab(3);
    home.write(".env", "# mine\nORBIT_SECRET_LAB_X=1");
    home.json(&["status"], 0);
    assert_eq!(env(&home), "# mine\nORBIT_SECRET_LAB_X=1", "who only reads writes nothing");
    home.json(&["run"], 0);
    let written = env(&home);
    assert!(written.starts_with("# mine\nORBIT_SECRET_LAB_X=1\n# ") && written.contains("\nORBIT_LOG_SEED="));
    assert_eq!(fs::metadata(home.path(".env")).unwrap().permissions().mode() & 0o777, 0o600);
    let vkey = key(&home);
    home.json(&["run"], 0);
    assert_eq!((env(&home), key(&home)), (written.clone(), vkey));
    let seed = written.trim_end().rsplit('=').next().unwrap().to_owned();
    let records = ok(&home, &["log", "export", "-n", "lab"]) + &ok(&home, &["log", "export", "-n", "system"]);
    assert!(seed.len() == 64 && !records.contains(&seed));

    home.write(".env", "ORBIT_LOG_SEED=canary-2f\n");
    for verb in ["check", "run", "serve"] {
        let told = home.run(&[verb]);
        assert_eq!(told.code, 2, "{told:?}");
        let all = told.stdout + &told.stderr;
        assert!(
            all.contains("`ORBIT_LOG_SEED` in `.env` is not a seed") && all.contains("hint: put back"),
            "{all}"
        );
        assert!(!all.contains("canary-2f"), "{all}");
    }
    home.write(".env", "");
    let told = home.run(&["serve"]);
    assert!(told.code == 2 && told.stderr.contains("`ORBIT_LOG_SEED` is not set, but"), "{told:?}");
    assert_eq!(env(&home), "", "a second seed would not help");
    home.write(".env", &written);
    home.json(&["run"], 0);
}

#[test]
fn a_key_is_handed_over_by_both_seeds() {
    let home = Home::lab(5);
    let (old_seed, new_seed) = ("1".repeat(64), "2".repeat(64));
    home.write(".env", &format!("ORBIT_LOG_SEED={old_seed}\n"));
    home.json(&["run"], 0);
    let (old, before) = (key(&home), newest(&home));

    home.write(".env", &format!("ORBIT_LOG_SEED={new_seed}\n"));
    let told = home.run(&["serve"]);
    assert!(
        told.code == 2 && told.stderr.contains("`system` is signed with the key `orbit/system/"),
        "{told:?}"
    );
    assert!(told.stderr.contains("ORBIT_LOG_SEED_PREVIOUS"), "it says what to do: {told:?}");
    assert_eq!(newest(&home), before, "reading works, and nothing was written");
    assert_eq!(home.run(&["runs", "list"]).code, 0);

    home.write(".env", &format!("ORBIT_LOG_SEED={new_seed}\nORBIT_LOG_SEED_PREVIOUS={old_seed}\n"));
    let serving = home.serve();
    home.json(&["run"], 0);
    assert_eq!(serving.stop(), 0);
    let new = key(&home);
    assert_ne!(new, old);
    let rotations: Vec<_> =
        home.records().into_iter().filter(|record| record["kind"] == "log_key_rotated").collect();
    let statement = rotations[0]["body"]["statement"].as_str().unwrap();
    let rotation = Rotation::open(statement, &old).unwrap();
    assert_eq!(
        (json!(rotation.size), &rotation.new, rotations.len()),
        (rotations[0]["position"].clone(), &new, 1)
    );
    let number =
        |number: &Value| home.json(&["log", "checkpoint", "-n", "lab", "--number", &number.to_string()], 0);
    let again = number(&before["number"]);
    assert_eq!(again, before, "what the old key signed stays");
    assert_eq!(again["vkey"], json!(old.to_string()));
    Checkpoint::open(newest(&home)["note"].as_str().unwrap(), &new).unwrap();

    home.write(".env", &format!("ORBIT_LOG_SEED={new_seed}\n"));
    home.json(&["run"], 0);
    assert_eq!(key(&home), new, "afterwards the previous seed is not needed");
}

#[test]
fn a_log_of_another_home_is_only_read() {
    let (home, other) = (Home::lab_on_files(2), Home::lab_on_files(2));
    home.write("namespaces/second/namespace.yaml", "label: Second\n");
    other.json(&["run"], 0);
    home.write("data/lab/nothing", "");
    fs::copy(other.path("data/lab/orbit.db"), home.path("data/lab/orbit.db")).unwrap();
    let before = newest(&home);
    let serving = home.serve();
    let status = home.run(&["status"]);
    assert!(status.stdout.contains("which the seed does not make"), "{}", status.stdout);
    assert_eq!(home.json(&["runs", "list", "-n", "lab"], 0)["items"].as_array().unwrap().len(), 1);
    assert_eq!(home.run(&["run", "-n", "lab", "--no-wait"]).code, 4, "nothing is started");
    let told = home.run(&["resume", "-n", "lab"]);
    assert!(told.code == 2 && told.stderr.contains("which the seed does not make"), "{told:?}");
    assert_eq!(serving.stop(), 0);
    let export = ok(&home, &["log", "export", "-n", "lab"]);
    assert_eq!((newest(&home), json!(export.lines().count())), (before.clone(), before["size"].clone()));
    assert!(ok(&home, &["log", "export", "-n", "second"]).contains("log_opened"));
}

fn copies(anchor: &Path, origin: &str) -> BTreeSet<PathBuf> {
    let folder = anchor.join(origin.strip_prefix("orbit/").unwrap());
    let shelves = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    shelves.flat_map(|shelf| fs::read_dir(shelf).unwrap()).map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn an_anchor_has_every_checkpoint_and_notices_an_older_log() {
    let home = Home::lab(9);
    let anchor = tempfile::tempdir().unwrap();
    let set = |path: &str| {
        home.write(
            "orbit.yaml",
            &format!("listen: {{ address: \"127.0.0.1:0\" }}\nlog: {{ anchor: \"{path}\" }}\n"),
        );
    };
    set("relative");
    let told = home.run(&["check"]);
    assert!(told.code == 2 && told.stdout.contains("expected the absolute path of a folder"), "{told:?}");
    set(anchor.path().to_str().unwrap());
    home.json(&["run"], 0);
    let old = newest(&home);
    let kept = fs::read(home.path("data/lab/orbit.db")).unwrap();
    home.json(&["run"], 0);
    let last = newest(&home);
    let origin = last["origin"].as_str().unwrap();
    let copied = copies(anchor.path(), origin);
    assert_eq!(json!(copied.len() - 1), last["number"]);
    for path in &copied {
        let number = path.file_stem().unwrap().to_str().unwrap();
        let stored = ok(&home, &["log", "checkpoint", "-n", "lab", "--number", number]);
        assert_eq!(fs::read_to_string(path).unwrap(), stored);
    }
    let system = home.json(&["log", "checkpoint", "-n", "system"], 0);
    assert!(!copies(anchor.path(), system["origin"].as_str().unwrap()).is_empty());

    // As an earlier version put it, and as a crash may leave one.
    let first = copied.iter().next().unwrap();
    let beside = first.parent().unwrap().with_file_name(first.file_name().unwrap());
    fs::rename(first, &beside).unwrap();
    fs::write(first.with_file_name(".99.unfinished"), "orb").unwrap();
    let against = ["log", "verify", "-n", "lab", "--against", anchor.path().to_str().unwrap()];
    let verified = home.json(&against, 0);
    assert_eq!(verified["items"][0]["report"]["outside"], json!(copied.len()), "{verified}");
    let vkey = key(&home).to_string();
    let verified = home.json(&[&against[..], &["--key", &vkey]].concat(), 0);
    assert_eq!(verified["items"][0]["report"]["vouched"]["size"], last["size"], "{verified}");
    fs::remove_file(first.with_file_name(".99.unfinished")).unwrap();
    fs::rename(&beside, first).unwrap();

    fs::write(home.path("data/lab/orbit.db"), kept).unwrap();
    assert_eq!(newest(&home), old);
    let serving = home.serve();
    until("the alarm", || home.kinds().contains(&"anchor_conflict".to_owned()));
    let status = home.run(&["status"]);
    assert!(status.stdout.contains("somebody changed the log or the anchor"), "{}", status.stdout);
    assert!(serving.log().contains("the anchor has"), "{}", serving.log());
    assert_eq!(serving.stop(), 0);
    for path in &copied {
        assert!(path.exists(), "nothing in an anchor is removed");
    }
}
