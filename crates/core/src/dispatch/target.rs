//! Where a delivery goes: an `http` or `https` address whose authority is literal.
//!
//! A value of the run may fill in the path and the query, as percent-encoded data. It can never choose the scheme, the host or the port,
//! nor step through the path, so that credentials leave for the configured origin and for no other.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use crate::config::Endpoint;
use crate::limits::URL_BYTES_MAX;
use crate::template::{self, TemplateError};

/// An address that cannot be used. The address is never repeated: it may hold what should have been a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// It begins with something else.
    #[error("the address does not begin with `http://` or `https://`")]
    Scheme,
    /// A template stands before the end of the authority.
    #[error("a template may stand only after the host and port of the address")]
    TemplatedAuthority,
    /// A user name or password stands before the host.
    #[error("the address holds a user name or password; expected `auth` with a secret reference")]
    UserInfo,
    /// A `#`: a fragment is never sent.
    #[error("the address has a fragment (`#`), which is never sent")]
    Fragment,
    /// White space, a control character or a backslash, which readers of addresses drop or rewrite.
    #[error("the address holds white space, a control character or a backslash")]
    Character,
    /// A `.` or `..` segment, encoded or not, which changes the path it stands in.
    #[error("the address steps through its own path with `.` or `..`")]
    DotSegment,
    /// It is longer than [`URL_BYTES_MAX`].
    #[error("the address has {bytes} bytes, at most {URL_BYTES_MAX} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// It is not an address for another reason.
    #[error("not an address: {message}")]
    Malformed {
        /// What is wrong.
        message: String,
    },
    /// The rendered address has another host or port than the configured one.
    #[error("the values of the run change the host or port of the address")]
    AuthorityChanged,
    /// See [`TemplateError`].
    #[error(transparent)]
    Template(#[from] TemplateError),
}

/// Whether the text can be an endpoint's `url`; the values of its templates are not known yet.
pub fn check_url(source: &str) -> Result<(), TargetError> {
    origin(source)?;
    template::check(source)?;
    let literal = without_templates(source);
    check_text(&literal)
}

/// Where the endpoint's delivery goes with these template values: an address with the configured authority, normalized.
pub fn target_url(endpoint: &Endpoint, values: &Value) -> Result<String, TargetError> {
    address(&endpoint.url, values)
}

/// What the source of an address becomes with these template values: an address with the same authority, normalized.
pub fn address(source: &str, values: &Value) -> Result<String, TargetError> {
    let configured = origin(source)?;
    let rendered = template::render_url(source, values)?;
    check_text(&rendered)?;
    let url = parse(&rendered)?;
    let same = |a: &Url, b: &Url| {
        (a.scheme(), a.host_str(), a.port(), a.username(), a.password())
            == (b.scheme(), b.host_str(), b.port(), b.username(), b.password())
    };
    if !same(&configured, &url) {
        return Err(TargetError::AuthorityChanged);
    }
    let bytes = url.as_str().len();
    if bytes > URL_BYTES_MAX { Err(TargetError::TooLong { bytes }) } else { Ok(url.into()) }
}

/// A `Location` that is not followed. The origin is told, what comes after it is not: it may hold what a service meant to keep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum LocationError {
    /// It is not an address, or one that cannot be sent.
    #[error("not an address: {message}")]
    Malformed {
        /// What is wrong.
        message: String,
    },
    /// It leads to another scheme, host or port than the configured address.
    #[error("it leads to `{origin}`, and credentials never leave the configured origin")]
    Foreign {
        /// Where it leads.
        origin: String,
    },
}

/// The address that a `Location` means when it answers a request to this address (RFC 9110, section 10.2.2): absolute or relative, and of the
/// same origin (RFC 6454: scheme, host and port). A fragment is dropped.
pub fn follow(from: &str, location: &str) -> Result<String, LocationError> {
    let malformed = |message: &str| LocationError::Malformed { message: message.to_owned() };
    if location.len() > URL_BYTES_MAX {
        return Err(malformed("it is too long"));
    }
    if location.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\') {
        return Err(malformed("it holds white space, a control character or a backslash"));
    }
    let from = Url::parse(from).map_err(|error| malformed(&error.to_string()))?;
    let mut url = from.join(location).map_err(|error| malformed(&error.to_string()))?;
    if url.origin() != from.origin() || !from.origin().is_tuple() {
        return Err(LocationError::Foreign { origin: url.origin().ascii_serialization() });
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(malformed("it holds a user name or password"));
    }
    url.set_fragment(None);
    if url.as_str().len() > URL_BYTES_MAX { Err(malformed("it is too long")) } else { Ok(url.into()) }
}

/// Scheme, host and port of an address, which must all be literal.
fn origin(source: &str) -> Result<Url, TargetError> {
    let (scheme, rest) = source.split_once("://").ok_or(TargetError::Scheme)?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(TargetError::Scheme);
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains(['{', '}']) {
        return Err(TargetError::TemplatedAuthority);
    }
    if authority.contains('@') {
        return Err(TargetError::UserInfo);
    }
    check_text(authority)?;
    parse(&format!("{scheme}://{authority}/"))
}

fn parse(text: &str) -> Result<Url, TargetError> {
    let url = Url::parse(text).map_err(|error| TargetError::Malformed { message: error.to_string() })?;
    if url.port() == Some(0) {
        return Err(TargetError::Malformed { message: "port 0 cannot be dialed".to_owned() });
    }
    Ok(url)
}

fn check_text(text: &str) -> Result<(), TargetError> {
    if text.contains('#') {
        return Err(TargetError::Fragment);
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\') {
        return Err(TargetError::Character);
    }
    let path = text.split('?').next().unwrap_or_default();
    let is_dots =
        |segment: &str| matches!(segment.replace("%2e", ".").replace("%2E", ".").as_str(), "." | "..");
    if path.split('/').any(is_dots) { Err(TargetError::DotSegment) } else { Ok(()) }
}

/// The source with a plain letter in place of every `{{ … }}`, `{% … %}` and `{# … #}`.
fn without_templates(source: &str) -> String {
    let mut literal = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find('{') {
        let close = match rest.as_bytes().get(start + 1) {
            Some(b'{') => "}}",
            Some(b'%') => "%}",
            Some(b'#') => "#}",
            Some(_) | None => {
                literal.push_str(&rest[..=start]);
                rest = &rest[start + 1..];
                continue;
            }
        };
        literal.push_str(&rest[..start]);
        literal.push('x');
        rest = rest[start + 2..].split_once(close).map_or("", |(_, after)| after);
    }
    literal + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn configured() {
        let check =
            |url: &str, expected: Result<(), TargetError>| assert_eq!(check_url(url), expected, "{url}");
        check("https://archive.example.net/items/{{ run.run_id }}", Ok(()));
        check("http://127.0.0.1:8080/a?b={{ initiation.label }}&c={% if run %}1{% endif %}{# why #}", Ok(()));
        check("http://[::1]:80/", Ok(()));
        check("HTTPS://example.net", Ok(()));
        check("https://example.net?x", Ok(()));
        check("ftp://example.net/", Err(TargetError::Scheme));
        check("example.net/", Err(TargetError::Scheme));
        check("{{ scheme }}://example.net/", Err(TargetError::Scheme));
        check("https://{{ host }}/", Err(TargetError::TemplatedAuthority));
        check("https://example.net:{{ port }}/", Err(TargetError::TemplatedAuthority));
        check("https://example.net{% if a %}/{% endif %}", Err(TargetError::TemplatedAuthority));
        check("https://example.net{{ '/x' }}", Err(TargetError::TemplatedAuthority));
        check("https://user:password@example.net/", Err(TargetError::UserInfo));
        check("https://example.net\\@evil.example/", Err(TargetError::UserInfo));
        check("https://example.net\\evil/", Err(TargetError::Character));
        check("https://example.net/#top", Err(TargetError::Fragment));
        check("https://example.net/a b", Err(TargetError::Character));
        check("https://example.net/a\n", Err(TargetError::Character));
        check("https://example.net/a/../b", Err(TargetError::DotSegment));
        check("https://example.net/a/%2e%2E/b", Err(TargetError::DotSegment));
        assert!(matches!(check_url("https:///path"), Err(TargetError::Malformed { .. })));
        assert!(matches!(check_url("https://a b/"), Err(TargetError::Character)));
        assert!(matches!(check_url("https://example.net:0/"), Err(TargetError::Malformed { .. })));
        assert!(matches!(check_url("https://example.net:99999/"), Err(TargetError::Malformed { .. })));
        assert!(matches!(check_url("https://example.net/{{ x"), Err(TargetError::Template(_))));
    }

    fn rendered(url: &str, label: &str) -> Result<String, TargetError> {
        let endpoint: Endpoint = serde_json::from_value(json!({"name": "a", "url": url})).unwrap();
        target_url(&endpoint, &json!({"label": label}))
    }

    #[test]
    fn values_are_data() {
        let check = |url: &str, label: &str, expected: Result<&str, TargetError>| {
            assert_eq!(rendered(url, label), expected.map(str::to_owned), "{url} {label}");
        };
        check(
            "http://example.net/a/{{ label }}",
            "b/c?d#e@f:g",
            Ok("http://example.net/a/b%2Fc%3Fd%23e%40f%3Ag"),
        );
        check("http://example.net/{{ label }}", "Größe", Ok("http://example.net/Gr%C3%B6%C3%9Fe"));
        check("http://example.net?q={{ label }}", "&x=1", Ok("http://example.net/?q=%26x%3D1"));
        check("http://EXAMPLE.net:80/{{ label }}", "a", Ok("http://example.net/a"));
        check("http://example.net/{{ label }}/x", "..", Err(TargetError::DotSegment));
        check("http://example.net/{{ label }}{{ label }}/x", ".", Err(TargetError::DotSegment));
        check("http://example.net/.{{ label }}/x", ".", Err(TargetError::DotSegment));
        check("http://0x7f.1/{{ label }}", "a", Ok("http://127.0.0.1/a"));
        assert!(matches!(
            rendered("http://example.net/{{ label }}", &"x".repeat(URL_BYTES_MAX)),
            Err(TargetError::TooLong { .. })
        ));
        assert!(matches!(rendered("http://example.net/{{ nothing }}", ""), Err(TargetError::Template(_))));
    }

    #[test]
    fn locations() {
        let base = "https://example.net/v1/jobs?a=1";
        let check = |location: &str, expected: Result<&str, &str>| {
            let found = follow(base, location).map_err(|error| error.to_string());
            match expected {
                Ok(url) => assert_eq!(found.as_deref(), Ok(url), "{location}"),
                Err(text) => {
                    assert!(found.as_ref().is_err_and(|error| error.contains(text)), "{location} {found:?}");
                }
            }
        };
        check("/v1/jobs/7", Ok("https://example.net/v1/jobs/7"));
        check("jobs/7?x=2#top", Ok("https://example.net/v1/jobs/7?x=2"));
        check("../7", Ok("https://example.net/7"));
        check("", Ok("https://example.net/v1/jobs?a=1"));
        check("https://EXAMPLE.net:443/7", Ok("https://example.net/7"));
        check("//example.net/7", Ok("https://example.net/7"));
        check("http://example.net/7", Err("`http://example.net`"));
        check("https://example.net:8443/7", Err("`https://example.net:8443`"));
        check("//evil.example/7", Err("`https://evil.example`"));
        check("https://evil.example/?token=s3cret", Err("it leads to `https://evil.example`, and"));
        check("https://example.net.evil.example/", Err("`https://example.net.evil.example`"));
        check("https://example.net@evil.example/", Err("`https://evil.example`"));
        check("https://user@example.net/7", Err("user name"));
        check("file:///etc/passwd", Err("it leads to"));
        check("data:text/plain,x", Err("it leads to"));
        check("https:\\\\evil.example/", Err("backslash"));
        check("/a b", Err("white space"));
        check("http://[", Err("not an address"));
        check(&"x".repeat(URL_BYTES_MAX + 1), Err("too long"));
    }

    proptest! {
        #[test]
        fn no_value_changes_the_origin_or_leaves_its_segment(label in ".*") {
            if let Ok(url) = rendered("https://example.net:8443/a/{{ label }}/b", &label) {
                let url = Url::parse(&url).unwrap();
                prop_assert_eq!((url.scheme(), url.host_str(), url.port()), ("https", Some("example.net"), Some(8443)));
                let segments: Vec<_> = url.path_segments().unwrap().collect();
                prop_assert_eq!((segments.len(), segments[0], segments[2]), (3, "a", "b"));
                prop_assert!(url.query().is_none() && url.fragment().is_none());
            }
        }
    }
}
