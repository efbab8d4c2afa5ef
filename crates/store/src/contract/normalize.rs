//! Runs that share a normalizer: they wait for each other and are claimed together. And work that was done before.

use async_trait::async_trait;
use jiff::Timestamp;
use orbit_core::digest::Digest;
use orbit_core::run::Step;
use uuid::Uuid;

use super::tiers::ClaimedStep;
use super::{Artifact, OpenDoors, StoreError};

/// Runs whose normalize step this caller alone may do, with one program.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimedBatch {
    /// The batch; in the `step_started` record of every item.
    pub batch_id: Uuid,
    /// One of each run, at least one.
    pub items: Vec<ClaimedStep>,
}

/// The output of work that was done before.
#[derive(Clone, Debug, PartialEq)]
pub struct DoneBefore {
    /// The output; its blob may be gone.
    pub artifact: Artifact,
    /// The run that did it.
    pub run_id: Uuid,
    /// The step that did it.
    pub step: Step,
    /// When it was done.
    pub made_at: Timestamp,
}

/// See the module. A run gets its place with the commit of the step before ([`super::tiers::StepCommit::batch`]) and loses it with whatever happens
/// to it next, so that only the first attempt of a step is ever part of a batch.
#[async_trait]
pub trait NormalizeStore {
    /// The processors of groups that are full or of which one has waited long enough, those that have waited longest first, each once.
    async fn batches_ready(&self, now: Timestamp) -> Result<Vec<String>, StoreError>;

    /// The runs of one such group of this processor are the caller's: as many as its rule allows, highest priority first, then
    /// the one that has waited longest. Runs that have passed their deadline are left out. None if no group is ready, or if the door for first
    /// attempts is closed. Each has a `step_started` record that names the batch.
    async fn claim_batch(
        &self,
        processor: &str,
        doors: OpenDoors,
        now: Timestamp,
    ) -> Result<Option<ClaimedBatch>, StoreError>;

    /// When the next run will have waited long enough; none if none waits.
    async fn next_batch_due(&self) -> Result<Option<Timestamp>, StoreError>;

    /// The output of the newest step that was committed with this key, if there is one.
    async fn done_before(&self, key: Digest) -> Result<Option<DoneBefore>, StoreError>;
}
