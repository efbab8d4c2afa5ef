//! What is recorded of how endpoints do, what is read back of it, and the columns that it makes.

use jiff::Timestamp;
use orbit_core::dispatch::breaker::{Answer, Breaker, Health, HealthEvent, Rule, Signal};
use orbit_core::record::{Kind, Record, Subject};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use uuid::Uuid;

use super::Contradiction;
use super::delivery::Debtor;
use super::record::{Facts, facts};

/// The reason of dead letters of a disabled endpoint.
pub(crate) fn words(reason: &str) -> String {
    format!("the endpoint is disabled: {reason}")
}

/// An event to record, and how the endpoint did before it.
pub(crate) struct Told<'a> {
    /// What happened.
    pub(crate) event: &'a HealthEvent,
    /// How it did before.
    pub(crate) health: &'a Health,
    /// Its limits.
    pub(crate) rule: &'a Rule,
    /// Whose attempt it was, if it was one.
    pub(crate) debtor: Option<&'a Debtor>,
}

impl Told<'_> {
    /// Its record; none of an answer, which its receipt tells.
    pub(crate) fn record(&self, mut of: Facts, at: Timestamp) -> Option<Record> {
        let mut subject = Subject::default();
        let (kind, more) = match self.event {
            HealthEvent::Answered(_) => return None,
            HealthEvent::Opened { until, pause_ms } => {
                (Kind::BreakerOpened, json!({ "until": until, "pause_ms": pause_ms }))
            }
            HealthEvent::HalfOpened { .. } => (Kind::BreakerHalfOpened, json!({})),
            HealthEvent::Closed => (Kind::BreakerClosed, json!({})),
            HealthEvent::Failing => {
                let since = match self.health {
                    Health::Enabled { failing, .. } => failing.map(|failing| failing.since),
                    Health::Disabled { .. } => None,
                };
                (Kind::EndpointFailing, json!({ "since": since, "disable_after": self.rule.disable_after }))
            }
            HealthEvent::Disabled { reason, .. } => {
                subject = self.debtor.map(Debtor::subject).unwrap_or_default();
                (Kind::EndpointDisabled, json!({ "reason": reason }))
            }
            HealthEvent::Enabled => (Kind::EndpointEnabled, json!({})),
        };
        of.extend(facts(more));
        Some(Record::fact(at, kind, subject, Value::Object(of)))
    }
}

/// What is read of a receipt.
#[derive(Deserialize)]
struct Answered {
    endpoint: String,
    delivery_id: Uuid,
    signal: Signal,
}

/// What is read of every other record that tells how an endpoint does.
#[derive(Deserialize)]
struct Body {
    endpoint: String,
    delivery_id: Option<Uuid>,
    until: Option<Timestamp>,
    pause_ms: Option<u64>,
    reason: Option<String>,
}

/// Whether records of this kind tell how an endpoint does.
pub(crate) fn is_told_by(kind: &str) -> bool {
    matches!(
        kind,
        "receipt_captured"
            | "breaker_opened"
            | "breaker_half_opened"
            | "breaker_closed"
            | "endpoint_failing"
            | "endpoint_disabled"
            | "endpoint_enabled"
    )
}

/// What a record of this kind, decided then, tells of which endpoint; none if it tells of none.
pub(crate) fn read<'de, D: Deserializer<'de>>(
    kind: &str,
    body: D,
    at: Timestamp,
) -> Result<Option<(String, HealthEvent)>, Contradiction> {
    fn told<T>(name: &str, value: Option<T>) -> Result<T, Contradiction> {
        value.ok_or_else(|| Contradiction::new(format!("its body has no `{name}`")))
    }
    if !is_told_by(kind) {
        return Ok(None);
    }
    if kind == "receipt_captured" {
        let Answered { endpoint, delivery_id, signal } =
            Answered::deserialize(body).map_err(Contradiction::unreadable)?;
        return Ok(Some((endpoint, HealthEvent::Answered(Answer { delivery_id, signal, at }))));
    }
    let Body { endpoint, delivery_id, until, pause_ms, reason } =
        Body::deserialize(body).map_err(Contradiction::unreadable)?;
    let event = match kind {
        "breaker_opened" => {
            HealthEvent::Opened { until: told("until", until)?, pause_ms: told("pause_ms", pause_ms)? }
        }
        "breaker_half_opened" => HealthEvent::HalfOpened { probe: told("delivery_id", delivery_id)? },
        "breaker_closed" => HealthEvent::Closed,
        "endpoint_failing" => HealthEvent::Failing,
        "endpoint_disabled" => HealthEvent::Disabled { reason: told("reason", reason)?, at },
        _ => HealthEvent::Enabled,
    };
    Ok(Some((endpoint, event)))
}

/// The columns of an endpoint's row besides its whole health: its word, and until when nothing is sent.
pub(crate) fn columns_of(health: &Health) -> (&'static str, Option<Timestamp>) {
    match health {
        Health::Disabled { .. } => ("disabled", None),
        Health::Enabled { breaker, .. } => match breaker {
            Breaker::Open { until, .. } => (breaker.name(), Some(*until)),
            Breaker::Closed { .. } | Breaker::HalfOpen { .. } => (breaker.name(), None),
        },
    }
}
