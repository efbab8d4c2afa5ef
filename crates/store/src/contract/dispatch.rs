//! Deliveries: a durable queue an endpoint, attempts recorded before they are made, one receipt an attempt.

use async_trait::async_trait;
use jiff::Timestamp;
use orbit_core::digest::Digest;
use serde_json::Value;
use uuid::Uuid;

use super::{Artifact, Claim, Evidence, OpenDoors, StoreError};

/// A delivery to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDelivery {
    /// UUIDv5 of (run, endpoint); also the `Idempotency-Key` of every attempt.
    pub delivery_id: Uuid,
    /// The endpoint.
    pub endpoint: String,
    /// Where it goes.
    pub url: String,
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

/// Which dead letters to redrive; all that are given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedriveFilter {
    /// One delivery.
    pub delivery_id: Option<Uuid>,
    /// Those of a run.
    pub run_id: Option<Uuid>,
    /// Those of an endpoint; it is enabled even if it has none.
    pub endpoint: Option<String>,
}

/// See the module.
#[async_trait]
pub trait DispatchStore {
    /// Up to `limit` due deliveries of an endpoint are the caller's, oldest first, each with an `attempt_started` record.
    async fn claim_deliveries(
        &self,
        endpoint: &str,
        limit: u32,
        doors: OpenDoors,
        now: Timestamp,
    ) -> Result<Vec<ClaimedDelivery>, StoreError>;

    /// The attempt ended so: receipt, delivery, run and cycle in one transaction. False if the claim was lost. When the endpoint is disabled, its
    /// other waiting deliveries become dead letters, and so does what is owed to it later. Of a delivery that was cancelled meanwhile only the
    /// receipt is taken, and the answer is false.
    async fn commit_attempt(
        &self,
        claim: Claim,
        commit: AttemptCommit,
        now: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Endpoints that have deliveries due now.
    async fn due_endpoints(&self, now: Timestamp) -> Result<Vec<String>, StoreError>;

    /// When the next delivery is due; none if none waits.
    async fn next_delivery_due(&self) -> Result<Option<Timestamp>, StoreError>;

    /// The dead letters that match wait again, from the first attempt of their schedule; their ids. A `partial` run is
    /// dispatching again, and so its cycle is running; a cancelled one stays cancelled. Every endpoint that is tried again is enabled.
    async fn redrive(&self, filter: RedriveFilter, now: Timestamp) -> Result<Vec<Uuid>, StoreError>;
}
