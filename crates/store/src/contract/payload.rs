//! Payloads as the store knows them: of every one that a step made there is a row, and small ones are in it whole.
//!
//! [`crate::payloads::Payloads`] puts them together with those that are files; nobody else needs to know which is which.

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use orbit_core::digest::Digest;

use super::StoreError;

/// A payload to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPayload {
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// Its length.
    pub bytes: u64,
    /// Its bytes; none if they are a durable file.
    pub content: Option<Bytes>,
}

/// A payload that the store knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPayload {
    /// Its length.
    pub bytes: u64,
    /// Its bytes, if they are in the store; not compared with the digest.
    pub content: Option<Bytes>,
    /// When its bytes were dropped.
    pub dropped_at: Option<Timestamp>,
}

/// See the module. A step's output is kept by the step's own commit, see [`super::tiers::StepCommit::content`].
#[async_trait]
pub trait PayloadStore {
    /// A payload by digest. Blocks for as long as a read takes.
    fn payload(&self, digest: Digest) -> Result<Option<StoredPayload>, StoreError>;

    /// The payload is durable and counts as made now. One that was dropped is there again.
    async fn keep_payload(&self, payload: NewPayload, now: Timestamp) -> Result<(), StoreError>;
}
