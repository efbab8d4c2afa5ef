//! Halts: set by an operator, durable until lifted.

use async_trait::async_trait;
use jiff::Timestamp;

use super::StoreError;

/// A halt in force.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Halt {
    /// Since when.
    pub at: Timestamp,
    /// What the operator gave as reason.
    pub reason: String,
}

/// See the module. The store of the `system` namespace holds the halt of the whole node.
#[async_trait]
pub trait GovernanceStore {
    /// The namespace is halted. True if it was not before; then a `halted` record says so.
    async fn halt(&self, reason: &str, now: Timestamp) -> Result<bool, StoreError>;

    /// The namespace is not halted. True if it was; then a `resumed` record says so.
    async fn resume(&self, now: Timestamp) -> Result<bool, StoreError>;

    /// The halt in force.
    async fn halted(&self) -> Result<Option<Halt>, StoreError>;

    /// When the last halt was lifted.
    async fn resumed_at(&self) -> Result<Option<Timestamp>, StoreError>;
}
