//! Canonical JSON (RFC 8785, JCS): the one text that a value has, so that equal values have equal digests.

use serde::Serialize;

/// The canonical text of a value that was made of JSON types.
///
/// Keys are sorted by UTF-16 code units and numbers are printed as ECMAScript prints them. Every type that is hashed
/// here has string keys and finite numbers by construction; a value that had not would become `null`, which no reader accepts.
pub fn to_string<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json_canonicalizer::to_string(&value).unwrap_or_else(|_| "null".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

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
