//! How an attempt ends, in every way that it can, and what that means for the delivery.
//!
//! Follows Standard Webhooks 1.0: 2xx is success, everything else a failure that is tried again on the schedule, and 410 disables the
//! endpoint. Redirects are never followed: a 3xx is a failure.

use std::fmt;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::guard::Refused;
use crate::digest::Digest;
use crate::limits::{ANSWER_HEAD_BYTES_MAX, RETRY_AFTER_SECONDS_MAX};

/// Where in an exchange something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The name is looked up.
    Resolve,
    /// The connection is made.
    Connect,
    /// The TLS handshake.
    Tls,
    /// The request is sent.
    Send,
    /// The request is sent, and the head of the answer is awaited.
    Answer,
    /// The body of the answer is read.
    Body,
}

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum HttpFailure {
    /// The request cannot be sent as it is: a defect, or a stored address that is none.
    #[error("the request cannot be sent: {message}")]
    Unsendable {
        /// What is wrong.
        message: String,
    },
    /// The name has no address.
    #[error("cannot resolve `{host}`: {message}")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        message: String,
    },
    /// The name has only addresses that may not be dialed.
    #[error("refused to connect to `{host}`: {}", list(refused))]
    Refused {
        /// The name.
        host: String,
        /// Every address and why it was refused.
        refused: Vec<Refused>,
    },
    /// No address took the connection.
    #[error("cannot connect to `{address}`: {message}")]
    Connect {
        /// The last address that was dialed.
        address: String,
        /// What the system said.
        message: String,
    },
    /// The TLS handshake failed.
    #[error("the TLS handshake with `{host}` failed: {message}")]
    Tls {
        /// The name that the certificate must have.
        host: String,
        /// What is wrong.
        message: String,
    },
    /// The time for the attempt was over.
    #[error("no answer within {timeout_ms} ms: timed out while {phase}")]
    TimedOut {
        /// Where it was.
        phase: Phase,
        /// The time there was.
        timeout_ms: u64,
    },
    /// The request's body could not be read.
    #[error("the body could not be read: {message}")]
    Unreadable {
        /// What the system said.
        message: String,
    },
    /// The answer's body could not be written down.
    #[error("the answer could not be written: {message}")]
    Unwritable {
        /// What the system said.
        message: String,
    },
    /// The other side closed or reset the connection.
    #[error("the connection was closed while {phase}: {message}")]
    Closed {
        /// Where it was.
        phase: Phase,
        /// What the system said.
        message: String,
    },
    /// What came back is not an answer.
    #[error("the answer is not HTTP: {message}")]
    Malformed {
        /// What is wrong.
        message: String,
    },
    /// The head of the answer is too long.
    #[error("the head of the answer is longer than {ANSWER_HEAD_BYTES_MAX} bytes or has too many headers")]
    HeadTooLarge,
    /// It was ended from this side.
    #[error("cut short while {phase}")]
    Cut {
        /// Where it was.
        phase: Phase,
    },
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum AttemptFailure {
    /// The endpoint answered with another status than 2xx.
    #[error("{}", describe_status(*status))]
    Status {
        /// The status.
        status: u16,
        /// When the endpoint wants to be asked again.
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after_seconds: Option<u32>,
    },
    /// There was no answer.
    #[error("{failure}")]
    Http {
        /// Why.
        failure: HttpFailure,
    },
    /// A secret has no value.
    #[error("the secret `{variable}` is not set")]
    MissingSecret {
        /// The environment variable.
        variable: String,
    },
    /// A secret's value cannot be used. The value is never repeated.
    #[error("the secret `{variable}` cannot be used: {message}")]
    UnusableSecret {
        /// The environment variable.
        variable: String,
        /// What is wrong.
        message: String,
    },
    /// What the run asked for cannot be sent, now or later.
    #[error("{message}")]
    Request {
        /// Why.
        message: String,
    },
    /// The artifact is not among the blobs.
    #[error("the artifact {digest} is not stored")]
    MissingArtifact {
        /// Its digest.
        digest: Digest,
    },
    /// The artifact's bytes are not what its name says.
    #[error("the stored bytes of artifact {digest} are not those of its digest")]
    CorruptArtifact {
        /// Its digest.
        digest: Digest,
    },
    /// The store or the disk failed before anything was sent.
    #[error("{message}")]
    Local {
        /// What failed.
        message: String,
    },
    /// It was ended from this side: a halt, a stop, a cancelled run.
    #[error("cut short: {by}")]
    Cut {
        /// By what.
        by: String,
    },
    /// A defect.
    #[error("the attempt panicked: {message}")]
    Panicked {
        /// What the panic said.
        message: String,
    },
}

/// What an attempt means for its delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The endpoint took it.
    Accepted,
    /// Another attempt may succeed.
    Retry {
        /// Why this one did not.
        reason: String,
        /// The endpoint asks for at least this wait.
        after: Option<SignedDuration>,
    },
    /// No further attempt can succeed.
    Dead {
        /// Why.
        reason: String,
    },
    /// The endpoint wants nothing more, ever.
    Disable {
        /// Why.
        reason: String,
    },
}

/// Whether the status alone is a success; if not, the failure it is. `retry_after` is the answer's header, which counts for 429 and 503.
pub fn judge(status: u16, retry_after: Option<&str>, now: Timestamp) -> Result<(), AttemptFailure> {
    if (200..300).contains(&status) {
        return Ok(());
    }
    let asked = retry_after.filter(|_| matches!(status, 429 | 503));
    let retry_after_seconds = asked.and_then(|text| retry_after_seconds_of(text, now));
    Err(AttemptFailure::Status { status, retry_after_seconds })
}

/// What the end of an attempt means.
pub fn classify(result: &Result<(), AttemptFailure>) -> Verdict {
    let failure = match result {
        Ok(()) => return Verdict::Accepted,
        Err(failure) => failure,
    };
    let reason = failure.to_string();
    match failure {
        AttemptFailure::Status { status: 410, .. } => Verdict::Disable { reason },
        AttemptFailure::Status { retry_after_seconds, .. } => {
            let after = retry_after_seconds.map(|seconds| SignedDuration::from_secs(seconds.into()));
            Verdict::Retry { reason, after }
        }
        AttemptFailure::Http { .. }
        | AttemptFailure::MissingSecret { .. }
        | AttemptFailure::UnusableSecret { .. }
        | AttemptFailure::Local { .. }
        | AttemptFailure::Cut { .. }
        | AttemptFailure::Panicked { .. } => Verdict::Retry { reason, after: None },
        AttemptFailure::Request { .. }
        | AttemptFailure::MissingArtifact { .. }
        | AttemptFailure::CorruptArtifact { .. } => Verdict::Dead { reason },
    }
}

/// How HTTP writes dates (RFC 9110, section 5.6.7).
const DATE_FORMS: [&str; 3] =
    ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];

/// The seconds that a `Retry-After` asks for (RFC 9110, section 10.2.3): delta-seconds or one of the three forms of a date, at most
/// [`RETRY_AFTER_SECONDS_MAX`]; none if it is neither. A date that is past is no wait.
pub fn retry_after_seconds_of(text: &str, now: Timestamp) -> Option<u32> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number can hold ask for longer than the bound.
        return Some(text.parse().unwrap_or(u32::MAX).min(RETRY_AFTER_SECONDS_MAX));
    }
    let date = DATE_FORMS.into_iter().find_map(|form| DateTime::strptime(form, text).ok())?;
    let at = date.to_zoned(TimeZone::UTC).ok()?.timestamp();
    // Rounded up, so that the wait does not end before the date.
    let seconds = (at.duration_since(now).as_millis() + 999).div_euclid(1000);
    Some(u32::try_from(seconds.max(0)).unwrap_or(u32::MAX).min(RETRY_AFTER_SECONDS_MAX))
}

impl From<HttpFailure> for AttemptFailure {
    fn from(failure: HttpFailure) -> Self {
        Self::Http { failure }
    }
}

impl Phase {
    /// The word in receipts.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Send => "send",
            Self::Answer => "answer",
            Self::Body => "body",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve => "resolving the name",
            Self::Connect => "connecting",
            Self::Tls => "in the TLS handshake",
            Self::Send => "sending the request",
            Self::Answer => "waiting for the answer",
            Self::Body => "reading the answer",
        })
    }
}

fn describe_status(status: u16) -> String {
    let meaning = match status {
        300..=399 => ", a redirect, which is not followed",
        401 | 403 => ": it does not accept the credentials",
        404 => ": there is nothing at this address",
        410 => ": it wants nothing more",
        413 => ": the artifact is too large for it",
        429 => ": it was asked too often",
        500..=599 => ": it failed itself",
        _ => "",
    };
    format!("the endpoint answered {status}{meaning}")
}

fn list(refused: &[Refused]) -> String {
    let words: Vec<_> = refused.iter().map(Refused::to_string).collect();
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16) -> AttemptFailure {
        AttemptFailure::Status { status, retry_after_seconds: None }
    }

    #[test]
    fn verdicts() {
        let check = |result: Result<(), AttemptFailure>, expected: &str, reason: &str| {
            let (word, found) = match classify(&result) {
                Verdict::Accepted => ("accepted", String::new()),
                Verdict::Retry { reason, .. } => ("retry", reason),
                Verdict::Dead { reason } => ("dead", reason),
                Verdict::Disable { reason } => ("disable", reason),
            };
            assert_eq!(word, expected, "{result:?}");
            assert!(found.contains(reason), "{found}");
        };
        let digest = Digest::of(b"");
        let variable = "ORBIT_SECRET_A_B".to_owned();
        check(Ok(()), "accepted", "");
        check(Err(status(301)), "retry", "301, a redirect");
        check(Err(status(400)), "retry", "answered 400");
        check(Err(status(401)), "retry", "credentials");
        check(Err(status(410)), "disable", "410");
        check(Err(status(500)), "retry", "500: it failed itself");
        check(Err(HttpFailure::HeadTooLarge.into()), "retry", "65536 bytes");
        let timed_out = HttpFailure::TimedOut { phase: Phase::Tls, timeout_ms: 30_000 };
        check(Err(timed_out.into()), "retry", "within 30000 ms: timed out while in the TLS handshake");
        check(Err(AttemptFailure::MissingSecret { variable }), "retry", "`ORBIT_SECRET_A_B` is not set");
        check(Err(AttemptFailure::CorruptArtifact { digest }), "dead", "sha256:");
        check(Err(AttemptFailure::Request { message: "the snapshot".to_owned() }), "dead", "the snapshot");
        let refused = Refused { address: "10.0.0.1".parse().unwrap(), reason: "private".to_owned() };
        let failure = HttpFailure::Refused { host: "a".to_owned(), refused: vec![refused] };
        check(Err(failure.into()), "retry", "refused to connect to `a`: `10.0.0.1` is private");
    }

    #[test]
    fn statuses() {
        let now = Timestamp::UNIX_EPOCH;
        let check = |status: u16, retry_after: Option<&str>, expected: Result<(), Option<u32>>| {
            let judged = judge(status, retry_after, now);
            let expected = expected
                .map_err(|retry_after_seconds| AttemptFailure::Status { status, retry_after_seconds });
            assert_eq!(judged, expected, "{status}");
        };
        check(200, None, Ok(()));
        check(299, Some("5"), Ok(()));
        check(199, None, Err(None));
        check(304, Some("5"), Err(None));
        check(429, Some("5"), Err(Some(5)));
        check(503, Some("5"), Err(Some(5)));
        check(503, Some("soon"), Err(None));
        check(500, Some("5"), Err(None));
    }

    #[test]
    fn retry_after() {
        let now: Timestamp = "1994-11-06T08:49:36.5Z".parse().unwrap();
        let check = |text: &str, expected: Option<u32>| {
            assert_eq!(retry_after_seconds_of(text, now), expected, "{text}");
        };
        check("120", Some(120));
        check(" 0 ", Some(0));
        check("999999999999999999999", Some(RETRY_AFTER_SECONDS_MAX));
        check("Sun, 06 Nov 1994 08:49:37 GMT", Some(1));
        check("Sunday, 06-Nov-94 08:50:37 GMT", Some(61));
        check("Sun Nov  6 08:50:37 1994", Some(61));
        check("Sun, 06 Nov 1994 08:49:36 GMT", Some(0));
        check("Sat, 06 Nov 2094 08:49:37 GMT", Some(RETRY_AFTER_SECONDS_MAX));
        check("-5", None);
        check("1.5", None);
        check("", None);
        check("tomorrow", None);
    }

    #[test]
    fn a_failure_is_written_and_read_back() {
        let failure: AttemptFailure = HttpFailure::TimedOut { phase: Phase::Answer, timeout_ms: 5 }.into();
        let written = serde_json::to_value(&failure).unwrap();
        assert_eq!(
            written,
            serde_json::json!({"kind": "http", "failure": {"kind": "timed_out", "phase": "answer", "timeout_ms": 5}})
        );
        assert_eq!(serde_json::from_value::<AttemptFailure>(written).unwrap(), failure);
    }
}
