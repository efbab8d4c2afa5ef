//! Reads fields of the JSON that a node answers. A field that is missing or of another type is shown as nothing, never refused: the
//! node may be of another version.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::text::clean;
use super::units;

/// The text of a field, safe for a terminal; of a number or yes-or-no as JSON writes it, else empty.
pub(super) fn text(of: &Value, name: &str) -> String {
    scalar(&of[name]).unwrap_or_default()
}

/// As [`text`], if there is any.
pub(super) fn some_text(of: &Value, name: &str) -> Option<String> {
    scalar(&of[name]).filter(|text| !text.is_empty())
}

/// The text of a value that is neither null, a list nor an object.
pub(super) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(clean(text)),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A whole number, or zero.
pub(super) fn count(of: &Value, name: &str) -> u64 {
    of[name].as_u64().unwrap_or(0)
}

/// An instant.
pub(super) fn time(of: &Value, name: &str) -> Option<Timestamp> {
    of[name].as_str()?.parse().ok()
}

/// An instant to the millisecond, or to the second if it is a whole one; as it is, if it is none.
pub(super) fn moment(of: &Value, name: &str) -> String {
    match time(of, name) {
        Some(at) if at.subsec_nanosecond() == 0 => units::instant(at),
        Some(at) => units::moment(at),
        None => text(of, name),
    }
}

/// The time between two instants, if both are known.
pub(super) fn between(of: &Value, from: &str, to: &str) -> Option<SignedDuration> {
    Some(time(of, to)?.duration_since(time(of, from)?))
}

/// The items of a list.
pub(super) fn items<'a>(of: &'a Value, name: &str) -> &'a [Value] {
    of[name].as_array().map_or(&[], Vec::as_slice)
}

/// Why something went as it did, for people: from a record's body, its event, a receipt, or a typed failure inside one of them.
pub(super) fn told(of: &Value) -> Option<String> {
    let named = |name| some_text(of, name);
    let said = ["message", "reason", "failure", "cause", "error"].into_iter().find_map(named);
    let inner = || {
        ["event", "failure"].into_iter().filter(|name| of[*name].is_object()).find_map(|name| told(&of[name]))
    };
    said.or_else(inner).or_else(|| named("kind"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reasons_are_found_where_they_are() {
        let check = |of: Value, expected: Option<&str>| assert_eq!(told(&of).as_deref(), expected, "{of}");
        check(json!({ "reason": "a\u{1b}[1m" }), Some("a"));
        check(
            json!({ "event": { "event": "step_failed", "failure": "exit code 3" }, "failure": { "kind": "exited" } }),
            Some("exit code 3"),
        );
        check(
            json!({ "failure": { "kind": "http", "failure": { "kind": "timed_out" } } }),
            Some("timed_out"),
        );
        check(json!({ "status": 200 }), None);
        check(Value::Null, None);
    }
}
