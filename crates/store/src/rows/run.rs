//! A run as its transitions see it, and what a transition makes of the columns of its row and of its step's.

use jiff::Timestamp;
use orbit_core::digest::Digest;
use orbit_core::record::Subject;
use orbit_core::run::{Ending, IllegalEvent, Progress, RunEvent, RunState, Step};
use serde_json::json;
use uuid::Uuid;

use super::record::{Facts, facts};
use crate::contract::Artifact;

/// A run as its transitions see it.
#[derive(Clone)]
pub(crate) struct Run {
    /// Its id.
    pub(crate) id: Uuid,
    /// Its cycle.
    pub(crate) cycle_id: Uuid,
    /// Its profile.
    pub(crate) profile_id: Uuid,
    /// The snapshot it is pinned to.
    pub(crate) snapshot: Digest,
    /// Where it stands.
    pub(crate) state: RunState,
    /// The token of its last claim.
    pub(crate) token: i64,
    /// When it must have an artifact.
    pub(crate) deadline_at: Timestamp,
    /// The output of the step that the next event ends; kept with it as that of the step, and as what the run has when its row is written next.
    pub(crate) made: Option<Artifact>,
}

impl Run {
    /// What its records are about.
    pub(crate) fn subject(&self) -> Subject {
        Subject {
            cycle_id: Some(self.cycle_id),
            run_id: Some(self.id),
            profile_id: Some(self.profile_id),
            snapshot: Some(self.snapshot),
        }
    }

    /// It stands where the event leads; where it stood before.
    pub(crate) fn advance(&mut self, event: &RunEvent) -> Result<RunState, IllegalEvent> {
        let next = self.state.next(event)?;
        Ok(std::mem::replace(&mut self.state, next))
    }

    /// What the record of the event that led here says, besides these facts.
    pub(crate) fn told(&self, event: &RunEvent, mut facts: Facts) -> Facts {
        facts.insert("event".to_owned(), json!(event));
        facts.insert("state".to_owned(), self.state.name().into());
        facts
    }

    /// Names the attempt that is under way, if one is.
    pub(crate) fn facts_of_step(&self) -> Facts {
        match &self.state {
            RunState::Working { progress } => attempt_facts(self.id, progress.step, progress.started),
            RunState::Ready { .. }
            | RunState::Waiting { .. }
            | RunState::Dispatching { .. }
            | RunState::Finished { .. } => Facts::new(),
        }
    }
}

/// The columns that a state has.
pub(crate) struct StateColumns {
    /// Its word.
    pub(crate) name: &'static str,
    /// Attempts of the current step that were started.
    pub(crate) attempt: u32,
    /// When a waiting step may start again.
    pub(crate) due_at: Option<Timestamp>,
    /// The step that waits to start, whose lane the run stands in.
    pub(crate) to_start: Option<Step>,
}

/// See [`StateColumns`].
pub(crate) fn columns_of(state: &RunState) -> StateColumns {
    let (attempt, due_at, to_start) = match state {
        RunState::Ready { progress } => (progress.started, None, Some(progress.step)),
        RunState::Working { progress } => (progress.started, None, None),
        RunState::Waiting { progress, until } => (progress.started, Some(*until), Some(progress.step)),
        RunState::Dispatching { .. } | RunState::Finished { .. } => (0, None, None),
    };
    StateColumns { name: state.name(), attempt, due_at, to_start }
}

/// The step that a run waits to start.
pub(crate) fn to_start(state: &RunState) -> Option<Progress> {
    match state {
        RunState::Ready { progress } | RunState::Waiting { progress, .. } => Some(*progress),
        RunState::Working { .. } | RunState::Dispatching { .. } | RunState::Finished { .. } => None,
    }
}

/// What an event makes of the row of a step.
pub(crate) enum StepChange<'a> {
    /// An attempt is under way.
    Started { step: Step, attempt: u32 },
    /// It is over: the word of its state, and why it failed.
    Over { step: Step, state: &'static str, failure: Option<&'a str> },
}

/// See [`StepChange`]; none if the event is about no step that is under way.
pub(crate) fn step_change<'a>(before: &RunState, event: &'a RunEvent) -> Option<StepChange<'a>> {
    let under_way = match before {
        RunState::Working { progress } => Some(progress.step),
        RunState::Ready { .. }
        | RunState::Waiting { .. }
        | RunState::Dispatching { .. }
        | RunState::Finished { .. } => None,
    };
    let (step, state, failure) = match event {
        RunEvent::StepStarted { step, attempt } => {
            return Some(StepChange::Started { step: *step, attempt: *attempt });
        }
        RunEvent::StepSucceeded { step, .. } => (*step, "succeeded", None),
        RunEvent::StepFailed { step, failure, .. } => (*step, "failed", Some(failure.as_str())),
        RunEvent::StepInterrupted { step, .. } => (*step, "interrupted", None),
        RunEvent::Cancelled { reason } => (under_way?, "cancelled", Some(reason.as_str())),
        RunEvent::DeadlinePassed { step } => {
            under_way?;
            (*step, "cancelled", Some("the deadline passed"))
        }
        RunEvent::SynthesisFailed { .. } | RunEvent::DeliverySettled { .. } | RunEvent::Redriven { .. } => {
            return None;
        }
    };
    Some(StepChange::Over { step, state, failure })
}

/// The place of a step in its run.
pub(crate) fn step_place(step: Step) -> u8 {
    match step {
        Step::Tier1 => 0,
        Step::Tier2 => 1,
        Step::Tier3 => 2,
        Step::Normalize => 3,
    }
}

/// The idempotency key and the number of an attempt, for its records.
pub(crate) fn attempt_facts(run_id: Uuid, step: Step, attempt: u32) -> Facts {
    let key = orbit_core::id::step_key(run_id, step);
    facts(json!({ "step": step, "attempt": attempt, "idempotency_key": key }))
}

/// Why it ended as it did, where the word does not say.
pub(crate) fn reason(ending: &Ending) -> Option<String> {
    match ending {
        Ending::Succeeded => None,
        Ending::Partial { accepted, lost } => {
            Some(format!("{lost} of {} deliveries were given up", accepted + lost))
        }
        Ending::Failed { message, .. } => Some(message.clone()),
        Ending::Cancelled { reason } => Some(reason.clone()),
    }
}
