//! Whoever sleeps is told: notices of the real binary to a receiver on loopback, and its heartbeat.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::home::{Home, until};
use crate::receiver::{Receiver, Reply};

/// This home, whose endpoint `operator` is told of these events.
fn telling(home: Home, receiver: &Receiver, events: &str, more: &str) -> Home {
    home.endpoint("operator", &receiver.url("/notices/{{ notice.event }}"), more);
    rules(&home, events, "0 B");
    home
}

/// The same of a new one.
fn home_that_tells(receiver: &Receiver, events: &str, more: &str) -> Home {
    telling(Home::lab(20), receiver, events, more)
}

fn rules(home: &Home, events: &str, floor: &str) {
    let text = format!("disk_floor: {floor}\nnotify: [{{ endpoint: operator, on: [{events}] }}]\n");
    home.write("namespaces/lab/namespace.yaml", &text);
}

/// Every notice of this event that arrived, once each.
fn notices(receiver: &Receiver, event: &str) -> Vec<Value> {
    let mut seen = BTreeSet::new();
    let requests = receiver.requests().into_iter().filter(|one| one.path == format!("/notices/{event}"));
    requests
        .filter(|one| seen.insert(one.headers["idempotency-key"].clone()))
        .map(|one| serde_json::from_slice(&one.body).unwrap())
        .collect()
}

fn count(receiver: &Receiver, event: &str) -> u64 {
    notices(receiver, event).iter().map(|notice| notice["count"].as_u64().unwrap()).sum()
}

fn failing(home: &Home) {
    home.processor("two", "exit 3", "");
}

fn fire(home: &Home) {
    assert_eq!(home.run(&["run", "--no-wait"]).code, 0);
}

#[test]
fn a_burst_of_failures_is_told_together() {
    let receiver = Receiver::accepting();
    let home = home_that_tells(&receiver, "cycle_failed", "sign: { standard_webhooks: \"${KEY}\" }\n");
    let key = "whsec_bmV3LWtleS1uZXcta2V5LW5ldy1rZXktbmV3LWtleQ==";
    home.secret("KEY", key);
    failing(&home);
    let serving = home.serve();
    for _ in 0..5 {
        fire(&home);
    }
    until("all five to be told", || count(&receiver, "cycle_failed") == 5);
    let told = notices(&receiver, "cycle_failed");
    assert!(told.len() < 5, "{told:?}");
    let first = &told[0];
    assert_eq!((&first["type"], &first["namespace"]), (&Value::from("orbit.notice"), &Value::from("lab")));
    let examples = first["examples"].as_array().unwrap();
    assert_eq!(examples.len() as u64, first["count"].as_u64().unwrap());
    let cycle = home.json(&["cycles", "show", examples[0]["cycle_id"].as_str().unwrap()], 0);
    assert_eq!(cycle["outcome"], "failed");
    // Sent as everything that is sent: signed, with a digest and a key, and a receipt is kept.
    let request = &receiver.requests()[0];
    assert!(request.headers["content-digest"].starts_with("sha-256=:"));
    assert_eq!(request.headers["content-type"], "application/json");
    let mut headers = http::HeaderMap::new();
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        headers.insert(name, request.headers[name].parse().unwrap());
    }
    standardwebhooks::Webhook::new(key).unwrap().verify(&request.body, &headers).unwrap();
    let id = &request.headers["idempotency-key"];
    until("the receipt", || home.json(&["deliveries", "show", id], 0)["state"] == "accepted");
    let delivery = home.json(&["deliveries", "show", id], 0);
    assert_eq!((&delivery["run_id"], &delivery["notice"]["event"]), (&Value::Null, &"cycle_failed".into()));
    assert!(home.run(&["deliveries", "show", id]).stdout.contains("cycle_failed"));
    assert_eq!(serving.stop(), 0);
}

#[test]
fn dead_letters_and_disabled_endpoints_are_told_of() {
    let receiver = Receiver::start(|request, _| {
        Reply::Status(if request.path.starts_with("/notices") { 200 } else { 410 }, "", "")
    });
    let home = home_that_tells(&receiver, "dead_letter, endpoint_disabled", "");
    home.endpoint("archive", &receiver.url("/in"), "");
    home.profile("plain", 1, "distribution_map: [{ endpoint: archive }]\n");
    let serving = home.serve();
    fire(&home);
    until("the endpoint to be told of", || count(&receiver, "endpoint_disabled") == 1);
    until("the dead letter to be told of", || count(&receiver, "dead_letter") == 1);
    let example = &notices(&receiver, "dead_letter")[0]["examples"][0];
    assert_eq!(example["endpoint"], "archive");
    assert_eq!(
        home.json(&["deliveries", "show", example["delivery_id"].as_str().unwrap()], 0)["state"],
        "dead"
    );
    assert_eq!(serving.stop(), 0);
}

#[test]
fn a_halt_is_told_of_while_it_lasts() {
    let receiver = Receiver::accepting();
    let home = home_that_tells(&receiver, "halted", "");
    let serving = home.serve();
    assert_eq!(home.json(&["halt", "--reason", "drill"], 0)["changed"], true);
    until("the halt to be told of", || count(&receiver, "halted") == 1);
    let notice = &notices(&receiver, "halted")[0];
    assert!(notice["examples"][0]["reason"].as_str().unwrap().contains("drill"), "{notice}");
    assert_eq!(home.run(&["status"]).code, 4, "it is halted all the while");
    assert_eq!(home.json(&["resume"], 0)["changed"], true);
    assert_eq!(home.json(&["halt", "-n", "lab", "--reason", "drill two"], 0)["changed"], true);
    until("the halt of the namespace to be told of", || count(&receiver, "halted") == 2);
    assert_eq!(serving.stop(), 0);
}

#[test]
fn a_refused_configuration_and_a_full_disk_are_told_of() {
    let receiver = Receiver::accepting();
    let home = telling(Home::lab_on_files(20), &receiver, "config_refused, disk_floor", "");
    let serving = home.serve();
    home.write("namespaces/lab/sources/words.yaml", "name: words\nkind: nothing\n");
    until("the refusal to be told of", || count(&receiver, "config_refused") > 0);
    let example = notices(&receiver, "config_refused")[0]["examples"][0].clone();
    assert!(example["first"].as_str().unwrap().contains("words.yaml:2:7"), "{example}");
    home.items(20);
    rules(&home, "config_refused, disk_floor", "4096 TiB");
    until("the floor to be told of", || count(&receiver, "disk_floor") == 1);
    assert_eq!(serving.stop(), 0);
}

#[test]
fn firings_that_no_node_saw_are_told_of() {
    let receiver = Receiver::accepting();
    let home = home_that_tells(&receiver, "tick_missed", "");
    home.run_profile(
        "daily",
        1,
        "[plain]",
        "  schedule: { every: 1s }\n  overlap: allow\n  catch_up: { policy: none }\n",
    );
    let cycles = || home.json(&["cycles", "list"], 0)["items"].as_array().unwrap().len();
    let serving = home.serve();
    until("a first cycle", || cycles() > 0);
    serving.kill();
    let down = std::time::Instant::now();
    until("some firings to be missed", || down.elapsed() > std::time::Duration::from_secs(4));
    let serving = home.serve();
    until("the missed firings to be told of", || count(&receiver, "tick_missed") >= 2);
    assert_eq!(serving.stop(), 0);
}

#[test]
fn a_receiver_of_notices_that_is_down_is_in_nobodys_way() {
    let receiver = Receiver::start(|_, _| Reply::Status(503, "", "no"));
    let home = home_that_tells(&receiver, "cycle_failed, dead_letter", "");
    failing(&home);
    let serving = home.serve();
    fire(&home);
    let dead =
        || home.json(&["deliveries", "list", "--state", "dead"], 0)["items"].as_array().unwrap().clone();
    until("the notice to be given up", || dead().len() == 1);
    home.processor("two", "cat; echo two", "");
    home.activate();
    until("the mended processor to be active", || home.run(&["run", "--wait", "60s"]).code == 0);
    // Nothing more is to be told once everything in the log was read: the second notice is of a second failure.
    failing(&home);
    home.activate();
    until("the broken processor to be active", || home.run(&["run", "--wait", "60s"]).code == 1);
    until("the second notice to be given up", || dead().len() >= 2);
    for delivery in dead() {
        assert_eq!(delivery["notice"]["event"], "cycle_failed", "a dead notice made another: {delivery}");
    }
    assert_eq!(serving.stop(), 0);
}

#[test]
fn a_crash_loses_no_notice_and_doubles_none() {
    let silent = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let answers = std::sync::Arc::clone(&silent);
    let receiver = Receiver::start(move |_, _| {
        if answers.load(std::sync::atomic::Ordering::SeqCst) {
            Reply::Silence
        } else {
            Reply::Status(200, "", "")
        }
    });
    let home = home_that_tells(&receiver, "cycle_failed", "");
    failing(&home);
    let serving = home.serve();
    fire(&home);
    until("the cycle to fail", || home.kinds().contains(&"cycle_finished".to_owned()));
    // Before it is due, and again while it is sent.
    serving.kill();
    let serving = home.serve();
    until("the notice to be on its way", || !receiver.requests().is_empty());
    serving.kill();
    silent.store(false, std::sync::atomic::Ordering::SeqCst);
    let serving = home.serve();
    until("it to be accepted", || {
        let accepted = home.json(&["deliveries", "list", "--state", "accepted"], 0);
        accepted["items"].as_array().unwrap().len() == 1
    });
    assert_eq!(count(&receiver, "cycle_failed"), 1);
    let bodies: BTreeSet<_> = receiver.requests().into_iter().map(|request| request.body).collect();
    assert_eq!(bodies.len(), 1, "every attempt sends the same");
    assert_eq!(serving.stop(), 0);
}

#[test]
fn the_heartbeat_stops_with_the_engine() {
    let receiver = Receiver::accepting();
    let home = Home::lab(3);
    let url = receiver.url("/alive");
    home.write(
        "orbit.yaml",
        &format!(
            "listen: {{ address: \"127.0.0.1:0\" }}\nheartbeat: {{ url: \"{url}\", every: 10s, addresses: {{ allow: [\"127.0.0.0/8\"] }} }}\n"
        ),
    );
    let serving = home.serve();
    let beats = || receiver.requests().len();
    until("two heartbeats", || beats() >= 2);
    assert_eq!(
        (receiver.requests()[0].method.as_str(), receiver.requests()[0].path.as_str()),
        ("GET", "/alive")
    );
    assert_eq!(home.json(&["status"], 0)["heartbeat"]["heard"], true);
    assert_eq!(home.json(&["halt"], 0)["changed"], true);
    let before = beats();
    until("a heartbeat of a halted node", || beats() > before);
    serving.signal("-STOP");
    let before = beats();
    // Longer than from one to the next; one may have been on its way.
    let stopped = std::time::Instant::now();
    until("the next one to be missed", || stopped.elapsed() > std::time::Duration::from_secs(12));
    assert!(beats() <= before + 1, "a stopped process sent {} more", beats() - before);
    serving.signal("-CONT");
    until("a heartbeat after it went on", || beats() > before + 1);
    serving.kill();
}

#[test]
fn a_heartbeat_that_nobody_hears_is_recorded_once() {
    let home = Home::lab(3);
    home.write(
        "orbit.yaml",
        "listen: { address: \"127.0.0.1:0\" }\nheartbeat: { url: \"http://127.0.0.1:1/\", every: 10s }\n",
    );
    let serving = home.serve();
    until("the failure to be known", || home.json(&["status"], 0)["heartbeat"]["heard"] == false);
    assert!(home.run(&["status"]).stdout.contains("not heard yet"));
    let told = home.run(&["log", "tail", "--json", "-n", "system"]).stdout;
    assert_eq!(told.matches("heartbeat_failed").count(), 1, "{told}");
    assert_eq!(serving.stop(), 0);
}
