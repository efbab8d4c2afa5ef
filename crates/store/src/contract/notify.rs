//! Notices: the log is followed from a durable cursor, what somebody is to be told of is gathered, and what is gathered is owed.

use async_trait::async_trait;
use jiff::Timestamp;
use orbit_core::config::NotifyEvent;
use orbit_core::digest::Digest;
use orbit_core::notify::Notice;
use serde_json::Value;
use uuid::Uuid;

use super::{Claim, StoreError};

/// An event that an endpoint is to be told of.
#[derive(Clone, Debug, PartialEq)]
pub struct NewTold {
    /// The id of the notice that it begins, if none gathers for this endpoint and event.
    pub notice_id: Uuid,
    /// The endpoint.
    pub endpoint: String,
    /// The event's word.
    pub event: &'static str,
    /// How often it happened.
    pub count: u64,
    /// When.
    pub at: Timestamp,
    /// Which record, for people.
    pub example: Value,
}

/// Everything that one page of the log came to.
#[derive(Clone, Debug, PartialEq)]
pub struct NotifyCommit {
    /// The cursor that it was read from.
    pub base: u64,
    /// The new cursor: the position of the first record that was not read.
    pub cursor: u64,
    /// What is to be told.
    pub told: Vec<NewTold>,
    /// When a notice that begins now is due.
    pub due_at: Timestamp,
}

/// A notice that is due.
#[derive(Clone, Debug, PartialEq)]
pub struct DueNotice {
    /// The endpoint.
    pub endpoint: String,
    /// What it says.
    pub notice: Notice,
}

/// A notice as it is owed from now on.
#[derive(Clone, Debug, PartialEq)]
pub struct OwedNotice {
    /// The notice, as it was read.
    pub due: DueNotice,
    /// Its delivery.
    pub delivery_id: Uuid,
    /// Where it goes.
    pub url: String,
    /// The snapshot whose endpoint it is.
    pub snapshot: Digest,
    /// What is sent, in canonical JSON.
    pub body: Value,
}

/// An attempt at a notice that this caller alone may make; its record is durable.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimedNotice {
    /// The claim; its id is the delivery's.
    pub claim: Claim,
    /// The notice.
    pub notice_id: Uuid,
    /// What it tells of.
    pub event: NotifyEvent,
    /// The endpoint.
    pub endpoint: String,
    /// Where it goes.
    pub url: String,
    /// The snapshot whose endpoint it is.
    pub snapshot: Digest,
    /// The attempt, from 1, over all redrives.
    pub attempt: u32,
    /// Attempts since it was made or last redriven, this one included.
    pub attempt_in_round: u32,
    /// What is sent.
    pub body: String,
}

/// See the module.
#[async_trait]
pub trait NotifyStore {
    /// The position of the next record to read; none while the active snapshot has no rule. It is the end of the log when a snapshot with rules
    /// follows one without: what was before is not told.
    async fn notify_cursor(&self) -> Result<Option<u64>, StoreError>;

    /// The cursor is there, and every event is told once: it raises the notice that gathers for its endpoint and event, or begins one. False
    /// if the cursor was no longer `base`; then nothing is true.
    async fn commit_notices(&self, commit: NotifyCommit) -> Result<bool, StoreError>;

    /// Up to `limit` gathered notices that are due and have no earlier one of the same endpoint and event still under way, oldest first.
    async fn due_notices(&self, limit: u32, now: Timestamp) -> Result<Vec<DueNotice>, StoreError>;

    /// The notice is owed: it gathers no more, and its delivery waits or, at a disabled endpoint, is a dead letter at once. False if it was
    /// raised or owed meanwhile.
    async fn owe_notice(&self, owed: OwedNotice, now: Timestamp) -> Result<bool, StoreError>;

    /// A gathered notice that can never be sent is forgotten; what it told of stands in the log.
    async fn forget_notice(&self, notice_id: Uuid) -> Result<(), StoreError>;

    /// When the next gathered notice is due; none if none gathers.
    async fn next_notice_due(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Up to `limit` due notices to an endpoint are the caller's, as [`super::dispatch::DispatchStore::claim_deliveries`] has it for what runs owe;
    /// no door is asked for them. [`super::dispatch::DispatchStore::commit_attempt`] ends the attempt.
    async fn claim_notices(
        &self,
        endpoint: &str,
        limit: u32,
        now: Timestamp,
    ) -> Result<Vec<ClaimedNotice>, StoreError>;

    /// Endpoints that a notice waits for and is due, by name.
    async fn notice_endpoints(&self, now: Timestamp) -> Result<Vec<String>, StoreError>;

    /// Notices that gather or are owed and not settled.
    async fn notices_waiting(&self) -> Result<u64, StoreError>;
}
