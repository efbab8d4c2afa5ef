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

/// An activation of a snapshot, for screens. A snapshot that came back has several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ActivationView {
    /// The position of its record.
    pub position: u64,
    /// The snapshot.
    pub digest: Digest,
    /// When it became active by this.
    pub activated_at: Timestamp,
    /// Whether this is the last activation, whose snapshot is active.
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

    /// Every activation, the last one first. The log is read for it, from its end on.
    async fn activations(&self, page: PageRequest) -> Result<Page<ActivationView>, StoreError>;
}
