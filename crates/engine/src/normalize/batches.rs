//! The service that claims batches: a group that is full or has waited long enough, once all that its one program needs is free.

use std::sync::Arc;

use async_trait::async_trait;
use orbit_core::governance::Door;
use orbit_store::contract::OpenDoors;
use orbit_store::contract::normalize::ClaimedBatch;
use orbit_store::contract::tiers::ClaimedStep;

use super::batch;
use crate::namespace::Namespace;
use crate::service::{Service, Turn, TurnError};

/// See the module.
pub struct Batches {
    namespace: Arc<Namespace>,
}

impl Batches {
    /// The batches of a namespace.
    pub fn new(namespace: Arc<Namespace>) -> Self {
        Self { namespace }
    }
}

#[async_trait]
impl Service for Batches {
    fn name(&self) -> &'static str {
        "normalize"
    }

    async fn turn(&self) -> Result<Turn, TurnError> {
        let namespace = &self.namespace;
        let idle = Turn::idle(None);
        let Some(due) = namespace.store.next_batch_due().await? else { return Ok(idle) };
        if namespace.ask(Door::Step, &[]).is_err() {
            return Ok(idle);
        }
        let now = namespace.shared.clock.now();
        // What holds the rest nudges when it comes free, and what is due and was not claimed has passed its deadline and is the keeper's.
        let idle = Turn::idle(Some(due).filter(|due| *due > now));
        let ready = namespace.store.batches_ready(now).await?;
        if ready.is_empty() {
            namespace.permits.withdraw_program();
            return Ok(idle);
        }
        // Nobody else takes permits between the look at them and the claim.
        let admission = namespace.permits.admit().await;
        let free = ready.iter().find_map(|name| admission.program(name).map(|permits| (name, permits)));
        let Some((processor, permits)) = free else { return Ok(idle) };
        let doors = OpenDoors { first: true, retry: true };
        let mut batch_id = None;
        let call = async {
            let claimed = namespace.store.claim_batch(processor, doors, now).await?;
            batch_id = claimed.as_ref().map(|batch| batch.batch_id);
            Ok(claimed.map(|batch| batch.items).unwrap_or_default())
        };
        let claimed = namespace.claims.claim(call, |step: &ClaimedStep| step.claim.id).await?;
        drop(admission);
        let Some(batch_id) = batch_id else { return Ok(idle) };
        let (items, holds): (Vec<_>, Vec<_>) = claimed.into_iter().unzip();
        let claimed = ClaimedBatch { batch_id, items };
        let worker = Arc::clone(namespace);
        namespace.runs.spawn(async move {
            batch::run(&worker, claimed).await;
            drop((holds, permits));
            // What is to be done again is done alone, and another batch may have waited for the permits.
            worker.nudges.tiers.notify_one();
            worker.nudges.normalize.notify_one();
        });
        Ok(Turn::did(1, None))
    }

    async fn failed(&self, error: &TurnError) {
        self.namespace.record_failure(self.name(), &error.to_string()).await;
    }
}
