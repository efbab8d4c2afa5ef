//! Normalize: which runs share a program, what the program is told of them, and what it says of each.
//!
//! The batch protocol of design section 5. A batch's program is a processor like any other; its limits, validation and retry are those of
//! `tiers`. Never starts anything and reads no payload.

mod batch;
mod results;

pub use batch::{BatchPlace, ManifestItem, place};
pub use results::{OddLines, Results, read_results};
