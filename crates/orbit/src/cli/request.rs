//! Execution requests from a file, and the key that names a firing.

use std::io::Read;
use std::path::Path;

use orbit_engine::clock::{Clock, SystemClock};
use serde_json::Value;

use super::failure::Failure;

/// Largest file of execution requests, in bytes.
const REQUEST_BYTES_MAX: u64 = 16 << 20;

/// A firing of requests is named by them, so that the same file runs once; any other by chance.
pub fn new_key(requests: &Value) -> String {
    if requests.is_null() {
        return orbit_core::digest::hex(&SystemClock.random()[..8]);
    }
    let digest = orbit_core::digest::Digest::of(orbit_core::canonical::to_string(requests).as_bytes());
    format!("request-{}", &digest.hex()[..16])
}

/// A request, an array of them, or what `--dry-run` printed.
pub fn read_requests(path: &Path) -> Result<Value, Failure> {
    let mut text = String::new();
    let read =
        |reader: &mut dyn Read, text: &mut String| reader.take(REQUEST_BYTES_MAX + 1).read_to_string(text);
    let outcome = if path == Path::new("-") {
        read(&mut std::io::stdin(), &mut text)
    } else {
        std::fs::File::open(path).and_then(|mut file| read(&mut file, &mut text))
    };
    outcome.map_err(|error| Failure::usage(format!("cannot read `{}`: {error}", path.display())))?;
    if u64::try_from(text.len()).is_ok_and(|bytes| bytes > REQUEST_BYTES_MAX) {
        return Err(Failure::usage(format!("`{}` is larger than {REQUEST_BYTES_MAX} bytes", path.display())));
    }
    parse(&text).map_err(|message| {
        Failure::usage(format!("`{}` {message}", path.display()))
            .hint("`orbit run --dry-run > FILE` writes such a file")
    })
}

fn parse(text: &str) -> Result<Value, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("is not JSON: {error}"))?;
    let items = match value {
        Value::Array(items) => items,
        Value::Object(mut fields) => match fields.remove("items") {
            Some(Value::Array(items)) => items,
            Some(_) => Vec::new(),
            None => vec![Value::Object(fields)],
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    };
    if items.is_empty() || !items.iter().all(Value::is_object) {
        return Err("holds no execution request".to_owned());
    }
    Ok(Value::Array(items))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn forms_of_a_file() {
        let check = |text: &str, expected: Result<Value, &str>| match (parse(text), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{text}"),
            (Err(found), Err(expected)) => assert!(found.starts_with(expected), "{found}"),
            (found, expected) => panic!("{text}: {found:?}, not {expected:?}"),
        };
        check(r#"{"a": 1}"#, Ok(json!([{ "a": 1 }])));
        check(r#"[{"a": 1}]"#, Ok(json!([{ "a": 1 }])));
        check(r#"{"items": [{"a": 1}]}"#, Ok(json!([{ "a": 1 }])));
        check("[]", Err("holds no execution request"));
        check("[1]", Err("holds no execution request"));
        check("", Err("is not JSON"));
    }

    #[test]
    fn the_same_requests_have_the_same_key() {
        assert_eq!(new_key(&json!([{ "a": 1 }])), new_key(&json!([{ "a": 1 }])));
        assert_ne!(new_key(&json!([{ "a": 1 }])), new_key(&json!([{ "a": 2 }])));
        assert_ne!(new_key(&Value::Null), new_key(&Value::Null));
    }
}
