//! What makes the log verifiable: who signs it, its checkpoints, proofs over it, and all of it page by page.
//!
//! A checkpoint covers what was durable before it was made, and is never a record itself: a log that nobody writes to stays as it is.

use async_trait::async_trait;
use jiff::Timestamp;
use orbit_core::digest::Digest;
use orbit_core::record::{Begin, Signer};
use uuid::Uuid;

use super::StoreError;

/// Entries that a page holds at most.
pub const PAGE_ENTRIES_MAX: u32 = 1000;
/// Bytes after which a page takes no further entry. One entry is always taken, however large it is.
pub const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Under which name and key checkpoints are signed, from a size on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSigner {
    /// From 0, without gaps.
    pub number: u64,
    /// The first line of its checkpoints.
    pub origin: String,
    /// The public key, C2SP `vkey`.
    pub vkey: String,
    /// Checkpoints of larger trees are this one's; the record at this position tells of it.
    pub size: u64,
}

/// A numbered checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct StoredCheckpoint {
    /// From 0, without gaps.
    pub number: u64,
    /// Leaves in the tree.
    pub size: u64,
    /// The root of the tree.
    pub root: Digest,
    /// The signed note, in which the rest is.
    pub note: String,
}

/// A record as it is hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its index, from 0, without gaps.
    pub position: u64,
    /// The header in canonical JSON: the leaf.
    pub header: String,
    /// The body in canonical JSON; none if it was dropped.
    pub body: Option<String>,
    /// Of evidence that is still there.
    pub salt: Option<[u8; 16]>,
}

/// Entries in order of position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// At least one, unless the range has none.
    pub entries: Vec<Entry>,
    /// Of the whole log at that moment.
    pub size: u64,
}

/// That a record is in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inclusion {
    /// The record.
    pub entry: Entry,
    /// The newest checkpoint, which covers it.
    pub checkpoint: StoredCheckpoint,
    /// The audit path from the record to the checkpoint's root, lowest hash first.
    pub path: Vec<Digest>,
}

/// How far the log is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogState {
    /// Records in it.
    pub size: u64,
    /// The newest checkpoint.
    pub newest: Option<StoredCheckpoint>,
    /// When the last record that the newest checkpoint covers was decided.
    pub covered_until: Option<Timestamp>,
}

/// See the module.
#[async_trait]
pub trait LogStore {
    /// All that ever signed, oldest first; the last one is in force.
    async fn signers(&self) -> Result<Vec<LogSigner>, StoreError>;

    /// When a backup became this store; none once its log goes on under a new name.
    async fn restored_at(&self) -> Result<Option<Timestamp>, StoreError>;

    /// The signer is in force, and a record says so. Refused as contradiction if it is not the next one.
    async fn begin_signing(&self, begin: Begin, now: Timestamp) -> Result<LogSigner, StoreError>;

    /// A checkpoint of everything that was durable before; none if there is one of that size, or if the signer's own record is not
    /// among it yet. Refused as contradiction if another signer is in force.
    async fn checkpoint(&self, signer: &Signer) -> Result<Option<StoredCheckpoint>, StoreError>;

    /// The log had this root at this size, as somebody has it who is believed. A server whose log has not grown from there is refused from now on
    /// ([`StoreError::Rewound`]). What this process itself has seen needs not be told. Files, which nobody exchanges while a process has them, are not looked at.
    fn witness(&self, size: u64, root: Digest);

    /// See [`LogState`].
    async fn log_state(&self) -> Result<LogState, StoreError>;

    /// The checkpoint of this number.
    async fn checkpoint_numbered(&self, number: u64) -> Result<Option<StoredCheckpoint>, StoreError>;

    /// Up to `limit` checkpoints from this number on, in order.
    async fn checkpoints(&self, from: u64, limit: u32) -> Result<Vec<StoredCheckpoint>, StoreError>;

    /// That the record at this position is in the log; none if no checkpoint covers it. O(log n) reads.
    async fn inclusion(&self, position: u64) -> Result<Option<Inclusion>, StoreError>;

    /// That the log of `old` records is the beginning of the one of `new`; none if it never had so many. O(log n) reads.
    async fn consistency(&self, old: u64, new: u64) -> Result<Option<Vec<Digest>>, StoreError>;

    /// The entries from one position up to another, as many as a page holds.
    async fn page(&self, from: u64, to: u64) -> Result<Page, StoreError>;

    /// The position of the last record about this run.
    async fn last_of_run(&self, run_id: Uuid) -> Result<Option<u64>, StoreError>;
}
