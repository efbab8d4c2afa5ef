//! Snapshots: which exist and which one is active.

use async_trait::async_trait;
use jiff::Timestamp;
use orbit_core::config::Snapshot;
use orbit_core::digest::Digest;

use super::StoreError;

/// See the module.
#[async_trait]
pub trait ConfigStore {
    /// Makes this snapshot the active one and keeps it for ever. True if it was not the active one before; then a
    /// `config_activated` record names it and the one before it. The log is followed for what is to be told while it has rules of `notify`.
    async fn activate(&self, snapshot: &Snapshot, now: Timestamp) -> Result<bool, StoreError>;

    /// The active snapshot.
    async fn active(&self) -> Result<Option<Snapshot>, StoreError>;

    /// A snapshot that was active once.
    async fn snapshot(&self, digest: Digest) -> Result<Option<Snapshot>, StoreError>;
}
