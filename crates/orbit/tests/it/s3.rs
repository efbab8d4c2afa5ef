//! A home whose larger payloads lie in a bucket, by the real binary: over crashes nothing is lost, and without its cache everything is found again.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::home::{Home, until};
use crate::receiver::{Receiver, Reply};
use crate::s3_server as server;

/// Crashes in the test.
const CRASHES: usize = 4;
/// Runs in flight.
const CYCLES: usize = 8;

/// A home whose second step makes about 200 KiB, which lie in a new bucket, and whose third step makes 9 MiB, which are an upload of two parts.
fn home() -> (Home, String) {
    let home = Home::lab(CYCLES);
    let bucket = server::bucket();
    use_bucket(&home, &bucket);
    home.processor("one", "cat; echo one", "concurrency: 8\n");
    home.processor("two", "cat; seq 40000", "concurrency: 8\n");
    home.processor("three", "cat; seq 1300000", "concurrency: 8\n");
    (home, bucket)
}

fn use_bucket(home: &Home, bucket: &str) {
    home.write(
        "orbit.yaml",
        &format!(
            "listen: {{ address: \"127.0.0.1:0\" }}\nlimits: {{ drain: 10s }}\nartifacts: {{ backend: s3, bucket: {bucket}, endpoint: \"http://{}\", prefix: home }}\n",
            server::address()
        ),
    );
    let keys = "ORBIT_S3_ACCESS_KEY_ID=canary-id\nORBIT_S3_SECRET_ACCESS_KEY=canary-secret\n";
    let before = fs::read_to_string(home.path(".env")).unwrap();
    fs::write(home.path(".env"), before + keys).unwrap();
}

fn all(home: &Home, what: &str) -> Vec<Value> {
    home.json(&[what, "list", "--limit", "1000"], 0)["items"].as_array().unwrap().clone()
}

fn listed(bucket: &str, query: &str) -> String {
    let (status, body) = server::request("GET", &format!("/{bucket}?{query}"), b"");
    assert_eq!(status, 200);
    String::from_utf8(body).unwrap()
}

#[test]
fn over_crashes_every_payload_is_in_the_bucket_and_arrives() {
    let receiver = Receiver::start(|_, _| Reply::Status(200, "", "ok"));
    let (home, bucket) = home();
    // An attempt that a crash cut off counts.
    home.endpoint("a", &receiver.url("/a"), "retry: { attempts: 20, schedule: [20ms] }\n");
    home.profile("plain", 1, "distribution_map: [{ endpoint: a }]\n");
    let mut serving = home.serve();
    for number in 0..CYCLES {
        assert_eq!(home.run(&["run", "--no-wait", "--key", &format!("key-{number}")]).code, 0);
    }
    let finished = || {
        let cycles = all(&home, "cycles");
        cycles.len() == CYCLES && cycles.iter().all(|cycle| cycle["state"] == "finished")
    };
    for crash in 0..CRASHES {
        let target = home.records().len() + 5 + crash * 7;
        until("some more records", || home.records().len() >= target || finished());
        serving.kill();
        serving = home.serve();
    }
    until("every run to finish", finished);
    for run in all(&home, "runs") {
        assert_eq!(run["outcome"], "succeeded", "{run}\n{}", serving.log());
    }
    let bodies: BTreeSet<_> = receiver.requests().into_iter().map(|request| request.body).collect();
    let tail: Vec<u8> = (1..=1_300_000_u32).flat_map(|n| format!("{n}\n").into_bytes()).collect();
    assert_eq!(bodies.len(), CYCLES);
    assert!(bodies.iter().all(|body| body.ends_with(&tail)));
    assert_eq!(serving.stop(), 0);
    // Uploads that a crash cut off are given up by a later pass, unless it came between the answer that began one and the note of it.
    assert!(matches!(home.run(&["gc"]).code, 0 | 5));
    let noted = fs::read_dir(home.path("data/lab/blobs/uploads")).map_or(0, Iterator::count);
    let unfinished = listed(&bucket, "uploads").matches("<UploadId>").count();
    assert!(noted == 0 && unfinished <= CYCLES, "{noted} {unfinished}");
    // What is verified is what lies in the bucket.
    fs::remove_dir_all(home.path("data/lab/blobs")).unwrap();
    let verified = home.json(&["log", "verify"], 0);
    let items = verified["items"].as_array().unwrap();
    let counted: u64 = items.iter().filter_map(|one| one["report"]["payloads"].as_u64()).sum();
    assert!(counted >= 3 * CYCLES as u64, "{verified}");
    let run = &all(&home, "runs")[0];
    let shown = home.json(&["runs", "show", run["run_id"].as_str().unwrap()], 0);
    let digest = shown["steps"][2]["digest"].as_str().unwrap();
    let got = home.command(&["artifacts", "get", digest]).output().unwrap();
    assert!(got.status.success() && bodies.contains(&got.stdout));
    let hex = digest.trim_start_matches("sha256:");
    let object = format!("/{bucket}/home/lab/{}/{}", &hex[..2], &hex[2..]);
    assert_eq!(server::request("PUT", &object, b"another").0, 200);
    fs::remove_dir_all(home.path("data/lab/blobs")).unwrap();
    let verified = home.run(&["log", "verify"]);
    assert!(verified.code == 1 && verified.stdout.contains(digest), "{verified:?}");
}

#[test]
fn a_prefix_of_another_home_is_refused() {
    let (home, bucket) = home();
    assert_eq!(home.run(&["run"]).code, 0);
    let before = listed(&bucket, "list-type=2");
    let other = Home::lab(1);
    use_bucket(&other, &bucket);
    let refused = other.run(&["run"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    let told = format!("`{bucket}/home` belongs to the store `orbit/system/");
    assert!(refused.stderr.contains(&told), "{refused:?}");
    assert!(refused.stderr.contains("hint: give every home a `prefix` of its own"), "{refused:?}");
    assert_eq!(listed(&bucket, "list-type=2"), before, "nothing is put there");
    assert_eq!(home.run(&["run"]).code, 0);
}

#[test]
fn doctor_check_and_backup_say_where_payloads_lie_and_no_key() {
    let (home, bucket) = home();
    assert_eq!(home.run(&["check"]).code, 0);
    let told = home.run(&["doctor"]);
    assert!(
        told.stdout.contains(&format!("`{bucket}/home` lets this node write, read, list and delete")),
        "{told:?}"
    );
    assert!(!listed(&bucket, "list-type=2").contains("<Key>"), "a probe leaves nothing");
    assert_eq!(home.run(&["run"]).code, 0);
    let backups = tempfile::tempdir().unwrap();
    let folder = backups.path().join("one");
    let folder = folder.to_str().unwrap();
    let made = home.run(&["backup", folder]);
    let says = format!("payload files stay in the bucket `{bucket}/home` and are not in the backup");
    assert!(made.code == 0 && made.stdout.contains(&says), "{made:?}");
    assert!(!backups.path().join("one/data/lab/blobs").exists());
    let checked = home.run(&["restore", "--check", folder]);
    assert!(checked.code == 0 && checked.stdout.contains(&says), "{checked:?}");
    let again = Home::empty();
    let restored = again.run(&["restore", folder]);
    assert!(restored.code == 0 && restored.stdout.contains("two homes must not share them"), "{restored:?}");
    fs::copy(home.path(".env"), again.path(".env")).unwrap();
    assert_eq!(again.run(&["log", "verify"]).code, 0);
    let env = fs::read_to_string(home.path(".env")).unwrap();
    fs::write(home.path(".env"), env.replace("canary-secret", "")).unwrap();
    let unset = home.run(&["check"]);
    assert!(unset.code != 0 && unset.stdout.contains("`ORBIT_S3_SECRET_ACCESS_KEY` is not set"), "{unset:?}");
    for answer in [told, made, checked, restored, unset] {
        assert!(!answer.stdout.contains("canary") && !answer.stderr.contains("canary"), "{answer:?}");
    }
    use_bucket(&home, "no-such-bucket");
    let told = home.run(&["doctor"]);
    assert!(told.stdout.contains("make the bucket, or correct `artifacts.bucket`"), "{told:?}");
}
