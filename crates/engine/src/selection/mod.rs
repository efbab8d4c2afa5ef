//! Selection, acting: streams a source through the pass of `orbit_core::selection`, takes what it chose, and admits the cycle's runs.
//!
//! `selector` is the service, `admission` what it does for one cycle, `pass` one reading of a source on a thread of its own, `sources` where the
//! bytes come from and `lines`, `records` how they are split, a bounded piece at a time. Nothing here decides which candidate is better.

pub mod admission;
mod dry_run;
mod lines;
mod listing;
mod pass;
pub(crate) mod preset;
mod program;
mod records;
mod remote;
mod selector;
mod sources;
#[cfg(test)]
mod tests;

pub use dry_run::dry_run;
pub use selector::Selector;
pub use sources::SourceError;
