//! What every backend promises.

pub mod config;
pub mod dispatch;
pub mod governance;
pub mod log;
pub mod node;
pub mod normalize;
pub mod notify;
pub mod payload;
pub mod quarantine;
pub mod rebuild;
pub mod record;
pub mod retention;
pub mod schedule;
pub mod selection;
pub mod tiers;
pub mod view;

use jiff::Timestamp;

/// Rows that a transaction over a backlog changes at most, so that no other waits long for the writer; the caller asks again.
pub const BATCH_MAX: u32 = 500;

/// Everything a namespace remembers.
pub trait Store:
    node::NodeStore
    + config::ConfigStore
    + schedule::ScheduleStore
    + selection::SelectionStore
    + tiers::RunStore
    + normalize::NormalizeStore
    + dispatch::DispatchStore
    + governance::GovernanceStore
    + quarantine::QuarantineStore
    + notify::NotifyStore
    + payload::PayloadStore
    + record::RecordStore
    + log::LogStore
    + retention::RetentionStore
    + view::StoreView
    + Send
    + Sync
{
}

/// Why a store could not do what was asked. Nothing of the transaction is true then, but for [`StoreError::Unknown`].
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The disk is full; the same call may succeed once there is space.
    #[error("the disk that holds `{place}` is full")]
    Full {
        /// The file.
        place: String,
    },
    /// The file is to change, and there is no room for the copy that is made first. Nothing has changed.
    #[error(
        "there is no room to copy `{place}` before it is changed: {needed} bytes are needed, {free} are free"
    )]
    NoRoom {
        /// The file.
        place: String,
        /// Bytes that must be free.
        needed: u64,
        /// Bytes that are.
        free: u64,
    },
    /// The file cannot be read or written.
    #[error("the store `{place}` failed: {message}")]
    Io {
        /// The file.
        place: String,
        /// What the database said.
        message: String,
    },
    /// A newer version of the program has written this store.
    #[error("the store `{place}` has schema {found}, and this binary knows up to {known}")]
    Newer {
        /// The file.
        place: String,
        /// The schema found.
        found: u32,
        /// The newest schema known.
        known: u32,
    },
    /// The database has an older schema, or none, and only its owner may bring it up to date.
    #[error("the store `{place}` has schema {found}, and {needed} is needed")]
    Older {
        /// The database.
        place: String,
        /// The schema found; 0 if there is none.
        found: u32,
        /// The schema that is served.
        needed: u32,
    },
    /// A row that contradicts the spine or cannot be read back: a defect, or a file that was changed.
    #[error("the store `{place}` holds something that cannot be: {message}")]
    Corrupt {
        /// The file.
        place: String,
        /// What it is.
        message: String,
    },
    /// The database was lost while it committed: nobody can tell whether the transaction is true, and the caller may ask again. A call that was true
    /// is then answered as one that was made before: its claim is lost, its row exists.
    #[error("the store `{place}` was lost while it committed: {message}")]
    Unknown {
        /// The database.
        place: String,
        /// What is known of it.
        message: String,
    },
    /// The database is there, and must not be used as it is.
    #[error("the store `{place}` is refused: {message}")]
    Refused {
        /// The database.
        place: String,
        /// Why.
        message: String,
    },
    /// The log that answers is not the one that was seen: an older state of it, or another history. Nothing of it is read or written, and the same call
    /// succeeds once the right server answers.
    #[error("the store `{place}` is refused: its log {message}")]
    Rewound {
        /// The database.
        place: String,
        /// How it differs.
        message: String,
    },
    /// This process is no node of the store: it has not joined, or was taken over. It may join anew.
    #[error("this process is no node of the store `{place}`: it has not joined, or was taken over")]
    NotJoined {
        /// The database.
        place: String,
    },
    /// The writer has stopped.
    #[error("the store `{place}` is closed")]
    Closed {
        /// The file.
        place: String,
    },
}

/// A claim on a row: whoever commits with a token that is no longer the row's changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The row's id.
    pub id: uuid::Uuid,
    /// The fencing token.
    pub token: i64,
}

/// An artifact as rows refer to it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Artifact {
    /// SHA-256 of the bytes.
    pub digest: orbit_core::digest::Digest,
    /// Length in bytes.
    pub bytes: u64,
    /// The declared media type.
    pub media_type: String,
}

/// Salted evidence that goes with a commit; see [`orbit_core::record::Body::Evidence`].
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// 16 random bytes.
    pub salt: [u8; 16],
    /// What was seen.
    pub value: serde_json::Value,
}

/// What was under way of nodes that are no more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Recovered {
    /// Steps that were under way.
    pub steps_interrupted: u32,
    /// Delivery attempts whose answer is not known.
    pub attempts_unknown: u32,
    /// Cycles that were being selected.
    pub cycles_reclaimed: u32,
}

/// Which doors are open for a claim: a step's or delivery's first attempt, and any further one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenDoors {
    /// First attempts may be claimed.
    pub first: bool,
    /// Further attempts may be claimed.
    pub retry: bool,
}

/// The earliest of two optional instants.
pub fn earlier(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, None) | (None, one) => one,
    }
}
