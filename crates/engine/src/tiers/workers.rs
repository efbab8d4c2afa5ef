//! The run workers: claim steps that may start, and give each run a task of its own.
//!
//! A permit of the node and one of the namespace are held for as long as a run works. What a step does is in `step`; this file knows
//! only how many may run and when the next may start.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::SignedDuration;
use orbit_core::governance::Door;
use orbit_store::contract::OpenDoors;
use tokio::sync::OwnedSemaphorePermit;

use super::{step, work};
use crate::namespace::Namespace;
use crate::service::{Service, Turn, TurnError};

/// Steps that one turn claims at most.
const CLAIM_MAX: usize = 16;
/// How soon a namespace looks again for a permit of the node.
const PERMITS_POLL: SignedDuration = SignedDuration::from_millis(250);

/// See the module.
pub struct Workers {
    namespace: Arc<Namespace>,
}

impl Workers {
    /// The workers of a namespace. Work folders that an earlier process left are removed.
    pub fn new(namespace: Arc<Namespace>) -> Self {
        work::remove_leftovers(&namespace.shared.layout.work(&namespace.name));
        Self { namespace }
    }

    /// As many permits as are free, up to what one turn claims.
    fn permits(&self) -> Vec<OwnedSemaphorePermit> {
        let cap = self.namespace.active().and_then(|snapshot| snapshot.config.caps.runs_concurrent);
        let cap = cap.map_or(usize::MAX, |cap| usize::try_from(cap).unwrap_or(usize::MAX));
        let free = cap.saturating_sub(self.namespace.runs.len()).min(CLAIM_MAX);
        std::iter::from_fn(|| Arc::clone(&self.namespace.shared.runs).try_acquire_owned().ok())
            .take(free)
            .collect()
    }
}

#[async_trait]
impl Service for Workers {
    fn name(&self) -> &'static str {
        "tiers"
    }

    async fn turn(&self) -> Result<Turn, TurnError> {
        let namespace = &self.namespace;
        let doors = OpenDoors {
            first: namespace.ask(Door::Step, &[]).is_ok(),
            retry: namespace.ask(Door::Retry, &[]).is_ok(),
        };
        // What is due already is claimed now, or has to wait for more than time.
        let now = namespace.shared.clock.now();
        let next = namespace.store.next_step_due().await?.filter(|due| *due > now);
        if !doors.first && !doors.retry {
            return Ok(Turn { done: 0, next: None });
        }
        let permits = self.permits();
        if permits.is_empty() {
            // A run of this namespace that ends nudges; one of another frees a permit of the node unseen.
            return Ok(Turn { done: 0, next: Some(namespace.shared.clock.now() + PERMITS_POLL) });
        }
        let limit = u32::try_from(permits.len()).unwrap_or(1);
        let claimed = namespace.store.claim_steps(limit, doors, namespace.shared.clock.now()).await?;
        let done = claimed.len();
        for (step, permit) in claimed.into_iter().zip(permits) {
            let worker = Arc::clone(namespace);
            namespace.runs.spawn(async move {
                step::run(&worker, step).await;
                drop(permit);
                worker.nudges.tiers.notify_one();
            });
        }
        Ok(Turn { done, next })
    }

    async fn failed(&self, error: &TurnError) {
        self.namespace.record_failure(self.name(), &error.to_string()).await;
    }
}
