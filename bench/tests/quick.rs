//! The benchmark runs. How fast things are is nothing that a test could say.

#![expect(clippy::disallowed_methods, reason = "the programs under test")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

#[test]
fn the_quick_form_writes_every_result() {
    let expected = [
        "runs",
        "runs_in_flight_16",
        "runs_beside_single_commits",
        "idle_run",
        "memory_over_runs",
        "verify",
        "verify_long_log",
        "deliveries",
    ];
    measures(&["runs", "idle", "memory", "log", "deliveries"], &expected);
}

#[test]
fn so_it_does_on_a_server_of_its_own() {
    let expected = [
        "postgres_runs",
        "postgres_runs_in_flight_2",
        "postgres_two_nodes",
        "postgres_three_nodes",
        "postgres_three_namespaces",
        "postgres_idle_run",
    ];
    measures(&["postgres", "--in-flight", "2"], &expected);
}

#[test]
fn schedules_fire_and_a_killed_node_loses_nothing() {
    let expected = ["schedule_delay_p50", "schedule_delay_p99", "crash_delivered", "crash_repeats"];
    let report = measures(&["schedules", "crash"], &expected);
    assert_eq!(report["scenarios"]["crash_lost"]["value"], 0.0);
}

/// What is measured of the real program is measured where that is built too, as it is by every build of the workspace.
#[test]
fn so_it_does_with_the_real_program() {
    if !Path::new(BENCH).with_file_name("orbit").is_file() {
        eprintln!("`orbit` is not built: nothing is tested here");
        return;
    }
    let expected = [
        "memory_idle",
        "supervised_attempt",
        "supervisor_above_a_spawn",
        "start_to_ready",
        "binary_size",
        "check_profiles",
        "check_profiles_memory",
        "selection",
    ];
    measures(&["memory", "supervisor", "start", "check", "selection"], &expected);
    measures(&["ffmpeg"], &["ffmpeg_batch"]);
}

#[test]
fn the_page_tells_all_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let one = |value: f64, limit: Value| serde_json::json!({ "value": value, "unit": "runs/s", "limit": limit, "ratio": null, "target": 1.0, "better": "higher" });
    let scenarios = serde_json::json!({
        "runs": one(11.0, 22.0.into()), "runs_in_flight_4": one(33.0, 44.0.into()), "peer_restate_runs": one(55.0, Value::Null),
        "unheard_of": one(66.0, Value::Null),
    });
    let report = serde_json::json!({ "machine": "a machine", "commit": "c", "scenarios": scenarios });
    let (from, to) = (folder.path().join("results.json"), folder.path().join("page.md"));
    std::fs::write(&from, report.to_string()).unwrap();
    assert!(works(Command::new(BENCH).arg("page").arg("--from").arg(&from).arg("--to").arg(&to)));
    let page = std::fs::read_to_string(&to).unwrap();
    for told in
        ["a machine", "11.0 runs/s", "33.0 runs/s", "| Restate | 55.0 |", "`unheard_of`", "(page-runs.svg)"]
    {
        assert!(page.contains(told), "{told}: {page}");
    }
    assert!(std::fs::read_to_string(folder.path().join("page-peers.svg")).unwrap().contains("Restate"));
}

#[cfg(test)]
const BENCH: &str = env!("CARGO_BIN_EXE_orbit-bench");

#[cfg(test)]
fn works(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).status().is_ok_and(|status| status.success())
}

#[cfg(test)]
fn measures(what: &[&str], expected: &[&str]) -> Value {
    let folder = tempfile::tempdir().unwrap();
    // The server's own user has to get there.
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let output =
        Command::new(BENCH).args(["--quick", "--folder"]).arg(folder.path()).args(what).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = std::fs::read_to_string(folder.path().join("quick.json")).unwrap();
    let report: Value = serde_json::from_str(&text).unwrap();
    assert!(report["machine"].as_str().is_some_and(|machine| machine.contains("Linux")));
    for name in expected {
        let one = &report["scenarios"][*name];
        assert!(one["value"].as_f64().is_some_and(|value| value >= 0.0), "{name}: {one}");
        // Where there is something to compare it with, it was compared.
        assert_eq!(
            one["limit"].as_f64().is_some(),
            one["ratio"].as_f64().is_some_and(|ratio| ratio > 0.0),
            "{name}: {one}"
        );
        assert!(["higher", "lower"].contains(&one["better"].as_str().unwrap()), "{name}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "databases are left");
    report
}
