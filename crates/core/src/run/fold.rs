//! The fold of one run: from the bodies of its records alone to where it stands.
//!
//! Whoever rebuilds rows and whoever verifies a log goes through here. Only facts are read, and of each only what changes a run.

use std::borrow::Cow;
use std::fmt::Display;

use serde::{Deserialize, Deserializer};

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
    /// The body is not that of such a record.
    #[error("the body of `{kind}` cannot be read: {message}")]
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

/// What is read of the body of `run_admitted`.
#[derive(Deserialize)]
struct Admitted {
    start: Option<Start>,
}

#[derive(Deserialize)]
struct Start {
    step: Step,
}

/// What is read of the body of every other record.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Told<'a> {
    /// What happened to the run; none if the record tells of something else.
    pub event: Option<RunEvent>,
    /// Where it stood afterwards, in a word.
    #[serde(borrow)]
    state: Option<Cow<'a, str>>,
}

impl<'a> Told<'a> {
    /// Reads the body of a record of this kind.
    pub fn read<D: Deserializer<'a>>(kind: &str, body: D) -> Result<Self, FoldError> {
        Self::deserialize(body).map_err(unreadable(kind))
    }
}

impl Folded {
    /// The run as the body of its `run_admitted` has it: at tier 1, or where the admission says.
    pub fn admit<'de, D: Deserializer<'de>>(body: D) -> Result<Self, FoldError> {
        let Admitted { start } = Admitted::deserialize(body).map_err(unreadable("run_admitted"))?;
        let state = start.map_or(RunState::admitted(), |start| RunState::admitted_at(start.step));
        Ok(Self { state })
    }

    /// The next record of the run; what happened to it, or none if the record tells of something else. After an error nothing has changed.
    pub fn apply(&mut self, kind: &str, told: Told<'_>) -> Result<Option<RunEvent>, FoldError> {
        let Told { event, state } = told;
        let Some(event) = event else { return Ok(None) };
        if event.name() != kind {
            return Err(FoldError::OtherKind { kind: kind.to_owned(), event: event.name() });
        }
        let next = self.state.next(&event)?;
        if let Some(told) = state.filter(|told| *told != next.name()) {
            let (kind, told) = (kind.to_owned(), told.into_owned());
            return Err(FoldError::OtherState { kind, told, folded: next.name() });
        }
        self.state = next;
        Ok(Some(event))
    }
}

fn unreadable<E: Display>(kind: &str) -> impl Fn(E) -> FoldError {
    move |error| FoldError::Unreadable { kind: kind.to_owned(), message: error.to_string() }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::run::Then;

    fn apply(run: &mut Folded, kind: &str, body: &Value) -> Result<Option<RunEvent>, FoldError> {
        run.apply(kind, Told::read(kind, body)?)
    }

    fn told(event: &RunEvent, state: &str) -> (&'static str, Value) {
        (event.name(), json!({ "event": event, "state": state, "attempt": 1 }))
    }

    #[test]
    fn records_fold_to_the_state_of_the_run() {
        let mut run = Folded::admit(json!({ "request": {} })).unwrap();
        let start = RunEvent::StepStarted { step: Step::Tier1, attempt: 1 };
        let done = RunEvent::StepSucceeded { step: Step::Tier1, then: Then::Dispatch { deliveries: 1 } };
        for (event, state) in [(start, "working"), (done, "dispatching")] {
            let (kind, body) = told(&event, state);
            assert_eq!(apply(&mut run, kind, &body).unwrap(), Some(event));
        }
        assert_eq!(apply(&mut run, "receipt_captured", &json!({ "signal": "up" })).unwrap(), None);
        assert_eq!(run.state, RunState::Dispatching { open: 1, accepted: 0, lost: 0 });
    }

    #[test]
    fn a_run_begins_where_its_admission_says() {
        let folded = Folded::admit(json!({ "start": { "step": "tier3" } })).unwrap();
        assert_eq!(folded.state, RunState::admitted_at(Step::Tier3));
        let unknown = Folded::admit(json!({ "start": { "step": "tier9" } })).unwrap_err().to_string();
        assert!(unknown.contains("unknown variant `tier9`"), "{unknown}");
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
                "the body of `step_started` cannot be read: missing field `step`",
            ),
        ];
        for ((kind, body), expected) in cases {
            let mut run = Folded::admit(json!({})).unwrap();
            assert_eq!(apply(&mut run, kind, &body).unwrap_err().to_string(), expected);
            assert_eq!(run.state, RunState::admitted());
        }
    }
}
