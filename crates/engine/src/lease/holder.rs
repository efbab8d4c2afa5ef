//! Renews the lease of a namespace, and joins anew when it was lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use orbit_store::StoreError;
use orbit_store::contract::node::{Load, NodeStore, Renewal};
use tokio::time::timeout;

use super::{RENEWALS, RETRY_PART, join};
use crate::namespace::Namespace;
use crate::running::Cut;
use crate::service::{Service, Turn, TurnError};

/// How long to wait for what is under way to end before joining anew is tried again.
const ENDS_WITHIN: Duration = Duration::from_millis(100);

/// See the module.
pub struct Holder {
    namespace: Arc<Namespace>,
    store: Arc<dyn NodeStore + Send + Sync>,
    /// Renewals in a row that came to nothing.
    failures: AtomicU32,
}

impl Holder {
    /// The holder of a namespace's lease, which has been granted once.
    pub fn new(namespace: Arc<Namespace>) -> Self {
        let store: Arc<dyn NodeStore + Send + Sync> = Arc::clone(&namespace.store) as _;
        Self::over(namespace, store)
    }

    /// The same over another store of leases.
    pub(super) fn over(namespace: Arc<Namespace>, store: Arc<dyn NodeStore + Send + Sync>) -> Self {
        Self { namespace, store, failures: AtomicU32::new(0) }
    }

    fn load(&self) -> Load {
        let count = |tasks: usize| u32::try_from(tasks).unwrap_or(u32::MAX);
        Load { runs: count(self.namespace.runs.len()), tasks: count(self.namespace.tasks.len()) }
    }

    /// Asks for another lease; when to ask again.
    async fn renew(&self) -> Duration {
        let lease = self.namespace.shared.lease();
        let asked = self.namespace.shared.clock.monotonic();
        // One that hangs is dropped, and if it comes to be all the same, others wait longer than they need to.
        match timeout(lease / RENEWALS, self.store.renew(self.load())).await {
            Ok(Ok(Renewal::Renewed)) => {
                self.granted(asked);
                // From question to question: a slow answer must not push the next one away.
                let took = self.namespace.shared.clock.monotonic().saturating_sub(asked);
                (lease / RENEWALS).saturating_sub(took)
            }
            Ok(Ok(Renewal::Lost)) => self.join_anew().await,
            Ok(Err(error)) => self.failed_with(error),
            Err(_) => self.failed_because("no answer"),
        }
    }

    fn granted(&self, asked: Duration) {
        let namespace = &self.namespace;
        let now = namespace.shared.clock.monotonic();
        let had_lapsed = !namespace.trust.is_given(now);
        // Without a lease that ends there is nothing to trust.
        if namespace.trust.left(now).is_some() {
            namespace.trust.granted(asked, namespace.shared.lease());
        }
        let failures = self.failures.swap(0, Ordering::Relaxed);
        if failures > 0 || had_lapsed {
            tracing::info!(namespace = %namespace.name, failures, "the lease is renewed again");
            namespace.wake();
        }
    }

    /// The incarnation is no more. Another one begins when nothing of it is under way.
    async fn join_anew(&self) -> Duration {
        let namespace = &self.namespace;
        namespace.trust.lost();
        if namespace.running.cut_all(Cut::Lapsed) > 0 {
            return ENDS_WITHIN;
        }
        let shared = &namespace.shared;
        let asked = shared.clock.monotonic();
        match timeout(shared.lease(), join(namespace, &*self.store)).await {
            Ok(Ok(joined)) => {
                tracing::warn!(namespace = %namespace.name, epoch = joined.epoch, "the node was taken over and has joined anew");
                self.granted(asked);
                namespace.wake();
                shared.lease() / RENEWALS
            }
            Ok(Err(error)) => self.failed_with(error),
            Err(_) => self.failed_because("no answer"),
        }
    }

    fn failed_with(&self, error: StoreError) -> Duration {
        let message = error.to_string();
        if matches!(error, StoreError::Newer { .. }) {
            self.namespace.trust.lost();
            self.namespace.running.cut_all(Cut::Lapsed);
            self.namespace.shared.superseded.by(error);
        }
        self.failed_because(&message)
    }

    fn failed_because(&self, message: &str) -> Duration {
        if self.failures.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!(namespace = %self.namespace.name, "the lease was not renewed: {message}");
        }
        self.namespace.shared.lease() / RETRY_PART
    }
}

#[async_trait]
impl Service for Holder {
    fn name(&self) -> &'static str {
        "lease"
    }

    async fn turn(&self) -> Result<Turn, TurnError> {
        let pause = self.renew().await;
        Ok(Turn::idle(Some(self.namespace.shared.clock.now() + pause)))
    }

    async fn failed(&self, error: &TurnError) {
        self.namespace.record_failure(self.name(), &error.to_string()).await;
    }
}

/// Whether a call failed because the caller is no node any more.
pub(crate) const fn is_lost(error: &StoreError) -> bool {
    matches!(error, StoreError::NotJoined { .. })
}
