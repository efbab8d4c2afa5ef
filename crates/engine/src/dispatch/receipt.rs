//! What is written down about an attempt: a receipt of facts, and the first bytes of the answer as evidence. Neither holds a secret.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use orbit_core::dispatch::outcome::AttemptFailure;
use orbit_core::dispatch::retry::Next;
use orbit_core::limits::RECEIPT_HEADER_BYTES_MAX;
use serde_json::{Map, Value, json};

use crate::http::{Answer, BodyEnd, Exchange};

/// Stands where something confidential stood.
const REDACTED: &str = "[redacted]";
/// Headers whose name holds one of these words carry credentials.
const CONFIDENTIAL_WORDS: [&str; 8] =
    ["auth", "cookie", "credential", "key", "password", "secret", "session", "token"];
/// An answer that was cut may end within a secret: this many bytes of one, or more, are not kept at its end.
const TAIL_BYTES_MIN: usize = 4;

/// How an attempt ended.
pub(super) struct Ended {
    /// Whether the endpoint took the artifact.
    pub(super) result: Result<(), AttemptFailure>,
    /// What became of the request, if it came to that.
    pub(super) exchange: Option<Exchange>,
    /// What must not be written down.
    pub(super) confidential: Vec<String>,
}

impl Ended {
    /// An attempt that failed before anything was sent.
    pub(super) fn unsent(failure: AttemptFailure) -> Self {
        Self { result: Err(failure), exchange: None, confidential: Vec::new() }
    }

    /// The receipt: `outcome` is `accepted`, `failed` or `interrupted`; `failure` is for people and `cause` the same for programs.
    pub(super) fn receipt(&self, next: &Next) -> Value {
        let mut receipt = Map::new();
        let outcome = match &self.result {
            Ok(()) => "accepted",
            Err(AttemptFailure::Cut { .. }) => "interrupted",
            Err(_) => "failed",
        };
        receipt.insert("outcome".to_owned(), json!(outcome));
        if let Some(exchange) = &self.exchange {
            self.add_exchange(&mut receipt, exchange);
        }
        if let Err(failure) = &self.result {
            receipt.insert("failure".to_owned(), json!(self.redact(&failure.to_string())));
            receipt.insert("cause".to_owned(), json!(failure));
        }
        match next {
            Next::Retry { until } => _ = receipt.insert("retry_at".to_owned(), json!(until)),
            Next::Disable { .. } => _ = receipt.insert("endpoint_disabled".to_owned(), json!(true)),
            Next::Accepted | Next::Dead { .. } => {}
        }
        Value::Object(receipt)
    }

    /// The first bytes of the answer's body; none if it had none.
    pub(super) fn evidence(&self) -> Option<Value> {
        let answer = self.exchange.as_ref()?.result.as_ref().ok().filter(|answer| !answer.body.is_empty())?;
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

    fn add_exchange(&self, receipt: &mut Map<String, Value>, exchange: &Exchange) {
        if let Ok(Answer { status, headers, body, body_end }) = &exchange.result {
            receipt.insert("status".to_owned(), json!(status));
            receipt.insert("headers".to_owned(), self.headers(headers));
            receipt.insert("body_bytes".to_owned(), json!(body.len()));
            receipt.insert("body_end".to_owned(), json!(body_end));
        }
        if let Some(address) = exchange.address {
            receipt.insert("address".to_owned(), json!(address));
        }
        receipt.insert("bytes_sent".to_owned(), json!(exchange.body_bytes_sent));
        let mut timings: Map<_, _> = exchange
            .timings
            .phases_ms
            .iter()
            .map(|(phase, ms)| (phase.name().to_owned(), json!(ms)))
            .collect();
        timings.insert("total".to_owned(), json!(exchange.timings.total_ms));
        receipt.insert("timings_ms".to_owned(), Value::Object(timings));
    }

    /// The headers by name, repeated ones joined with a comma as RFC 9110 has it, up to a number of bytes.
    fn headers(&self, headers: &HeaderMap) -> Value {
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

    fn redact(&self, text: &str) -> String {
        self.longest_first().fold(text.to_owned(), |text, secret| text.replace(secret, REDACTED))
    }

    fn redact_bytes(&self, bytes: &[u8], may_be_cut: bool) -> Vec<u8> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Timings;
    use bytes::Bytes;
    use orbit_core::dispatch::outcome::{HttpFailure, Phase, judge};

    fn ended(answer: Answer, confidential: &[&str]) -> Ended {
        let result = judge(answer.status, None, jiff::Timestamp::UNIX_EPOCH);
        let exchange = Exchange {
            result: Ok(answer),
            address: Some("127.0.0.1:80".parse().unwrap()),
            body_bytes_sent: 3,
            timings: Timings { phases_ms: [(Phase::Connect, 1)].into(), total_ms: 2 },
        };
        let confidential = confidential.iter().map(|secret| (*secret).to_owned()).collect();
        Ended { result, exchange: Some(exchange), confidential }
    }

    fn answer(status: u16, headers: &[(&'static str, &str)], body: &[u8], body_end: BodyEnd) -> Answer {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        Answer { status, headers: map, body: Bytes::copy_from_slice(body), body_end }
    }

    #[test]
    fn of_an_answer() {
        let headers = [
            ("server", "x"),
            ("vary", "a"),
            ("vary", "b"),
            ("set-cookie", "id=1"),
            ("x-auth-token", "t"),
            ("x-echo", "Bearer s3cret"),
        ];
        let ended = ended(answer(200, &headers, b"ok", BodyEnd::Complete), &["s3cret"]);
        let expected = json!({
            "outcome": "accepted", "status": 200, "address": "127.0.0.1:80", "bytes_sent": 3,
            "body_bytes": 2, "body_end": "complete", "timings_ms": {"connect": 1, "total": 2},
            "headers": {
                "server": "x", "vary": "a, b", "set-cookie": REDACTED, "x-auth-token": REDACTED,
                "x-echo": "Bearer [redacted]",
            },
        });
        assert_eq!(ended.receipt(&Next::Accepted), expected);
    }

    #[test]
    fn of_a_failure() {
        let failure = HttpFailure::TimedOut { phase: Phase::Answer, timeout_ms: 30_000 };
        let ended = Ended::unsent(failure.into());
        let receipt = ended.receipt(&Next::Retry { until: jiff::Timestamp::UNIX_EPOCH });
        let expected = json!({
            "outcome": "failed",
            "failure": "no answer within 30000 ms: timed out while waiting for the answer",
            "cause": {"kind": "http", "failure": {"kind": "timed_out", "phase": "answer", "timeout_ms": 30_000}},
            "retry_at": "1970-01-01T00:00:00Z",
        });
        assert_eq!(receipt, expected);
        assert_eq!(ended.evidence(), None);
        let cut = Ended::unsent(AttemptFailure::Cut { by: "the namespace was halted".to_owned() });
        assert_eq!(cut.receipt(&Next::Accepted)["outcome"], "interrupted");
    }

    #[test]
    fn the_headers_that_are_kept_are_bounded() {
        let long = "x".repeat(RECEIPT_HEADER_BYTES_MAX);
        let ended = ended(answer(200, &[("x-long", &long), ("server", "x")], b"", BodyEnd::Complete), &[]);
        assert_eq!(ended.receipt(&Next::Accepted)["headers"], json!({"server": "x"}));
    }

    #[test]
    fn evidence_holds_no_secret() {
        let check = |body: &[u8], end: BodyEnd, encoding: &str, expected: &str| {
            let ended = ended(answer(500, &[], body, end), &["s3cret", "s3cret-long"]);
            let evidence = ended.evidence().unwrap();
            assert_eq!(evidence["encoding"], encoding);
            assert_eq!(evidence["body"], expected);
        };
        check(b"plain", BodyEnd::Complete, "utf-8", "plain");
        check(b"a s3cret-long b s3cret", BodyEnd::Complete, "utf-8", "a [redacted] b [redacted]");
        check(b"ends in s3cre", BodyEnd::Truncated, "utf-8", "ends in ");
        check(b"ends in s3cre", BodyEnd::Complete, "utf-8", "ends in s3cre");
        check("größ".as_bytes(), BodyEnd::Complete, "utf-8", "größ");
        check(&"größ".as_bytes()[..5], BodyEnd::Truncated, "utf-8", "grö");
        check(b"\xff\xfe", BodyEnd::Complete, "base64", "//4=");
        check(b"\xffs3cret", BodyEnd::Complete, "base64", &STANDARD.encode(b"\xff[redacted]"));
        assert_eq!(ended(answer(204, &[], b"", BodyEnd::Complete), &[]).evidence(), None);
    }
}
