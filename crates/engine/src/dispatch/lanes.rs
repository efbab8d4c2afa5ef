//! Lanes: what bounds the attempts at each endpoint, its permits and its rate, whoever makes them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use orbit_core::config::Endpoint;
use orbit_core::dispatch::rate::Bucket;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::namespace::Namespace;

/// Endpoints whose permits are remembered; those of endpoints without an attempt under way are forgotten beyond it.
const ENDPOINTS_REMEMBERED_MAX: usize = 1024;

/// The lanes of a namespace, by endpoint.
#[derive(Default)]
pub struct Lanes(Mutex<HashMap<String, Lane>>);

/// What bounds the attempts at an endpoint. The number of permits is that of the snapshot under which it was first met since the start.
struct Lane {
    permits: Arc<Semaphore>,
    bucket: Option<Bucket>,
}

impl Lanes {
    /// Takes up to so many permits, as far as the rate allows; what is not used is given back.
    pub(super) fn grant(
        &self,
        (endpoint, document): (&str, Option<&Endpoint>),
        most: u32,
        now: Timestamp,
    ) -> Vec<OwnedSemaphorePermit> {
        self.with_lane(endpoint, document, |lane| {
            let free = (0..most).map_while(|_| Arc::clone(&lane.permits).try_acquire_owned().ok());
            let mut permits: Vec<_> = free.collect();
            if let Some(rate) = document.and_then(|document| document.rate.as_ref()) {
                let free = u32::try_from(permits.len()).unwrap_or(u32::MAX);
                let bucket = lane.bucket.get_or_insert_with(|| Bucket::full(rate, now));
                permits.truncate(usize::try_from(bucket.take(rate, free, now)).unwrap_or(usize::MAX));
            }
            permits
        })
    }

    /// Gives back what was not used. When the rate allows more, if that is what holds the endpoint; where permits do, one that comes free nudges.
    pub(super) fn give_back(
        &self,
        (endpoint, document): (&str, Option<&Endpoint>),
        unused: Vec<OwnedSemaphorePermit>,
    ) -> Option<Timestamp> {
        self.with_lane(endpoint, document, |lane| {
            let tokens = u32::try_from(unused.len()).unwrap_or(u32::MAX);
            drop(unused);
            let rate = document.and_then(|document| document.rate.as_ref());
            let (bucket, rate) = lane.bucket.as_mut().zip(rate)?;
            bucket.give_back(tokens);
            (lane.permits.available_permits() > 0).then(|| bucket.next(rate))
        })
    }

    fn with_lane<T>(
        &self,
        endpoint: &str,
        document: Option<&Endpoint>,
        act: impl FnOnce(&mut Lane) -> T,
    ) -> T {
        let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lanes.len() >= ENDPOINTS_REMEMBERED_MAX {
            lanes.retain(|name, lane| name == endpoint || Arc::strong_count(&lane.permits) > 1);
        }
        let concurrency = document.map_or(1, |document| document.concurrency);
        let permits = usize::try_from(concurrency).unwrap_or(1).max(1);
        let new = || Lane { permits: Arc::new(Semaphore::new(permits)), bucket: None };
        act(lanes.entry(endpoint.to_owned()).or_insert_with(new))
    }
}

/// An attempt as a task of its own that holds a permit of its endpoint.
pub(super) fn spawn<F>(
    namespace: &Arc<Namespace>,
    permit: OwnedSemaphorePermit,
    attempt: impl FnOnce(Arc<Namespace>) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let worker = Arc::clone(namespace);
    let attempt = attempt(Arc::clone(&worker));
    namespace.tasks.spawn(async move {
        attempt.await;
        drop(permit);
        worker.nudges.dispatch.notify_one();
    });
}
