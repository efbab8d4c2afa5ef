//! What is older than the namespace keeps it: bodies of evidence and payloads leave, in small steps, and the log says which.
//!
//! Headers, nodes and facts stay, so that everything that could be proved before can be proved afterwards.

use async_trait::async_trait;
use jiff::Timestamp;
use orbit_core::digest::Digest;

use super::StoreError;

/// Bodies or payloads, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Amount {
    /// How many.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Amount {
    /// Counts one more of so many bytes.
    pub const fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Counts all of another one.
    pub const fn extend(&mut self, other: Self) {
        self.count += other.count;
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// A payload that was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DroppedPayload {
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// Its length.
    pub bytes: u64,
    /// Whether its bytes are a file, which the caller removes.
    pub is_file: bool,
}

/// What one step looks at: how old, and how many at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Older {
    /// Only what is older than this.
    pub than: Timestamp,
    /// So many at most.
    pub limit: u32,
}

/// See the module. Nothing is written where there is nothing to drop.
#[async_trait]
pub trait RetentionStore {
    /// Bodies of evidence are gone, oldest first; a `bodies_dropped` record and a tombstone each say so. Never of a run or cycle that is not finished.
    async fn drop_evidence(&self, older: Older, now: Timestamp) -> Result<Amount, StoreError>;

    /// Payloads that nothing needs are dropped, oldest first; an `artifacts_dropped` record names them, and nobody finds them by the work that made them.
    /// Needed is the artifact of an unfinished run, of a delivery that waits or is sent, of a dead one younger than this, and every asset of a snapshot.
    async fn drop_payloads(&self, older: Older, now: Timestamp) -> Result<Vec<DroppedPayload>, StoreError>;

    /// What the next step of each would drop: evidence, payloads. Changes nothing.
    async fn droppable(&self, evidence: Older, payloads: Older) -> Result<(Amount, Amount), StoreError>;

    /// Those of the digests whose files nobody names: no payload that is there, no asset of a snapshot.
    async fn unnamed(&self, digests: Vec<Digest>) -> Result<Vec<Digest>, StoreError>;

    /// Up to so many free pages go back to the disk; how many are left. Nothing where a store keeps its free pages.
    async fn give_back(&self, pages: u32) -> Result<u64, StoreError>;
}
