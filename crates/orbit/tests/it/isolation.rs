//! One surface, processor, endpoint or namespace that fails leaves the others running; nothing is left behind.

use serde_json::Value;

use crate::home::{Home, until};
use crate::receiver::{Receiver, Reply};

#[test]
fn children_that_fork_away_are_ended_with_their_step() {
    let home = Home::lab(1);
    home.processor(
        "two",
        "cat; (setsid sh -c 'trap \"\" TERM HUP; sleep 1000' >/dev/null 2>&1 &) ; (sleep 1000 &)",
        "limits: { grace: 100ms }\n",
    );
    assert_eq!(home.json(&["run"], 0)["runs"][0]["outcome"], "succeeded");
    assert!(home.processes().is_empty(), "left behind: {:?}", home.processes());
}

#[test]
fn a_failed_attempt_is_repeated_up_to_its_number() {
    let home = Home::lab(2);
    let script = "cat; [ \"$ORBIT_ATTEMPT\" = 3 ]";
    home.processor("two", script, "retry: { attempts: 3, backoff: { initial: 10ms } }\n");
    let run = home.json(&["run"], 0)["runs"][0].clone();
    assert_eq!(run["steps"][1]["attempts"], 3);
    home.processor("two", script, "retry: { attempts: 2, backoff: { initial: 10ms } }\n");
    home.activate();
    let run = home.json(&["run"], 1)["runs"][0].clone();
    assert_eq!((&run["outcome"], &run["steps"][1]["attempts"]), (&Value::from("failed"), &Value::from(2)));
}

#[test]
fn a_dead_endpoint_slows_no_other() {
    let silent = Receiver::start(|_, _| Reply::Silence);
    let alive = Receiver::accepting();
    let home = Home::lab(20);
    home.endpoint("silent", &silent.url("/"), "concurrency: 1\n");
    home.endpoint("alive", &alive.url("/"), "");
    home.profile("plain", 1, "distribution_map: [{ endpoint: silent }, { endpoint: alive }]\n");
    let serving = home.serve();
    for _ in 0..5 {
        assert_eq!(home.run(&["run", "--no-wait"]).code, 0);
    }
    until("the living endpoint to have all", || alive.requests().len() == 5);
    assert!(silent.requests().len() <= 1);
    serving.kill();
}

#[test]
fn a_broken_namespace_leaves_the_other_running() {
    let home = Home::lab_on_files(5);
    home.run_profile("daily", 1, "[plain]", "  schedule: { every: 1s }\n");
    home.write("namespaces/other/namespace.yaml", "label: Other\n");
    std::fs::create_dir_all(home.path("data/other")).unwrap();
    home.write(
        "data/other/orbit.db",
        "this is no database, and long enough to be taken for a broken one ........................",
    );
    let serving = home.serve();
    until("the healthy namespace to work", || {
        home.json(&["cycles", "list", "-n", "lab"], 0)["items"]
            .as_array()
            .unwrap()
            .iter()
            .any(|c| c["outcome"] == "succeeded")
    });
    let log = home.run(&["log", "tail", "-n", "system", "--json"]);
    assert!(log.stdout.contains("service_failed") && log.stdout.contains("other"), "{}", log.stdout);
    serving.kill();
}
