//! A cycle gets its initiation, and then its runs.

use std::collections::BTreeSet;

use async_trait::async_trait;
use jiff::Timestamp;
use orbit_core::digest::Digest;
use orbit_core::run::Step;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::tiers::{ClaimedStep, Free};
use super::{Artifact, Claim, StoreError};

/// A cycle that this caller alone may select for.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimedCycle {
    /// The claim; its id is the cycle's.
    pub claim: Claim,
    /// The run profile.
    pub run_profile_id: Uuid,
    /// `schedule`, `manual:<key>` or `backfill:<id>`.
    pub trigger: String,
    /// The instant it stands for.
    pub nominal: Timestamp,
    /// The snapshot it is pinned to.
    pub snapshot: Digest,
    /// Execution requests to run instead of selecting, as it was fired with; null to select.
    pub preset: Value,
    /// The initiation, if a crash came between taking it and admitting the runs.
    pub initiation: Option<Initiation>,
}

/// What a cycle is about.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Initiation {
    /// [`orbit_core::id::initiation_id`].
    pub id: Uuid,
    /// What it is called.
    pub label: String,
    /// How likely it was.
    pub weight: f64,
    /// Anything else.
    pub metadata: Map<String, Value>,
    /// SHA-256 of its compared parts.
    pub hash: Digest,
}

/// What is to be true of an initiation that is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakeRule {
    /// Where it must be new.
    pub scope: String,
    /// A holder that took it before this instant does not count; none if it counts for ever.
    pub taken_since: Option<Timestamp>,
    /// Outcomes of the cycle that free it again: `failed`, `partial`, `cancelled`.
    pub release_on: Vec<String>,
}

/// What a pass over a source came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The best candidates, best first; each id is the one that the cycle's initiation will have.
    pub candidates: Vec<Initiation>,
    /// Where and for how long they must be new.
    pub rule: TakeRule,
    /// The pass report, for the record.
    pub report: Value,
}

/// The answer to taking an initiation.
#[derive(Clone, Debug, PartialEq)]
pub enum Taken {
    /// The first candidate that was new belongs to the cycle.
    Initiation(Initiation),
    /// The first candidate belongs to the cycle, its runs exist and the cycle is running.
    Admitted {
        /// The steps of these runs that started with it.
        started: Vec<ClaimedStep>,
    },
    /// None was new: the cycle is finished with the outcome `skipped`.
    Exhausted,
    /// None was new of as many as a pass keeps, so that the source may have more: nothing has changed, and another pass tells.
    Outrun,
    /// The claim is no longer the caller's.
    Lost,
}

/// A run to admit.
#[derive(Clone, Debug, PartialEq)]
pub struct NewRun {
    /// [`orbit_core::id::run_id`].
    pub run_id: Uuid,
    /// The profile.
    pub profile_id: Uuid,
    /// Its label, for people.
    pub profile: String,
    /// Between 0 and 1; a higher one is claimed first.
    pub priority: f64,
    /// When it must have an artifact.
    pub deadline_at: Timestamp,
    /// The execution request.
    pub request: Value,
    /// The instruction or request could not be made; the run fails at once with this message.
    pub rejected: Option<String>,
    /// The run that this one does again.
    pub retry_of: Option<Uuid>,
    /// Where it begins, if not at tier 1.
    pub start: Option<Start>,
}

/// The runs of a cycle, and what may start with them.
#[derive(Clone, Debug, PartialEq)]
pub struct Admitting {
    /// The runs.
    pub runs: Vec<NewRun>,
    /// What is free for steps; nothing starts without it.
    pub free: Option<Free>,
}

/// The step at which a run begins, and what the steps before it would have given.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Start {
    /// The step.
    pub step: Step,
    /// Its input; the blob is durable.
    pub input: Artifact,
}

/// See the module.
#[async_trait]
pub trait SelectionStore {
    /// The oldest cycles that wait for selection, so many at most, are the caller's, each by a new token. A queued cycle waits until its run profile has
    /// no active one.
    async fn claim_cycles(&self, most: u32, now: Timestamp) -> Result<Vec<ClaimedCycle>, StoreError>;

    /// The oldest one alone.
    async fn claim_cycle(&self, now: Timestamp) -> Result<Option<ClaimedCycle>, StoreError> {
        Ok(self.claim_cycles(1, now).await?.pop())
    }

    /// Which of these hashes, [`orbit_core::limits::SELECTION_ASKED_MAX`] at most, are held in the scope of the rule. Blocking, for the thread that streams a source.
    fn taken(&self, rule: &TakeRule, hashes: &[Digest]) -> Result<BTreeSet<Digest>, StoreError>;

    /// Whether this one is.
    fn is_taken(&self, rule: &TakeRule, hash: Digest) -> Result<bool, StoreError> {
        Ok(!self.taken(rule, &[hash])?.is_empty())
    }

    /// The first of the candidates that is still new in its scope is the cycle's, and an `initiation_selected` record holds the report. If none is, the
    /// cycle is finished as `skipped` with a `selection_exhausted` record, for the report's `reason` if it has one; but not where the pass kept as many as it
    /// may ([`orbit_core::limits::SELECTION_KEPT_MAX`]). A cycle that has its initiation already is given that one.
    async fn take_initiation(
        &self,
        claim: Claim,
        choice: Choice,
        now: Timestamp,
    ) -> Result<Taken, StoreError>;

    /// As [`Self::take_initiation`], and in the same transaction as [`Self::admit`] if it is the first candidate that the cycle is given now: the runs
    /// are made for that one. Where something is free, those of the runs are started, too, that [`super::tiers::RunStore::claim_steps`] would start now.
    async fn take_and_admit(
        &self,
        claim: Claim,
        choice: Choice,
        admitting: Admitting,
        now: Timestamp,
    ) -> Result<Taken, StoreError>;

    /// The runs exist, each with a `run_admitted` record, and the cycle is running. False if the claim was lost.
    async fn admit(&self, claim: Claim, runs: Vec<NewRun>, now: Timestamp) -> Result<bool, StoreError>;

    /// The cycle is finished as `failed` with a `selection_failed` record. False if the claim was lost.
    async fn fail_selection(&self, claim: Claim, message: &str, now: Timestamp) -> Result<bool, StoreError>;

    /// The cycle waits again, as before its claim.
    async fn unclaim_cycle(&self, claim: Claim) -> Result<(), StoreError>;
}
