//! The scheduler of the real binary on the real store: overlap, what came due while nobody was up or the gate was closed, and restarts.

use std::collections::BTreeSet;
use std::fs;

use jiff::Timestamp;
use serde_json::Value;

use crate::home::{Home, until};

/// A home that fires this often, and whose second step tells by `up-<run>` that it runs and lasts until the file `go` is there.
fn held_home(every: &str, policy: &str) -> Home {
    let home = Home::lab(200);
    home.processor(
        "two",
        "cat; touch ../../../../../up-$ORBIT_RUN_ID; until [ -e ../../../../../go ]; do sleep 0.05; done",
        "limits: { grace: 100ms }\nconcurrency: 4\n",
    );
    home.run_profile("daily", 1, "[plain]", &format!("  schedule: {{ every: {every} }}\n{policy}"));
    home
}

/// A home whose cycles are done at once and that fires every second.
fn quick_home(policy: &str) -> Home {
    let home = Home::lab(200);
    home.run_profile("daily", 1, "[plain]", &format!("  schedule: {{ every: 1s }}\n{policy}"));
    home
}

/// Nothing fires any more, and nothing of what was remembered is lost.
fn stop_firing(home: &Home) {
    let path = home.path("namespaces/lab/run-profiles/daily.yaml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{text}state: paused\n")).unwrap();
    home.apply();
    until("the pause of the run profile", || {
        home.json(&["run-profiles", "show", "daily"], 0)["state"] == "paused"
    });
}

fn cycles(home: &Home) -> Vec<Value> {
    home.json(&["cycles", "list", "--limit", "1000"], 0)["items"].as_array().unwrap().clone()
}

/// The decisions of this kind, with the number of firings that each stands for.
fn decided(home: &Home, decision: &str) -> Vec<Value> {
    let records = home.records().into_iter().filter(|record| record["kind"] == "schedule_decided");
    records.map(|record| record["body"].clone()).filter(|body| body["decision"] == decision).collect()
}

fn nominal(cycle: &Value) -> Timestamp {
    cycle["nominal_time"].as_str().unwrap().parse().unwrap()
}

/// No instant has two cycles.
fn instants(cycles: &[Value]) -> BTreeSet<Timestamp> {
    let instants: BTreeSet<_> = cycles.iter().map(nominal).collect();
    assert_eq!(instants.len(), cycles.len(), "an instant has two cycles");
    instants
}

fn tell_all_to_go_on(home: &Home) {
    home.write("go", "");
}

fn ups(home: &Home) -> usize {
    let names = fs::read_dir(home.root()).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().starts_with("up-")).count()
}

fn pass(seconds: i64) {
    let end = Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
    until("instants to pass", || Timestamp::now() > end);
}

#[test]
fn what_would_overlap_is_skipped_and_told_in_one_record() {
    let home = held_home("1s", "  overlap: skip\n");
    let serving = home.serve();
    until("a program to run", || ups(&home) == 1);
    pass(4);
    tell_all_to_go_on(&home);
    until("the next cycle", || cycles(&home).len() > 1);
    until("the record", || !decided(&home, "skipped").is_empty());
    let skipped = decided(&home, "skipped");
    let first = &skipped[0];
    assert!(first["count"].as_u64().unwrap() >= 3, "equal decisions are one record: {skipped:?}");
    assert!(first["reason"].as_str().unwrap().contains("under way"), "{first}");
    let between = |at: &Timestamp| {
        let edge = |name: &str| first[name].as_str().unwrap().parse::<Timestamp>().unwrap();
        (edge("from")..=edge("to")).contains(at)
    };
    assert!(!instants(&cycles(&home)).iter().any(between), "what was skipped did not fire");
    serving.kill();
}

#[test]
fn one_waits_behind_what_is_under_way_and_runs_after_it() {
    let home = held_home("1s", "  overlap: queue_one\n");
    let serving = home.serve();
    until("a program to run", || ups(&home) == 1);
    pass(4);
    let before = cycles(&home);
    assert_eq!((before.len(), ups(&home)), (2, 1), "one at work and one behind it: {before:?}");
    stop_firing(&home);
    tell_all_to_go_on(&home);
    until("both to end", || cycles(&home).iter().all(|cycle| cycle["state"] == "finished"));
    let after = cycles(&home);
    assert_eq!(after.len(), 2, "{after:?}");
    // The pause came after the firing: what waited is skipped for it or has run, and is never lost or doubled.
    assert!(after.iter().any(|cycle| cycle["outcome"] == "succeeded"), "{after:?}");
    assert_eq!(serving.stop(), 0);
}

#[test]
fn the_one_that_waited_runs() {
    let home = held_home("1s", "  overlap: queue_one\n");
    let serving = home.serve();
    until("two cycles", || ups(&home) == 1 && cycles(&home).len() == 2);
    pass(2);
    tell_all_to_go_on(&home);
    until("both to succeed", || {
        let ended = cycles(&home).into_iter().filter(|cycle| cycle["outcome"] == "succeeded");
        ended.count() >= 2
    });
    instants(&cycles(&home));
    until("the record of what did not fire", || {
        decided(&home, "skipped").iter().any(|one| one["reason"].as_str().unwrap().contains("another waits"))
    });
    serving.kill();
}

#[test]
fn a_later_firing_cancels_what_is_under_way_and_ends_its_program() {
    let home = held_home("3s", "  overlap: cancel_other\n");
    let serving = home.serve();
    until("two cycles to have run", || ups(&home) >= 2);
    until("a cycle to be cancelled", || cycles(&home).iter().any(|cycle| cycle["outcome"] == "cancelled"));
    stop_firing(&home);
    let cancelled: Vec<_> =
        cycles(&home).into_iter().filter(|cycle| cycle["outcome"] == "cancelled").collect();
    let runs = home.json(&["runs", "list", "--limit", "1000"], 0)["items"].as_array().unwrap().clone();
    for cycle in &cancelled {
        let run = runs.iter().find(|run| run["cycle_id"] == cycle["cycle_id"]);
        assert!(run.is_none_or(|run| run["outcome"] == "cancelled"), "{run:?}");
    }
    // One at work at most: a shell and what it sleeps with, their supervisor, and the serving process itself.
    until("the programs of the cancelled to be gone", || {
        let works = home.processes().into_iter().filter(|pid| {
            let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let text = String::from_utf8_lossy(&environ).into_owned();
            cancelled.iter().any(|cycle| {
                runs.iter()
                    .filter(|run| run["cycle_id"] == cycle["cycle_id"])
                    .any(|run| text.contains(run["run_id"].as_str().unwrap()))
            })
        });
        works.count() == 0
    });
    tell_all_to_go_on(&home);
    until("the last one to end", || cycles(&home).iter().all(|cycle| cycle["state"] == "finished"));
    assert_eq!(serving.stop(), 0);
    assert!(home.processes().is_empty(), "{:?}", home.processes());
}

/// Serves, is down for some instants, serves again: the cycles whose instants passed while it was down.
fn after_downtime(home: &Home) -> usize {
    let serving = home.serve();
    until("a first cycle", || !cycles(home).is_empty());
    assert_eq!(serving.stop(), 0);
    let before = cycles(home).iter().map(nominal).max().unwrap();
    pass(5);
    let up_again = Timestamp::now();
    let serving = home.serve();
    until("the schedule to go on", || cycles(home).iter().any(|cycle| nominal(cycle) > up_again));
    assert_eq!(serving.stop(), 0);
    let instants = instants(&cycles(home));
    // The second around the start may count as missed or as due.
    let margin = jiff::SignedDuration::from_secs(1);
    instants.into_iter().filter(|at| *at > before && *at < up_again - margin).count()
}

#[test]
fn none_of_what_was_missed_is_made_up_for() {
    let home = quick_home("  overlap: allow\n  catch_up: { policy: none }\n");
    assert_eq!(after_downtime(&home), 0);
    let missed: u64 = decided(&home, "missed").iter().map(|one| one["count"].as_u64().unwrap()).sum();
    assert!(missed >= 3, "{:?}", home.records());
}

#[test]
fn the_last_of_what_was_missed_is_made_up_for() {
    let home = quick_home("  overlap: allow\n  catch_up: { policy: last, window: 12h }\n");
    // The last one lies within the margin or just before it.
    assert!(after_downtime(&home) <= 1);
    let caught: Vec<_> = home
        .records()
        .into_iter()
        .filter(|record| record["kind"] == "cycle_fired" && record["body"]["cause"] == "caught_up")
        .collect();
    assert_eq!(caught.len(), 1, "{caught:?}");
}

#[test]
fn all_of_what_was_missed_is_made_up_for() {
    let home = quick_home("  overlap: allow\n  catch_up: { policy: all, window: 12h }\n");
    assert!(after_downtime(&home) >= 3);
    let instants = instants(&cycles(&home));
    let span = instants.last().unwrap().duration_since(*instants.first().unwrap()).as_secs();
    assert_eq!(i64::try_from(instants.len()).unwrap(), span + 1, "every second has its cycle");
}

#[test]
fn after_a_pause_the_schedule_goes_on_by_its_policy() {
    for (policy, made_up) in [("none", 0), ("last", 1)] {
        let home = quick_home(&format!("  overlap: allow\n  resume: {{ policy: {policy} }}\n"));
        let serving = home.serve();
        until("a first cycle", || !cycles(&home).is_empty());
        home.write(".env", "ORBIT_PAUSED=true\n");
        until("the pause to be noticed", || home.run(&["status"]).code == 4);
        pass(4);
        home.write(".env", "ORBIT_PAUSED=false\n");
        until("the pause to be lifted", || home.run(&["status"]).code == 0);
        let lifted = Timestamp::now();
        until("the schedule to go on", || cycles(&home).iter().any(|cycle| nominal(cycle) > lifted));
        assert_eq!(serving.stop(), 0);
        instants(&cycles(&home));
        let resumed = home
            .records()
            .into_iter()
            .filter(|record| record["kind"] == "cycle_fired" && record["body"]["cause"] == "resumed");
        assert_eq!(resumed.count(), made_up, "{policy}");
    }
}

#[test]
fn restarts_never_double_an_instant() {
    let home = quick_home("  overlap: allow\n  catch_up: { policy: all, window: 12h }\n");
    for crash in [true, false, true] {
        let before = cycles_or_none(&home);
        let serving = home.serve();
        until("another cycle", || cycles(&home).len() > before + 1);
        if crash {
            serving.kill();
        } else {
            assert_eq!(serving.stop(), 0);
        }
    }
    let instants = instants(&cycles(&home));
    let span = instants.last().unwrap().duration_since(*instants.first().unwrap()).as_secs();
    assert_eq!(i64::try_from(instants.len()).unwrap(), span + 1, "no instant is lost or doubled");
}

fn cycles_or_none(home: &Home) -> usize {
    let answer = home.run(&["cycles", "list", "--limit", "1000", "--json"]);
    let answer: Value = serde_json::from_str(&answer.stdout).unwrap_or_default();
    answer["items"].as_array().map_or(0, Vec::len)
}
