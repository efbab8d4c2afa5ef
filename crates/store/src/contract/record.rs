//! The log: appended, read in order, never changed.

use async_trait::async_trait;
use jiff::Timestamp;
use orbit_core::record::Record;
use serde_json::Value;
use uuid::Uuid;

use super::StoreError;

/// A record at its position.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct StoredRecord {
    /// Its index, from 0, without gaps.
    pub position: u64,
    /// When it was decided.
    pub at: Timestamp,
    /// Its kind's word.
    pub kind: String,
    /// The cycle it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cycle_id: Option<Uuid>,
    /// The run it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_id: Option<Uuid>,
    /// `fact` or `evidence`.
    pub body_class: String,
    /// The body; null if it was dropped.
    pub body: Value,
    /// When the body was dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropped_at: Option<Timestamp>,
}

/// Which records to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordFilter {
    /// Only after this position; none to begin at the first.
    pub after: Option<u64>,
    /// Only those about this run.
    pub run_id: Option<Uuid>,
    /// Only those about this cycle.
    pub cycle_id: Option<Uuid>,
}

/// See the module.
#[async_trait]
pub trait RecordStore {
    /// The records are durable, in this order.
    async fn append(&self, records: Vec<Record>) -> Result<(), StoreError>;

    /// Up to `limit` records in order of position.
    async fn records(&self, filter: RecordFilter, limit: u32) -> Result<Vec<StoredRecord>, StoreError>;
}
