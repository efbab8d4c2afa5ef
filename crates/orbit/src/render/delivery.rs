//! One delivery with its attempts and receipts.

use std::fmt::Write;

use serde_json::Value;

use super::fields::{between, count, items, moment, some_text, text, time, told};
use super::text::short;
use super::units::{bytes, duration, instant};
use super::{Terminal, Tone, block};

/// A delivery, each attempt on a line.
pub fn delivery(delivery: &Value, out: &Terminal) -> String {
    let what = if delivery["notice"].is_object() { "body" } else { "artifact" };
    let mut shown = format!(
        "delivery {}  {}\n",
        text(delivery, "delivery_id"),
        out.paint_state(&text(delivery, "state"))
    );
    shown.push_str(&block(&[
        ("endpoint", text(delivery, "endpoint")),
        ("address", out.fit(&text(delivery, "url"), 13)),
        ("run", text(delivery, "run_id")),
        ("notice", notice(&delivery["notice"])),
        (what, format!("{}, {}", short(&text(delivery, "digest")), bytes(count(delivery, "bytes")))),
        ("created", moment(delivery, "created_at")),
        ("settled", moment(delivery, "settled_at")),
        ("reason", text(delivery, "reason")),
        ("next", next_attempt(delivery, out).unwrap_or_default()),
    ]));
    let receipts = receipts(delivery, out);
    if !receipts.is_empty() {
        shown.push_str("\nattempts\n");
        for line in &receipts {
            _ = writeln!(shown, "  {line}");
        }
    }
    if text(delivery, "state") == "dead" {
        _ = writeln!(shown, "  {}", redrive(delivery));
    }
    shown
}

/// What a notice tells of: `5 × cycle_failed`.
fn notice(notice: &Value) -> String {
    some_text(notice, "event")
        .map(|event| format!("{} × {event}", count(notice, "count")))
        .unwrap_or_default()
}

/// How a dead letter is tried again. An endpoint that is disabled must be enabled, or it would be dead again at once.
pub(super) fn redrive(delivery: &Value) -> String {
    if text(delivery, "reason").starts_with("the endpoint is disabled") {
        let endpoint = text(delivery, "endpoint");
        return format!("hint: `orbit deliveries redrive --endpoint {endpoint}` enables it and tries again");
    }
    format!("hint: `orbit deliveries redrive {}` tries again", text(delivery, "delivery_id"))
}

/// When the next attempt is due, of a delivery that waits for one.
pub(super) fn next_attempt(delivery: &Value, out: &Terminal) -> Option<String> {
    let due = time(delivery, "due_at").filter(|_| text(delivery, "state") == "waiting")?;
    Some(format!("attempt {} is due {}", count(delivery, "attempts") + 1, out.when(due)))
}

/// Each attempt: when, number, status or what went wrong instead, how long, with whom.
pub(super) fn receipts(delivery: &Value, out: &Terminal) -> Vec<String> {
    items(delivery, "receipts").iter().map(|receipt| receipt_line(receipt, out)).collect()
}

fn receipt_line(view: &Value, out: &Terminal) -> String {
    let receipt = &view["receipt"];
    let status = receipt["status"].as_u64();
    let tone = match status {
        Some(200..=299) => Tone::Good,
        Some(_) => Tone::Bad,
        None => Tone::Watch,
    };
    let word = status.map(|status| status.to_string()).or_else(|| some_text(receipt, "outcome"));
    let parts = [
        time(view, "started_at").map(instant),
        Some(format!("attempt {}", count(view, "attempt"))),
        Some(out.paint(tone, &word.unwrap_or_else(|| "unknown".to_owned()))),
        between(view, "started_at", "at").map(duration),
        some_text(receipt, "address"),
        told(receipt).map(|told| out.fit(&told, 50)),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join("  ")
}

#[cfg(test)]
mod tests {
    use super::super::tests::terminal;
    use super::*;
    use serde_json::json;

    #[test]
    fn attempts_and_what_follows() {
        let mut one = json!({
            "delivery_id": "d1000000-0000-5000-8000-000000000001", "run_id": "3f2a8c1e-0000-5000-8000-000000000001", "endpoint": "archive",
            "url": "https://archive.example.net/x", "state": "waiting", "reason": null, "attempts": 2, "due_at": "2026-11-25T12:05:00Z",
            "created_at": "2026-11-25T11:59:00Z", "settled_at": null, "digest": "sha256:ba7816bf8f01cfea414140de", "bytes": 2048,
            "receipts": [
                { "attempt": 1, "started_at": "2026-11-25T11:59:00Z", "at": "2026-11-25T11:59:00.012Z",
                  "receipt": { "outcome": "refused", "status": 503, "address": "192.0.2.1:443" } },
                { "attempt": 2, "started_at": "2026-11-25T11:59:05Z", "at": "2026-11-25T11:59:35Z",
                  "receipt": { "outcome": "timed_out", "status": null, "message": "no answer\u{7} in 30s" } },
            ] });
        let expected = "\
delivery d1000000-0000-5000-8000-000000000001  waiting
  endpoint  archive
  address   https://archive.example.net/x
  run       3f2a8c1e-0000-5000-8000-000000000001
  artifact  ba7816bf8f01, 2.0 KiB
  created   2026-11-25T11:59:00Z
  next      attempt 3 is due in 5m

attempts
  2026-11-25T11:59:00Z  attempt 1  503  12ms  192.0.2.1:443
  2026-11-25T11:59:05Z  attempt 2  timed_out  30.0s  no answer in 30s
";
        assert_eq!(delivery(&one, &terminal(Some(100))), expected);
        one["state"] = json!("dead");
        one["receipts"] = json!([]);
        let text = delivery(&one, &terminal(None));
        assert!(
            text.ends_with(
                "  hint: `orbit deliveries redrive d1000000-0000-5000-8000-000000000001` tries again\n"
            ),
            "{text}"
        );
    }
}
