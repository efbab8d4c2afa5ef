//! Processors during whose steps the engine died again and again.
//!
//! A crash counts against every processor that had a step under way, once, and a step that is done takes all of it back. At
//! [`PROCESSOR_CRASHES_MAX`] its steps are no longer done: [`ClaimedStep::quarantine`] says so. What is counted is what one document said: a
//! changed one begins anew.
//!
//! [`PROCESSOR_CRASHES_MAX`]: orbit_core::limits::PROCESSOR_CRASHES_MAX
//! [`ClaimedStep::quarantine`]: super::tiers::ClaimedStep::quarantine

use async_trait::async_trait;
use jiff::Timestamp;
use orbit_core::digest::Digest;

use super::StoreError;

/// A processor that is quarantined.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Quarantine {
    /// Its name.
    pub processor: String,
    /// The digest of what its document said.
    pub settings: Digest,
    /// Crashes in a row.
    pub crashes: u32,
    /// Since when.
    pub since: Timestamp,
}

/// See the module.
#[async_trait]
pub trait QuarantineStore {
    /// Every quarantine in force, by name, those of earlier documents too.
    async fn quarantined(&self) -> Result<Vec<Quarantine>, StoreError>;

    /// Quarantines of the processor are lifted, whatever its document said, each with a `processor_released` record; they are the answer.
    async fn release_processor(&self, processor: &str, now: Timestamp)
    -> Result<Vec<Quarantine>, StoreError>;
}
