//! Looks after the other nodes: takes over those whose lease has ended.

use std::sync::Arc;

use async_trait::async_trait;

use crate::namespace::Namespace;
use crate::service::{POLL_MAX, Service, Turn, TurnError};

/// See the module.
pub struct Watch {
    namespace: Arc<Namespace>,
}

impl Watch {
    /// The watch of a namespace.
    pub fn new(namespace: Arc<Namespace>) -> Self {
        Self { namespace }
    }
}

#[async_trait]
impl Service for Watch {
    fn name(&self) -> &'static str {
        "watch"
    }

    async fn turn(&self) -> Result<Turn, TurnError> {
        let namespace = &self.namespace;
        let now = namespace.shared.clock.now();
        let watched = namespace.store.take_over(now).await?;
        for taken in &watched.taken {
            tracing::warn!(namespace = %namespace.name, node = %taken.node, epoch = taken.epoch, recovered = ?taken.recovered,
                "a node was not heard of any more and is taken over");
        }
        if !watched.taken.is_empty() {
            namespace.wake();
        }
        let next = watched.next.map(|next| namespace.shared.clock.now() + next.min(POLL_MAX));
        Ok(Turn::did(watched.taken.len(), next))
    }

    async fn failed(&self, error: &TurnError) {
        self.namespace.record_failure(self.name(), &error.to_string()).await;
    }
}
