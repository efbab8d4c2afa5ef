//! Canonical JSON (RFC 8785, JCS): the one text that a value has, so that equal values have equal digests.

use std::io;

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{Formatter, Serializer};

/// The largest integer that every integer below is a number of ECMAScript for (`Number.MAX_SAFE_INTEGER`).
const SAFE_INTEGER_MAX: u64 = (1 << 53) - 1;

/// The canonical text of a value that was made of JSON types.
///
/// Keys are sorted by UTF-16 code units and numbers are printed as ECMAScript prints them. Every type that is hashed
/// here has string keys and finite numbers by construction; a value that had not would become `null`, which no reader accepts.
///
/// Nearly all values are plain, and `serde_json` prints those alike but for fractions: the canonicalizer, which copies what is nested once a level, took
/// 15 % of the time of a store's writer, and a millisecond for each run profile of a snapshot.
pub fn to_string<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_value(value).map_or_else(|_| canonicalized(value), |value| of(&value))
}

/// The same of what is JSON already, which is not copied for it.
pub fn of(value: &Value) -> String {
    if is_plain(value) { printed(value) } else { canonicalized(value) }
}

fn printed(value: &Value) -> String {
    let mut text = Vec::with_capacity(256);
    // Writing to memory and printing a value cannot fail, and what is printed is UTF-8.
    let written = value.serialize(&mut Serializer::with_formatter(&mut text, Fractions));
    written.ok().and_then(|()| String::from_utf8(text).ok()).unwrap_or_else(|| canonicalized(value))
}

/// As `serde_json` prints, but for fractions, which ECMAScript prints in its own way.
struct Fractions;

impl Formatter for Fractions {
    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, number: f64) -> io::Result<()> {
        writer.write_all(ryu_js::Buffer::new().format(number).as_bytes())
    }
}

fn canonicalized<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json_canonicalizer::to_string(&value).unwrap_or_else(|_| "null".to_owned())
}

/// Whether its text is canonical as [`printed`]: `serde_json` escapes as the RFC does, and prints integers alike as far as they are safe. Keys of
/// ASCII are in the same order as bytes and as UTF-16.
fn is_plain(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::String(_) => true,
        Value::Number(number) => number
            .as_u64()
            .or_else(|| Some(number.as_i64()?.unsigned_abs()))
            .is_none_or(|n| n <= SAFE_INTEGER_MAX),
        Value::Array(items) => items.iter().all(is_plain),
        Value::Object(fields) => {
            let sorted = fields.keys().zip(fields.keys().skip(1)).all(|(one, next)| one < next);
            sorted && fields.iter().all(|(key, value)| key.is_ascii() && is_plain(value))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn value() -> impl Strategy<Value = Value> {
        let number = prop_oneof![
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            (0_u64..5).prop_map(|more| Value::from(SAFE_INTEGER_MAX - 2 + more)),
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            number,
            any::<String>().prop_map(Value::from),
            "[\\x00-\\x7f]{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            let key = prop_oneof!["[a-z_]{1,4}", any::<String>()];
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::btree_map(key, inner, 0..6)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_quick_way_gives_the_same_text(value in value()) {
            prop_assert_eq!(to_string(&value), canonicalized(&value));
        }
    }

    #[test]
    fn what_records_are_made_of_goes_the_quick_way() {
        assert!(is_plain(
            &json!({"at": "2026-01-01T00:00:00Z", "bytes": 16384, "of": {"step": "tier1", "x": [null, -1, 0.5]}})
        ));
        assert!(!is_plain(&json!({"é": 1})) && !is_plain(&json!(1_u64 << 53)));
    }

    #[test]
    fn examples_of_the_rfc() {
        let check = |value: serde_json::Value, expected: &str| assert_eq!(to_string(&value), expected);
        check(
            json!({"b": 1, "a": [true, null, "x\n\u{20ac}"]}),
            "{\"a\":[true,null,\"x\\n\u{20ac}\"],\"b\":1}",
        );
        check(json!({"\u{fb33}": 1, "\u{1f600}": 2, "\r": 3}), "{\"\\r\":3,\"\u{1f600}\":2,\"\u{fb33}\":1}");
        check(json!([1.0, 1e21, 1e-7, 0.1, 333_333_333.333_333_3]), "[1,1e+21,1e-7,0.1,333333333.3333333]");
    }
}
