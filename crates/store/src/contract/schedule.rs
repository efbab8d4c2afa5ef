//! Cycles come into being: by a tick, by hand, by a backfill. Their identity is unique.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use orbit_core::digest::Digest;
use orbit_core::record::Record;
use serde_json::Value;
use uuid::Uuid;

use super::StoreError;

/// Up to where a run profile's firings are decided.
#[derive(Clone, Debug, PartialEq)]
pub struct ScheduleCursor {
    /// Every nominal instant up to and including this one is decided.
    pub decided_through: Timestamp,
    /// What the schedule remembers between decisions, such as a run of equal ones that is not recorded yet; kept as it is.
    pub open_decisions: Value,
}

/// A cycle that should exist.
#[derive(Clone, Debug, PartialEq)]
pub struct NewCycle {
    /// [`orbit_core::id::cycle_id`].
    pub cycle_id: Uuid,
    /// The run profile.
    pub run_profile_id: Uuid,
    /// Its label, for people.
    pub run_profile: String,
    /// `schedule`, `manual:<key>` or `backfill:<id>`.
    pub trigger: String,
    /// The instant it stands for.
    pub nominal: Timestamp,
    /// The snapshot it is pinned to.
    pub snapshot: Digest,
    /// Wait until no other cycle of the run profile is active.
    pub queued: bool,
    /// Execution requests to run instead of selecting, kept as it is; null to select.
    pub preset: Value,
    /// Why it fires, for the record (an object).
    pub detail: Value,
}

/// Everything one turn decided for one run profile.
#[derive(Clone, Debug)]
pub struct ScheduleCommit {
    /// The run profile.
    pub run_profile_id: Uuid,
    /// The cursor that the decision was made on; none if there was none.
    pub base: Option<Timestamp>,
    /// The new cursor.
    pub cursor: ScheduleCursor,
    /// Cycles that fire.
    pub fire: Vec<NewCycle>,
    /// Decisions that did not fire.
    pub records: Vec<Record>,
}

/// How many cycles of a run profile are under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CycleLoad {
    /// Being selected, or with a run that has no artifact yet.
    pub active: u32,
    /// Waiting behind them.
    pub queued: u32,
}

/// What the next decision about a run profile is made on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standing {
    /// Its cursor; none before the first decision.
    pub cursor: Option<ScheduleCursor>,
    /// What of it is under way.
    pub load: CycleLoad,
}

/// See the module.
#[async_trait]
pub trait ScheduleStore {
    /// Where each of these run profiles stands, in one state of the store.
    async fn standing(&self, run_profile_ids: &[Uuid]) -> Result<BTreeMap<Uuid, Standing>, StoreError>;

    /// In one transaction, and each for itself, in order: all of it is true, or nothing. The answer to each is the ids of the cycles that are new, or
    /// none if the cursor was no longer `base`; one that is refused harms no other.
    async fn commit_schedules(
        &self,
        commits: Vec<ScheduleCommit>,
        now: Timestamp,
    ) -> Result<Vec<Option<Vec<Uuid>>>, StoreError>;

    /// The cycle exists. True if it did not before.
    async fn fire(&self, cycle: NewCycle, now: Timestamp) -> Result<bool, StoreError>;

    /// Ends every cycle of the run profile that is queued, selecting, or has runs without an artifact (`cancelled` with this reason). Of a cycle
    /// with runs that have one only the others end: what is owed is still delivered, and the cycle ends with it. The ids of the
    /// runs that were working are the answer, so that the caller can end their programs.
    async fn cancel_cycles(
        &self,
        run_profile_id: Uuid,
        reason: &str,
        now: Timestamp,
    ) -> Result<Vec<Uuid>, StoreError>;
}
