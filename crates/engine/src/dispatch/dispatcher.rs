//! The dispatcher: claims due deliveries, endpoint by endpoint, and gives each attempt a task of its own, so that one dead endpoint
//! slows no other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use orbit_core::governance::Door;
use orbit_store::contract::OpenDoors;
use tokio::sync::Semaphore;

use super::attempt;
use crate::namespace::Namespace;
use crate::service::{Service, Turn, TurnError};

/// Endpoints whose permits are remembered; those of endpoints without an attempt under way are forgotten beyond it.
const ENDPOINTS_REMEMBERED_MAX: usize = 1024;

/// See the module.
pub struct Dispatcher {
    namespace: Arc<Namespace>,
    permits: Mutex<HashMap<String, Arc<Semaphore>>>,
}

impl Dispatcher {
    /// The dispatcher of a namespace.
    pub fn new(namespace: Arc<Namespace>) -> Self {
        Self { namespace, permits: Mutex::default() }
    }

    /// The permits of an endpoint. Their number is that of the snapshot under which it was first met since the start.
    fn permits_of(&self, endpoint: &str) -> Arc<Semaphore> {
        let concurrency = self
            .namespace
            .active()
            .and_then(|snapshot| snapshot.endpoints.get(endpoint).map(|found| found.concurrency))
            .and_then(|concurrency| usize::try_from(concurrency).ok())
            .unwrap_or(1);
        let mut permits = self.permits.lock().unwrap_or_else(PoisonError::into_inner);
        if permits.len() >= ENDPOINTS_REMEMBERED_MAX {
            permits.retain(|_, semaphore| Arc::strong_count(semaphore) > 1);
        }
        let new = || Arc::new(Semaphore::new(concurrency.max(1)));
        Arc::clone(permits.entry(endpoint.to_owned()).or_insert_with(new))
    }

    async fn serve(&self, endpoint: &str, doors: OpenDoors) -> Result<usize, TurnError> {
        let namespace = &self.namespace;
        let semaphore = self.permits_of(endpoint);
        let free = u32::try_from(semaphore.available_permits()).unwrap_or(u32::MAX);
        if free == 0 {
            return Ok(0);
        }
        let now = namespace.shared.clock.now();
        let claimed = namespace.store.claim_deliveries(endpoint, free, doors, now).await?;
        let done = claimed.len();
        for delivery in claimed {
            let permit = Arc::clone(&semaphore).try_acquire_owned().ok();
            let worker = Arc::clone(namespace);
            namespace.tasks.spawn(async move {
                attempt::deliver(&worker, delivery).await;
                drop(permit);
                worker.nudges.dispatch.notify_one();
            });
        }
        Ok(done)
    }
}

#[async_trait]
impl Service for Dispatcher {
    fn name(&self) -> &'static str {
        "dispatch"
    }

    async fn turn(&self) -> Result<Turn, TurnError> {
        let namespace = &self.namespace;
        let doors = OpenDoors {
            first: namespace.ask(Door::Dispatch, &[]).is_ok(),
            retry: namespace.ask(Door::Retry, &[]).is_ok(),
        };
        if !doors.first && !doors.retry {
            return Ok(Turn::default());
        }
        let mut done = 0;
        for endpoint in namespace.store.due_endpoints(namespace.shared.clock.now()).await? {
            done += self.serve(&endpoint, doors).await?;
        }
        // An endpoint at its limit is due all the time; its next free permit nudges.
        let next =
            namespace.store.next_delivery_due().await?.filter(|due| *due > namespace.shared.clock.now());
        Ok(Turn { done, next })
    }

    async fn failed(&self, error: &TurnError) {
        self.namespace.record_failure(self.name(), &error.to_string()).await;
    }
}
