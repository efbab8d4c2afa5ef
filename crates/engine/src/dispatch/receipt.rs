//! What is written down about an attempt: a receipt of facts, and the first bytes of the answer as evidence. Neither holds a secret.

use orbit_core::dispatch::outcome::AttemptFailure;
use orbit_core::dispatch::retry::Next;
use serde_json::{Map, Value, json};

use crate::http::{Account, Exchange, facts};

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
            receipt.extend(facts(exchange));
            if let Ok(answer) = &exchange.result {
                receipt.insert("headers".to_owned(), self.account().headers(&answer.headers));
            }
        }
        if let Err(failure) = &self.result {
            receipt.insert("failure".to_owned(), json!(self.account().redact(&failure.to_string())));
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
        self.account().body(self.exchange.as_ref()?.result.as_ref().ok()?)
    }

    fn account(&self) -> Account<'_> {
        Account { confidential: &self.confidential }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Answer, BodyEnd, REDACTED, Timings};
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use bytes::Bytes;
    use http::HeaderMap;
    use orbit_core::dispatch::outcome::{HttpFailure, Phase, judge};
    use orbit_core::limits::RECEIPT_HEADER_BYTES_MAX;

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
        let body_bytes = body.len() as u64;
        Answer { status, headers: map, body: Bytes::copy_from_slice(body), body_bytes, body_end }
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
