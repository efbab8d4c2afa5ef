//! The selector: gives each cycle that waits its initiation and its runs.
//!
//! Each cycle is a task of its own, so that a source that hangs or a panic holds up no other cycle.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use orbit_core::governance::Door;
use orbit_store::StoreError;
use orbit_store::contract::Claim;
use orbit_store::contract::selection::ClaimedCycle;

use super::admission::{self, AdmissionError};
use crate::namespace::Namespace;
use crate::persist::{passes, persist};
use crate::service::{Service, Turn, TurnError, panic_message};

/// Cycles that are selected at once.
const SELECTING_MAX: usize = 64;
/// How long a cycle whose selection met a failing store stays claimed, so that its source is not read again and again meanwhile.
const STORE_PAUSE: Duration = Duration::from_secs(1);

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
        // Nobody else takes permits, and the first that comes back after the last one wakes this one.
        let free = u32::try_from(self.selecting.available_permits()).unwrap_or(u32::MAX);
        if free == 0 {
            return Ok(Turn::default());
        }
        let call = namespace.store.claim_cycles(free, namespace.shared.clock.now());
        let claimed = namespace.claims.claim(call, |cycle| cycle.claim.id).await?;
        let done = claimed.len();
        for (cycle, hold) in claimed {
            let permit = Arc::clone(&self.selecting).try_acquire_owned().ok();
            let (worker, selecting) = (Arc::clone(namespace), Arc::clone(&self.selecting));
            namespace.tasks.spawn(async move {
                let has_runs = select(&worker, cycle).await;
                let was_full = selecting.available_permits() == 0;
                drop((hold, permit));
                wake(&worker, has_runs, was_full);
            });
        }
        Ok(Turn::did(done, None))
    }

    async fn failed(&self, error: &TurnError) {
        self.namespace.record_failure(self.name(), &error.to_string()).await;
    }
}

/// A cycle that has no runs now is over and another one waits for that, or it waits again.
fn wake(namespace: &Namespace, has_runs: bool, was_full: bool) {
    let nudges = &namespace.nudges;
    if !has_runs {
        nudges.schedule.notify_one();
    }
    if was_full || !has_runs {
        nudges.selection.notify_one();
    }
    if namespace.claims.is_in_doubt() {
        nudges.keeper.notify_one();
    }
}

/// Whether the cycle has runs now.
async fn select(namespace: &Arc<Namespace>, cycle: ClaimedCycle) -> bool {
    let claim = cycle.claim;
    let working = Arc::clone(namespace);
    let task = tokio::spawn(async move { admission::select_and_admit(&working, cycle).await });
    let failure = match task.await {
        Ok(Ok(has_runs)) => return has_runs,
        Ok(Err(AdmissionError::Cut)) => {
            again(namespace, claim).await;
            return false;
        }
        Ok(Err(AdmissionError::Store(error))) if passes(&error) => {
            tracing::warn!(namespace = %namespace.name, cycle = %claim.id, %error, "a cycle waits for the store");
            tokio::select! {
                () = tokio::time::sleep(STORE_PAUSE) => {}
                () = namespace.shared.stopping.cancelled() => {}
            }
            again(namespace, claim).await;
            return false;
        }
        Ok(Err(error)) => error.to_string(),
        Err(error) => format!("selection panicked: {}", panic_message(error)),
    };
    let call = || namespace.store.fail_selection(claim, &failure, namespace.shared.clock.now());
    told(namespace, claim, "the failure", call).await;
    false
}

/// The cycle waits as before its claim; a later turn selects for it.
async fn again(namespace: &Namespace, claim: Claim) {
    told(namespace, claim, "the return", || namespace.store.unclaim_cycle(claim)).await;
}

/// Tells the store until it answers. A cycle that stays claimed because the node stops is free at the next start.
async fn told<T, F>(namespace: &Namespace, claim: Claim, what: &str, call: impl FnMut() -> F)
where
    F: Future<Output = Result<T, StoreError>>,
{
    let what = format!("{what} of cycle {}", claim.id);
    let gives_up = || namespace.shared.stopping.is_cancelled();
    if let Err(error) = persist(&namespace.name, &what, gives_up, call).await {
        namespace.record_failure("selection", &format!("{what} could not be recorded: {error}")).await;
    }
}
