//! Makes the first attempts at what a run owes part of the commit that owes it: a commit less until they are sent.

use std::collections::BTreeMap;
use std::sync::Arc;

use orbit_core::governance::Door;
use orbit_store::contract::OpenDoors;
use orbit_store::contract::dispatch::{ClaimedDelivery, FreeAttempts, NewDelivery};
use tokio::sync::OwnedSemaphorePermit;

use super::{attempt, lanes};
use crate::claims::Hold;
use crate::namespace::Namespace;

/// Permits for the first attempts at what the end of a step owes.
pub(crate) struct SendPermits {
    permits: BTreeMap<String, Vec<OwnedSemaphorePermit>>,
    /// What is free.
    pub(crate) free: FreeAttempts,
}

impl SendPermits {
    /// What is free for these; nothing if nothing is. Then the dispatcher sends them. An endpoint that wants them in order is the dispatcher's alone.
    pub(crate) fn new(namespace: &Namespace, deliveries: &[NewDelivery]) -> Option<Self> {
        let open = |door| namespace.ask(door, &[]).is_ok();
        let doors = OpenDoors { first: open(Door::Dispatch), retry: open(Door::Retry) };
        if deliveries.is_empty() || !doors.first || namespace.shared.stopping.is_cancelled() {
            return None;
        }
        let mut counts = BTreeMap::new();
        for delivery in deliveries {
            *counts.entry(delivery.endpoint.as_str()).or_insert(0_u32) += 1;
        }
        let (snapshot, now) = (namespace.active(), namespace.shared.clock.now());
        let mut permits = BTreeMap::new();
        for (endpoint, count) in counts {
            let document = snapshot.as_ref().and_then(|snapshot| snapshot.endpoints.get(endpoint));
            if document.is_some_and(|document| document.ordered) {
                continue;
            }
            let granted = namespace.lanes.grant((endpoint, document), count, now);
            if !granted.is_empty() {
                permits.insert(endpoint.to_owned(), granted);
            }
        }
        let count = |granted: &Vec<_>| u32::try_from(granted.len()).unwrap_or(u32::MAX);
        let endpoints: BTreeMap<_, _> =
            permits.iter().map(|(name, granted)| (name.clone(), count(granted))).collect();
        (!endpoints.is_empty()).then_some(Self { permits, free: FreeAttempts { endpoints, doors } })
    }

    /// Gives each attempt a task of its own, and back what is not used.
    pub(crate) fn send(mut self, namespace: &Arc<Namespace>, claimed: Vec<(ClaimedDelivery, Hold)>) {
        for (delivery, hold) in claimed {
            let Some(permit) = self.permits.get_mut(&delivery.endpoint).and_then(Vec::pop) else { continue };
            lanes::spawn(namespace, permit, |worker| async move {
                attempt::deliver(&worker, delivery).await;
                drop(hold);
            });
        }
        let snapshot = namespace.active();
        self.permits.retain(|_, unused| !unused.is_empty());
        if !self.permits.is_empty() {
            // The dispatcher may have found none meanwhile.
            namespace.nudges.dispatch.notify_one();
        }
        for (endpoint, unused) in self.permits {
            let document = snapshot.as_ref().and_then(|snapshot| snapshot.endpoints.get(endpoint.as_str()));
            namespace.lanes.give_back((&endpoint, document), unused);
        }
    }
}
