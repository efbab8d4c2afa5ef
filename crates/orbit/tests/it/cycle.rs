//! A cycle from a configuration folder alone: selection, tiers, record, and what the commands say of it.

use std::fs;
use std::time::Instant;

use serde_json::{Value, json};

use crate::home::{Home, until};

#[test]
fn a_home_that_init_makes_works_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::new();
    let place = folder.path().join("fresh");
    let made = home.run(&["init", place.to_str().unwrap()]);
    assert_eq!(made.code, 0, "{made:?}");
    let started = Instant::now();
    let run = std::process::Command::new(env!("CARGO_BIN_EXE_orbit"))
        .args(["run", "--json"])
        .env("ORBIT_HOME", &place)
        .output()
        .unwrap();
    let text = String::from_utf8(run.stdout).unwrap();
    assert_eq!(run.status.code(), Some(0), "{text} {}", String::from_utf8_lossy(&run.stderr));
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(answer["cycle"]["outcome"], "succeeded");
    eprintln!("a fresh home ran a cycle in {:?}", started.elapsed());
    let again = home.run(&["init", place.to_str().unwrap()]);
    assert_eq!(again.code, 2, "{again:?}");
    assert!(again.stderr.contains("hint:"), "{again:?}");
}

#[test]
fn init_without_a_folder_makes_the_home() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("named");
    let orbit = |args: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_orbit"));
        command.arg("--home").arg(&place).args(args).current_dir(folder.path()).output().unwrap()
    };
    let made = orbit(&["init"]);
    assert!(made.status.success(), "{made:?}");
    let told = String::from_utf8(made.stdout).unwrap();
    assert!(told.contains(&format!("`cd {}`", place.display())), "{told}");
    assert!(orbit(&["check"]).status.success());
    assert!(!folder.path().join("orbit.yaml").exists());
}

#[test]
fn cycles_take_one_initiation_each_until_there_is_none() {
    let home = Home::lab(2);
    let first = home.json(&["run"], 0);
    assert_eq!(first["cycle"]["initiation"], "item-0");
    let run = &first["runs"][0];
    assert_eq!(run["outcome"], "succeeded");
    let steps: Vec<_> = run["steps"].as_array().unwrap().iter().map(|step| step["step"].clone()).collect();
    assert_eq!(steps, ["tier1", "tier2", "tier3"]);
    assert_eq!(home.json(&["run"], 0)["cycle"]["initiation"], "item-1");
    assert_eq!(home.json(&["run"], 5)["cycle"]["outcome"], "skipped");
    let history = home.json(&["initiations", "list"], 0);
    assert_eq!(history["items"].as_array().unwrap().len(), 2);
    assert_eq!(home.json(&["cycles", "list"], 0)["items"].as_array().unwrap().len(), 3);
}

#[test]
fn every_program_gets_the_bytes_before_it() {
    let home = Home::lab(1);
    home.processor(
        "two",
        "printf '%s|' \"$ORBIT_ATTEMPT\" \"$ORBIT_IDEMPOTENCY_KEY\" \"${OUTSIDE-unset}\"; cat",
        "env: { MODE: fast }\n",
    );
    let run = home.json(&["run"], 0)["runs"][0].clone();
    let digest = run["steps"][2]["digest"].as_str().unwrap();
    let text = home.run(&["artifacts", "get", digest]).stdout;
    let lines: Vec<_> = text.lines().collect();
    let (attempt, rest) = lines[0].split_once('|').unwrap();
    assert_eq!(attempt, "1");
    let (key, rest) = rest.split_once('|').unwrap();
    assert_eq!(key.len(), 36, "{key}");
    let context: Value = serde_json::from_str(rest.strip_prefix("unset|").unwrap()).unwrap();
    assert_eq!(context["initiation"]["label"], "item-0");
    assert_eq!(context["instruction"]["context_blob"], "item-0");
    assert_eq!(context["run"]["run_id"], run["run_id"]);
    assert_eq!(
        lines[1..],
        ["one", "two", "three"][..1].iter().chain(&["three"]).copied().collect::<Vec<_>>()[..]
    );
}

#[test]
fn a_dry_run_changes_nothing_and_its_request_can_be_run() {
    let home = Home::lab(1);
    let requests = home.json(&["run", "--dry-run"], 0);
    assert_eq!(home.json(&["cycles", "list"], 0)["items"], json!([]));
    let request = &requests["items"][0];
    assert_eq!(request["initiation"]["label"], "item-0");
    let text = request.to_string();
    for forbidden in ["argv", "sh -c", "echo one", "http"] {
        assert!(!text.contains(forbidden), "a request carries `{forbidden}`: {text}");
    }
    let file = home.path("request.json");
    fs::write(&file, requests.to_string()).unwrap();
    let ran = home.json(&["run", "--request", file.to_str().unwrap()], 0);
    assert_eq!(ran["runs"][0]["outcome"], "succeeded");
    // The same file is the same firing.
    assert_eq!(
        home.json(&["run", "--request", file.to_str().unwrap()], 0)["cycle"]["cycle_id"],
        ran["cycle"]["cycle_id"]
    );
    // A processor that changed since is refused.
    home.processor("two", "cat; echo other", "");
    home.apply();
    let mut other = requests.clone();
    other["items"][0]["deadline"] = json!("1h");
    fs::write(&file, other.to_string()).unwrap();
    let refused = home.run(&["run", "--request", file.to_str().unwrap()]);
    assert_eq!(refused.code, 1, "{refused:?}");
    let failure = home.records().into_iter().rev().find(|record| record["kind"] == "selection_failed");
    assert!(failure.unwrap()["body"].to_string().contains("request"));
}

#[test]
fn equal_candidates_count_once_and_a_failed_cycle_can_free_its_own() {
    let home = Home::lab(1);
    home.write(
        "namespaces/lab/sources/words.yaml",
        "name: words\nkind: inline\nitems: [{ label: a }, { label: a, weight: 3 }, { label: b }]\n",
    );
    home.processor("three", "exit 3", "");
    home.write(
        "namespaces/lab/run-profiles/daily.yaml",
        &fs::read_to_string(home.path("namespaces/lab/run-profiles/daily.yaml"))
            .unwrap()
            .replace("choose: in_order }", "choose: in_order, dedupe: { release_on: [failed] } }"),
    );
    assert_eq!(home.json(&["run"], 1)["cycle"]["initiation"], "a");
    home.processor("three", "cat", "");
    home.apply();
    assert_eq!(home.json(&["run"], 0)["cycle"]["initiation"], "a");
    assert_eq!(home.json(&["run"], 0)["cycle"]["initiation"], "b");
    assert_eq!(home.json(&["run"], 5)["cycle"]["outcome"], "skipped");
    assert!(home.kinds().contains(&"initiation_released".to_owned()));
}

#[test]
fn broken_lines_are_skipped_counted_and_recorded() {
    let home = Home::lab(1);
    home.write("namespaces/lab/sources/words.yaml", "name: words\nkind: file\npath: words.jsonl\n");
    home.write(
        "namespaces/lab/words.jsonl",
        "\n{\"label\":1}\nnot json\n{\"label\":\"good\",\"metadata\":{\"n\":1}}\n",
    );
    assert_eq!(home.json(&["run"], 0)["cycle"]["initiation"], "good");
    let selected = home.records().into_iter().find(|record| record["kind"] == "initiation_selected").unwrap();
    let report = selected["body"].to_string();
    assert!(report.contains("\"malformed\":2"), "{report}");
    fs::remove_file(home.path("namespaces/lab/words.jsonl")).unwrap();
    let failed = home.json(&["run"], 1);
    assert_eq!(failed["cycle"]["outcome"], "failed");
    assert!(failed["cycle"]["reason"].as_str().unwrap().contains("words.jsonl"), "{failed}");
}

#[test]
fn a_schedule_fires_by_itself_and_the_story_can_be_followed() {
    let home = Home::lab(50);
    home.run_profile("daily", 1, "[plain]", "  schedule: { every: 1s }\n  overlap: allow\n");
    let serving = home.serve();
    until("two cycles to finish", || {
        let cycles = home.json(&["cycles", "list"], 0);
        let done = cycles["items"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|cycle| cycle["outcome"] == "succeeded")
            .count();
        done >= 2
    });
    let runs = home.json(&["runs", "list"], 0);
    let run_id = runs["items"][0]["run_id"].as_str().unwrap().to_owned();
    let followed = home.run(&["runs", "show", &run_id, "--follow"]);
    assert_eq!(followed.code, 0, "{followed:?}");
    for word in ["tier1", "tier2", "tier3", "succeeded"] {
        assert!(followed.stdout.contains(word), "{}", followed.stdout);
    }
    assert_eq!(serving.stop(), 0);
    let nominal: Vec<_> = home.json(&["cycles", "list"], 0)["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|cycle| cycle["nominal_time"].as_str().unwrap().to_owned())
        .collect();
    let unique: std::collections::BTreeSet<_> = nominal.iter().collect();
    assert_eq!(unique.len(), nominal.len(), "one cycle an instant");
}
