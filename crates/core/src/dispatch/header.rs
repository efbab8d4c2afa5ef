//! Which headers a document may add to a delivery, and what their values may be.

use serde_json::Value;

use crate::limits::HEADER_VALUE_BYTES_MAX;
use crate::template::{self, TemplateError};

/// Names that a document may not set: those that describe the connection or the message (RFC 9110, section 7.6.1; RFC 9112), those that the
/// engine sets itself, and those that would carry a secret as literal text.
const RESERVED: [&str; 23] = [
    "authorization",
    "connection",
    "content-digest",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "date",
    "expect",
    "host",
    "idempotency-key",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "traceparent",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
    "x-orbit-test",
];
/// Names that begin so belong to the signature.
const RESERVED_PREFIX: &str = "webhook-";

/// A header that cannot be sent. A value is never repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Not a token of RFC 9110.
    #[error("`{name}` is not a header name: expected letters, digits and `-`")]
    Name {
        /// What was written.
        name: String,
    },
    /// The engine sets it.
    #[error("the header `{name}` is set by the engine or by `auth` and `sign`")]
    Reserved {
        /// Its name.
        name: String,
    },
    /// Its value cannot be sent.
    #[error("the value of header `{name}` holds a control character")]
    Value {
        /// Its name.
        name: String,
    },
    /// Its value is longer than [`HEADER_VALUE_BYTES_MAX`].
    #[error("the value of header `{name}` has {bytes} bytes, at most {HEADER_VALUE_BYTES_MAX} are allowed")]
    TooLong {
        /// Its name.
        name: String,
        /// Its length.
        bytes: usize,
    },
    /// Its template cannot be used.
    #[error("header `{name}`: {error}")]
    Template {
        /// Its name.
        name: String,
        /// Why.
        error: TemplateError,
    },
}

/// Whether a document may set this header to this template; the values of the template are not known yet.
pub fn check_header(name: &str, source: &str) -> Result<(), HeaderError> {
    check_name(name)?;
    let lower = name.to_ascii_lowercase();
    if RESERVED.contains(&lower.as_str()) || lower.starts_with(RESERVED_PREFIX) {
        return Err(HeaderError::Reserved { name: name.to_owned() });
    }
    template::check(source).map_err(|error| HeaderError::Template { name: name.to_owned(), error })
}

/// Whether a secret may be sent in this header: any but those that describe the connection or the message.
pub fn check_auth_header(name: &str) -> Result<(), HeaderError> {
    match check_header(name, "") {
        Err(HeaderError::Reserved { .. })
            if !["authorization", "cookie"].contains(&&*name.to_ascii_lowercase()) =>
        {
            Err(HeaderError::Reserved { name: name.to_owned() })
        }
        Err(HeaderError::Reserved { .. }) => Ok(()),
        checked => checked,
    }
}

/// The value that the template makes of these values, fit to be sent as UTF-8.
pub fn render_header(name: &str, source: &str, values: &Value) -> Result<String, HeaderError> {
    check_header(name, source)?;
    let value = template::render(source, values)
        .map_err(|error| HeaderError::Template { name: name.to_owned(), error })?;
    check_value(name, &value)?;
    Ok(value.trim().to_owned())
}

/// Whether the value can be sent.
pub fn check_value(name: &str, value: &str) -> Result<(), HeaderError> {
    let bytes = value.len();
    if bytes > HEADER_VALUE_BYTES_MAX {
        return Err(HeaderError::TooLong { name: name.to_owned(), bytes });
    }
    if value.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
        return Err(HeaderError::Value { name: name.to_owned() });
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), HeaderError> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || name.len() > 128 || !name.bytes().all(is_token) {
        return Err(HeaderError::Name { name: name.chars().take(128).collect() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names() {
        let check = |name: &str, ordinary: bool, auth: bool| {
            assert_eq!(check_header(name, "x").is_ok(), ordinary, "{name}");
            assert_eq!(check_auth_header(name).is_ok(), auth, "{name}");
        };
        check("X-Label", true, true);
        check("x_label.1", true, true);
        check("Authorization", false, true);
        check("Cookie", false, true);
        check("Host", false, false);
        check("Transfer-Encoding", false, false);
        check("CONTENT-LENGTH", false, false);
        check("Idempotency-Key", false, false);
        check("Webhook-Id", false, false);
        check("X-Orbit-Test", false, false);
        check("webhook-anything", false, false);
        check("", false, false);
        check("a b", false, false);
        check("a:b", false, false);
        check("größe", false, false);
        assert!(matches!(check_header("X", "{{ a"), Err(HeaderError::Template { .. })));
    }

    #[test]
    fn values() {
        let values = json!({"label": "Größe", "line": "a\r\nX-Evil: 1", "long": "x".repeat(HEADER_VALUE_BYTES_MAX + 1)});
        let render = |source: &str| render_header("X", source, &values);
        assert_eq!(render("  {{ label }} "), Ok("Größe".to_owned()));
        assert_eq!(render("{{ line }}"), Err(HeaderError::Value { name: "X".to_owned() }));
        assert!(matches!(render("{{ long }}"), Err(HeaderError::TooLong { .. })));
        assert!(matches!(render("{{ nothing }}"), Err(HeaderError::Template { .. })));
    }

    #[test]
    fn what_a_value_may_hold() {
        let check = |value: &str, expected: Result<&str, ()>| {
            let rendered = render_header("X", "{{ v }}", &json!({ "v": value }));
            assert_eq!(rendered.as_deref().map_err(|_| ()), expected, "{value:?}");
        };
        check("", Ok(""));
        check("a\tb", Ok("a\tb"));
        check("日本語 🎈 \u{a0}x", Ok("日本語 🎈 \u{a0}x"));
        check("{{ v }}", Ok("{{ v }}"));
        for control in ["a\rb", "a\nb", "a\0b", "a\u{1b}[1m", "a\u{7f}", "\r\nX-Evil: 1"] {
            check(control, Err(()));
        }
        // Blanks around a value are not part of it (RFC 9110, section 5.5), but a line end there still is one.
        check("  a  ", Ok("a"));
        check("a\r\n", Err(()));
        check(&"x".repeat(HEADER_VALUE_BYTES_MAX), Ok(&"x".repeat(HEADER_VALUE_BYTES_MAX)));
        check(&"x".repeat(HEADER_VALUE_BYTES_MAX + 1), Err(()));
        // The bound is one of bytes, not of characters.
        check(&"ß".repeat(HEADER_VALUE_BYTES_MAX / 2 + 1), Err(()));
    }
}
