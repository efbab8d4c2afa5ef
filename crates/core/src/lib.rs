//! `orbit-core` decides: everything that can be known from rows, a snapshot, an instant and a seed.
//!
//! Pure: no async, no I/O, no clock, no randomness. The stages stand in the order of the flow; what they share follows.

/// What the operator writes.
pub mod config;

/// When a run profile fires.
pub mod schedule;

/// Which candidate a cycle is about.
pub mod selection;

/// From an initiation to an execution request.
pub mod synthesis;

/// What an attempt of a processor can come to.
pub mod tiers;

/// How runs share a normalizer.
pub mod normalize;

/// Where deliveries go, and what follows from an attempt.
pub mod dispatch;

/// What people are told of what happened.
pub mod notify;

/// The gate.
pub mod governance;
/// The entries of the log.
pub mod record;
/// What every run is and what can happen to it.
pub mod run;

pub mod canonical;
pub mod digest;
pub mod id;
pub mod limits;
pub mod template;
