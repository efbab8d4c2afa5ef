//! Endpoints that stall in each phase, drip, reset, redirect and send gigabytes, each beside a neighbour that takes its artifact.

use std::time::Duration;

use serde_json::Value;

use super::adversary::{Adversary, Habit};
use super::leaks::Leaks;
use crate::home::Home;
use crate::receiver::{Receiver, Reply};

/// How long a delivery to a server that stalls may take.
const STALL: &str = "2s";
/// The same where the head of the answer must have come before.
const STALL_BODY: &str = "5s";
/// Between two drops of what drips.
const PAUSE: Duration = Duration::from_millis(20);
/// How long one may take that fails in another way; it must not matter.
const LONG: &str = "30s";
/// More than the two ends of a connection hold, so that who does not read stops who sends.
const HEAVY_BYTES: u32 = 32 << 20;
/// What an endless answer may have sent before the connection was cut: what is kept, and what the buffers of a connection hold.
const ENDLESS_BYTES_MAX: u64 = 64 << 20;

/// A server, what its delivery comes to, and the text or status of each receipt.
struct Drill {
    name: &'static str,
    server: Adversary,
    scheme: &'static str,
    timeout: &'static str,
    state: &'static str,
    says: &'static str,
}

fn drill(name: &'static str, server: Adversary, timeout: &'static str, says: &'static str) -> Drill {
    Drill { name, server, scheme: "http", timeout, state: "dead", says }
}

fn says(words: impl Into<Vec<u8>>) -> Adversary {
    Adversary::start(Habit::Says(words.into()))
}

fn drills(trap: &Receiver) -> Vec<Drill> {
    [of_connections(), of_heads(), of_answers(trap)].into_iter().flatten().collect()
}

fn of_connections() -> Vec<Drill> {
    let secure = |drill: Drill| Drill { scheme: "https", ..drill };
    let start = Adversary::start;
    let shaking = "timed out while in the TLS handshake";
    vec![
        drill("absent", Adversary::absent(), LONG, "cannot connect to `127.0.0.1:"),
        drill("full", Adversary::full(), STALL, "no answer within 2000 ms: timed out while connecting"),
        secure(drill("mute-tls", start(Habit::Mute), STALL, shaking)),
        secure(drill("no-tls", says(""), STALL, shaking)),
        secure(drill("reset-tls", start(Habit::Resets), LONG, "the TLS handshake with `127.0.0.1` failed: ")),
        drill("leaves", start(Habit::Leaves), LONG, "the connection was closed while waiting for the answer"),
        drill("resets", start(Habit::Resets), LONG, "the connection was closed while "),
    ]
}

fn of_heads() -> Vec<Drill> {
    let waiting = "timed out while waiting for the answer";
    let drips = |first, drop| Adversary::start(Habit::Drips(first, drop, PAUSE));
    let floods = |first, flood| Adversary::start(Habit::Floods(first, flood));
    let goes_on = b"HTTP/1.1 100 Continue\r\n\r\n";
    let long = floods(b"HTTP/1.1 200 OK\r\n", b"x-more: and more\r\n".repeat(100));
    let too_long = "the head of the answer is longer than 65536 bytes or has too many headers";
    vec![
        drill("mute", says(""), STALL, waiting),
        drill("half-a-head", says("HTTP/1.1 200 OK\r\nx-half: "), STALL, waiting),
        drill("drips-head", drips(b"HTTP/1.1 200 OK\r\nx-drip: ", b"x"), STALL, waiting),
        drill("continues", drips(b"", goes_on), STALL, waiting),
        drill("continues-fast", floods(b"", goes_on.to_vec()), STALL, waiting),
        drill("long-head", long, LONG, too_long),
        drill("not-http", says("SSH-2.0-OpenSSH_9.9\r\n"), LONG, "the answer is not HTTP: "),
    ]
}

fn of_answers(trap: &Receiver) -> Vec<Drill> {
    let accepted = |drill: Drill| Drill { state: "accepted", ..drill };
    let moved = format!("HTTP/1.1 307 Moved\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", trap.url("/"));
    let inward = "HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n";
    let sick = "HTTP/1.1 503 No\r\ncontent-length: 100\r\n\r\nhalf";
    let half = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf";
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n".as_slice();
    let endless = Adversary::start(Habit::Floods(head, vec![b'x'; 64 * 1024]));
    vec![
        drill("moved", says(moved), LONG, "the endpoint answered 307, a redirect, which is not followed"),
        drill("inward", says(inward), LONG, "the endpoint answered 302, a redirect, which is not followed"),
        drill("sick", says(sick), STALL_BODY, "the endpoint answered 503: it failed itself"),
        accepted(drill("half-a-body", says(half), STALL_BODY, "timed_out")),
        accepted(drill(
            "drips-body",
            Adversary::start(Habit::Drips(head, b"x", PAUSE)),
            STALL_BODY,
            "timed_out",
        )),
        accepted(drill("endless", endless, LONG, "truncated")),
    ]
}

fn heavy() -> Vec<Drill> {
    let mute = drill("unread", Adversary::start(Habit::Mute), STALL, "timed out while sending the request");
    let resets = drill(
        "breaks-off",
        Adversary::start(Habit::Resets),
        LONG,
        "the connection was closed while sending the request",
    );
    vec![mute, resets]
}

/// A profile that owes its artifact to all of them and to two neighbours.
fn owe(home: &Home, label: &str, number: u8, tiers: [&str; 3], drills: &[Drill]) {
    for Drill { name, server, scheme, timeout, .. } in drills {
        let text = format!(
            "name: {name}\nurl: \"{}\"\naddresses: {{ allow: [\"127.0.0.0/8\"] }}\ntimeout: {timeout}\nretry: {{ attempts: 2, schedule: [50ms] }}\n",
            server.url(scheme)
        );
        home.write(&format!("namespaces/lab/endpoints/{name}.yaml"), &text);
    }
    let targets: Vec<_> = drills.iter().map(|drill| format!("{{ endpoint: {} }}", drill.name)).collect();
    let map = format!(
        "distribution_map: [{}, {{ endpoint: first }}, {{ endpoint: second }}]\n",
        targets.join(", ")
    );
    home.profile_of(label, number, tiers, &map);
}

/// What differs from what a drill expects.
fn unexpected(run: &Value, drill: &Drill) -> Option<String> {
    let delivery = delivery(run, drill.name);
    let receipts = delivery["receipts"].as_array().unwrap();
    let attempts = if drill.state == "accepted" { 1 } else { 2 };
    let as_said = |receipt: &Value| {
        let receipt = &receipt["receipt"];
        let said = if drill.state == "accepted" { &receipt["body_end"] } else { &receipt["failure"] };
        said.as_str().is_some_and(|said| said.contains(drill.says))
    };
    let is_so =
        delivery["state"] == drill.state && receipts.len() == attempts && receipts.iter().all(as_said);
    (!is_so).then(|| {
        format!(
            "{}: expected {attempts} times `{}`, then {}: {delivery}",
            drill.name, drill.says, drill.state
        )
    })
}

fn delivery<'a>(run: &'a Value, endpoint: &str) -> &'a Value {
    run["deliveries"].as_array().unwrap().iter().find(|delivery| delivery["endpoint"] == endpoint).unwrap()
}

#[test]
fn an_endpoint_that_misbehaves_keeps_no_other_from_its_artifact() {
    let (first, second) = (
        Receiver::accepting(),
        Receiver::start(|_, n| Reply::Status(if n == 0 { 500 } else { 200 }, "", "")),
    );
    let trap = Receiver::accepting();
    let home = Home::lab(5);
    home.endpoint("first", &first.url("/"), "");
    home.endpoint("second", &second.url("/"), "");
    home.processor("heavy", &format!("cat >/dev/null; head -c {HEAVY_BYTES} /dev/zero"), "");
    let (light, heavy) = (drills(&trap), heavy());
    owe(&home, "light", 2, ["one", "two", "three"], &light);
    owe(&home, "heavy", 3, ["one", "two", "heavy"], &heavy);
    home.run_profile("hostile", 2, "[light, heavy]", "");
    let serving = home.serve();
    assert_eq!(home.run(&["run", "daily"]).code, 0);
    let leaks = Leaks::before(&home, &serving);
    let answer = home.json(&["run", "hostile", "--wait", "110s"], 3);
    let runs = answer["runs"].as_array().unwrap();
    let run_of = |label: &str| runs.iter().find(|run| run["profile"] == label).unwrap();
    let differs = |label: &str, drills: &[Drill]| {
        drills.iter().filter_map(|drill| unexpected(run_of(label), drill)).collect::<Vec<_>>()
    };
    let unexpected = [differs("light", &light), differs("heavy", &heavy)].concat();
    assert!(unexpected.is_empty(), "{unexpected:#?}");
    for run in runs {
        assert_eq!(run["outcome"], "partial");
        for neighbour in ["first", "second"] {
            assert_eq!(delivery(run, neighbour)["state"], "accepted", "{}", delivery(run, neighbour));
        }
    }
    assert!(trap.requests().is_empty(), "a redirect was followed");
    let endless = light.iter().find(|drill| drill.name == "endless").unwrap().server.sent();
    assert!(endless < ENDLESS_BYTES_MAX, "{endless} bytes of an endless answer");
    leaks.none();
    one_receipt_an_attempt(&home.records());
    assert_eq!(home.run(&["run", "daily"]).code, 0);
    assert_eq!(serving.stop(), 0);
}

fn one_receipt_an_attempt(records: &[Value]) {
    let of = |kind: &str| -> Vec<(String, u64)> {
        let of_kind = records.iter().filter(|record| record["kind"] == kind);
        let mut found: Vec<_> = of_kind
            .map(|record| {
                let body = &record["body"];
                (body["delivery_id"].as_str().unwrap().to_owned(), body["attempt"].as_u64().unwrap())
            })
            .collect();
        found.sort();
        found
    };
    assert_eq!(of("attempt_started"), of("receipt_captured"));
}
