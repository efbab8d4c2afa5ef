//! A machine that misbehaves: a full disk, a home that cannot be written, a reader that goes away, huge sources.

use std::fs;
use std::process::{Command, Stdio};

use crate::home::{Answer, Home};

/// Runs a shell script in a mount namespace of its own, in which `$HOME_DIR` is a copy of the home on a small file system.
fn on_a_small_disk(home: &Home, size: &str, script: &str) -> Answer {
    let mounted = tempfile::tempdir().unwrap();
    let prelude = format!(
        "set -e; mount -t tmpfs -o size={size} tmpfs \"$HOME_DIR\"; cp -a \"$FROM\"/. \"$HOME_DIR\"/; orbit() {{ \"$ORBIT\" --home \"$HOME_DIR\" \"$@\"; }}; set +e\n"
    );
    let user = if nix::unistd::geteuid().is_root() { "-m" } else { "-rm" };
    let output = Command::new("unshare")
        .args([user, "sh", "-c", &format!("{prelude}{script}")])
        .env("HOME_DIR", mounted.path())
        .env("FROM", home.root())
        .env("ORBIT", env!("CARGO_BIN_EXE_orbit"))
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Answer::of(output)
}

#[test]
fn a_full_disk_fails_the_step_and_nothing_else() {
    let home = Home::lab(5);
    home.processor(
        "two",
        "if [ -e ../../../../../big ]; then head -c 20000000 /dev/zero; else echo small; fi",
        "",
    );
    let script = "touch \"$HOME_DIR\"/big; orbit run >/dev/null 2>\"$HOME_DIR\"/said; echo full=$?; \
        rm \"$HOME_DIR\"/big; orbit run >/dev/null; echo after=$?; \
        orbit runs list --json; cat \"$HOME_DIR\"/said >&2";
    let answer = on_a_small_disk(&home, "12m", script);
    assert!(answer.stdout.contains("full=1"), "{answer:?}");
    assert!(answer.stdout.contains("after=0"), "{answer:?}");
    assert!(answer.stdout.contains("disk") || answer.stdout.contains("space"), "{answer:?}");
    assert!(!answer.stderr.contains("panicked"), "{answer:?}");
}

#[test]
fn what_was_finished_on_a_full_disk_is_kept_once_there_is_space() {
    let home = Home::lab(5);
    home.processor(
        "two",
        "cat; echo two; touch ../../../../../up; while [ -e ../../../../../up ]; do sleep 0.05; done",
        "",
    );
    let script = "waits() { n=0; until eval \"$1\"; do n=$((n+1)); [ $n -lt 600 ] || { echo \"gave up: $1\"; break; }; sleep 0.1; done; }; \
        \"$ORBIT\" --home \"$HOME_DIR\" serve 2>\"$FROM\"/serve.log & serve=$!; \
        waits '[ -S \"$HOME_DIR\"/run/orbit.sock ]'; orbit run --no-wait; waits '[ -e \"$HOME_DIR\"/up ]'; \
        head -c 100000000 /dev/zero >\"$HOME_DIR\"/fill 2>/dev/null; rm \"$HOME_DIR\"/up; \
        waits 'grep -q \"waits to be\" \"$FROM\"/serve.log'; rm \"$HOME_DIR\"/fill; \
        waits 'orbit cycles list --json | grep -q succeeded'; \
        orbit runs list --json >\"$FROM\"/after.json; kill -TERM $serve; wait $serve; echo serve=$?";
    let answer = on_a_small_disk(&home, "12m", script);
    assert!(answer.stdout.contains("serve=0") && !answer.stdout.contains("gave up"), "{answer:?}");
    let runs = fs::read_to_string(home.path("after.json")).unwrap();
    let runs: serde_json::Value = serde_json::from_str(&runs).unwrap();
    assert_eq!(runs["items"][0]["outcome"], "succeeded", "{runs}");
    assert_eq!(runs["items"][0]["steps"][1]["attempts"], 1, "{runs}");
}

#[test]
fn a_home_that_is_read_only_is_told_with_a_hint() {
    let home = Home::lab(5);
    let script = "mount -o remount,ro \"$HOME_DIR\"; orbit run; echo run=$?; orbit serve; echo serve=$?; orbit check >/dev/null; echo check=$?";
    let answer = on_a_small_disk(&home, "12m", script);
    for expected in ["run=1", "serve=1", "check=0"] {
        assert!(answer.stdout.contains(expected), "{expected}: {answer:?}");
    }
    assert!(answer.stderr.contains("ead-only") && answer.stderr.contains("hint:"), "{answer:?}");
    assert!(!answer.stderr.contains("panicked"), "{answer:?}");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let home = Home::lab(1);
    let script = "\"$0\" schema | head -n 1; \"$0\" --help | head -n 1";
    let output = Command::new("bash")
        .args(["-o", "pipefail", "-c", script, env!("CARGO_BIN_EXE_orbit")])
        .current_dir(home.root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_million_candidates_pass_in_one_go_and_in_little_memory() {
    let home = Home::lab(1);
    home.write("namespaces/lab/sources/words.yaml", "name: words\nkind: file\npath: words.jsonl\n");
    let lines: String = (0..1_000_000).fold(String::with_capacity(60 << 20), |mut text, n| {
        use std::fmt::Write as _;
        _ = writeln!(text, "{{\"label\":\"candidate {n}\",\"weight\":{}}}", n % 7 + 1);
        text
    });
    fs::write(home.path("namespaces/lab/words.jsonl"), lines).unwrap();
    let path = home.path("namespaces/lab/run-profiles/daily.yaml");
    let weighted = fs::read_to_string(&path).unwrap().replace("choose: in_order", "choose: weighted");
    fs::write(&path, weighted).unwrap();
    let serving = home.serve();
    let peak = |field: &str| -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", serving.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let idle_kib = peak("VmRSS:");
    let answer = home.json(&["run"], 0);
    assert!(answer["cycle"]["initiation"].as_str().unwrap().starts_with("candidate "));
    let above_kib = peak("VmHWM:").saturating_sub(idle_kib);
    eprintln!("idle {idle_kib} KiB, a pass over a million candidates took {above_kib} KiB more");
    assert!(above_kib < 64 * 1024, "{above_kib} KiB above idle");
    let records = home.records();
    let selected = records.iter().find(|record| record["kind"] == "initiation_selected").unwrap();
    assert!(selected["body"].to_string().contains("1000000"), "{selected}");
    assert_eq!(serving.stop(), 0);
}
