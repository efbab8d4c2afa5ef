//! Snapshots: which exist and which one is active.

use async_trait::async_trait;
use jiff::Timestamp;
use orbit_core::config::Snapshot;
use orbit_core::digest::Digest;
use serde::Serialize;

use super::StoreError;
use super::view::{Page, PageRequest};

/// What a snapshot may take the place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// Of whatever is active.
    Any,
    /// Of this one and no other; none: only where nothing is active yet.
    Only(Option<Digest>),
}

impl Base {
    /// Whether it may take the place of what is active.
    pub fn allows(self, active: Option<Digest>) -> bool {
        match self {
            Self::Any => true,
            Self::Only(base) => base == active,
        }
    }
}

/// What an activation came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activated {
    /// It is the active snapshot now, in the place of this one.
    New {
        /// What was active before.
        base: Option<Digest>,
    },
    /// It was the active snapshot before, whatever the base.
    Already,
    /// Another one than the base is active, and nothing has changed.
    Conflict {
        /// What is active.
        active: Option<Digest>,
    },
}

/// A snapshot, for screens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SnapshotView {
    /// Which.
    pub digest: Digest,
    /// When it was activated for the first time.
    pub activated_at: Timestamp,
    /// Whether it is the active one.
    pub active: bool,
}

/// See the module.
#[async_trait]
pub trait ConfigStore {
    /// Makes this snapshot the active one and keeps it for ever, if the base allows it: of several that ask at once with the same base, one has its way. A
    /// `config_activated` record names it and the one before it. The log is followed for what is to be told while it has rules of `notify`.
    async fn activate(
        &self,
        snapshot: &Snapshot,
        base: Base,
        now: Timestamp,
    ) -> Result<Activated, StoreError>;

    /// The active snapshot.
    async fn active(&self) -> Result<Option<Snapshot>, StoreError>;

    /// Which one that is: asked again and again, and much smaller.
    async fn active_digest(&self) -> Result<Option<Digest>, StoreError>;

    /// A snapshot that was active once.
    async fn snapshot(&self, digest: Digest) -> Result<Option<Snapshot>, StoreError>;

    /// Every snapshot that was active once, that which came last first.
    async fn snapshots(&self, page: PageRequest) -> Result<Page<SnapshotView>, StoreError>;
}
