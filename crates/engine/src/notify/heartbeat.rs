//! The heartbeat: a GET at regular times while the node is alive, so that whoever waits for it notices when it stays away.
//!
//! It says that the engine lives, and nothing about work: it is sent while work is halted or paused too. It stops with the process, when a
//! store does not answer, and when a service is stuck.

use std::sync::Arc;

use async_trait::async_trait;
use http::HeaderMap;
use http::header::{HeaderValue, USER_AGENT};
use jiff::{SignedDuration, Timestamp};
use orbit_core::config;
use orbit_core::record::{Kind, Record, Subject};
use orbit_store::Store;
use serde::Serialize;
use serde_json::json;
use tokio::sync::Mutex;

use super::Vitals;
use crate::http::{Body, Request};
use crate::node::Shared;
use crate::service::{Service, Turn, TurnError};

/// What became of the last heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Beat {
    /// When.
    pub at: Timestamp,
    /// Whether it was heard.
    pub heard: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// When it was last heard, since the process started.
    pub last_heard_at: Option<Timestamp>,
}

/// See the module.
pub struct Heartbeat {
    config: config::Heartbeat,
    shared: Arc<Shared>,
    system: Arc<dyn Store>,
    vitals: Arc<Vitals>,
    due: Mutex<Option<Timestamp>>,
}

impl Heartbeat {
    /// The heartbeat of a node.
    pub fn new(
        config: config::Heartbeat,
        shared: Arc<Shared>,
        system: Arc<dyn Store>,
        vitals: Arc<Vitals>,
    ) -> Self {
        Self { config, shared, system, vitals, due: Mutex::default() }
    }

    async fn beat(&self) -> Result<(), String> {
        if let Some(ailment) = self.vitals.ailment().await {
            return Err(format!("not sent: {ailment}"));
        }
        let agent = HeaderValue::from_static(concat!("orbit/", env!("CARGO_PKG_VERSION")));
        let request = Request {
            method: http::Method::GET,
            url: self.config.url.clone(),
            headers: HeaderMap::from_iter([(USER_AGENT, agent)]),
            body: Body::default(),
            timeout: self.config.timeout.to_duration(),
            allow: self.config.addresses.allow.clone(),
        };
        match self.shared.client.send(request, &self.shared.stopping).await.result {
            Ok(answer) if (200..300).contains(&answer.status) => Ok(()),
            Ok(answer) => Err(format!("the watcher answered {}", answer.status)),
            Err(failure) => Err(failure.to_string()),
        }
    }

    /// Keeps what came of it, and records a change. A first beat that is heard is no change.
    async fn note(&self, heard: Result<(), String>) {
        let now = self.shared.clock.now();
        let before = self.vitals.beat.get();
        let failure = heard.err();
        let was_heard = before.as_ref().is_none_or(|beat| beat.heard);
        let last_heard_at = match &failure {
            None => Some(now),
            Some(_) => before.and_then(|beat| beat.last_heard_at),
        };
        self.vitals.beat.set(Some(Beat {
            at: now,
            heard: failure.is_none(),
            failure: failure.clone(),
            last_heard_at,
        }));
        let (kind, body) = match (was_heard, failure) {
            (true, Some(failure)) => {
                tracing::warn!("the heartbeat is not heard: {failure}");
                (Kind::HeartbeatFailed, json!({ "node": self.shared.node, "failure": failure }))
            }
            (false, None) => {
                tracing::info!("the heartbeat is heard again");
                (Kind::HeartbeatResumed, json!({ "node": self.shared.node }))
            }
            (true, None) | (false, Some(_)) => return,
        };
        let record = Record::fact(now, kind, Subject::default(), body);
        if let Err(error) = self.system.append(vec![record]).await {
            tracing::error!(kind = kind.name(), %error, "a record could not be appended");
        }
    }
}

#[async_trait]
impl Service for Heartbeat {
    fn name(&self) -> &'static str {
        "heartbeat"
    }

    async fn turn(&self) -> Result<Turn, TurnError> {
        let mut due = self.due.lock().await;
        let now = self.shared.clock.now();
        if due.is_none_or(|due| due <= now) {
            let heard = self.beat().await;
            if !self.shared.stopping.is_cancelled() {
                self.note(heard).await;
            }
            let every = SignedDuration::try_from(self.config.every.to_duration()).unwrap_or_default();
            *due = now.checked_add(every).ok();
        }
        Ok(Turn::idle(*due))
    }

    async fn failed(&self, error: &TurnError) {
        tracing::error!("the heartbeat failed: {error}");
    }
}
