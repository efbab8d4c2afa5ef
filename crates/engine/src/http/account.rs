//! What may be written down about an exchange: facts, and the first bytes of an answer. No secret is in either.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use orbit_core::limits::RECEIPT_HEADER_BYTES_MAX;
use serde_json::{Map, Value, json};

use super::{Answer, BodyEnd, Exchange};

/// Stands where something confidential stood.
pub(crate) const REDACTED: &str = "[redacted]";
/// Headers whose name holds one of these words carry credentials.
const CONFIDENTIAL_WORDS: [&str; 8] =
    ["auth", "cookie", "credential", "key", "password", "secret", "session", "token"];
/// An answer that was cut may end within a secret: this many bytes of one, or more, are not kept at its end.
const TAIL_BYTES_MIN: usize = 4;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account<'a> {
    /// What must not be written down.
    pub(crate) confidential: &'a [String],
}

/// Status, lengths, address and timings.
pub(crate) fn facts(exchange: &Exchange) -> Map<String, Value> {
    let mut facts = Map::new();
    let mut put = |name: &str, value: Value| facts.insert(name.to_owned(), value);
    if let Ok(Answer { status, body_bytes, body_end, .. }) = &exchange.result {
        put("status", json!(status));
        put("body_bytes", json!(body_bytes));
        put("body_end", json!(body_end));
    }
    if let Some(address) = exchange.address {
        put("address", json!(address));
    }
    put("bytes_sent", json!(exchange.body_bytes_sent));
    let mut timings: Map<_, _> =
        exchange.timings.phases_ms.iter().map(|(phase, ms)| (phase.name().to_owned(), json!(ms))).collect();
    timings.insert("total".to_owned(), json!(exchange.timings.total_ms));
    put("timings_ms", Value::Object(timings));
    facts
}

impl Account<'_> {
    /// The headers by name, repeated ones joined with a comma as RFC 9110 has it, up to a number of bytes.
    pub(crate) fn headers(self, headers: &HeaderMap) -> Value {
        let mut kept = Map::new();
        let mut room = RECEIPT_HEADER_BYTES_MAX;
        for name in headers.keys() {
            let confidential = CONFIDENTIAL_WORDS.iter().any(|word| name.as_str().contains(word));
            let value = if confidential {
                REDACTED.to_owned()
            } else {
                let values: Vec<_> = headers
                    .get_all(name)
                    .iter()
                    .map(|value| String::from_utf8_lossy(value.as_bytes()))
                    .collect();
                self.redact(&values.join(", "))
            };
            let bytes = name.as_str().len() + value.len();
            if bytes > room {
                // The rest is not kept; a header that is left out is better than half of one.
                continue;
            }
            room -= bytes;
            kept.insert(name.as_str().to_owned(), json!(value));
        }
        Value::Object(kept)
    }

    /// The first bytes of an answer's body; none if none were kept.
    pub(crate) fn body(self, answer: &Answer) -> Option<Value> {
        if answer.body.is_empty() {
            return None;
        }
        let body = self.redact_bytes(&answer.body, answer.body_end != BodyEnd::Complete);
        let text = match std::str::from_utf8(&body) {
            Ok(text) => Some(text),
            // Cut within a character.
            Err(error) if error.error_len().is_none() => {
                std::str::from_utf8(&body[..error.valid_up_to()]).ok()
            }
            Err(_) => None,
        };
        Some(match text {
            Some(text) => json!({ "encoding": "utf-8", "body": text, "end": answer.body_end }),
            None => json!({ "encoding": "base64", "body": STANDARD.encode(&body), "end": answer.body_end }),
        })
    }

    /// The text without what is confidential.
    pub(crate) fn redact(self, text: &str) -> String {
        self.longest_first().fold(text.to_owned(), |text, secret| text.replace(secret, REDACTED))
    }

    fn redact_bytes(self, bytes: &[u8], may_be_cut: bool) -> Vec<u8> {
        let mut clean = bytes.to_vec();
        for secret in self.longest_first() {
            clean = replace(&clean, secret.as_bytes(), REDACTED.as_bytes());
            if may_be_cut {
                let longest = secret.len().saturating_sub(1).min(clean.len());
                let begun =
                    (TAIL_BYTES_MIN..=longest).rev().find(|n| clean.ends_with(&secret.as_bytes()[..*n]));
                clean.truncate(clean.len() - begun.unwrap_or(0));
            }
        }
        clean
    }

    /// A secret that is part of another one must not hide it.
    fn longest_first(&self) -> impl Iterator<Item = &str> {
        let mut secrets: Vec<_> =
            self.confidential.iter().map(String::as_str).filter(|secret| !secret.is_empty()).collect();
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.into_iter()
    }
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while !rest.is_empty() {
        if rest.starts_with(from) {
            replaced.extend_from_slice(to);
            rest = &rest[from.len()..];
        } else {
            replaced.push(rest[0]);
            rest = &rest[1..];
        }
    }
    replaced
}
