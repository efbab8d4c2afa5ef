//! Deliveries of the real binary to a receiver on loopback: proof of who sends, retries, dead letters, receipts.

use serde_json::Value;

use crate::home::{Home, until};
use crate::receiver::{Receiver, Reply, Request};

fn home_with(receiver: &Receiver, more: &str) -> Home {
    let home = Home::lab(5);
    home.endpoint("archive", &receiver.url("/in/{{ initiation.label }}"), more);
    home.profile("plain", 1, "distribution_map: [{ endpoint: archive }]\n");
    home
}

#[test]
fn a_delivery_proves_who_sends_it_and_what() {
    let receiver = Receiver::accepting();
    let home = home_with(
        &receiver,
        "method: PUT\nauth: { bearer: \"${TOKEN}\" }\nsign: { standard_webhooks: [\"${NEW}\", \"${OLD}\"] }\nheaders: { X-Label: \"{{ initiation.label }}\" }\n",
    );
    let keys = [
        "whsec_bmV3LWtleS1uZXcta2V5LW5ldy1rZXktbmV3LWtleQ==",
        "whsec_b2xkLWtleS1vbGQta2V5LW9sZC1rZXktb2xkLWtleQ==",
    ];
    home.secret("TOKEN", "token-of-the-receiver");
    home.secret("NEW", keys[0]);
    home.secret("OLD", keys[1]);
    let run = home.json(&["run"], 0)["runs"][0].clone();
    let requests = receiver.requests();
    assert_eq!(requests.len(), 1);
    let request = &requests[0];
    assert_eq!((request.method.as_str(), request.path.as_str()), ("PUT", "/in/item-0"));
    assert_eq!(request.headers["authorization"], "Bearer token-of-the-receiver");
    assert_eq!(request.headers["content-type"], "text/plain");
    assert_eq!(request.headers["x-label"], "item-0");
    assert_eq!(request.headers["idempotency-key"], run["deliveries"][0]["delivery_id"].as_str().unwrap());
    assert!(request.headers["content-digest"].starts_with("sha-256=:"));
    assert!(request.headers["traceparent"].starts_with("00-"));
    assert!(request.body.ends_with(b"one\ntwo\nthree\n"));
    for key in keys {
        assert!(verify(key, request), "the oracle refuses the signature of {key}");
    }
    let receipts = run["deliveries"][0]["receipts"].as_array().unwrap().clone();
    assert_eq!(receipts.len(), 1);
    assert_eq!(receipts[0]["receipt"]["status"], 201);
    // Nothing that the home remembers holds a secret.
    let remembered = format!("{}{}", home.records().iter().map(Value::to_string).collect::<String>(), run);
    for secret in ["token-of-the-receiver", "bmV3LWtleS1uZXct", "b2xkLWtleS1vbGQt"] {
        assert!(!remembered.contains(secret), "a record holds `{secret}`");
    }
}

fn verify(key: &str, request: &Request) -> bool {
    let mut headers = http::HeaderMap::new();
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        headers.insert(name, request.headers[name].parse().unwrap());
    }
    standardwebhooks::Webhook::new(key).unwrap().verify(&request.body, &headers).is_ok()
}

#[test]
fn answers_decide_what_follows() {
    let check = |name: &str, reply: fn(usize) -> Reply, state: &str, attempts: usize, code: i32| {
        let receiver = Receiver::start(move |_, before| reply(before));
        let home = home_with(&receiver, "");
        let answer = home.json(&["run", "--wait", "60s"], code);
        let delivery = &answer["runs"][0]["deliveries"][0];
        assert_eq!(delivery["state"], state, "{name}: {delivery}");
        assert_eq!(delivery["receipts"].as_array().unwrap().len(), attempts, "{name}: {delivery}");
        let requests = receiver.requests();
        assert_eq!(requests.len(), attempts, "{name}");
        for request in &requests {
            assert_eq!(
                request.headers["idempotency-key"],
                delivery["delivery_id"].as_str().unwrap(),
                "{name}"
            );
            assert_eq!(request.path, "/in/item-0", "{name}");
        }
    };
    check("accepted", |_| Reply::Status(200, "", ""), "accepted", 1, 0);
    check(
        "fails once",
        |n| if n == 0 { Reply::Status(500, "", "no") } else { Reply::Status(204, "", "") },
        "accepted",
        2,
        0,
    );
    check("moves away", |_| Reply::Status(301, "location: http://127.0.0.1:1/\r\n", ""), "dead", 3, 3);
    check("is gone", |_| Reply::Status(410, "", ""), "dead", 1, 3);
    check(
        "asks to wait",
        |n| if n == 0 { Reply::Status(429, "retry-after: 1\r\n", "") } else { Reply::Status(200, "", "") },
        "accepted",
        2,
        0,
    );
    check("closes", |n| if n == 0 { Reply::Close } else { Reply::Status(200, "", "") }, "accepted", 2, 0);
    check("never ends", |_| Reply::Endless, "accepted", 1, 0);
}

#[test]
fn silence_ends_with_the_timeout() {
    let receiver =
        Receiver::start(|_, before| if before == 0 { Reply::Silence } else { Reply::Status(200, "", "") });
    let home = home_with(&receiver, "");
    let path = home.path("namespaces/lab/endpoints/archive.yaml");
    let text = std::fs::read_to_string(&path).unwrap().replace("timeout: 20s", "timeout: 2s");
    std::fs::write(&path, text).unwrap();
    let run = home.json(&["run", "--wait", "60s"], 0)["runs"][0].clone();
    let receipts = run["deliveries"][0]["receipts"].as_array().unwrap().clone();
    assert_eq!(receipts.len(), 2);
    assert!(receipts[0]["receipt"].to_string().contains("timed"), "{}", receipts[0]);
}

#[test]
fn a_private_address_is_not_dialed_unless_the_document_allows_it() {
    let receiver = Receiver::accepting();
    let home = home_with(&receiver, "");
    let path = home.path("namespaces/lab/endpoints/archive.yaml");
    let text =
        std::fs::read_to_string(&path).unwrap().replace("addresses: { allow: [\"127.0.0.0/8\"] }\n", "");
    std::fs::write(&path, text).unwrap();
    let run = home.json(&["run", "--wait", "60s"], 3)["runs"][0].clone();
    assert_eq!(run["deliveries"][0]["state"], "dead");
    assert!(run["deliveries"][0]["receipts"].to_string().contains("loopback"), "{}", run["deliveries"]);
    assert!(receiver.requests().is_empty());
}

#[test]
fn dead_letters_are_redriven_and_a_partial_run_may_still_succeed() {
    let up = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let answers = std::sync::Arc::clone(&up);
    let receiver = Receiver::start(move |_, _| {
        let up = answers.load(std::sync::atomic::Ordering::SeqCst);
        Reply::Status(if up { 200 } else { 503 }, "", "")
    });
    let home = home_with(&receiver, "");
    let answer = home.json(&["run", "--wait", "60s"], 3);
    assert_eq!(answer["runs"][0]["outcome"], "partial");
    let run_id = answer["runs"][0]["run_id"].as_str().unwrap();
    let delivery_id = answer["runs"][0]["deliveries"][0]["delivery_id"].as_str().unwrap();
    let dead = home.json(&["deliveries", "list", "--state", "dead"], 0);
    assert_eq!(dead["items"][0]["delivery_id"], delivery_id);
    up.store(true, std::sync::atomic::Ordering::SeqCst);
    let serving = home.serve();
    assert_eq!(home.json(&["deliveries", "redrive", delivery_id], 0)["redriven"][0], delivery_id);
    until("the run to succeed", || home.json(&["runs", "show", run_id], 0)["outcome"] == "succeeded");
    assert_eq!(home.json(&["deliveries", "redrive", "--all"], 5)["redriven"], serde_json::json!([]));
    let delivery = home.json(&["deliveries", "show", delivery_id], 0);
    assert_eq!(delivery["receipts"].as_array().unwrap().len(), 4);
    assert_eq!(serving.stop(), 0);
}

#[test]
fn a_rate_holds_deliveries_back_and_loses_none() {
    let receiver = Receiver::accepting();
    let home = home_with(&receiver, "rate: { per_second: 4, burst: 1 }\n");
    let started = std::time::Instant::now();
    let serving = home.serve();
    for _ in 0..5 {
        assert_eq!(home.run(&["run", "--no-wait"]).code, 0);
    }
    until("all of them to arrive", || receiver.requests().len() == 5);
    // The first needs no token to come; four more come a quarter of a second apart, however fast the machine is.
    assert!(started.elapsed() >= std::time::Duration::from_secs(1), "{:?}", started.elapsed());
    assert_eq!(serving.stop(), 0);
}
