//! The dispatcher: claims due deliveries, endpoint by endpoint, and gives each attempt a task of its own, so that one dead endpoint
//! slows no other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use orbit_core::dispatch::rate::Bucket;
use orbit_core::governance::Door;
use orbit_store::contract::dispatch::ClaimedDelivery;
use orbit_store::contract::{OpenDoors, earlier};
use tokio::sync::Semaphore;

use super::{attempt, notice};
use crate::namespace::Namespace;
use crate::service::{Service, Turn, TurnError};

/// Endpoints whose permits are remembered; those of endpoints without an attempt under way are forgotten beyond it.
const ENDPOINTS_REMEMBERED_MAX: usize = 1024;

/// See the module.
pub struct Dispatcher {
    namespace: Arc<Namespace>,
    lanes: Mutex<HashMap<String, Lane>>,
}

/// What bounds the attempts at an endpoint. The number of permits is that of the snapshot under which it was first met since the start.
struct Lane {
    permits: Arc<Semaphore>,
    bucket: Option<Bucket>,
}

/// What a look at an endpoint came to.
struct Served {
    attempts: usize,
    /// When its rate allows more, if that is what holds it.
    next: Option<Timestamp>,
}

impl Dispatcher {
    /// The dispatcher of a namespace.
    pub fn new(namespace: Arc<Namespace>) -> Self {
        Self { namespace, lanes: Mutex::default() }
    }

    /// Does something with the lane of an endpoint.
    fn with_lane<T>(&self, endpoint: &str, concurrency: u32, act: impl FnOnce(&mut Lane) -> T) -> T {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if lanes.len() >= ENDPOINTS_REMEMBERED_MAX {
            lanes.retain(|name, lane| name == endpoint || Arc::strong_count(&lane.permits) > 1);
        }
        let permits = usize::try_from(concurrency).unwrap_or(1).max(1);
        let new = || Lane { permits: Arc::new(Semaphore::new(permits)), bucket: None };
        act(lanes.entry(endpoint.to_owned()).or_insert_with(new))
    }

    async fn serve(&self, endpoint: &str, doors: OpenDoors) -> Result<Served, TurnError> {
        let namespace = &self.namespace;
        let snapshot = namespace.active();
        let document = snapshot.as_ref().and_then(|snapshot| snapshot.endpoints.get(endpoint));
        let (concurrency, rate) =
            document.map_or((1, None), |found| (found.concurrency, found.rate.as_ref()));
        let ordered = document.is_some_and(|found| found.ordered);
        let now = namespace.shared.clock.now();
        let (semaphore, granted) = self.with_lane(endpoint, concurrency, |lane| {
            let free = u32::try_from(lane.permits.available_permits()).unwrap_or(u32::MAX);
            let free = if ordered { free.min(1) } else { free };
            let granted = rate.map_or(free, |rate| {
                lane.bucket.get_or_insert_with(|| Bucket::full(rate, now)).take(rate, free, now)
            });
            (Arc::clone(&lane.permits), granted)
        });
        // Notices are few, and no door keeps them back.
        let notices = match granted {
            0 => Vec::new(),
            granted => {
                let call = namespace.store.claim_notices(endpoint, granted, now);
                namespace.claims.claim(call, |notice| notice.claim.id).await?
            }
        };
        let sent = u32::try_from(notices.len()).unwrap_or(u32::MAX);
        // Before anything else can fail: nobody but their attempts knows that they are claimed.
        for (notice, hold) in notices {
            self.spawn(&semaphore, |worker| async move {
                notice::deliver(&worker, notice).await;
                drop(hold);
            });
        }
        let claimed = match granted.saturating_sub(sent) {
            0 => Vec::new(),
            _ if !doors.first && !doors.retry => Vec::new(),
            _ if ordered => {
                let call = namespace.store.claim_next_in_order(endpoint, doors, now);
                let call = async { Ok(call.await?.into_iter().collect()) };
                namespace.claims.claim(call, |delivery: &ClaimedDelivery| delivery.claim.id).await?
            }
            granted => {
                let call = namespace.store.claim_deliveries(endpoint, granted, doors, now);
                namespace.claims.claim(call, |delivery| delivery.claim.id).await?
            }
        };
        let further = u32::try_from(claimed.len()).unwrap_or(u32::MAX);
        let unused = granted.saturating_sub(sent.saturating_add(further));
        let attempts = usize::try_from(sent).unwrap_or(usize::MAX).saturating_add(claimed.len());
        let next = self.with_lane(endpoint, concurrency, |lane| {
            let (bucket, rate) = lane.bucket.as_mut().zip(rate)?;
            bucket.give_back(unused);
            // Where permits are what holds it, a freed one nudges.
            (lane.permits.available_permits() > claimed.len()).then(|| bucket.next(rate))
        });
        for (delivery, hold) in claimed {
            self.spawn(&semaphore, |worker| async move {
                attempt::deliver(&worker, delivery).await;
                drop(hold);
            });
        }
        Ok(Served { attempts, next: next.filter(|next| *next > now) })
    }
}

impl Dispatcher {
    /// An attempt as a task of its own that holds a permit of its endpoint.
    fn spawn<F>(&self, semaphore: &Arc<Semaphore>, attempt: impl FnOnce(Arc<Namespace>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let permit = Arc::clone(semaphore).try_acquire_owned().ok();
        let worker = Arc::clone(&self.namespace);
        let attempt = attempt(Arc::clone(&worker));
        self.namespace.tasks.spawn(async move {
            attempt.await;
            drop(permit);
            worker.nudges.dispatch.notify_one();
        });
    }

    /// With the doors closed only notices leave.
    async fn serve_notices(&self, doors: OpenDoors) -> Result<Turn, TurnError> {
        let (mut done, mut next) = (0, None);
        for endpoint in self.namespace.store.notice_endpoints(self.namespace.shared.clock.now()).await? {
            let served = self.serve(&endpoint, doors).await?;
            done += served.attempts;
            next = earlier(next, served.next);
        }
        Ok(Turn { done, next })
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
            return self.serve_notices(doors).await;
        }
        let (mut done, mut next) = (0, None);
        let snapshot = namespace.active();
        let is_ordered = |name: &str| {
            snapshot.as_ref().is_some_and(|all| all.endpoints.get(name).is_some_and(|one| one.ordered))
        };
        for waiting in namespace.store.waiting_endpoints().await? {
            if namespace.shared.stopping.is_cancelled() {
                break;
            }
            let due = if is_ordered(&waiting.endpoint) { waiting.head_due_at } else { waiting.due_at };
            if due > namespace.shared.clock.now() {
                next = earlier(next, Some(due));
                continue;
            }
            // One at its limit is due all the time and delays no other: its next free permit nudges.
            let served = self.serve(&waiting.endpoint, doors).await?;
            done += served.attempts;
            next = earlier(next, served.next);
        }
        Ok(Turn { done, next })
    }

    async fn failed(&self, error: &TurnError) {
        self.namespace.record_failure(self.name(), &error.to_string()).await;
    }
}
