//! The selector: gives each cycle that waits its initiation and its runs.
//!
//! Each cycle is a task of its own, so that a source that hangs or a panic holds up no other cycle.

use std::sync::Arc;

use async_trait::async_trait;
use orbit_core::governance::Door;
use orbit_store::contract::selection::ClaimedCycle;

use super::admission;
use crate::namespace::Namespace;
use crate::service::{Service, Turn, TurnError, panic_message};

/// Cycles that are selected at once.
const SELECTING_MAX: usize = 4;

/// See the module.
pub struct Selector {
    namespace: Arc<Namespace>,
    selecting: Arc<tokio::sync::Semaphore>,
}

impl Selector {
    /// The selector of a namespace.
    pub fn new(namespace: Arc<Namespace>) -> Self {
        Self { namespace, selecting: Arc::new(tokio::sync::Semaphore::new(SELECTING_MAX)) }
    }
}

#[async_trait]
impl Service for Selector {
    fn name(&self) -> &'static str {
        "selection"
    }

    async fn turn(&self) -> Result<Turn, TurnError> {
        let namespace = &self.namespace;
        if namespace.ask(Door::Admit, &[]).is_err() {
            return Ok(Turn::default());
        }
        let Ok(permit) = Arc::clone(&self.selecting).try_acquire_owned() else { return Ok(Turn::default()) };
        let Some(cycle) = namespace.store.claim_cycle(namespace.shared.clock.now()).await? else {
            return Ok(Turn::default());
        };
        let worker = Arc::clone(namespace);
        namespace.tasks.spawn(async move {
            select(&worker, cycle).await;
            drop(permit);
            worker.wake();
        });
        Ok(Turn { done: 1, next: None })
    }

    async fn failed(&self, error: &TurnError) {
        self.namespace.record_failure(self.name(), &error.to_string()).await;
    }
}

async fn select(namespace: &Arc<Namespace>, cycle: ClaimedCycle) {
    let claim = cycle.claim;
    let working = Arc::clone(namespace);
    let task = tokio::spawn(async move { admission::select_and_admit(&working, cycle).await });
    let failure = match task.await {
        Ok(Ok(())) => return,
        Ok(Err(admission::AdmissionError::Cut)) => {
            if let Err(error) = namespace.store.unclaim_cycle(claim).await {
                namespace.record_failure("selection", &error.to_string()).await;
            }
            return;
        }
        Ok(Err(error)) => error.to_string(),
        Err(error) => format!("selection panicked: {}", panic_message(error)),
    };
    let now = namespace.shared.clock.now();
    if let Err(error) = namespace.store.fail_selection(claim, &failure, now).await {
        namespace.record_failure("selection", &error.to_string()).await;
    }
}
