//! A delivery as its transitions see it, and whose it is.

use jiff::Timestamp;
use orbit_core::digest::Digest;
use orbit_core::dispatch::breaker::Signal;
use orbit_core::record::Subject;
use orbit_core::run::RunState;
use serde_json::{Value, json};
use uuid::Uuid;

use super::record::{Facts, facts};
use super::run::Run;
use crate::contract::dispatch::ClaimedDelivery;
use crate::contract::notify::ClaimedNotice;

/// A delivery as its transitions see it.
pub(crate) struct Delivery {
    /// Its id.
    pub(crate) id: Uuid,
    /// Whose it is.
    pub(crate) owner: Owner,
    /// Its endpoint.
    pub(crate) endpoint: String,
    /// Its state's word.
    pub(crate) state: String,
    /// Attempts over all redrives; the number of the current or last one.
    pub(crate) attempts: u32,
}

impl Delivery {
    /// Names it and its current attempt, for records.
    pub(crate) fn facts(&self) -> Facts {
        let mut named = facts(json!({
            "delivery_id": self.id,
            "endpoint": self.endpoint,
            "attempt": self.attempts,
            "idempotency_key": self.id,
        }));
        self.owner.name_notice(&mut named);
        named
    }
}

/// Whose a delivery is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner {
    /// A run, whose artifact it carries.
    Run(Uuid),
    /// Nobody's: it is a notice.
    Notice(Uuid),
}

impl Owner {
    /// The run's or the notice's id.
    pub(crate) const fn id(self) -> Uuid {
        match self {
            Self::Run(id) | Self::Notice(id) => id,
        }
    }

    /// Adds the notice, if it is one: a run is named by the subject of its records.
    pub(crate) fn name_notice(self, facts: &mut Facts) {
        match self {
            Self::Run(_) => {}
            Self::Notice(notice_id) => _ = facts.insert("notice_id".to_owned(), json!(notice_id)),
        }
    }
}

/// The owner as far as a delivery's transitions need it.
pub(crate) enum Debtor {
    /// The run, which changes with its deliveries.
    Run(Run),
    /// The notice's snapshot.
    Notice(Digest),
}

impl Debtor {
    /// What its records are about.
    pub(crate) fn subject(&self) -> Subject {
        match self {
            Self::Run(run) => run.subject(),
            Self::Notice(snapshot) => Subject { snapshot: Some(*snapshot), ..Subject::default() },
        }
    }

    /// Whether it still wants its deliveries made.
    pub(crate) fn is_owing(&self) -> bool {
        match self {
            Self::Run(run) => matches!(run.state, RunState::Dispatching { .. }),
            Self::Notice(_) => true,
        }
    }
}

/// What is known of an attempt that is over.
pub(crate) struct Received<'a> {
    /// The receipt.
    pub(crate) receipt: &'a Value,
    /// What it says about the endpoint.
    pub(crate) signal: Signal,
    /// When the next attempt is due, if nothing settles the delivery in the same transaction.
    pub(crate) retry_at: Option<Timestamp>,
}

impl Received<'_> {
    /// The body of its record.
    pub(crate) fn facts(&self, delivery: &Delivery) -> Facts {
        let mut body = delivery.facts();
        body.insert("receipt".to_owned(), self.receipt.clone());
        body.insert("signal".to_owned(), json!(self.signal));
        if let Some(retry_at) = self.retry_at {
            body.insert("retry_at".to_owned(), json!(retry_at));
        }
        body
    }
}

/// What the record of an attempt that begins is about and says; it is there before the first byte can be sent.
pub(crate) fn attempt_started(delivery_id: Uuid, claimed: &ClaimedDelivery) -> (Subject, Facts) {
    let subject = Subject {
        cycle_id: Some(claimed.cycle_id),
        run_id: Some(claimed.run_id),
        profile_id: Some(claimed.profile_id),
        snapshot: Some(claimed.snapshot),
    };
    let body = json!({
        "delivery_id": delivery_id,
        "endpoint": claimed.endpoint,
        "url": claimed.url,
        "attempt": claimed.attempt,
        "attempt_in_round": claimed.attempt_in_round,
        "idempotency_key": delivery_id,
        "digest": claimed.artifact.digest,
        "bytes": claimed.artifact.bytes,
    });
    (subject, facts(body))
}

/// The same of a notice.
pub(crate) fn notice_started(delivery_id: Uuid, claimed: &ClaimedNotice) -> (Subject, Facts) {
    let subject = Subject { snapshot: Some(claimed.snapshot), ..Subject::default() };
    let body = json!({
        "delivery_id": delivery_id,
        "endpoint": claimed.endpoint,
        "url": claimed.url,
        "attempt": claimed.attempt,
        "attempt_in_round": claimed.attempt_in_round,
        "idempotency_key": delivery_id,
        "digest": Digest::of(claimed.body.as_bytes()),
        "bytes": claimed.body.len(),
        "notice_id": claimed.notice_id,
    });
    (subject, facts(body))
}

/// The receipt of an attempt during which the process ended.
pub(crate) fn ended_receipt() -> Value {
    json!({ "outcome": "unknown", "message": "the engine ended before the answer was known" })
}
