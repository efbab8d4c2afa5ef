//! The service that claims batches: a group that is full or has waited long enough, and a permit of the node, which one program needs.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::SignedDuration;
use orbit_core::governance::Door;
use orbit_store::contract::OpenDoors;
use tokio::sync::OwnedSemaphorePermit;

use super::batch;
use crate::namespace::Namespace;
use crate::service::{Service, Turn, TurnError};

/// How soon a namespace looks again for a permit of the node.
const PERMITS_POLL: SignedDuration = SignedDuration::from_millis(250);

/// See the module.
pub struct Batches {
    namespace: Arc<Namespace>,
}

impl Batches {
    /// The batches of a namespace.
    pub fn new(namespace: Arc<Namespace>) -> Self {
        Self { namespace }
    }

    /// A batch is one program, and so it takes one permit and counts as one run at work.
    fn permit(&self) -> Option<OwnedSemaphorePermit> {
        let cap = self.namespace.active().and_then(|snapshot| snapshot.config.caps.runs_concurrent);
        let cap = cap.map_or(usize::MAX, |cap| usize::try_from(cap).unwrap_or(usize::MAX));
        if self.namespace.runs.len() >= cap {
            return None;
        }
        Arc::clone(&self.namespace.shared.runs).try_acquire_owned().ok()
    }
}

#[async_trait]
impl Service for Batches {
    fn name(&self) -> &'static str {
        "normalize"
    }

    async fn turn(&self) -> Result<Turn, TurnError> {
        let namespace = &self.namespace;
        let idle = Turn { done: 0, next: None };
        let Some(due) = namespace.store.next_batch_due().await? else { return Ok(idle) };
        if namespace.ask(Door::Step, &[]).is_err() {
            return Ok(idle);
        }
        let now = namespace.shared.clock.now();
        let Some(permit) = self.permit() else {
            return Ok(Turn { done: 0, next: Some(now + PERMITS_POLL) });
        };
        let doors = OpenDoors { first: true, retry: true };
        let Some(claimed) = namespace.store.claim_batch(doors, now).await? else {
            // What is due and was not claimed has passed its deadline and is the keeper's.
            return Ok(Turn { done: 0, next: Some(due).filter(|due| *due > now) });
        };
        let worker = Arc::clone(namespace);
        namespace.runs.spawn(async move {
            batch::run(&worker, claimed).await;
            drop(permit);
            // What is to be done again is done alone, and another batch may have waited for the permit.
            worker.nudges.tiers.notify_one();
            worker.nudges.normalize.notify_one();
        });
        Ok(Turn { done: 1, next: None })
    }

    async fn failed(&self, error: &TurnError) {
        self.namespace.record_failure(self.name(), &error.to_string()).await;
    }
}
