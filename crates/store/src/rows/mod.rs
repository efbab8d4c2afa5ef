//! What rows mean, whichever database holds them: their types, and what is decided or recorded without a statement. A backend adds the statements.

pub(crate) mod activation;
pub(crate) mod admitted;
pub(crate) mod claim;
pub(crate) mod cycle;
pub(crate) mod delivery;
pub(crate) mod endpoint;
pub(crate) mod node;
pub(crate) mod notice;
pub(crate) mod record;
pub(crate) mod retention;
pub(crate) mod run;
pub(crate) mod signing;
pub(crate) mod step;
pub(crate) mod told;

use std::fmt::Display;

/// A row or an argument that contradicts the rules: a defect, or a store that was changed.
#[derive(Debug)]
pub(crate) struct Contradiction(pub(crate) String);

impl Contradiction {
    /// In these words.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    /// The body of a record is not what it must be.
    pub(crate) fn unreadable(error: impl Display) -> Self {
        Self(format!("its body cannot be read: {error}"))
    }
}
