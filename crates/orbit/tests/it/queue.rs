//! Dispatch under load and failure, with the real binary: breakers, queues in order, redrives, endpoints that say no.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::home::{Home, until};
use crate::receiver::{Receiver, Reply};

/// A receiver that is down until it is told to be up.
fn switched(up: &Arc<AtomicBool>) -> Receiver {
    let up = Arc::clone(up);
    Receiver::start(move |_, _| Reply::Status(if up.load(Ordering::SeqCst) { 200 } else { 503 }, "", ""))
}

fn of<'a>(records: &'a [Value], kind: &str) -> Vec<&'a Value> {
    records.iter().filter(|record| record["kind"] == kind).collect()
}

fn fire(home: &Home, count: usize) {
    for number in 0..count {
        assert_eq!(home.run(&["run", "--no-wait", "--key", &number.to_string()]).code, 0);
    }
}

fn deliveries(home: &Home, state: &str) -> Vec<Value> {
    let answer = home.json(&["deliveries", "list", "--state", state, "--limit", "1000"], 0);
    answer["items"].as_array().unwrap().clone()
}

fn endpoint_state(home: &Home, endpoint: &str) -> String {
    let status = home.json(&["status"], 0);
    status["namespaces"][0]["counts"]["endpoints"][endpoint]["state"].as_str().unwrap_or("closed").to_owned()
}

#[test]
fn a_breaker_opens_a_neighbour_goes_on_and_a_probe_closes_it() {
    let up = Arc::new(AtomicBool::new(false));
    let (dark, light) = (switched(&up), Receiver::accepting());
    let home = Home::lab(6);
    home.secret("TOKEN", "token-of-the-dark-one");
    home.endpoint(
        "dark",
        &dark.url("/"),
        "auth: { bearer: \"${TOKEN}\" }\nconcurrency: 1\nretry: { attempts: 20, schedule: [10ms] }\nbreaker: { failures: 3, pause: 500ms, pause_max: 1s }\n",
    );
    home.endpoint("light", &light.url("/"), "");
    home.profile("plain", 1, "distribution_map: [{ endpoint: dark }, { endpoint: light }]\n");
    let serving = home.serve();
    fire(&home, 6);
    until("the neighbour to have everything", || light.requests().len() == 6);
    until("two pauses", || of(&home.records(), "breaker_opened").len() >= 2);
    assert_ne!(endpoint_state(&home, "dark"), "closed");
    up.store(true, Ordering::SeqCst);
    until("everything to arrive", || deliveries(&home, "accepted").len() == 12);
    assert_eq!(endpoint_state(&home, "dark"), "closed");
    let records = home.records();
    let opened = of(&records, "breaker_opened");
    assert_eq!(opened[0]["body"]["pause_ms"], 500);
    assert_eq!(opened[1]["body"]["pause_ms"], 1000);
    assert_eq!(of(&records, "breaker_closed").len(), 1);
    // Three failures opened it; then every attempt was a probe, and only those were made, until one was accepted.
    let (attempts, probes) = (dark.requests().len(), of(&records, "breaker_half_opened").len());
    assert_eq!(opened.len(), probes, "each failed probe opened it again, and the last one closed it");
    assert_eq!(attempts, 3 + (probes - 1) + 6);
    assert!(records.iter().all(|record| !record.to_string().contains("token-of-the-dark-one")));
    assert_eq!(serving.stop(), 0);
}

#[test]
fn order_is_kept_over_failures_and_a_crash() {
    // Every other request fails, so that each delivery is tried twice.
    let receiver = Receiver::start(|_, n| Reply::Status(if n % 2 == 0 { 503 } else { 200 }, "", ""));
    let home = Home::lab(8);
    home.endpoint(
        "line",
        &receiver.url("/{{ initiation.label }}"),
        "ordered: true\nretry: { attempts: 20, schedule: [30ms] }\nbreaker: { failures: 100 }\n",
    );
    home.profile("plain", 1, "distribution_map: [{ endpoint: line }]\n");
    let serving = home.serve();
    fire(&home, 8);
    until("a few to arrive", || deliveries(&home, "accepted").len() >= 3);
    serving.kill();
    let serving = home.serve();
    until("all to arrive", || deliveries(&home, "accepted").len() == 8);
    let created: Vec<_> = of(&home.records(), "delivery_created")
        .iter()
        .map(|record| record["body"]["delivery_id"].clone())
        .collect();
    let mut sent: Vec<_> = receiver
        .requests()
        .iter()
        .map(|request| Value::from(request.headers["idempotency-key"].clone()))
        .collect();
    sent.dedup();
    assert_eq!(sent, created, "each only after the one before was accepted");
    assert_eq!(serving.stop(), 0);
}

#[test]
fn a_redrive_by_filter_makes_partial_runs_succeed() {
    let up = Arc::new(AtomicBool::new(false));
    let (one, two) = (switched(&up), switched(&up));
    let home = Home::lab(3);
    home.endpoint("one", &one.url("/"), "retry: { attempts: 1 }\n");
    home.endpoint("two", &two.url("/"), "retry: { attempts: 1 }\n");
    home.profile("plain", 1, "distribution_map: [{ endpoint: one }, { endpoint: two }]\n");
    let serving = home.serve();
    fire(&home, 3);
    until("everything to be given up", || deliveries(&home, "dead").len() == 6);
    up.store(true, Ordering::SeqCst);
    let redrive = |more: &[&str], code: i32| home.json(&[&["deliveries", "redrive"], more].concat(), code);
    assert_eq!(redrive(&["--endpoint", "one", "--dry-run"], 0)["count"], 3);
    assert_eq!(deliveries(&home, "dead").len(), 6, "they were only counted");
    assert_eq!(redrive(&["--until", "2020-01-01T00:00:00Z"], 5)["count"], 0);
    let answer = redrive(&["--endpoint", "one", "--since", "2020-01-01T00:00:00Z"], 0);
    assert_eq!((&answer["count"], answer["redriven"].as_array().unwrap().len()), (&Value::from(3), 3));
    until("those of one endpoint to arrive", || deliveries(&home, "accepted").len() == 3);
    let outcomes = || {
        let runs = home.json(&["runs", "list"], 0)["items"].as_array().unwrap().clone();
        runs.iter().map(|run| run["outcome"].as_str().unwrap_or("none").to_owned()).collect::<Vec<_>>()
    };
    until("the runs to be partial", || outcomes() == ["partial"; 3]);
    assert_eq!(redrive(&["--all"], 0)["count"], 3);
    until("the runs to succeed", || outcomes() == ["succeeded"; 3]);
    assert_eq!(serving.stop(), 0);
}

#[test]
fn what_waits_for_a_disabled_endpoint_is_given_up() {
    let receiver = Receiver::start(|_, n| Reply::Status(if n < 4 { 503 } else { 410 }, "", ""));
    let home = Home::lab(4);
    home.endpoint(
        "gone",
        &receiver.url("/"),
        "concurrency: 1\nretry: { attempts: 20, schedule: [50ms] }\nbreaker: { failures: 4, pause: 300ms }\n",
    );
    home.profile("plain", 1, "distribution_map: [{ endpoint: gone }]\n");
    let serving = home.serve();
    fire(&home, 4);
    until("everything to be given up", || deliveries(&home, "dead").len() == 4);
    assert_eq!(receiver.requests().len(), 5, "the probe was told, and nobody else asked");
    assert_eq!(endpoint_state(&home, "gone"), "disabled");
    let dead = deliveries(&home, "dead");
    let by_probe = |one: &&Value| one["reason"].as_str().unwrap().starts_with("the endpoint answered 410");
    assert_eq!(dead.iter().filter(by_probe).count(), 1, "{dead:?}");
    assert_eq!(serving.stop(), 0);
}

#[test]
fn an_endpoint_that_only_fails_is_disabled_after_a_warning() {
    let receiver = Receiver::start(|_, _| Reply::Status(404, "", ""));
    let home = Home::lab(1);
    home.endpoint(
        "lost",
        &receiver.url("/"),
        "retry: { attempts: 20, schedule: [100ms] }\ndisable_after: 300ms\n",
    );
    home.profile("plain", 1, "distribution_map: [{ endpoint: lost }]\n");
    let serving = home.serve();
    fire(&home, 1);
    until("it to be given up", || deliveries(&home, "dead").len() == 1);
    let reason = deliveries(&home, "dead")[0]["reason"].as_str().unwrap().to_owned();
    assert!(reason.starts_with("the endpoint is disabled: it has accepted nothing since"), "{reason}");
    let kinds = home.kinds();
    let place = |kind: &str| kinds.iter().position(|one| one == kind).unwrap();
    assert!(place("endpoint_failing") < place("endpoint_disabled"));
    assert!(!kinds.contains(&"breaker_opened".to_owned()), "it answers, so nothing is gained by waiting");
    assert_eq!(serving.stop(), 0);
}
