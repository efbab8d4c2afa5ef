//! Follows what other nodes have decided: which snapshot is active, and what is halted.
//!
//! Only where others may have the same store. What is under way goes on under the snapshot that it is pinned to, and is ended by a halt.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use orbit_store::contract::governance::Halt;
use orbit_store::{Store, StoreError};
use tokio::sync::Mutex;

use crate::gate::Cell;
use crate::namespace::Namespace;
use crate::running::Cut;
use crate::service::{Service, Turn, TurnError};

/// How often it is looked: three small reads each time. A halt should be noticed well within a second.
pub const FOLLOW_EVERY: Duration = Duration::from_millis(500);

/// See the module.
pub struct Follower {
    namespace: Arc<Namespace>,
    /// Where a halt of the whole node is.
    system: Arc<dyn Store>,
    /// Held by who takes that over, or decides it.
    deciding: Arc<Mutex<()>>,
    /// The halt of the whole node for which what is under way here has been ended: each namespace's follower ends its own.
    ended_for: Cell<Option<Halt>>,
}

impl Follower {
    /// The follower of a namespace, and of what the node's own store says for all of them.
    pub fn new(namespace: Arc<Namespace>, (system, deciding): (Arc<dyn Store>, Arc<Mutex<()>>)) -> Self {
        let ended_for = Cell::new(namespace.shared.halted.get());
        Self { namespace, system, deciding, ended_for }
    }

    async fn follow_halt_of_node(&self) -> Result<(), StoreError> {
        let (namespace, shared) = (&self.namespace, &self.namespace.shared);
        let _alone = self.deciding.lock().await;
        let halt = self.system.halted().await?;
        if halt != shared.halted.get() {
            if halt.is_none() {
                shared.reopened_at.set(Some(shared.clock.now()));
            }
            shared.halted.set(halt.clone());
        }
        if halt != self.ended_for.get() {
            if halt.is_some() {
                namespace.running.cut_all(Cut::Halt);
            }
            namespace.wake();
            self.ended_for.set(halt);
        }
        Ok(())
    }
}

#[async_trait]
impl Service for Follower {
    fn name(&self) -> &'static str {
        "follow"
    }

    async fn turn(&self) -> Result<Turn, TurnError> {
        let namespace = &self.namespace;
        // What stops comes first.
        self.follow_halt_of_node().await?;
        if namespace.follow_halt().await? {
            tracing::warn!(namespace = %namespace.name, "halted by another node");
        }
        if namespace.follow().await? {
            let snapshot = namespace.active().map(|active| active.digest().to_string()).unwrap_or_default();
            tracing::info!(namespace = %namespace.name, snapshot, "another snapshot was activated elsewhere, and is taken");
        }
        Ok(Turn::idle(Some(namespace.shared.clock.now() + FOLLOW_EVERY)))
    }

    async fn failed(&self, error: &TurnError) {
        // No record: what is not seen now is seen later, and whoever writes tells of the same trouble.
        tracing::warn!(namespace = %self.namespace.name, %error, "what other nodes have decided could not be read");
    }
}
