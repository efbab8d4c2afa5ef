//! Selection: which candidate of a source a cycle is about.
//!
//! Owns what a candidate is, when two are the same, how they are ranked, and the bounded accumulator that one pass over a source
//! feeds. Never reads a source and never asks a store: both belong to the engine.

mod candidate;
mod csv;
mod hash;
mod pass;
mod rank;
mod scope;

pub use candidate::{Candidate, Malformed};
pub use csv::{CsvHeader, HeaderError};
pub use hash::candidate_hash;
pub use pass::{Chosen, Pass, Selected};
pub use rank::Rank;
pub use scope::{release_words, scope_text, taken_since};
