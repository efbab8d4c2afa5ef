//! A reader that goes away, huge sources.

use std::fs;
use std::process::Command;

use crate::home::Home;

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
