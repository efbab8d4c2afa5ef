//! What one written word may be: a number in a range, a truth value, or text of a required form.

use std::fmt;

use orbit_core::config::{ByteSize, DocName, Millis, NamespaceName, SecretRef};
use orbit_core::limits::DURATION_MAX;
use serde_json::{Number, Value};

use super::tree::{Content, Node};

/// Characters of a wrong text that a message repeats.
const SHOWN_MAX: usize = 80;

/// What a value is, without saying which.
pub(super) fn describe(node: &Node) -> &'static str {
    match &node.content {
        Content::List(_) => "a list",
        Content::Map(_) => "a map",
        Content::Scalar { .. } if node.is_nothing() => "nothing",
        Content::Scalar { plain: true, text } if truth(text).is_some() => "a truth value",
        Content::Scalar { plain: true, text } if number(text).is_some() => "a number",
        Content::Scalar { .. } => "text",
    }
}

/// The text of a scalar that was written without quotes.
pub(super) fn plain(node: &Node) -> Option<&str> {
    match &node.content {
        Content::Scalar { text, plain: true } => Some(text),
        Content::Scalar { .. } | Content::List(_) | Content::Map(_) => None,
    }
}

/// A truth value of the core schema of YAML 1.2.
pub(super) fn truth(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" => Some(true),
        "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

/// A finite number of the core schema of YAML 1.2.
pub(super) fn number(text: &str) -> Option<Number> {
    let radix = |prefix: &str, radix: u32| {
        text.strip_prefix(prefix).and_then(|digits| u64::from_str_radix(digits, radix).ok()).map(Number::from)
    };
    let whole = || {
        let unsigned = text.strip_prefix('+').unwrap_or(text);
        unsigned.parse::<u64>().map(Number::from).or_else(|_| text.parse::<i64>().map(Number::from)).ok()
    };
    let fraction = || {
        let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
        let begins_well = digits.starts_with(|c: char| c.is_ascii_digit())
            || digits.strip_prefix('.').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        begins_well.then(|| text.parse::<f64>().ok()).flatten().and_then(Number::from_f64)
    };
    radix("0o", 8).or_else(|| radix("0x", 16)).or_else(whole).or_else(fraction)
}

/// A plain scalar by the core schema of YAML 1.2; nothing if it is a number that JSON cannot carry.
pub(super) fn resolve(text: &str) -> Option<Value> {
    if matches!(text, "" | "~" | "null" | "Null" | "NULL") {
        return Some(Value::Null);
    }
    let digits = text.trim_start_matches(['+', '-']);
    if [".inf", ".Inf", ".INF", ".nan", ".NaN", ".NAN"].contains(&digits) {
        return None;
    }
    let known = truth(text).map(Value::Bool).or_else(|| number(text).map(Value::Number));
    Some(known.unwrap_or_else(|| Value::String(text.to_owned())))
}

/// The beginning of a text, for a message.
pub(super) fn shortened(text: &str) -> String {
    let shown: String = text.chars().take(SHOWN_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().count() > SHOWN_MAX { format!("{shown}…") } else { shown }
}

/// The numbers that a schema allows.
pub(super) struct Range {
    whole: bool,
    least: Option<Number>,
    most: Option<Number>,
    above: Option<Number>,
}

impl Range {
    /// The range of this schema.
    pub(super) fn of(schema: &Value, whole: bool) -> Self {
        let bound = |key: &str| schema.get(key).and_then(Value::as_number).cloned();
        let format_most = match schema.get("format").and_then(Value::as_str) {
            Some("uint32") => Some(Number::from(u32::MAX)),
            Some("int32") => Some(Number::from(i32::MAX)),
            Some(_) | None => None,
        };
        let format_least = match schema.get("format").and_then(Value::as_str) {
            Some("int32") => Some(Number::from(i32::MIN)),
            Some(_) | None => None,
        };
        Self {
            whole,
            least: bound("minimum").or(format_least),
            most: bound("maximum").or(format_most),
            above: bound("exclusiveMinimum"),
        }
    }

    /// Whether the number is in it.
    pub(super) fn contains(&self, number: &Number) -> bool {
        if self.whole && !number.is_i64() && !number.is_u64() {
            return false;
        }
        let value = number.as_f64().unwrap_or(f64::NAN);
        let holds = |bound: &Option<Number>, fits: fn(f64, f64) -> bool| {
            bound.as_ref().and_then(Number::as_f64).is_none_or(|bound| fits(value, bound))
        };
        holds(&self.least, |a, b| a >= b)
            && holds(&self.most, |a, b| a <= b)
            && holds(&self.above, |a, b| a > b)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.whole { "a whole number" } else { "a number" })?;
        match (&self.above, &self.least, &self.most) {
            (Some(above), _, _) => write!(f, " greater than {above}"),
            (None, Some(least), Some(most)) => write!(f, " from {least} to {most}"),
            (None, Some(least), None) => write!(f, " of at least {least}"),
            (None, None, Some(most)) => write!(f, " of at most {most}"),
            (None, None, None) => Ok(()),
        }
    }
}

/// Why a text has not the required form.
pub(super) struct Refusal {
    /// What is wrong, with the text.
    pub message: String,
    /// The same without it, for places where a secret may stand.
    pub message_without_text: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Whether a text has the form that a schema's name or format asks for; any text will do where no form is known.
pub(super) fn check_text(form: &str, text: &str) -> Result<(), Refusal> {
    let (what, result, hint): (_, Result<(), String>, Option<&str>) = match form {
        "DocName" => ("a name", DocName::parse(text).map(drop).map_err(|error| error.to_string()), None),
        "NamespaceName" => {
            ("a namespace", NamespaceName::parse(text).map(drop).map_err(|error| error.to_string()), None)
        }
        "ByteSize" => {
            ("a size", text.parse::<ByteSize>().map(drop).map_err(|error| error.to_string()), size_hint(text))
        }
        "Duration" => ("a duration", duration(text), duration_hint(text)),
        "DedupeWindow" if text == "forever" => return Ok(()),
        "DedupeWindow" => ("`forever` or a duration", duration(text), duration_hint(text)),
        "SecretRef" => {
            let result = SecretRef::parse(text).map(drop).map_err(|error| error.to_string());
            let hint =
                "put the value into `.env` as ORBIT_SECRET_<NAMESPACE>_<NAME> and write \"${NAME}\" here";
            ("a secret reference", result, Some(hint))
        }
        "Network" => {
            let wrong =
                |_| format!("`{}` is not a network: expected an address and a prefix", shortened(text));
            let hint = "one address alone is written `192.0.2.7/32` or `2001:db8::7/128`";
            ("a network", text.parse::<orbit_core::config::Network>().map(drop).map_err(wrong), Some(hint))
        }
        "uuid" => {
            let wrong = |_| format!("`{}` is not an id: expected a UUID", shortened(text));
            ("an id", uuid::Uuid::parse_str(text).map(drop).map_err(wrong), Some("`uuidgen` makes one"))
        }
        _ => return Ok(()),
    };
    result.map_err(|message| Refusal {
        // These two errors never hold the text.
        message_without_text: if form == "SecretRef" {
            message.clone()
        } else {
            format!("expected {what} (not shown)")
        },
        message,
        hint: hint.map(str::to_owned),
    })
}

fn duration(text: &str) -> Result<(), String> {
    let span: Millis = text.parse().map_err(|error: orbit_core::config::UnitError| error.to_string())?;
    if span > DURATION_MAX {
        return Err(format!("`{}` is too long: at most {DURATION_MAX}", shortened(text)));
    }
    Ok(())
}

fn duration_hint(text: &str) -> Option<&'static str> {
    let bare = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    bare.then_some("a number needs its unit, as in `30s`")
}

fn size_hint(text: &str) -> Option<&'static str> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return Some("a number needs its unit, as in `10 MiB`");
    }
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ').to_ascii_lowercase();
    let decimal =
        ["k", "m", "g", "t", "kb", "mb", "gb", "tb", "kib", "mib", "gib", "tib"].contains(&unit.as_str());
    decimal.then_some("sizes are binary: B, KiB, MiB, GiB or TiB, written exactly so")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn plain_words() {
        let check = |text: &str, expected: Value| assert_eq!(resolve(text), Some(expected), "{text}");
        check("12", json!(12));
        check("-12", json!(-12));
        check("+12", json!(12));
        check("0x1F", json!(31));
        check("0o17", json!(15));
        check("1.5", json!(1.5));
        check(".5", json!(0.5));
        check("1e3", json!(1000.0));
        check("true", json!(true));
        check("yes", json!("yes"));
        check("~", Value::Null);
        check("1.2.3", json!("1.2.3"));
        check("2026-12-25", json!("2026-12-25"));
        check("infinity", json!("infinity"));
        check("nan", json!("nan"));
        check("-", json!("-"));
        assert_eq!(resolve(".inf"), None);
        assert_eq!(resolve("-.INF"), None);
        assert_eq!(resolve("1e999"), Some(json!("1e999")));
    }

    #[test]
    fn ranges() {
        let check = |schema: Value, whole: bool, shown: &str, inside: &[&str], outside: &[&str]| {
            let range = Range::of(&schema, whole);
            assert_eq!(range.to_string(), shown);
            for (texts, expected) in [(inside, true), (outside, false)] {
                for text in texts {
                    assert_eq!(range.contains(&number(text).unwrap()), expected, "{text}");
                }
            }
        };
        check(
            json!({"minimum": 1, "maximum": 3}),
            true,
            "a whole number from 1 to 3",
            &["1", "3"],
            &["0", "4", "1.5", "-1"],
        );
        check(json!({"exclusiveMinimum": 0}), false, "a number greater than 0", &["0.1", "7"], &["0", "-1"]);
        check(
            json!({"format": "uint32", "minimum": 0}),
            true,
            "a whole number from 0 to 4294967295",
            &["0"],
            &["4294967296"],
        );
        check(json!({}), false, "a number", &["-1e9"], &[]);
    }
}
