//! Records: the entries of a namespace's log, and the header that each one is known by.
//!
//! Owns the words (`Kind`) and the canonical header of design section 3. Positions, the tree and storage belong to the store.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::canonical;
use crate::digest::{Digest, Hasher};
use crate::run::RunEvent;

/// What a record tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(
    missing_docs,
    reason = "each kind is described in docs/reference/records.md, which is made from `describe`"
)]
pub enum Kind {
    NodeStarted,
    NodeStopped,
    ConfigActivated,
    ConfigRefused,
    SecretsChanged,
    ScheduleDecided,
    CycleFired,
    CycleFinished,
    InitiationSelected,
    SelectionExhausted,
    SelectionFailed,
    InitiationReleased,
    RunAdmitted,
    StepStarted,
    StepSucceeded,
    StepFailed,
    StepInterrupted,
    StepOutput,
    SynthesisFailed,
    DeliverySettled,
    Redriven,
    Cancelled,
    DeadlinePassed,
    DeliveryCreated,
    AttemptStarted,
    ReceiptCaptured,
    ReceiptBody,
    BreakerOpened,
    BreakerHalfOpened,
    BreakerClosed,
    EndpointFailing,
    EndpointDisabled,
    EndpointEnabled,
    TestStarted,
    EndpointTested,
    Halted,
    Resumed,
    GateClosed,
    ServiceFailed,
    HeartbeatFailed,
    HeartbeatResumed,
}

impl Kind {
    /// Every kind, in the order of the flow.
    pub const ALL: [Self; 41] = [
        Self::NodeStarted,
        Self::NodeStopped,
        Self::ConfigActivated,
        Self::ConfigRefused,
        Self::SecretsChanged,
        Self::ScheduleDecided,
        Self::CycleFired,
        Self::CycleFinished,
        Self::InitiationSelected,
        Self::SelectionExhausted,
        Self::SelectionFailed,
        Self::InitiationReleased,
        Self::RunAdmitted,
        Self::StepStarted,
        Self::StepSucceeded,
        Self::StepFailed,
        Self::StepInterrupted,
        Self::StepOutput,
        Self::SynthesisFailed,
        Self::DeliverySettled,
        Self::Redriven,
        Self::Cancelled,
        Self::DeadlinePassed,
        Self::DeliveryCreated,
        Self::AttemptStarted,
        Self::ReceiptCaptured,
        Self::ReceiptBody,
        Self::BreakerOpened,
        Self::BreakerHalfOpened,
        Self::BreakerClosed,
        Self::EndpointFailing,
        Self::EndpointDisabled,
        Self::EndpointEnabled,
        Self::TestStarted,
        Self::EndpointTested,
        Self::Halted,
        Self::Resumed,
        Self::GateClosed,
        Self::ServiceFailed,
        Self::HeartbeatFailed,
        Self::HeartbeatResumed,
    ];

    /// The word in the header.
    pub const fn name(self) -> &'static str {
        self.words().0
    }

    /// What it tells, in a sentence.
    pub const fn describe(self) -> &'static str {
        self.words().1
    }

    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::NodeStarted => ("node_started", "A node opened the store; says what it found unfinished."),
            Self::NodeStopped => ("node_stopped", "A node closed the store in good order."),
            Self::ConfigActivated => {
                ("config_activated", "A snapshot became the active one; names its digest and base.")
            }
            Self::ConfigRefused => (
                "config_refused",
                "A changed configuration was invalid and changed nothing; holds every problem.",
            ),
            Self::SecretsChanged => ("secrets_changed", "Values in `.env` changed; holds names only."),
            Self::ScheduleDecided => (
                "schedule_decided",
                "Firings that did not fire, equal ones as one record with count and reason.",
            ),
            Self::CycleFired => ("cycle_fired", "A cycle exists; names its trigger and nominal instant."),
            Self::CycleFinished => ("cycle_finished", "Every run of a cycle is terminal; names the outcome."),
            Self::InitiationSelected => {
                ("initiation_selected", "A candidate was new and is now this cycle's; holds the pass report.")
            }
            Self::SelectionExhausted => {
                ("selection_exhausted", "No candidate was new; holds the pass report.")
            }
            Self::SelectionFailed => ("selection_failed", "The source could not be read."),
            Self::InitiationReleased => ("initiation_released", "The cycle's outcome freed its candidate."),
            Self::RunAdmitted => ("run_admitted", "A run exists; holds its execution request."),
            Self::StepStarted => ("step_started", "A worker took a step; names attempt and idempotency key."),
            Self::StepSucceeded => {
                ("step_succeeded", "A step's output is durable; holds digest, bytes, usage.")
            }
            Self::StepFailed => {
                ("step_failed", "An attempt failed; holds the typed failure, usage and what follows.")
            }
            Self::StepInterrupted => {
                ("step_interrupted", "An attempt was cut short by a crash, a halt or a stop.")
            }
            Self::StepOutput => ("step_output", "What an attempt wrote to standard error: the tail."),
            Self::SynthesisFailed => ("synthesis_failed", "The instruction or request could not be made."),
            Self::DeliverySettled => ("delivery_settled", "A delivery was accepted or given up."),
            Self::Redriven => ("redriven", "Deliveries that were given up are tried again."),
            Self::Cancelled => ("cancelled", "A run was ended from outside."),
            Self::DeadlinePassed => ("deadline_passed", "A run took longer than its run profile allows."),
            Self::DeliveryCreated => {
                ("delivery_created", "Something is owed to an endpoint; names address and key.")
            }
            Self::AttemptStarted => {
                ("attempt_started", "A delivery attempt is about to send its first byte.")
            }
            Self::ReceiptCaptured => ("receipt_captured", "The answer to one attempt, or why there is none."),
            Self::ReceiptBody => ("receipt_body", "The first bytes of an answer's body."),
            Self::BreakerOpened => ("breaker_opened", "Nothing is sent to an endpoint before `until`."),
            Self::BreakerHalfOpened => ("breaker_half_opened", "One delivery probes an endpoint."),
            Self::BreakerClosed => ("breaker_closed", "An endpoint is sent to again."),
            Self::EndpointFailing => ("endpoint_failing", "A warning, half way to an endpoint's end."),
            Self::EndpointDisabled => {
                ("endpoint_disabled", "An endpoint takes nothing more until it is enabled.")
            }
            Self::EndpointEnabled => ("endpoint_enabled", "An endpoint takes deliveries again."),
            Self::TestStarted => ("test_started", "A test of an endpoint is about to send its first byte."),
            Self::EndpointTested => ("endpoint_tested", "The answer to a test, or why there is none."),
            Self::Halted => ("halted", "Work was stopped by an operator."),
            Self::Resumed => ("resumed", "A halt was lifted."),
            Self::GateClosed => ("gate_closed", "A door of the gate closed or opened; holds the reason."),
            Self::ServiceFailed => ("service_failed", "A part of the engine failed and was started again."),
            Self::HeartbeatFailed => ("heartbeat_failed", "The node's sign of life was not heard."),
            Self::HeartbeatResumed => ("heartbeat_resumed", "The node's sign of life is heard again."),
        }
    }
}

impl From<&RunEvent> for Kind {
    fn from(event: &RunEvent) -> Self {
        match event {
            RunEvent::StepStarted { .. } => Self::StepStarted,
            RunEvent::StepSucceeded { .. } => Self::StepSucceeded,
            RunEvent::StepFailed { .. } => Self::StepFailed,
            RunEvent::StepInterrupted { .. } => Self::StepInterrupted,
            RunEvent::SynthesisFailed { .. } => Self::SynthesisFailed,
            RunEvent::DeliverySettled { .. } => Self::DeliverySettled,
            RunEvent::Redriven { .. } => Self::Redriven,
            RunEvent::Cancelled { .. } => Self::Cancelled,
            RunEvent::DeadlinePassed { .. } => Self::DeadlinePassed,
        }
    }
}

/// What a record is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// The cycle.
    pub cycle_id: Option<Uuid>,
    /// The run.
    pub run_id: Option<Uuid>,
    /// The profile.
    pub profile_id: Option<Uuid>,
    /// The snapshot under which it was decided.
    pub snapshot: Option<Digest>,
}

/// A record's body and how long it is kept.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// Small, and never dropped.
    Fact(Value),
    /// May be dropped later; salted so that a dropped one cannot be guessed from its digest.
    Evidence {
        /// 16 random bytes.
        salt: [u8; 16],
        /// What was seen.
        value: Value,
    },
}

/// An entry that has no position yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// When it was decided.
    pub at: Timestamp,
    /// What it tells.
    pub kind: Kind,
    /// What it is about.
    pub subject: Subject,
    /// The rest.
    pub body: Body,
}

impl Record {
    /// A record that is never dropped.
    pub fn fact(at: Timestamp, kind: Kind, subject: Subject, body: Value) -> Self {
        Self { at, kind, subject, body: Body::Fact(body) }
    }

    /// The header in canonical JSON: what the log commits to.
    pub fn header(&self) -> String {
        let mut header = json!({
            "at": self.at.to_string(),
            "kind": self.kind.name(),
            "body_class": self.body.class(),
            "body_digest": self.body.digest().to_string(),
        });
        if let Value::Object(fields) = &mut header {
            let mut put = |name: &str, value: Option<String>| {
                value.map(|value| fields.insert(name.to_owned(), Value::String(value)))
            };
            put("cycle_id", self.subject.cycle_id.map(|id| id.to_string()));
            put("run_id", self.subject.run_id.map(|id| id.to_string()));
            put("profile_id", self.subject.profile_id.map(|id| id.to_string()));
            put("snapshot", self.subject.snapshot.map(|digest| digest.to_string()));
        }
        canonical::to_string(&header)
    }
}

impl Body {
    /// `fact` or `evidence`.
    pub const fn class(&self) -> &'static str {
        match self {
            Self::Fact(_) => "fact",
            Self::Evidence { .. } => "evidence",
        }
    }

    /// The canonical text that is stored.
    pub fn text(&self) -> String {
        match self {
            Self::Fact(value) | Self::Evidence { value, .. } => canonical::to_string(value),
        }
    }

    /// SHA-256 of the text, of evidence with its salt in front.
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::default();
        if let Self::Evidence { salt, .. } = self {
            hasher.update(salt);
        }
        hasher.update(self.text().as_bytes());
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_own_word() {
        let mut names: Vec<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        for kind in Kind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), json!(kind.name()));
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Kind::ALL.len());
    }

    #[test]
    fn a_header_names_what_it_is_about_and_nothing_else() {
        let subject = Subject { run_id: Some(Uuid::nil()), ..Subject::default() };
        let record = Record::fact(Timestamp::UNIX_EPOCH, Kind::Cancelled, subject, json!({"b": 1, "a": 2}));
        let digest = Digest::of(br#"{"a":2,"b":1}"#);
        let expected = format!(
            r#"{{"at":"1970-01-01T00:00:00Z","body_class":"fact","body_digest":"{digest}","kind":"cancelled","run_id":"00000000-0000-0000-0000-000000000000"}}"#
        );
        assert_eq!(record.header(), expected);
    }

    #[test]
    fn evidence_is_salted() {
        let value = json!("no");
        let salted = |salt| Body::Evidence { salt: [salt; 16], value: value.clone() }.digest();
        assert_ne!(salted(1), salted(2));
        assert_ne!(salted(0), Body::Fact(value.clone()).digest());
    }
}
