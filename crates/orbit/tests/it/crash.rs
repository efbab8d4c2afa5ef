//! `kill -9` at random moments with many runs in flight: nothing is lost, nothing is doubled, nothing stays behind.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::home::{Home, until};
use crate::receiver::{Receiver, Reply};

/// Crashes in one test.
const CRASHES: u64 = 6;
/// Cycles in flight, of two runs each: more than the candidates that a pass keeps.
const CYCLES: usize = 24;

#[test]
fn after_crashes_every_run_ends_and_every_delivery_arrives_with_its_key() {
    // Every third request is refused, so that retries are among what a crash may hit.
    let receiver = Receiver::start(|_, n| Reply::Status(if n % 3 == 1 { 503 } else { 200 }, "", "ok"));
    let home = Home::lab(CYCLES);
    for name in ["one", "two", "three"] {
        home.processor(name, &format!("cat; sleep 0.0$(($$ % 10)); echo {name}"), "concurrency: 8\n");
    }
    home.endpoint("a", &receiver.url("/a"), "retry: { attempts: 20, schedule: [20ms] }\n");
    home.endpoint("b", &receiver.url("/b"), "retry: { attempts: 20, schedule: [20ms] }\n");
    home.profile("plain", 1, "distribution_map: [{ endpoint: a }, { endpoint: b }]\n");
    home.profile("other", 2, "distribution_map: [{ endpoint: b }]\n");
    home.run_profile("daily", 1, "[plain, other]", "");
    let seed = u64::from(std::process::id());
    eprintln!("seed {seed}");
    let mut serving = home.serve();
    for number in 0..CYCLES {
        let key = format!("key-{number}");
        assert_eq!(home.run(&["run", "--no-wait", "--key", &key]).code, 0);
    }
    for crash in 0..CRASHES {
        // A moment between nothing and a few hundred milliseconds after the start, by how many records there are.
        let target = home.records().len() + usize::try_from((seed * 31 + crash * 17) % 60).unwrap();
        until("some more records", || home.records().len() >= target || all_finished(&home));
        serving.kill();
        serving = home.serve();
    }
    until("every run to finish", || all_finished(&home));
    let runs = all(&home, "runs");
    let cycles = all(&home, "cycles");
    let without: Vec<_> = cycles.iter().filter(|cycle| cycle["outcome"] != "succeeded").collect();
    assert_eq!(runs.len(), CYCLES * 2, "{without:#?}");
    for run in &runs {
        assert_eq!(run["outcome"], "succeeded", "{run}");
    }
    check_deliveries(&runs, &receiver, &home);
    assert_eq!(serving.stop(), 0);
    assert!(home.processes().is_empty(), "left behind: {:?}", home.processes());
}

#[test]
fn after_a_crash_the_supervisors_end_what_ran_without_a_new_start() {
    let home = Home::lab(1);
    home.processor(
        "two",
        "cat; (setsid sh -c 'trap \"\" TERM HUP; touch ../../../../../up; sleep 1000' >/dev/null 2>&1 &); \
         trap '' TERM; sleep 1000; sleep 1000",
        "limits: { grace: 200ms }\n",
    );
    let serving = home.serve();
    assert_eq!(home.run(&["run", "--no-wait"]).code, 0);
    until("the daemon to run", || home.path("up").exists());
    let pid = serving.pid();
    assert!(home.processes().iter().any(|one| *one != pid));
    serving.kill();
    // Nobody but the supervisor is left to do it.
    until("everything to be gone", || home.processes().is_empty());
    home.processor("two", "cat; echo two", "");
    let serving = home.serve();
    until("the step to count as interrupted", || home.kinds().contains(&"step_interrupted".to_owned()));
    assert_eq!(serving.stop(), 0);
}

fn check_deliveries(runs: &[Value], receiver: &Receiver, home: &Home) {
    let mut sent: BTreeMap<String, BTreeSet<(String, Vec<u8>)>> = BTreeMap::new();
    for request in receiver.requests() {
        let key = request.headers["idempotency-key"].clone();
        sent.entry(key).or_default().insert((request.path.clone(), request.body.clone()));
    }
    let deliveries: Vec<_> = runs.iter().flat_map(|run| run["deliveries"].as_array().unwrap()).collect();
    assert_eq!(deliveries.len(), CYCLES * 3);
    assert_eq!(sent.len(), deliveries.len(), "one key a delivery, none without a delivery");
    let records = home.records();
    for delivery in deliveries {
        assert_eq!(delivery["state"], "accepted");
        let id = delivery["delivery_id"].as_str().unwrap();
        assert_eq!(sent[id].len(), 1, "a repeat has the same key, place and bytes");
        let of = |kind: &str| {
            records
                .iter()
                .filter(|record| record["kind"] == kind && record["body"]["delivery_id"] == id)
                .count()
        };
        let attempts = usize::try_from(delivery["attempts"].as_u64().unwrap()).unwrap();
        assert_eq!(
            (of("attempt_started"), of("receipt_captured")),
            (attempts, attempts),
            "one receipt an attempt"
        );
        assert_eq!(delivery["receipts"].as_array().unwrap().len(), attempts);
    }
}

fn all_finished(home: &Home) -> bool {
    let cycles = all(home, "cycles");
    cycles.len() == CYCLES && cycles.iter().all(|cycle| cycle["state"] == "finished")
}

fn all(home: &Home, what: &str) -> Vec<Value> {
    home.json(&[what, "list", "--limit", "1000"], 0)["items"].as_array().unwrap().clone()
}
