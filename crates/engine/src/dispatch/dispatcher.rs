//! The dispatcher: claims due deliveries, endpoint by endpoint, and gives each attempt a task of its own, so that one dead endpoint
//! slows no other.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use orbit_core::governance::Door;
use orbit_store::contract::dispatch::ClaimedDelivery;
use orbit_store::contract::{OpenDoors, earlier};
use tokio::sync::OwnedSemaphorePermit;

use super::{attempt, lanes, notice};
use crate::namespace::Namespace;
use crate::service::{Service, Turn, TurnError};

/// See the module.
pub struct Dispatcher {
    namespace: Arc<Namespace>,
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
        Self { namespace }
    }

    async fn serve(&self, endpoint: &str, doors: OpenDoors) -> Result<Served, TurnError> {
        let namespace = &self.namespace;
        let snapshot = namespace.active();
        let document = snapshot.as_ref().and_then(|snapshot| snapshot.endpoints.get(endpoint));
        let lane = (endpoint, document);
        let ordered = document.is_some_and(|found| found.ordered);
        let now = namespace.shared.clock.now();
        let mut permits = namespace.lanes.grant(lane, if ordered { 1 } else { u32::MAX }, now);
        let granted = u32::try_from(permits.len()).unwrap_or(u32::MAX);
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
        for ((notice, hold), permit) in notices.into_iter().zip(take(&mut permits, sent)) {
            lanes::spawn(namespace, permit, |worker| async move {
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
        let attempts = usize::try_from(sent).unwrap_or(usize::MAX).saturating_add(claimed.len());
        for ((delivery, hold), permit) in claimed.into_iter().zip(take(&mut permits, further)) {
            lanes::spawn(namespace, permit, |worker| async move {
                attempt::deliver(&worker, delivery).await;
                drop(hold);
            });
        }
        let next = namespace.lanes.give_back(lane, permits);
        Ok(Served { attempts, next: next.filter(|next| *next > now) })
    }
}

impl Dispatcher {
    /// With the doors closed only notices leave.
    async fn serve_notices(&self, doors: OpenDoors) -> Result<Turn, TurnError> {
        let (mut done, mut next) = (0, None);
        for endpoint in self.namespace.store.notice_endpoints(self.namespace.shared.clock.now()).await? {
            let served = self.serve(&endpoint, doors).await?;
            done += served.attempts;
            next = earlier(next, served.next);
        }
        Ok(Turn::did(done, next))
    }
}

/// So many of these permits.
fn take(permits: &mut Vec<OwnedSemaphorePermit>, count: u32) -> Vec<OwnedSemaphorePermit> {
    let kept = permits.len().saturating_sub(usize::try_from(count).unwrap_or(usize::MAX));
    permits.split_off(kept)
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
        Ok(Turn::did(done, next))
    }

    async fn failed(&self, error: &TurnError) {
        self.namespace.record_failure(self.name(), &error.to_string()).await;
    }
}
