//! Runs: their steps are claimed, done and committed.

use async_trait::async_trait;
use jiff::Timestamp;
use orbit_core::digest::Digest;
use orbit_core::run::{RunEvent, RunState, Step};
use serde_json::Value;
use uuid::Uuid;

use super::dispatch::NewDelivery;
use super::{Artifact, Claim, Evidence, OpenDoors, Recovered, StoreError};

/// A step that this caller alone may do.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimedStep {
    /// The claim; its id is the run's.
    pub claim: Claim,
    /// The cycle.
    pub cycle_id: Uuid,
    /// The profile.
    pub profile_id: Uuid,
    /// The snapshot the run is pinned to.
    pub snapshot: Digest,
    /// The execution request.
    pub request: Value,
    /// The step.
    pub step: Step,
    /// Its attempt, from 1.
    pub attempt: u32,
    /// Attempts of this step that failed before.
    pub failed: u32,
    /// The output of the step before; none for tier 1.
    pub input: Option<Artifact>,
    /// When the run must have an artifact.
    pub deadline_at: Timestamp,
}

/// How a step ended.
#[derive(Clone, Debug)]
pub struct StepCommit {
    /// The event, which the run's state takes in.
    pub event: RunEvent,
    /// Facts for the record (an object): usage, digest, failure.
    pub detail: Value,
    /// What the attempt wrote to standard error.
    pub evidence: Option<Evidence>,
    /// The step's output, if it succeeded; its blob is durable.
    pub artifact: Option<Artifact>,
    /// What is owed, if this was the last step.
    pub deliveries: Vec<NewDelivery>,
    /// Claim the run's next step for the same caller.
    pub claim_next: bool,
}

/// The answer to a step's commit.
#[derive(Clone, Debug, PartialEq)]
pub enum StepCommitted {
    /// The claim is no longer the caller's; nothing changed.
    Lost,
    /// The run is in this state, and its next step may be the caller's.
    Done {
        /// The run's state.
        state: RunState,
        /// The next step, if it was asked for and there is one that can start now.
        next: Option<Box<ClaimedStep>>,
    },
}

/// See the module.
#[async_trait]
pub trait RunStore {
    /// Takes the store over for this process: every older claim is free. A step that was under way is interrupted by a crash, a delivery attempt without an
    /// answer has the receipt `unknown`, a cycle that was being selected waits again. A `node_started` record with `detail` tells what was found.
    async fn recover(&self, detail: Value, now: Timestamp) -> Result<Recovered, StoreError>;

    /// Up to `limit` steps that may start now and whose run has not passed its deadline are the caller's: highest priority first, then the oldest. Each has a `step_started` record.
    async fn claim_steps(
        &self,
        limit: u32,
        doors: OpenDoors,
        now: Timestamp,
    ) -> Result<Vec<ClaimedStep>, StoreError>;

    /// The step ended so: the run's state, the record, the artifact, the deliveries and what follows for the cycle are one transaction. An
    /// event that succeeds without an artifact, or counts other deliveries than are given, is refused as [`StoreError::Corrupt`].
    async fn commit_step(
        &self,
        claim: Claim,
        commit: StepCommit,
        now: Timestamp,
    ) -> Result<StepCommitted, StoreError>;

    /// Ends runs that wait and have passed their deadline, the oldest deadline first, [`super::BATCH_MAX`] at most; their number.
    async fn expire_runs(&self, now: Timestamp) -> Result<u32, StoreError>;

    /// When the next waiting step or deadline comes; none if nothing waits.
    async fn next_step_due(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Ends a run that is not finished. The state it had, or none if there is no such run or it was finished.
    async fn cancel_run(
        &self,
        run_id: Uuid,
        reason: &str,
        now: Timestamp,
    ) -> Result<Option<RunState>, StoreError>;
}
