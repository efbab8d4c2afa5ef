//! Stop means stop: halts, the pause flag, document states, the disk floor.

use serde_json::Value;

use crate::home::{Home, until};

fn slow_home() -> Home {
    let home = Home::lab(20);
    // Marks that it runs, then lasts until it is ended; the second attempt finds the gate opened and is quick.
    home.processor(
        "two",
        "cat > /dev/null; [ -e ../../../../../go ] || sleep 1000; echo two",
        "limits: { grace: 100ms }\n",
    );
    home
}

fn working(home: &Home) -> bool {
    home.json(&["runs", "list"], 0)["items"].as_array().unwrap().iter().any(|run| {
        run["steps"]
            .as_array()
            .unwrap()
            .iter()
            .any(|step| step["step"] == "tier2" && step["state"] == "working")
    })
}

#[test]
fn a_halt_kills_what_runs_and_a_resume_goes_on_with_it() {
    for namespace in [None, Some("lab")] {
        let home = slow_home();
        let serving = home.serve();
        assert_eq!(home.run(&["run", "--no-wait"]).code, 0);
        until("the program to run", || working(&home));
        let choice: Vec<&str> = namespace.into_iter().flat_map(|name| ["-n", name]).collect();
        assert_eq!(home.json(&[&["halt", "--reason", "drill"], &choice[..]].concat(), 0)["changed"], true);
        until("everything to end", || home.processes().iter().all(|pid| *pid == serving.pid()));
        until("the step to be cut", || !working(&home));
        assert_eq!(home.run(&["status"]).code, 4);
        let refused = home.run(&["run"]);
        assert_eq!((refused.code, refused.stderr.contains("drill")), (4, true), "{refused:?}");
        home.write("go", "");
        assert_eq!(home.json(&[&["resume"], &choice[..]].concat(), 0)["changed"], true);
        until("the run to finish", || home.json(&["runs", "list"], 0)["items"][0]["outcome"] == "succeeded");
        let kinds = home.kinds();
        assert!(kinds.contains(&"step_interrupted".to_owned()), "{kinds:?}");
        assert_eq!(serving.stop(), 0);
    }
}

#[test]
fn a_halt_outlives_the_process() {
    let home = Home::lab(3);
    assert_eq!(home.json(&["halt"], 0)["changed"], true);
    assert_eq!(home.json(&["halt"], 0)["changed"], false);
    assert_eq!(home.run(&["run"]).code, 4);
    assert_eq!(home.json(&["resume"], 0)["changed"], true);
    assert_eq!(home.run(&["run"]).code, 0);
}

#[test]
fn the_pause_flag_is_noticed_while_running() {
    let home = Home::lab(50);
    home.run_profile("daily", 1, "[plain]", "  schedule: { every: 1s }\n");
    let serving = home.serve();
    let cycles = || home.json(&["cycles", "list"], 0)["items"].as_array().unwrap().len();
    until("a first cycle", || cycles() > 0);
    home.write(".env", "ORBIT_PAUSED=yes\n");
    until("the pause to be noticed", || home.run(&["status"]).code == 4);
    until("a firing that is not fired", || {
        home.records().iter().any(|record| record["kind"] == "gate_closed" && record["body"]["open"] == false)
    });
    assert_eq!(home.run(&["run"]).code, 4);
    home.write(".env", "ORBIT_PAUSED=no\n");
    until("the pause to be lifted", || home.run(&["status"]).code == 0);
    let before = cycles();
    until("the next cycle", || cycles() > before);
    home.write(".env", "ORBIT_PAUSED=no\nno assignment\n");
    until("a file that cannot be read to pause", || home.run(&["status"]).code == 4);
    home.write(".env", "ORBIT_PAUSED=no\n");
    until("the pause to be lifted again", || home.run(&["status"]).code == 0);
    assert_eq!(serving.stop(), 0);
    home.write(".env", "ORBIT_PAUSED=perhaps\n");
    let refused = home.run(&["run"]);
    assert_eq!((refused.code, refused.stderr.contains("ORBIT_PAUSED")), (2, true), "{refused:?}");
}

#[test]
fn a_paused_document_starts_nothing_new() {
    let home = Home::lab(3);
    let path = home.path("namespaces/lab/run-profiles/daily.yaml");
    let enabled = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{enabled}state: paused\n")).unwrap();
    let refused = home.run(&["run"]);
    assert_eq!((refused.code, refused.stderr.contains("daily")), (4, true), "{refused:?}");
    std::fs::write(&path, enabled).unwrap();
    home.apply();
    assert_eq!(home.run(&["run"]).code, 0);
}

#[test]
fn below_the_disk_floor_nothing_new_starts() {
    let home = Home::lab(3);
    home.write("namespaces/lab/namespace.yaml", "disk_floor: 4096 TiB\n");
    let refused = home.run(&["run"]);
    assert_eq!((refused.code, refused.stderr.contains("floor")), (1, true), "{refused:?}");
    let status: Value = home.json(&["status"], 4);
    assert!(status["namespaces"][0]["closed"].as_str().unwrap().contains("floor"), "{status}");
}
