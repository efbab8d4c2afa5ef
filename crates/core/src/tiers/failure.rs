//! Everything that can go wrong with an attempt, and the one function that says what kind of end each of them is.

use serde::{Deserialize, Serialize};

use super::{How, OverLimit, RemoteFailure, remote};
use crate::digest::Digest;

/// Why an attempt gave no output. The tag is the word in records, the text is for the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "failure", rename_all = "snake_case")]
pub enum Failure {
    /// No process came to be.
    #[error("could not start: {message}")]
    CouldNotStart {
        /// What the system said.
        message: String,
    },
    /// The exit code is not one of `success_exit_codes`.
    #[error("exited with code {code}")]
    Exit {
        /// The code.
        code: i32,
    },
    /// A signal ended the program.
    #[error("was ended by signal {signal}")]
    Signal {
        /// Its number.
        signal: i32,
    },
    /// It took too long.
    #[error("took longer than {wall_ms} ms")]
    TimedOut {
        /// What it was allowed: `limits.wall`, or what was left to the run's deadline if that was less.
        wall_ms: u64,
    },
    /// It was ended from outside.
    #[error("was cancelled")]
    Cancelled,
    /// Its process tree used too much.
    #[error("went over {limit}")]
    OverLimit {
        /// Of what.
        limit: OverLimit,
    },
    /// The supervisor ended without an answer.
    #[error("nobody knows how it ended: {message}")]
    Lost {
        /// What is known of it.
        message: String,
    },
    /// Nothing lies where the output was expected.
    #[error("left no output file")]
    OutputMissing,
    /// The output is a link, a folder, a device or a pipe, or lies elsewhere.
    #[error("left an output that is not a regular file of its work folder")]
    OutputNotAFile,
    /// The output cannot be read.
    #[error("left an output that cannot be read: {message}")]
    OutputUnreadable {
        /// What the system said.
        message: String,
    },
    /// The output is too short.
    #[error("the output has {bytes} bytes, expected at least {min}")]
    OutputTooSmall {
        /// Its length.
        bytes: u64,
        /// The least length.
        min: u64,
    },
    /// The output is too long.
    #[error("the output has {bytes} bytes, expected at most {max}")]
    OutputTooLarge {
        /// Its length.
        bytes: u64,
        /// The greatest length.
        max: u64,
    },
    /// The output does not begin as it must.
    #[error("the output begins with `{found}` (hex), expected `{expected}`")]
    OutputPrefix {
        /// `prefix_hex`.
        expected: String,
        /// As many bytes of the output.
        found: String,
    },
    /// The output is the input.
    #[error("the output is the same as the input")]
    OutputEqualsInput,
    /// A batch's program said that it did not do this item.
    #[error("the program reported: {message}")]
    ItemFailed {
        /// What it said, without the secrets it was given.
        message: String,
    },
    /// A batch's program said nothing about this item, or nothing that can be read.
    #[error("no result line for this item")]
    ResultMissing,
    /// A batch's program said both that it did this item and that it did not.
    #[error("result lines for this item contradict each other")]
    ResultContradicts,
    /// A stored payload is not there.
    #[error("the payload {digest} is not in the store")]
    InputMissing {
        /// Which.
        digest: Digest,
    },
    /// A stored payload is not what its name says.
    #[error("the payload {digest} is damaged in the store")]
    InputCorrupt {
        /// Which.
        digest: Digest,
    },
    /// A secret of the document's `env` is not set.
    #[error("the secret `{variable}` is not set: set it in `.env`")]
    SecretMissing {
        /// The variable that holds it.
        variable: String,
    },
    /// An element of `argv` cannot be rendered.
    #[error("argv[{index}]: {message}")]
    TemplateRefused {
        /// Which element, from 0.
        index: usize,
        /// What is wrong.
        message: String,
    },
    /// An element of `argv` would become an option by what its value says.
    #[error("argv[{index}] begins with a value that begins with `-`, which could be read as an option")]
    OptionRefused {
        /// Which element, from 0.
        index: usize,
    },
    /// The request does not fit its snapshot.
    #[error("the execution request cannot be executed: {message}")]
    RequestRefused {
        /// What is wrong.
        message: String,
    },
    /// The engine died too often while steps of this processor were under way.
    #[error(
        "processor `{processor}` is quarantined: the engine died {crashes} times in a row during its steps; \
         change its document, or `orbit processors release {processor}`"
    )]
    Quarantined {
        /// Its name.
        processor: String,
        /// How often.
        crashes: u32,
    },
    /// The work folder or the blobs cannot be read or written, or the disk is full.
    #[error("the engine could not keep the attempt's files: {message}")]
    Storage {
        /// What the system said.
        message: String,
    },
    /// A service behind HTTP gave no output.
    #[error("{remote}")]
    Remote {
        /// Why.
        remote: RemoteFailure,
    },
    /// An in-process processor refused or failed.
    #[error("{message}")]
    Refused {
        /// What it said.
        message: String,
        /// Whether another attempt may succeed.
        retry: bool,
    },
    /// The processor panicked: a defect.
    #[error("panicked: {message}")]
    Panicked {
        /// What the panic said.
        message: String,
    },
}

/// What kind of end an attempt came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It gave an output.
    Done,
    /// It failed, and another attempt may succeed.
    Retry,
    /// It failed, and any other attempt would fail in the same way.
    Fail,
    /// It was ended from outside and counts as no attempt.
    Cancelled,
    /// Nobody knows how it ended: it counts as interrupted, not as failed.
    Lost,
}

/// Classifies the outcome of an attempt.
///
/// What a program did is worth another attempt, since a program may depend on anything. What follows from the request, the snapshot or the
/// store alone is not: it would be the same again.
pub const fn classify(outcome: Result<(), &Failure>) -> Verdict {
    let failure = match outcome {
        Ok(()) => return Verdict::Done,
        Err(failure) => failure,
    };
    match failure {
        Failure::CouldNotStart { .. }
        | Failure::Exit { .. }
        | Failure::Signal { .. }
        | Failure::TimedOut { .. }
        | Failure::OverLimit { .. }
        | Failure::OutputMissing
        | Failure::OutputNotAFile
        | Failure::OutputUnreadable { .. }
        | Failure::OutputTooSmall { .. }
        | Failure::OutputTooLarge { .. }
        | Failure::OutputPrefix { .. }
        | Failure::OutputEqualsInput
        | Failure::ItemFailed { .. }
        | Failure::ResultMissing
        | Failure::ResultContradicts
        | Failure::Storage { .. }
        | Failure::Refused { retry: true, .. }
        | Failure::Panicked { .. } => Verdict::Retry,
        Failure::InputMissing { .. }
        | Failure::InputCorrupt { .. }
        | Failure::SecretMissing { .. }
        | Failure::TemplateRefused { .. }
        | Failure::OptionRefused { .. }
        | Failure::RequestRefused { .. }
        | Failure::Quarantined { .. }
        | Failure::Refused { retry: false, .. } => Verdict::Fail,
        Failure::Remote { remote } => remote::classify(remote),
        Failure::Cancelled => Verdict::Cancelled,
        Failure::Lost { .. } => Verdict::Lost,
    }
}

impl From<RemoteFailure> for Failure {
    fn from(remote: RemoteFailure) -> Self {
        Self::Remote { remote }
    }
}

impl Failure {
    /// The failure that the end of a program is, or none if its exit code is among those that mean success.
    pub fn of_end(how: How, success_exit_codes: &[i32], wall_ms: u64) -> Option<Self> {
        match how {
            How::Exited { code } => (!success_exit_codes.contains(&code)).then_some(Self::Exit { code }),
            How::CouldNotStart { message } => Some(Self::CouldNotStart { message }),
            How::Signalled { signal } => Some(Self::Signal { signal }),
            How::TimedOut => Some(Self::TimedOut { wall_ms }),
            How::Cancelled => Some(Self::Cancelled),
            How::OverLimit { limit } => Some(Self::OverLimit { limit }),
            How::Lost { message } => Some(Self::Lost { message }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ends_of_programs() {
        let check = |how: How, expected: Option<&str>, verdict: Verdict| {
            let failure = Failure::of_end(how, &[0, 3], 250);
            assert_eq!(failure.as_ref().map(ToString::to_string).as_deref(), expected);
            assert_eq!(classify(failure.as_ref().map_or(Ok(()), Err)), verdict);
        };
        let message = || "no `x`".to_owned();
        check(How::Exited { code: 0 }, None, Verdict::Done);
        check(How::Exited { code: 3 }, None, Verdict::Done);
        check(How::Exited { code: 1 }, Some("exited with code 1"), Verdict::Retry);
        check(How::Signalled { signal: 11 }, Some("was ended by signal 11"), Verdict::Retry);
        check(How::TimedOut, Some("took longer than 250 ms"), Verdict::Retry);
        check(How::Cancelled, Some("was cancelled"), Verdict::Cancelled);
        check(How::OverLimit { limit: OverLimit::Memory }, Some("went over `limits.memory`"), Verdict::Retry);
        check(How::CouldNotStart { message: message() }, Some("could not start: no `x`"), Verdict::Retry);
        check(How::Lost { message: message() }, Some("nobody knows how it ended: no `x`"), Verdict::Lost);
    }

    #[test]
    fn what_would_be_the_same_again_is_not_tried_again() {
        let digest = Digest::of(b"");
        let check = |failure: Failure, expected: Verdict| {
            assert_eq!(classify(Err(&failure)), expected, "{failure}");
        };
        check(Failure::InputMissing { digest }, Verdict::Fail);
        check(Failure::InputCorrupt { digest }, Verdict::Fail);
        check(Failure::SecretMissing { variable: "ORBIT_SECRET_A_B".to_owned() }, Verdict::Fail);
        check(Failure::TemplateRefused { index: 1, message: String::new() }, Verdict::Fail);
        check(Failure::OptionRefused { index: 1 }, Verdict::Fail);
        check(Failure::RequestRefused { message: String::new() }, Verdict::Fail);
        check(Failure::Quarantined { processor: "p".to_owned(), crashes: 6 }, Verdict::Fail);
        check(Failure::Refused { message: String::new(), retry: false }, Verdict::Fail);
        check(Failure::Refused { message: String::new(), retry: true }, Verdict::Retry);
        check(Failure::OutputMissing, Verdict::Retry);
        check(Failure::OutputEqualsInput, Verdict::Retry);
        check(Failure::ItemFailed { message: String::new() }, Verdict::Retry);
        check(Failure::ResultMissing, Verdict::Retry);
        check(Failure::ResultContradicts, Verdict::Retry);
        check(Failure::Storage { message: String::new() }, Verdict::Retry);
        check(Failure::Panicked { message: String::new() }, Verdict::Retry);
    }

    #[test]
    fn tags_in_records() {
        let check = |failure: Failure, expected: serde_json::Value| {
            assert_eq!(serde_json::to_value(&failure).unwrap(), expected);
            assert_eq!(serde_json::from_value::<Failure>(expected).unwrap(), failure);
        };
        check(Failure::Exit { code: 2 }, json!({"failure": "exit", "code": 2}));
        check(
            Failure::OverLimit { limit: OverLimit::Processes },
            json!({"failure": "over_limit", "limit": "processes"}),
        );
        check(
            Failure::OutputTooSmall { bytes: 1, min: 2 },
            json!({"failure": "output_too_small", "bytes": 1, "min": 2}),
        );
    }
}
