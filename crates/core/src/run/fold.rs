//! The fold of one run: from the bodies of its records alone to where it stands.
//!
//! What rebuilds rows goes through here. Only facts are read. Whoever verifies a log of many runs at once reads less of each record
//! ([`crate::record::audit`]); both go through [`RunState::next`], so that they cannot disagree on what a log says.

use serde_json::Value;

use super::{IllegalEvent, RunEvent, RunState, Step};

/// A run as far as its records were read, in the order of their positions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folded {
    /// Where it stands.
    pub state: RunState,
}

/// A record that cannot follow what came before it: a defect, or a log that was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
    /// The admission names a step to begin with that there is not.
    #[error("`start.step` of `run_admitted` is `{0}`, which is no step")]
    Start(String),
    /// The event in the body is none.
    #[error("`event` of `{kind}` cannot be read: {message}")]
    Unreadable {
        /// The record's kind.
        kind: String,
        /// What is wrong with it.
        message: String,
    },
    /// The body tells of another event than the header.
    #[error("a record `{kind}` holds the event `{event}`")]
    OtherKind {
        /// The record's kind.
        kind: String,
        /// The event's name.
        event: &'static str,
    },
    /// The event cannot happen where the run stands.
    #[error(transparent)]
    Illegal(#[from] IllegalEvent),
    /// The record says that the run stood elsewhere after it.
    #[error("`{kind}` says that the run was `{told}` afterwards, and it is `{folded}`")]
    OtherState {
        /// The record's kind.
        kind: String,
        /// What the record says.
        told: String,
        /// What follows from the records before it.
        folded: &'static str,
    },
}

impl Folded {
    /// The run as the body of its `run_admitted` has it: at tier 1, or where the admission says.
    pub fn admit(body: &Value) -> Result<Self, FoldError> {
        let start = &body["start"];
        if start.is_null() {
            return Ok(Self { state: RunState::admitted() });
        }
        let step = start["step"].as_str().and_then(Step::parse);
        let step = step.ok_or_else(|| FoldError::Start(start["step"].to_string()))?;
        Ok(Self { state: RunState::admitted_at(step) })
    }

    /// The next record of the run; what happened to it, or none if the record tells of something else. After an error nothing has changed.
    pub fn apply(&mut self, kind: &str, body: &Value) -> Result<Option<RunEvent>, FoldError> {
        let Some(event) = body.get("event") else { return Ok(None) };
        let event: RunEvent = serde_json::from_value(event.clone())
            .map_err(|error| FoldError::Unreadable { kind: kind.to_owned(), message: error.to_string() })?;
        if event.name() != kind {
            return Err(FoldError::OtherKind { kind: kind.to_owned(), event: event.name() });
        }
        let next = self.state.next(&event)?;
        let told = body["state"].as_str();
        if let Some(told) = told.filter(|told| *told != next.name()) {
            let (kind, told) = (kind.to_owned(), told.to_owned());
            return Err(FoldError::OtherState { kind, told, folded: next.name() });
        }
        self.state = next;
        Ok(Some(event))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::run::Then;

    fn told(event: &RunEvent, state: &str) -> (&'static str, Value) {
        (event.name(), json!({ "event": event, "state": state, "attempt": 1 }))
    }

    #[test]
    fn records_fold_to_the_state_of_the_run() {
        let mut run = Folded::admit(&json!({ "request": {} })).unwrap();
        let start = RunEvent::StepStarted { step: Step::Tier1, attempt: 1 };
        let done = RunEvent::StepSucceeded { step: Step::Tier1, then: Then::Dispatch { deliveries: 1 } };
        for (event, state) in [(start, "working"), (done, "dispatching")] {
            let (kind, body) = told(&event, state);
            assert_eq!(run.apply(kind, &body).unwrap(), Some(event));
        }
        assert_eq!(run.apply("receipt_captured", &json!({ "signal": "up" })).unwrap(), None);
        assert_eq!(run.state, RunState::Dispatching { open: 1, accepted: 0, lost: 0 });
    }

    #[test]
    fn a_run_begins_where_its_admission_says() {
        let folded = Folded::admit(&json!({ "start": { "step": "tier3" } })).unwrap();
        assert_eq!(folded.state, RunState::admitted_at(Step::Tier3));
        let unknown = Folded::admit(&json!({ "start": { "step": "tier9" } })).unwrap_err();
        assert_eq!(unknown, FoldError::Start("\"tier9\"".to_owned()));
    }

    #[test]
    fn what_cannot_follow_is_refused_and_changes_nothing() {
        let start = RunEvent::StepStarted { step: Step::Tier1, attempt: 2 };
        let first = RunEvent::StepStarted { step: Step::Tier1, attempt: 1 };
        let cases = [
            (told(&start, "working"), "`step_started` cannot happen to a run that is `ready`"),
            (("cancelled", told(&first, "working").1), "a record `cancelled` holds the event `step_started`"),
            (
                told(&first, "finished"),
                "`step_started` says that the run was `finished` afterwards, and it is `working`",
            ),
            (
                ("step_started", json!({ "event": { "event": "step_started" } })),
                "`event` of `step_started` cannot be read: missing field `step`",
            ),
        ];
        for ((kind, body), expected) in cases {
            let mut run = Folded::admit(&json!({})).unwrap();
            assert_eq!(run.apply(kind, &body).unwrap_err().to_string(), expected);
            assert_eq!(run.state, RunState::admitted());
        }
    }
}
