//! What the node is doing.

use std::fmt::Write;

use jiff::SignedDuration;
use serde_json::Value;

use super::fields::{count, items, some_text, text, time};
use super::text::short;
use super::units::{bytes, counted, duration, grouped};
use super::{Terminal, Tone, block, log};

/// A floor that is reached sooner stands out.
const FLOOR_SOON: SignedDuration = SignedDuration::from_hours(7 * 24);

/// The node, then each namespace.
pub fn status(status: &Value, out: &Terminal) -> String {
    let mut shown = format!("node {}  {}\n", text(status, "node"), out.paint_state(&text(status, "state")));
    shown.push_str(&block(&[
        ("home", text(status, "home")),
        ("version", text(status, "version")),
        ("process", process(status, out)),
        (
            "health",
            some_text(status, "listen").map(|listen| format!("http://{listen}/readyz")).unwrap_or_default(),
        ),
        (
            "halt",
            halt(&status["halt"], out)
                .map(|halt| format!("{halt}; `orbit resume` lifts it"))
                .unwrap_or_default(),
        ),
        ("permits", permits(&status["permits"])),
        ("paused", if status["paused"] == true { "by ORBIT_PAUSED".to_owned() } else { String::new() }),
        ("heartbeat", heartbeat(&status["heartbeat"], out)),
        ("anchor", log::anchor(&status["log"], out)),
    ]));
    let namespaces = items(status, "namespaces");
    if namespaces.is_empty() {
        shown.push_str("\nno namespaces\n");
    }
    for namespace in namespaces {
        shown.push_str(&of_namespace(namespace, out));
    }
    shown
}

fn process(status: &Value, out: &Terminal) -> String {
    let Some(pid) = status["pid"].as_u64() else {
        return "none serves this home; `orbit serve` does".to_owned();
    };
    let since =
        time(status, "started_at").map(|at| format!(", started {}", out.when(at))).unwrap_or_default();
    let does = if status["serving"] == true { "serves" } else { "runs one cycle" };
    format!("pid {pid} {does}{since}")
}

/// `2 of 8 runs at work`, and what has no permit left.
fn permits(permits: &Value) -> String {
    let Some(used) = permits["used"].as_u64() else { return String::new() };
    let whole = match permits["limit"].as_u64() {
        Some(limit) => format!("{used} of {limit} runs at work"),
        None => format!("{} at work", counted(usize::try_from(used).unwrap_or(usize::MAX), "run")),
    };
    let full = items(permits, "full").iter().map(|one| {
        let kind = text(one, "limit").replace('_', " ");
        format!("{kind} `{}` full, {} of {}", text(one, "name"), count(one, "used"), count(one, "most"))
    });
    std::iter::once(whole).chain(full).collect::<Vec<_>>().join("; ")
}

/// Only where they are not what is active.
fn documents(namespace: &Value) -> String {
    match (some_text(namespace, "snapshot"), some_text(namespace, "documents")) {
        (Some(active), Some(documents)) if active != documents => {
            "of this home differ from what is active: `orbit config diff`, then `orbit config apply`"
                .to_owned()
        }
        _ => String::new(),
    }
}

fn limited(namespace: &Value) -> bool {
    namespace["permits"]["limit"].is_u64() || !items(&namespace["permits"], "full").is_empty()
}

/// The last one, where there is one.
fn heartbeat(beat: &Value, out: &Terminal) -> String {
    let heard = time(beat, "last_heard_at").map(|at| out.when(at));
    match (some_text(beat, "failure"), heard) {
        (None, heard) => heard.map(|heard| format!("heard {heard}")).unwrap_or_default(),
        (Some(failure), heard) => {
            let heard =
                heard.map_or_else(|| "not heard yet".to_owned(), |heard| format!("last heard {heard}"));
            out.paint(Tone::Bad, &format!("{failure}; {heard}"))
        }
    }
}

/// Only where there are some.
fn notices(namespace: &Value) -> String {
    match count(namespace, "notices_waiting") {
        0 => String::new(),
        waiting => format!("{waiting} waiting"),
    }
}

fn halt(halt: &Value, out: &Terminal) -> Option<String> {
    let since = out.when(time(halt, "at")?);
    Some(format!("{} ({since})", text(halt, "reason")))
}

fn of_namespace(namespace: &Value, out: &Terminal) -> String {
    let name = text(namespace, "namespace");
    let counts = &namespace["counts"];
    let most = namespace["counts_max"].as_u64().unwrap_or(u64::MAX);
    let lift = |halt| format!("{halt}; `orbit resume -n {name}` lifts it");
    let mut shown = format!("\nnamespace {name}  {}\n", out.paint_state(&text(namespace, "state")));
    shown.push_str(&block(&[
        ("closed", out.paint(Tone::Watch, &text(namespace, "closed"))),
        ("halt", halt(&namespace["halt"], out).map(lift).unwrap_or_default()),
        ("snapshot", snapshot(namespace)),
        ("documents", out.paint(Tone::Watch, &documents(namespace))),
        ("cycles", by_state(&counts["cycles"], most)),
        ("runs", by_state(&counts["runs"], most)),
        ("deliveries", by_state(&counts["deliveries"], most)),
        ("notices", notices(namespace)),
        ("under way", count(namespace, "running").to_string()),
        // Of the node's alone nothing is to be told here.
        ("permits", if limited(namespace) { permits(&namespace["permits"]) } else { String::new() }),
        ("records", count(counts, "records").to_string()),
        ("checkpoint", log::checkpoint(&namespace["log"], out)),
        ("anchor", log::anchor(&namespace["log"], out)),
        ("disk", disk(namespace)),
        ("forecast", forecast(&namespace["disk_forecast"], out)),
    ]));
    shown.push_str(&super::nodes::nodes(namespace, out));
    let endpoints = || counts["endpoints"].as_object().into_iter().flatten();
    for (endpoint, view) in endpoints().filter(|(_, view)| view["state"] == "disabled") {
        let (endpoint, reason) = (super::text::clean(endpoint), text(view, "reason"));
        _ = writeln!(
            shown,
            "  {}\n    hint: `orbit deliveries redrive --endpoint {endpoint}` enables it and tries again",
            out.paint(Tone::Bad, &format!("endpoint `{endpoint}` is disabled: {reason}"))
        );
    }
    for (endpoint, view) in endpoints() {
        if let Some(told) = unwell(view, out) {
            let told = format!("endpoint `{}` {told}", super::text::clean(endpoint));
            _ = writeln!(shown, "  {}", out.paint(Tone::Watch, &told));
        }
    }
    for quarantine in items(namespace, "quarantined") {
        let (processor, crashes) = (text(quarantine, "processor"), text(quarantine, "crashes"));
        let told = format!(
            "processor `{processor}` is quarantined: the engine died {crashes} times in a row during its steps"
        );
        _ = writeln!(
            shown,
            "  {}\n    hint: change its document, or `orbit processors release {processor}`",
            out.paint(Tone::Bad, &told)
        );
    }
    for firing in items(namespace, "next_firings") {
        let due = time(firing, "due").map(|at| out.when(at)).unwrap_or_default();
        // In the column of the block above, whose widest names are `deliveries` and `checkpoint`.
        _ = writeln!(shown, "  next        {}  {due}", text(firing, "run_profile"));
    }
    shown
}

/// What there is to tell of an endpoint that is not disabled and does not do well.
fn unwell(view: &Value, out: &Terminal) -> Option<String> {
    let breaker = match text(view, "state").as_str() {
        "open" => {
            let until = time(view, "open_until").map(|at| out.when(at)).unwrap_or_default();
            Some(format!("seems to be down: nothing is sent to it; the next try is {until}"))
        }
        "half_open" => Some("seems to be down: one delivery finds out".to_owned()),
        _ => None,
    };
    let failing =
        time(view, "failing_since").map(|at| format!("has accepted nothing since {}", out.when(at)));
    match (breaker, failing) {
        (None, None) => None,
        (Some(one), None) | (None, Some(one)) => Some(one),
        (Some(breaker), Some(failing)) => Some(format!("{breaker}; it {failing}")),
    }
}

fn snapshot(namespace: &Value) -> String {
    some_text(namespace, "snapshot").map_or_else(|| "none yet".to_owned(), |digest| short(&digest))
}

/// `2 working, 30 finished`, or `none`; `100,000+ waiting` where no further was counted.
fn by_state(counts: &Value, most: u64) -> String {
    let told = |(state, count): (&String, &Value)| {
        let count = count.as_u64().filter(|count| *count > 0)?;
        Some(if count < most { format!("{count} {state}") } else { format!("{}+ {state}", grouped(count)) })
    };
    let told: Vec<_> = counts.as_object().into_iter().flatten().filter_map(told).collect();
    if told.is_empty() { "none".to_owned() } else { told.join(", ") }
}

fn disk(namespace: &Value) -> String {
    let floor = namespace["disk_floor_bytes"].as_u64().map(|floor| format!(", floor {}", bytes(floor)));
    match namespace["disk_free_bytes"].as_u64() {
        Some(free) => format!("{} free{}", bytes(free), floor.unwrap_or_default()),
        None => String::new(),
    }
}

/// How fast free space shrinks, and when it will be down to the floor.
fn forecast(forecast: &Value, out: &Terminal) -> String {
    let shrinks = || format!("{} less a day", bytes(count(forecast, "bytes_a_day")));
    let length = |name| {
        duration(SignedDuration::from_millis(i64::try_from(count(forecast, name)).unwrap_or(i64::MAX)))
    };
    match (text(forecast, "state").as_str(), time(forecast, "floor_at")) {
        ("unknown", _) => {
            format!(
                "unknown: free space was noted for {}, {} are needed",
                length("known_ms"),
                length("needed_ms")
            )
        }
        ("steady", _) => "free space does not shrink".to_owned(),
        ("slow", _) => format!("{}; the floor is more than ten years away", shrinks()),
        ("reached", _) => out.paint(Tone::Bad, "the floor is reached: nothing new starts"),
        ("fills", Some(at)) => {
            let told = format!("{}; the floor is reached {}", shrinks(), out.when(at));
            if at.duration_since(out.now) < FLOOR_SOON { out.paint(Tone::Watch, &told) } else { told }
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::terminal;
    use super::*;
    use serde_json::json;

    #[test]
    fn a_node_that_serves() {
        let answer = json!({
            "node": "vps-1", "version": "0.1.0", "home": "/srv/orbit", "state": "running", "serving": true, "pid": 42,
            "started_at": "2026-11-25T09:00:00Z", "listen": "127.0.0.1:7878", "halt": null, "paused": false,
            "permits": { "used": 2, "limit": 8 },
            "namespaces": [{
                "namespace": "studio", "snapshot": "sha256:ba7816bf8f01cfea414140de", "state": "closed",
                "halt": { "at": "2026-11-25T11:58:00Z", "reason": "by the operator" }, "closed": "namespace halted: by the operator",
                "disk_free_bytes": 13_000_000_000_u64, "disk_floor_bytes": 268_435_456, "running": 2,
                "counts": { "cycles": { "finished": 30, "running": 1 }, "runs": { "finished": 60, "working": 2 }, "deliveries": {},
                    "records": 1234,
                    "endpoints": {
                        "archive": { "state": "disabled", "reason": "it answered 410" },
                        "mirror": { "state": "open", "open_until": "2026-11-25T12:00:30Z", "failing_since": "2026-11-25T10:00:00Z" },
                        "third": { "state": "half_open", "failing_since": null },
                        "fourth": { "state": "closed", "failures": 2, "failing_since": "2026-11-25T11:00:00Z" } } },
                "permits": { "used": 2, "limit": null, "full": [
                    { "limit": "run_profile", "name": "daily", "used": 2, "most": 2 }, { "limit": "processor", "name": "narrate", "used": 3, "most": 1 }] },
                "quarantined": [{ "processor": "two", "settings": "sha256:aa", "crashes": 6, "since": "2026-11-25T11:58:00Z" }],
                "next_firings": [{ "run_profile": "daily", "nominal": "2026-11-25T18:00:00Z", "due": "2026-11-25T18:01:00Z" }],
            }] });
        let expected = "\
node vps-1  running
  home     /srv/orbit
  version  0.1.0
  process  pid 42 serves, started 3h ago
  health   http://127.0.0.1:7878/readyz
  permits  2 of 8 runs at work

namespace studio  closed
  closed      namespace halted: by the operator
  halt        by the operator (2m ago); `orbit resume -n studio` lifts it
  snapshot    ba7816bf8f01
  cycles      30 finished, 1 running
  runs        60 finished, 2 working
  deliveries  none
  under way   2
  permits     2 runs at work; run profile `daily` full, 2 of 2; processor `narrate` full, 3 of 1
  records     1234
  disk        12.1 GiB free, floor 256.0 MiB
  endpoint `archive` is disabled: it answered 410
    hint: `orbit deliveries redrive --endpoint archive` enables it and tries again
  endpoint `fourth` has accepted nothing since 1h ago
  endpoint `mirror` seems to be down: nothing is sent to it; the next try is in 30s; it has accepted nothing since 2h ago
  endpoint `third` seems to be down: one delivery finds out
  processor `two` is quarantined: the engine died 6 times in a row during its steps
    hint: change its document, or `orbit processors release two`
  next        daily  in 6h
";
        assert_eq!(status(&answer, &terminal(Some(100))), expected);
    }

    #[test]
    fn what_was_not_counted_to_its_end_says_so() {
        let check = |counts: Value, expected: &str| assert_eq!(by_state(&counts, 100_000), expected);
        check(json!({}), "none");
        check(json!({ "waiting": 99_999, "dead": 0 }), "99999 waiting");
        check(json!({ "dead": 3, "waiting": 100_000 }), "3 dead, 100,000+ waiting");
    }

    #[test]
    fn forecasts() {
        let check = |answer: Value, expected: &str| {
            assert_eq!(forecast(&answer, &terminal(Some(100))), expected, "{answer}");
        };
        check(Value::Null, "");
        check(
            json!({ "state": "unknown", "known_ms": 11_100_000, "needed_ms": 86_400_000 }),
            "unknown: free space was noted for 3h05m, 1d00h are needed",
        );
        check(json!({ "state": "steady" }), "free space does not shrink");
        check(
            json!({ "state": "slow", "bytes_a_day": 3072 }),
            "3.0 KiB less a day; the floor is more than ten years away",
        );
        check(
            json!({ "state": "fills", "bytes_a_day": 1_310_000_000, "floor_at": "2026-12-06T12:00:00Z" }),
            "1.2 GiB less a day; the floor is reached in 11d",
        );
        check(json!({ "state": "reached" }), "the floor is reached: nothing new starts");
    }

    #[test]
    fn a_node_that_nobody_serves() {
        let answer = json!({
            "node": "orbit", "version": "0.1.0", "home": "/h", "state": "halted", "serving": false, "pid": null, "started_at": null,
            "listen": null, "halt": { "at": "2026-11-25T11:58:00Z", "reason": "x" }, "paused": true, "namespaces": [] });
        let expected = "\
node orbit  halted
  home     /h
  version  0.1.0
  process  none serves this home; `orbit serve` does
  halt     x (2026-11-25T11:58:00Z); `orbit resume` lifts it
  paused   by ORBIT_PAUSED

no namespaces
";
        assert_eq!(status(&answer, &terminal(None)), expected);
    }
}
