//! The keeper: ends runs whose deadline has passed, gives up what waits for disabled endpoints, frees claims that nobody knows of, and records
//! when a door of the gate closes or opens.

use std::sync::Arc;

use async_trait::async_trait;
use orbit_core::governance::{Closed, Door};
use orbit_core::record::{Kind, Record, Subject};
use orbit_store::StoreError;
use serde_json::json;

use crate::gate::Cell;
use crate::namespace::Namespace;
use crate::service::{Service, Turn, TurnError};

/// See the module.
pub struct Keeper {
    namespace: Arc<Namespace>,
    gate: Cell<Option<Closed>>,
}

impl Keeper {
    /// The keeper of a namespace.
    pub fn new(namespace: Arc<Namespace>) -> Self {
        Self { namespace, gate: Cell::default() }
    }

    /// Records a change of the gate once, not at every run that meets it. One that could not be recorded is still to be.
    async fn watch_gate(&self) -> Result<(), StoreError> {
        let closed = self.namespace.ask(Door::Step, &[]).err();
        // Free space changes all the time; only which door is closed is news.
        let word = |closed: &Option<Closed>| closed.as_ref().map(std::mem::discriminant);
        let before = self.gate.get();
        if word(&closed) == word(&before) {
            return Ok(());
        }
        let body = match &closed {
            Some(reason) => {
                json!({ "open": false, "closed": json!(reason)["closed"], "reason": reason.to_string() })
            }
            None => json!({ "open": true }),
        };
        let now = self.namespace.shared.clock.now();
        let record = Record::fact(now, Kind::GateClosed, Subject::default(), body);
        let append = || self.namespace.store.append(vec![record.clone()]);
        self.namespace.shared.ballast().relieve(append).await?;
        self.gate.set(closed);
        self.namespace.nudges.selection.notify_one();
        self.namespace.nudges.tiers.notify_one();
        self.namespace.nudges.normalize.notify_one();
        self.namespace.nudges.dispatch.notify_one();
        Ok(())
    }
}

#[async_trait]
impl Service for Keeper {
    fn name(&self) -> &'static str {
        "keeper"
    }

    async fn turn(&self) -> Result<Turn, TurnError> {
        self.watch_gate().await?;
        let now = self.namespace.shared.clock.now();
        let store = &self.namespace.store;
        let reclaim = async |held: Vec<_>| store.reclaim(&held, now).await;
        let freed = self.namespace.claims.settle(reclaim).await?;
        if freed > 0 {
            tracing::warn!(namespace = %self.namespace.name, freed, "claims whose answer was lost are free again");
            self.namespace.wake();
        }
        // A batch each, so that nobody waits long for the writer; another turn follows until nothing is left.
        let ended = store.expire_runs(now).await?;
        let given_up = store.give_up_disabled(now).await?;
        if ended + given_up > 0 {
            let nudges = &self.namespace.nudges;
            nudges.selection.notify_one();
            nudges.schedule.notify_one();
        }
        // What is due and may not start yet, because the gate is closed or every worker busy, is due all the time.
        let next = self.namespace.store.next_step_due().await?.filter(|due| *due > now);
        Ok(Turn::did(usize::try_from(freed + ended + given_up).unwrap_or(usize::MAX), next))
    }

    async fn failed(&self, error: &TurnError) {
        self.namespace.record_failure(self.name(), &error.to_string()).await;
    }
}
