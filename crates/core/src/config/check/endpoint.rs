//! Endpoints.

use std::collections::{BTreeMap, BTreeSet};

use super::{Report, below, deep, key, name, path, text};
use crate::config::{Auth, Endpoint, Millis};

/// Headers that the engine, the connection or the artifact gives.
const RESERVED_HEADERS: [&str; 16] = [
    "connection",
    "content-digest",
    "content-length",
    "content-type",
    "expect",
    "host",
    "idempotency-key",
    "keep-alive",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "x-orbit-test",
];
/// Headers that carry credentials, which belong in `auth`.
const CREDENTIAL_HEADERS: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

/// What every document says that makes requests.
pub(super) struct Outgoing<'a> {
    pub(super) url: &'a str,
    pub(super) auth: Option<&'a Auth>,
    /// Whether requests are signed.
    pub(super) signs: bool,
    pub(super) headers: &'a BTreeMap<String, String>,
}

pub(super) fn check(endpoint: &Endpoint, report: &mut Report<'_>) {
    let Endpoint { url, auth, sign, headers, .. } = endpoint;
    outgoing(&Outgoing { url, auth: auth.as_ref(), signs: sign.is_some(), headers }, report);
    if endpoint.timeout == Millis(0) {
        report.error(path(&["timeout"]), "expected more than no time");
    }
    breaker(endpoint, report);
}

fn breaker(endpoint: &Endpoint, report: &mut Report<'_>) {
    let rule = endpoint.breaker;
    if rule.pause == Millis(0) {
        report.error(path(&["breaker", "pause"]), "expected more than no time");
    }
    if rule.pause_max < rule.pause {
        report
            .error(path(&["breaker", "pause_max"]), format!("expected at least the pause of {}", rule.pause))
            .hint("the pause grows from `pause` to `pause_max`");
    }
    if endpoint.disable_after == Millis(0) {
        report
            .error(path(&["disable_after"]), "expected more than no time")
            .hint("a long time, such as `3650d`, is as good as never");
    }
}

/// Address, credentials and headers of requests.
pub(super) fn outgoing(outgoing: &Outgoing<'_>, report: &mut Report<'_>) {
    url(outgoing, report);
    headers(outgoing.headers, report);
    match outgoing.auth {
        Some(Auth::Header(header)) => {
            let at = path(&["auth", "header", "name"]);
            if !text::is_token(&header.name) {
                report.error(at, "expected a header's name (not shown)");
            } else if RESERVED_HEADERS.contains(&header.name.to_ascii_lowercase().as_str()) {
                report.error(at, "this header is set by the engine");
            }
        }
        Some(Auth::Basic(basic)) => {
            if basic.user.is_empty() || basic.user.contains(':') || basic.user.chars().any(char::is_control) {
                report
                    .error(path(&["auth", "basic", "user"]), "expected a user name without `:` (not shown)");
            }
        }
        Some(Auth::Bearer(_)) | None => {}
    }
}

fn url(outgoing: &Outgoing<'_>, report: &mut Report<'_>) {
    let authority = authority(outgoing.url);
    if authority.is_some_and(|authority| authority.contains('@')) {
        report
            .error(path(&["url"]), "an address holds no user or password (not shown)")
            .hint("write `auth: { basic: { user: …, password: \"${NAME}\" } }`");
        return;
    }
    report.result(path(&["url"]), deep::url(outgoing.url));
    let has_credentials = outgoing.auth.is_some() || outgoing.signs;
    let leaves = outgoing.url.starts_with("http://") && !authority.is_some_and(is_loopback);
    if leaves && has_credentials {
        report
            .warning(path(&["url"]), "credentials would leave this machine in plain text")
            .hint("use `https://`");
    }
}

pub(super) fn authority(url: &str) -> Option<&str> {
    url.split_once("://").map(|(_, rest)| rest.split(['/', '?', '#', '\\']).next().unwrap_or_default())
}

pub(super) fn is_loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<core::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn headers(headers: &BTreeMap<String, String>, report: &mut Report<'_>) {
    let mut seen = BTreeSet::new();
    for (header, value) in headers {
        let at_name = below(path(&["headers"]), [name(header)]);
        let at_value = || below(path(&["headers"]), [key(header)]);
        let lower = header.to_ascii_lowercase();
        if !text::is_token(header) {
            report.error(at_name, "expected a header's name");
        } else if CREDENTIAL_HEADERS.contains(&lower.as_str()) {
            report.error(at_name, format!("`{header}` carries a credential (not shown)")).hint("use `auth`");
            continue;
        } else if RESERVED_HEADERS.contains(&lower.as_str()) || lower.starts_with("webhook-") {
            report.error(at_name, format!("`{header}` is set by the engine"));
        } else if !seen.insert(lower) {
            report.error(at_name, format!("`{header}` is there twice: case does not matter"));
        }
        if value.chars().any(char::is_control) {
            report.error(at_value(), "a header's value is one line");
        }
        report.result(at_value(), text::template(value));
    }
}
