//! The benchmark runs. How fast things are is nothing that a test could say.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

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
    ];
    measures(&["runs", "idle", "memory", "log"], &expected);
}

#[test]
fn so_it_does_on_a_server_of_its_own() {
    let expected = [
        "postgres_runs",
        "postgres_runs_in_flight_2",
        "postgres_two_nodes",
        "postgres_three_nodes",
        "postgres_idle_run",
    ];
    measures(&["postgres", "--in-flight", "2"], &expected);
}

#[expect(clippy::disallowed_methods, reason = "the program under test")]
#[cfg(test)]
fn measures(what: &[&str], expected: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    // The server's own user has to get there.
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_orbit-bench"))
        .args(["--quick", "--folder"])
        .arg(folder.path())
        .args(what)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = std::fs::read_to_string(folder.path().join("latest.json")).unwrap();
    let report: Value = serde_json::from_str(&text).unwrap();
    assert!(report["machine"].as_str().is_some_and(|machine| machine.contains("Linux")));
    for name in expected {
        let one = &report["scenarios"][*name];
        assert!(one["value"].as_f64().is_some_and(|value| value > 0.0), "{name}: {one}");
        assert!(one["ratio"].as_f64().is_some_and(|ratio| ratio > 0.0), "{name}: {one}");
        assert!(["higher", "lower"].contains(&one["better"].as_str().unwrap()), "{name}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "databases are left");
}
