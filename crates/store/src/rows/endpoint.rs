//! What is recorded of how endpoints do.

use jiff::Timestamp;
use orbit_core::dispatch::breaker::{Health, HealthEvent, Rule};
use orbit_core::record::{Kind, Record, Subject};
use serde_json::{Value, json};

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
