//! What the answers of a processor behind HTTP mean, and every way in which such an attempt fails.
//!
//! A service either answers with the output (`sync`), or takes the work with `202` and a `Location` that is asked until it answers with the
//! output (`poll`). Credentials leave for the configured origin only: a `Location` of another one is refused.

use serde::{Deserialize, Serialize};

use super::Verdict;
use crate::config::{ByteSize, Completion};
use crate::dispatch::outcome::HttpFailure;
use crate::dispatch::target::LocationError;
use crate::limits::{HEADER_VALUE_BYTES_MAX, POLLS_MAX};

/// Why a service gave no output. The tag is the word in records, the text is for the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum RemoteFailure {
    /// There was no answer.
    #[error("{failure}")]
    NoAnswer {
        /// Why.
        failure: HttpFailure,
    },
    /// The answer has a status that means neither an output nor work under way.
    #[error("the service answered {status}{}", meaning_of(*status))]
    Status {
        /// The status.
        status: u16,
        /// When the service wants to be asked again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_seconds: Option<u32>,
    },
    /// It took the work, but the document waits for the output in the answer.
    #[error("the service answered 202: it works on it, and `completion: sync` waits for the output itself")]
    NotFinished,
    /// It took the work and did not say where to ask.
    #[error("the service answered {status} without a `Location`")]
    LocationMissing {
        /// The status.
        status: u16,
    },
    /// It said where to ask, and nobody may ask there.
    #[error("the service answered {status} with a `Location` that is not followed: {error}")]
    LocationRefused {
        /// The status.
        status: u16,
        /// Why.
        error: LocationError,
    },
    /// It was asked as often as anybody may.
    #[error("the service had not finished when it was asked {polls} times, the most that are made")]
    PollsExhausted {
        /// How often.
        polls: u32,
    },
    /// The output is longer than `limits.output`; the rest was not read.
    #[error("the answer is longer than `limits.output`, {}", ByteSize(*bytes_max))]
    TooLarge {
        /// The limit in bytes.
        bytes_max: u64,
    },
    /// The output ended before its end.
    #[error("the answer broke off after {bytes} bytes")]
    BrokeOff {
        /// What had come.
        bytes: u64,
    },
    /// A secret's value cannot be used. The value is never repeated.
    #[error("the secret `{variable}` cannot be used: {message}")]
    SecretUnusable {
        /// The variable that holds it.
        variable: String,
        /// What is wrong.
        message: String,
    },
    /// The context does not fit into a header.
    #[error(
        "the context has {bytes} bytes in base64, and a header at most {HEADER_VALUE_BYTES_MAX}: use `context: part`"
    )]
    ContextTooLarge {
        /// Its length.
        bytes: u64,
    },
    /// The address or a header cannot be made for this run.
    #[error("the request cannot be made: {message}")]
    Unsendable {
        /// What is wrong.
        message: String,
    },
}

/// Which of an attempt's requests an answer belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// The one that carries the input, to a service of this kind.
    First(Completion),
    /// One that asks whether the work is done.
    Poll,
    /// The one that fetches the output from where a `303` said it is.
    Result,
}

impl Hop {
    /// Whether it carries the input.
    pub const fn is_first(self) -> bool {
        matches!(self, Self::First(_))
    }
}

/// What an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Its body is the output.
    Output,
    /// The work is under way, and the `Location`, or without one the same address, is asked later.
    Wait,
    /// The output is at the `Location`.
    SeeOther,
    /// It says nothing about the work: the same address is asked again, a few times.
    AskAgain,
    /// There is no output.
    Failed,
}

/// What an answer with this status means for the attempt.
pub const fn meaning(hop: Hop, status: u16) -> Meaning {
    match (hop, status) {
        // 206 is a part of something, which was not asked for.
        (Hop::First(Completion::Sync), 202 | 206) => Meaning::Failed,
        (Hop::First(Completion::Sync), 200..=299) | (_, 200) => Meaning::Output,
        (Hop::First(Completion::Poll) | Hop::Poll, 202) => Meaning::Wait,
        (Hop::Poll, 303) => Meaning::SeeOther,
        (Hop::Poll | Hop::Result, 408 | 425 | 429 | 500..=599) => Meaning::AskAgain,
        (_, _) => Meaning::Failed,
    }
}

/// Whether a question that found no answer may be asked again within the same attempt: the network was the cause.
pub const fn is_passing(failure: &HttpFailure) -> bool {
    match failure {
        HttpFailure::Resolve { .. }
        | HttpFailure::Connect { .. }
        | HttpFailure::Tls { .. }
        | HttpFailure::TimedOut { .. }
        | HttpFailure::Closed { .. } => true,
        HttpFailure::Unsendable { .. }
        | HttpFailure::Refused { .. }
        | HttpFailure::Unreadable { .. }
        | HttpFailure::Unwritable { .. }
        | HttpFailure::Malformed { .. }
        | HttpFailure::HeadTooLarge
        | HttpFailure::Cut { .. } => false,
    }
}

/// What an attempt that failed so came to.
///
/// Another attempt may fare better where the network, the load or the service itself was the cause: no answer, 408, 425, 429, 5xx, an answer
/// that broke off or was too long, work that took too long. Everything else would be the same again.
pub(super) const fn classify(failure: &RemoteFailure) -> Verdict {
    match failure {
        RemoteFailure::NoAnswer { failure: HttpFailure::Unsendable { .. } } => Verdict::Fail,
        RemoteFailure::NoAnswer { .. }
        | RemoteFailure::Status { status: 408 | 425 | 429 | 500..=599, .. }
        | RemoteFailure::PollsExhausted { .. }
        | RemoteFailure::TooLarge { .. }
        | RemoteFailure::BrokeOff { .. } => Verdict::Retry,
        RemoteFailure::Status { .. }
        | RemoteFailure::NotFinished
        | RemoteFailure::LocationMissing { .. }
        | RemoteFailure::LocationRefused { .. }
        | RemoteFailure::SecretUnusable { .. }
        | RemoteFailure::ContextTooLarge { .. }
        | RemoteFailure::Unsendable { .. } => Verdict::Fail,
    }
}

impl RemoteFailure {
    /// The service was asked as often as anybody may.
    pub const fn polls_exhausted() -> Self {
        Self::PollsExhausted { polls: POLLS_MAX }
    }

    /// The wait that the service asked for, in seconds.
    pub const fn retry_after_seconds(&self) -> Option<u32> {
        match self {
            Self::Status { retry_after_seconds, .. } => *retry_after_seconds,
            Self::NoAnswer { .. }
            | Self::NotFinished
            | Self::LocationMissing { .. }
            | Self::LocationRefused { .. }
            | Self::PollsExhausted { .. }
            | Self::TooLarge { .. }
            | Self::BrokeOff { .. }
            | Self::SecretUnusable { .. }
            | Self::ContextTooLarge { .. }
            | Self::Unsendable { .. } => None,
        }
    }
}

const fn meaning_of(status: u16) -> &'static str {
    match status {
        300..=399 => ", a redirect, which is not followed",
        401 | 403 => ": it does not accept the credentials",
        404 | 410 => ": there is nothing at this address",
        413 => ": the input is too large for it",
        415 => ": it does not take this media type",
        429 => ": it was asked too often",
        500..=599 => ": it failed itself",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::outcome::Phase;
    use serde_json::json;

    #[test]
    fn answers() {
        let (sync, poll) = (Hop::First(Completion::Sync), Hop::First(Completion::Poll));
        let check = |hop: Hop, statuses: &[u16], expected: Meaning| {
            for status in statuses {
                assert_eq!(meaning(hop, *status), expected, "{hop:?} {status}");
            }
        };
        check(sync, &[200, 201, 203, 204], Meaning::Output);
        check(sync, &[100, 202, 206, 301, 303, 307, 400, 404, 408, 429, 500, 503, 600], Meaning::Failed);
        check(poll, &[200], Meaning::Output);
        check(poll, &[202], Meaning::Wait);
        check(poll, &[201, 204, 303, 400, 429, 500], Meaning::Failed);
        check(Hop::Poll, &[200], Meaning::Output);
        check(Hop::Poll, &[202], Meaning::Wait);
        check(Hop::Poll, &[303], Meaning::SeeOther);
        check(Hop::Poll, &[408, 425, 429, 500, 503], Meaning::AskAgain);
        check(Hop::Poll, &[201, 204, 301, 302, 307, 400, 404, 410], Meaning::Failed);
        check(Hop::Result, &[200], Meaning::Output);
        check(Hop::Result, &[429, 500], Meaning::AskAgain);
        check(Hop::Result, &[202, 303, 404], Meaning::Failed);
    }

    #[test]
    fn verdicts() {
        let check = |failure: RemoteFailure, expected: Verdict, text: &str| {
            assert_eq!(classify(&failure), expected, "{failure}");
            assert!(failure.to_string().contains(text), "{failure}");
        };
        let status = |status| RemoteFailure::Status { status, retry_after_seconds: None };
        let no_answer = |failure| RemoteFailure::NoAnswer { failure };
        check(status(400), Verdict::Fail, "the service answered 400");
        check(status(302), Verdict::Fail, "a redirect, which is not followed");
        check(status(401), Verdict::Fail, "credentials");
        check(status(409), Verdict::Fail, "409");
        check(status(408), Verdict::Retry, "408");
        check(status(425), Verdict::Retry, "425");
        check(status(429), Verdict::Retry, "too often");
        check(status(503), Verdict::Retry, "it failed itself");
        check(no_answer(HttpFailure::HeadTooLarge), Verdict::Retry, "the head of the answer");
        let phase = Phase::Answer;
        check(no_answer(HttpFailure::TimedOut { phase, timeout_ms: 30 }), Verdict::Retry, "within 30 ms");
        check(no_answer(HttpFailure::Unsendable { message: "no host".to_owned() }), Verdict::Fail, "no host");
        check(RemoteFailure::NotFinished, Verdict::Fail, "`completion: sync`");
        check(RemoteFailure::LocationMissing { status: 202 }, Verdict::Fail, "without a `Location`");
        let error = LocationError::Foreign { origin: "https://evil.example".to_owned() };
        check(RemoteFailure::LocationRefused { status: 202, error }, Verdict::Fail, "https://evil.example");
        check(RemoteFailure::polls_exhausted(), Verdict::Retry, "asked 10000 times");
        check(RemoteFailure::TooLarge { bytes_max: 1 << 20 }, Verdict::Retry, "`limits.output`, 1 MiB");
        check(RemoteFailure::BrokeOff { bytes: 3 }, Verdict::Retry, "after 3 bytes");
        check(RemoteFailure::ContextTooLarge { bytes: 9000 }, Verdict::Fail, "`context: part`");
    }

    #[test]
    fn tags_in_records() {
        let check = |failure: RemoteFailure, expected: serde_json::Value| {
            assert_eq!(serde_json::to_value(&failure).unwrap(), expected);
            assert_eq!(serde_json::from_value::<RemoteFailure>(expected).unwrap(), failure);
        };
        check(
            RemoteFailure::Status { status: 503, retry_after_seconds: Some(5) },
            json!({"kind": "status", "status": 503, "retry_after_seconds": 5}),
        );
        check(
            RemoteFailure::NoAnswer { failure: HttpFailure::HeadTooLarge },
            json!({"kind": "no_answer", "failure": {"kind": "head_too_large"}}),
        );
        check(RemoteFailure::NotFinished, json!({"kind": "not_finished"}));
    }
}
