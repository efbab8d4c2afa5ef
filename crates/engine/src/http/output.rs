//! Answers whose body is to be an output: what came in their place, in the words of `orbit_core::tiers`.

use std::time::Duration;

use orbit_core::dispatch::outcome::{HttpFailure, Phase};
use orbit_core::tiers::{Failure, RemoteFailure};

use super::{Answer, BodyEnd, Exchange};

/// Why there is no output.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum NoOutput {
    /// It was ended from this side.
    Cut,
    /// It could not be written down.
    Storage {
        /// What the system said.
        message: String,
    },
    /// The service, or what lies between.
    Remote(RemoteFailure),
}

/// The answer, if there was one.
pub(crate) fn answered(exchange: &Exchange) -> Result<&Answer, NoOutput> {
    exchange.result.as_ref().map_err(|failure| match failure {
        HttpFailure::Cut { .. } => NoOutput::Cut,
        HttpFailure::Unwritable { message } => NoOutput::Storage { message: message.clone() },
        HttpFailure::Unsendable { .. }
        | HttpFailure::Resolve { .. }
        | HttpFailure::Refused { .. }
        | HttpFailure::Connect { .. }
        | HttpFailure::Tls { .. }
        | HttpFailure::TimedOut { .. }
        | HttpFailure::Unreadable { .. }
        | HttpFailure::Closed { .. }
        | HttpFailure::Malformed { .. }
        | HttpFailure::HeadTooLarge => NoOutput::Remote(RemoteFailure::NoAnswer { failure: failure.clone() }),
    })
}

/// Whether all of the answer's body was kept; `timeout` is what the request was given.
pub(crate) fn whole(answer: &Answer, bytes_max: u64, timeout: Duration) -> Result<(), NoOutput> {
    Err(NoOutput::Remote(match answer.body_end {
        BodyEnd::Complete => return Ok(()),
        BodyEnd::Cut => return Err(NoOutput::Cut),
        BodyEnd::Truncated => RemoteFailure::TooLarge { bytes_max },
        BodyEnd::Broken => RemoteFailure::BrokeOff { bytes: answer.body_bytes },
        BodyEnd::TimedOut => {
            let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
            RemoteFailure::NoAnswer { failure: HttpFailure::TimedOut { phase: Phase::Body, timeout_ms } }
        }
    }))
}

impl From<NoOutput> for Failure {
    fn from(why: NoOutput) -> Self {
        match why {
            NoOutput::Cut => Self::Cancelled,
            NoOutput::Storage { message } => Self::Storage { message },
            NoOutput::Remote(remote) => remote.into(),
        }
    }
}
