//! Deliveries: a durable queue an endpoint, attempts recorded before they are made, one receipt an attempt.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use orbit_core::digest::Digest;
use orbit_core::dispatch::breaker::{Rule, Signal};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{Artifact, Claim, Evidence, OpenDoors, StoreError};

/// A delivery to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDelivery {
    /// [`orbit_core::id::delivery_id`]; also the `Idempotency-Key` of every attempt.
    pub delivery_id: Uuid,
    /// The endpoint.
    pub endpoint: String,
    /// Where it goes.
    pub url: String,
}

/// What a claim of deliveries may take where something else is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreeAttempts {
    /// So many attempts at each of these endpoints; none of them takes its deliveries in order.
    pub endpoints: BTreeMap<String, u32>,
    /// Which attempts may be made.
    pub doors: OpenDoors,
}

/// An attempt that this caller alone may make; its record is durable.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimedDelivery {
    /// The claim; its id is the delivery's.
    pub claim: Claim,
    /// The run.
    pub run_id: Uuid,
    /// The cycle.
    pub cycle_id: Uuid,
    /// The profile.
    pub profile_id: Uuid,
    /// The snapshot the run is pinned to.
    pub snapshot: Digest,
    /// The execution request.
    pub request: Value,
    /// The endpoint.
    pub endpoint: String,
    /// Where it goes.
    pub url: String,
    /// The attempt, from 1, over all redrives.
    pub attempt: u32,
    /// Attempts since the delivery was made or last redriven, this one included: what the retry schedule counts.
    pub attempt_in_round: u32,
    /// What is owed.
    pub artifact: Artifact,
}

/// How an attempt ended.
#[derive(Clone, Debug)]
pub struct AttemptCommit {
    /// The receipt (an object): outcome, status, headers, timings.
    pub receipt: Value,
    /// The first bytes of the answer's body.
    pub evidence: Option<Evidence>,
    /// What follows for the delivery.
    pub settle: Settle,
    /// Why the endpoint takes nothing more, if so.
    pub disable_endpoint: Option<String>,
    /// What the attempt says about the endpoint.
    pub signal: Signal,
    /// How that is judged.
    pub rule: Rule,
}

/// What follows for a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settle {
    /// The endpoint accepted it.
    Accepted,
    /// Another attempt.
    Retry {
        /// Not before this.
        until: Timestamp,
    },
    /// It is a dead letter.
    Dead {
        /// Why.
        reason: String,
    },
}

/// An endpoint that something waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingEndpoint {
    /// The endpoint.
    pub endpoint: String,
    /// When the first of its deliveries is due, and its breaker lets one through.
    pub due_at: Timestamp,
    /// The same of its oldest delivery, which holds the others back where they go in order.
    pub head_due_at: Timestamp,
}

/// Which dead letters to redrive; all that are given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedriveFilter {
    /// One delivery.
    pub delivery_id: Option<Uuid>,
    /// Those of a run.
    pub run_id: Option<Uuid>,
    /// Those of an endpoint; it is enabled even if it has none.
    pub endpoint: Option<String>,
    /// Those that were given up then or later.
    pub since: Option<Timestamp>,
    /// Those that were given up before.
    pub until: Option<Timestamp>,
}

/// Where a redrive goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedriveFrom {
    /// When it began: what was given up later is not part of it.
    pub started_at: Timestamp,
    /// The last delivery that was looked at, by its place in the order of making.
    pub after: i64,
}

/// What a batch of a redrive came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redriven {
    /// What waits again.
    pub ids: Vec<Uuid>,
    /// Where the next batch begins; none if this was the last.
    pub next: Option<RedriveFrom>,
}

/// See the module.
#[async_trait]
pub trait DispatchStore {
    /// Up to `limit` due deliveries of an endpoint are the caller's, oldest first, each with an `attempt_started` record. None of an endpoint
    /// that is disabled or whose breaker is open; one alone, the probe, when its pause is over.
    async fn claim_deliveries(
        &self,
        endpoint: &str,
        limit: u32,
        doors: OpenDoors,
        now: Timestamp,
    ) -> Result<Vec<ClaimedDelivery>, StoreError>;

    /// The same of an endpoint whose deliveries go in order: its oldest delivery, if that is due and none is being sent.
    async fn claim_next_in_order(
        &self,
        endpoint: &str,
        doors: OpenDoors,
        now: Timestamp,
    ) -> Result<Option<ClaimedDelivery>, StoreError>;

    /// The attempt ended so: receipt, delivery, endpoint, run and cycle in one transaction. False if the claim was lost. When the endpoint is
    /// disabled, what is owed to it later is a dead letter at once; what waits is given up by [`DispatchStore::give_up_disabled`]. Of a delivery
    /// that was cancelled meanwhile only the receipt is taken, and the answer is false.
    async fn commit_attempt(
        &self,
        claim: Claim,
        commit: AttemptCommit,
        now: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Every endpoint that something waits for, by name, but for those that are disabled or probed. Costs as much with a million deliveries
    /// each as with one.
    async fn waiting_endpoints(&self) -> Result<Vec<WaitingEndpoint>, StoreError>;

    /// Deliveries that wait for a disabled endpoint become dead letters, [`super::BATCH_MAX`] at most; their number.
    async fn give_up_disabled(&self, now: Timestamp) -> Result<u32, StoreError>;

    /// Of the next [`super::BATCH_MAX`] dead letters, those that match and were given up before the redrive began wait again, from the first
    /// attempt of their schedule. A `partial` run is dispatching again, and so its cycle is running; a cancelled one stays cancelled. Every
    /// endpoint that is tried again is enabled, unless it was disabled since the redrive began; in the first batch (no `from`) their breakers
    /// are closed too.
    async fn redrive(
        &self,
        filter: RedriveFilter,
        from: Option<RedriveFrom>,
        now: Timestamp,
    ) -> Result<Redriven, StoreError>;

    /// How many dead letters a redrive that begins now would take.
    async fn count_redrivable(&self, filter: RedriveFilter) -> Result<u64, StoreError>;
}
