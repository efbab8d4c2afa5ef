//! A record of the log on one line.

use serde_json::Value;

use super::fields::{scalar, some_text, text, time};
use super::text::{clean, fit, pad, short};
use super::units::moment;

/// Fields of a body, or of the event in it, that say most, in the order in which they are shown. Whatever else a body holds is in the JSON.
const TELLING: [&str; 31] = [
    "label",
    "initiation",
    "run_profile",
    "profile",
    "processor",
    "crashes_in_a_row",
    "trigger",
    "nominal",
    "step",
    "attempt",
    "endpoint",
    "accepted",
    "outcome",
    "status",
    "cause",
    "failure",
    "message",
    "reason",
    "error",
    "decision",
    "from",
    "to",
    "count",
    "names",
    "open",
    "bytes",
    "digest",
    "snapshot",
    "url",
    "address",
    "version",
];
/// Facts on one line.
const FACTS_MAX: usize = 7;
/// Columns of one fact.
const FACT_COLUMNS_MAX: usize = 100;
/// Columns of a kind: the longest but `processor_quarantined` are `initiation_released` and `selection_exhausted`.
const KIND_COLUMNS: usize = 19;

/// Time, position, kind, what it is about and the most useful facts.
pub fn record_line(record: &Value) -> String {
    let about = match (some_text(record, "run_id"), some_text(record, "cycle_id")) {
        (Some(run), _) => format!("  run {}", short(&run)),
        (None, Some(cycle)) => format!("  cycle {}", short(&cycle)),
        (None, None) => String::new(),
    };
    let line = format!(
        "{}  {:>6}  {}{about}  {}",
        time(record, "at").map_or_else(|| text(record, "at"), moment),
        text(record, "position"),
        pad(&text(record, "kind"), KIND_COLUMNS),
        time(record, "dropped_at")
            .map_or_else(|| facts(&record["body"]), |at| format!("(dropped {})", moment(at))),
    );
    line.trim_end().to_owned()
}

/// The most useful facts of a body, as `name=value`.
pub(super) fn facts(body: &Value) -> String {
    if body.is_null() {
        return "(no longer kept)".to_owned();
    }
    let told = TELLING.iter().filter_map(|name| {
        Some(format!("{name}={}", fact(name, &body[*name]).or_else(|| fact(name, &body["event"][*name]))?))
    });
    let told: Vec<_> = told.take(FACTS_MAX).collect();
    match (told.is_empty(), body) {
        (false, _) => told.join(" "),
        (true, Value::Object(fields)) => {
            let others = fields
                .iter()
                .filter_map(|(name, value)| Some(format!("{}={}", clean(name), fact(name, value)?)));
            others.take(FACTS_MAX).collect::<Vec<_>>().join(" ")
        }
        (true, other) => fit(&clean(&other.to_string()), FACT_COLUMNS_MAX),
    }
}

fn fact(name: &str, value: &Value) -> Option<String> {
    let text = match value {
        Value::Array(items) => items.iter().filter_map(scalar).collect::<Vec<_>>().join(","),
        // What a record names by more than a word has a label or a digest.
        Value::Object(_) => some_text(value, "label").or_else(|| some_text(value, "digest"))?,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => scalar(value)?,
    };
    if text.is_empty() {
        return None;
    }
    let text =
        if matches!(name, "digest" | "snapshot") { short(&text) } else { fit(&text, FACT_COLUMNS_MAX) };
    Some(if text.contains(' ') { format!("\"{text}\"") } else { text })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn one_line_with_what_matters() {
        let check = |record: Value, expected: &str| assert_eq!(record_line(&record), expected);
        check(
            json!({ "position": 12, "at": "2026-11-25T11:57:00.5Z", "kind": "step_failed", "run_id": "3f2a8c1e-0000-5000-8000-000000000001",
                "cycle_id": "9c1b0000-0000-5000-8000-000000000001", "body_class": "fact",
                "body": { "step": "tier2", "attempt": 1, "failure": { "kind": "exited" }, "usage": { "cpu_ms": 3 },
                    "event": { "event": "step_failed", "failure": "exit code 3:\n\u{1b}[1mno" } } }),
            "2026-11-25T11:57:00.500Z      12  step_failed          run 3f2a8c1e  step=tier2 attempt=1 failure=\"exit code 3: no\"",
        );
        check(
            json!({ "position": 0, "at": "2026-11-25T11:57:00Z", "kind": "config_activated", "body_class": "fact",
                "body": { "snapshot": "sha256:ba7816bf8f01cfea414140de" } }),
            "2026-11-25T11:57:00.000Z       0  config_activated     snapshot=ba7816bf8f01",
        );
        check(
            json!({ "position": 3, "at": "t", "kind": "step_output", "cycle_id": "9c1b0000-0000", "body_class": "evidence", "body": null }),
            "t       3  step_output          cycle 9c1b0000  (no longer kept)",
        );
        check(
            json!({ "position": 4, "at": "t", "kind": "secrets_changed", "body": { "names": ["A", "B"] } }),
            "t       4  secrets_changed      names=A,B",
        );
        check(json!({ "position": 5, "at": "t", "kind": "resumed", "body": {} }), "t       5  resumed");
        check(
            json!({ "position": 6, "at": "t", "kind": "x", "body": { "z": 1, "a": "b c" } }),
            "t       6  x                    a=\"b c\" z=1",
        );
    }
}
