//! A document of the active snapshot with every default filled in, laid out as YAML would be.

use std::fmt::Write;

use serde_json::Value;

use super::text::clean;

/// Blanks a level.
const INDENT: usize = 2;

/// One `key: value` a line; lists of plain values on one line.
pub fn document(document: &Value) -> String {
    let mut shown = String::new();
    put(document, 0, &mut shown);
    shown
}

fn put(value: &Value, depth: usize, shown: &mut String) {
    let margin = " ".repeat(depth * INDENT);
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let name = clean(name);
                if let Some(text) = plain(value) {
                    _ = writeln!(shown, "{margin}{name}: {text}");
                } else {
                    _ = writeln!(shown, "{margin}{name}:");
                    put(value, depth + 1, shown);
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                if let Some(text) = plain(item) {
                    _ = writeln!(shown, "{margin}- {text}");
                } else {
                    let mut inner = String::new();
                    put(item, depth + 1, &mut inner);
                    // The dash takes the place of the first item's indentation.
                    _ = write!(shown, "{margin}- {}", inner.trim_start_matches(' '));
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            _ = writeln!(shown, "{margin}{}", plain(value).unwrap_or_default());
        }
    }
}

/// A value that fits on a line: a scalar, or a list or object without any inside.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some("null".to_owned()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::String(text) if text.is_empty() => Some("\"\"".to_owned()),
        Value::String(text) => Some(clean(text)),
        Value::Array(items) if items.iter().all(|item| !item.is_array() && !item.is_object()) => {
            Some(format!("[{}]", items.iter().filter_map(plain).collect::<Vec<_>>().join(", ")))
        }
        Value::Object(fields) if fields.is_empty() => Some("{}".to_owned()),
        Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn laid_out() {
        let value = json!({
            "label": "x\u{1b}[1m", "style": {}, "tiers": [{ "processor": "a" }, { "processor": "b", "reference": "r" }],
            "profiles": ["p", "q"], "rules": { "deadline": "2h", "tags": [] } });
        let expected = "\
label: x
profiles: [p, q]
rules:
  deadline: 2h
  tags: []
style: {}
tiers:
  - processor: a
  - processor: b
    reference: r
";
        assert_eq!(document(&value), expected);
    }
}
