//! Whether the node is alive: every store answers, and every service turns.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use orbit_core::config::NamespaceName;
use orbit_store::Store;
use tokio::time::{Instant, timeout};

use super::Beat;
use crate::gate::Cell;

/// A service that has not ended a turn for so long is stuck. They turn every few seconds even with nothing to do.
const STUCK_AFTER: Duration = Duration::from_mins(1);
/// How long a store may take for an answer.
const STORE_ANSWERS_WITHIN: Duration = Duration::from_secs(20);

/// See the module.
#[derive(Default)]
pub struct Vitals {
    /// The last heartbeat.
    pub beat: Cell<Option<Beat>>,
    pulses: Mutex<Vec<Arc<Pulse>>>,
    stores: Mutex<Vec<(NamespaceName, Arc<dyn Store>)>>,
}

/// When a service ended its last turn.
pub struct Pulse {
    namespace: NamespaceName,
    service: &'static str,
    turned: Mutex<Instant>,
}

impl Pulse {
    /// The service has ended a turn.
    pub fn turned(&self) {
        *self.turned.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn since(&self) -> Duration {
        self.turned.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

impl Vitals {
    /// Watches a service from now on.
    pub fn pulse(&self, namespace: &NamespaceName, service: &'static str) -> Arc<Pulse> {
        let pulse =
            Arc::new(Pulse { namespace: namespace.clone(), service, turned: Mutex::new(Instant::now()) });
        self.pulses.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&pulse));
        pulse
    }

    /// Watches a store from now on.
    pub fn watch(&self, namespace: &NamespaceName, store: Arc<dyn Store>) {
        self.stores.lock().unwrap_or_else(PoisonError::into_inner).push((namespace.clone(), store));
    }

    /// What is wrong, if anything is.
    pub async fn ailment(&self) -> Option<String> {
        let pulses = self.pulses.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let stuck = pulses.iter().find(|pulse| pulse.since() > STUCK_AFTER);
        if let Some(pulse) = stuck {
            let (service, namespace, seconds) = (pulse.service, &pulse.namespace, pulse.since().as_secs());
            return Some(format!(
                "service `{service}` of namespace `{namespace}` has not turned for {seconds} s"
            ));
        }
        let stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (namespace, store) in stores {
            match timeout(STORE_ANSWERS_WITHIN, store.halted()).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Some(error.to_string()),
                Err(_) => return Some(format!("the store of namespace `{namespace}` does not answer")),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use orbit_store::sqlite::SqliteStore;

    #[tokio::test(start_paused = true)]
    async fn a_service_that_does_not_turn_is_noticed() {
        let name = NamespaceName::parse("lab").unwrap();
        let vitals = Vitals::default();
        vitals.watch(&name, Arc::new(SqliteStore::in_memory(&name).unwrap()));
        let (one, two) = (vitals.pulse(&name, "one"), vitals.pulse(&name, "two"));
        assert_eq!(vitals.ailment().await, None);
        tokio::time::advance(STUCK_AFTER).await;
        one.turned();
        tokio::time::advance(Duration::from_secs(1)).await;
        let ailment = vitals.ailment().await.unwrap();
        assert!(ailment.contains("`two`") && ailment.contains("61 s"), "{ailment}");
        two.turned();
        assert_eq!(vitals.ailment().await, None);
    }
}
