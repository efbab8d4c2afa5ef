//! Outcomes: how runs and cycles ended, without the reasons.

use serde::{Deserialize, Serialize};

/// The outcome of a run or a cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All of it went well.
    Succeeded,
    /// Some of it did.
    Partial,
    /// None of it did.
    Failed,
    /// There was nothing to do.
    Skipped,
    /// It was ended from outside.
    Cancelled,
}

impl Outcome {
    /// The word used in records and output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Partial => "partial",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Cancelled => "cancelled",
        }
    }

    /// The outcome of a cycle whose runs ended so: what all have in common, else `partial`.
    pub fn of_cycle(runs: &[Self]) -> Self {
        match runs {
            [] => Self::Skipped,
            [first, rest @ ..] if rest.iter().all(|outcome| outcome == first) => *first,
            _ => Self::Partial,
        }
    }
}
