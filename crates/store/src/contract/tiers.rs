//! Runs: their steps are claimed, done and committed.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use orbit_core::digest::Digest;
use orbit_core::normalize::BatchPlace;
use orbit_core::run::{RunEvent, RunState, Step};
use orbit_core::tiers::{Lane, Room, Waits};
use serde_json::Value;
use uuid::Uuid;

use super::dispatch::{ClaimedDelivery, FreeAttempts, NewDelivery};
use super::quarantine::Quarantine;
use super::{Artifact, Claim, Evidence, OpenDoors, StoreError};

/// A step that this caller alone may do.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimedStep {
    /// The claim; its id is the run's.
    pub claim: Claim,
    /// The cycle.
    pub cycle_id: Uuid,
    /// The snapshot the run is pinned to.
    pub snapshot: Digest,
    /// The execution request.
    pub request: Arc<Value>,
    /// What the step needs permits of.
    pub lane: Lane,
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
    /// Why the step must not be done, if its processor is quarantined.
    pub quarantine: Option<Quarantine>,
}

/// What a claim may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Free {
    /// Permits that are free.
    pub room: Room,
    /// Which attempts may start.
    pub doors: OpenDoors,
    /// What held runs until now, for the record of a run's first step.
    pub waits: Waits,
}

impl Free {
    /// Room for so many steps, whatever they are; what held them is not known.
    pub const fn of(steps: u32, doors: OpenDoors) -> Self {
        Self { room: Room::of(steps), doors, waits: Waits::new(Timestamp::MIN) }
    }
}

/// What waits to start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Startable {
    /// Lanes in which a run may start as far as doors and time go.
    pub lanes: Vec<WaitingLane>,
    /// When the next further attempt comes due.
    pub next_due: Option<Timestamp>,
}

/// A lane in which runs may start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingLane {
    /// The lane.
    pub lane: Lane,
    /// How many, as far as they were counted.
    pub runs: u32,
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
    /// The step's output, if it succeeded.
    pub artifact: Option<Artifact>,
    /// Its bytes, if they are to be kept in the store and become durable with this commit. None if they are kept already, as a file or by an earlier step.
    pub content: Option<Bytes>,
    /// What is owed, if this was the last step.
    pub deliveries: Vec<NewDelivery>,
    /// Attempts that the caller would make now, as [`super::dispatch::DispatchStore::claim_deliveries`] would give them.
    pub send: Option<FreeAttempts>,
    /// The run's request, if its next step is to be claimed for the same caller, who gets it back. A step that waits for a batch is not.
    pub claim_next: Option<Arc<Value>>,
    /// The next step waits for a batch at this place.
    pub batch: Option<BatchPlace>,
    /// The name of the work that the output was made by, so that it can be found again; none if it is not to be, or was.
    pub work: Option<Digest>,
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
        /// The caller's attempts, of whatever runs.
        sending: Vec<ClaimedDelivery>,
    },
}

/// See the module.
#[async_trait]
pub trait RunStore {
    /// The lanes in which a run may start now, each with the number of its runs, counted up to `most`. The cost does not grow with the queue.
    async fn startable(&self, most: u32, doors: OpenDoors, now: Timestamp) -> Result<Startable, StoreError>;

    /// Steps that may start now, for which there is room and whose run has not passed its deadline are the caller's: highest priority first,
    /// then the oldest, each taking its permits of the room, so that what a full limit holds is passed over. Each has a `step_started`
    /// record; that of a run's first attempt tells how long the run waited and what held it. A queue that has no room costs nothing.
    async fn claim_steps(&self, free: Free, now: Timestamp) -> Result<Vec<ClaimedStep>, StoreError>;

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
