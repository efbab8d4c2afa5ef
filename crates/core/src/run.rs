//! The spine: what a run is, what can happen to it, and the one function that says what follows.
//!
//! Live running, recovery after a crash and the fold over the log all go through [`RunState::next`](crate::run::RunState::next); a row in a store is only a
//! cache of it. Nothing here knows how a step is done or where a delivery goes.

pub mod fold;

mod outcome;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::limits::STEP_INTERRUPTIONS_MAX;

pub use outcome::Outcome;

/// A step that turns bytes into bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The first tier: from the instruction to bytes.
    Tier1,
    /// The second tier.
    Tier2,
    /// The third tier, which may also be given a reference asset.
    Tier3,
    /// The normalizer, if the profile has one.
    Normalize,
}

/// How far a step has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The step.
    pub step: Step,
    /// Attempts that were started, of every kind; the number of the current or last one.
    pub started: u32,
    /// Attempts that failed: these count against the configured attempts.
    pub failed: u32,
    /// Attempts that a crash cut short: these are bounded on their own.
    pub interrupted: u32,
}

/// Where a run stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum RunState {
    /// A step may start as soon as a worker is free.
    Ready {
        /// The step to start.
        progress: Progress,
    },
    /// A worker holds the step.
    Working {
        /// The step under way.
        progress: Progress,
    },
    /// A failed step waits for its next attempt.
    Waiting {
        /// The step to repeat.
        progress: Progress,
        /// Not before this.
        until: Timestamp,
    },
    /// The artifact is committed; deliveries are under way.
    Dispatching {
        /// Deliveries that are not settled.
        open: u32,
        /// Deliveries that were accepted.
        accepted: u32,
        /// Deliveries that were given up.
        lost: u32,
    },
    /// Nothing more happens by itself.
    Finished {
        /// How it ended.
        ending: Ending,
    },
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Ending {
    /// Every delivery was accepted.
    Succeeded,
    /// The artifact exists, and not every delivery was accepted.
    Partial {
        /// Deliveries that were accepted.
        accepted: u32,
        /// Deliveries that were given up.
        lost: u32,
    },
    /// No artifact came of it.
    Failed {
        /// Where it failed.
        stage: FailedStage,
        /// What to tell the operator.
        message: String,
    },
    /// Somebody or a policy ended it.
    Cancelled {
        /// Who or what.
        reason: String,
    },
}

/// Where a run failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailedStage {
    /// The instruction could not be made.
    Synthesis,
    /// See [`Step::Tier1`].
    Tier1,
    /// See [`Step::Tier2`].
    Tier2,
    /// See [`Step::Tier3`].
    Tier3,
    /// See [`Step::Normalize`].
    Normalize,
    /// The run took longer than its run profile's `deadline`.
    Deadline,
}

/// What can happen to a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum RunEvent {
    /// A worker took the step.
    StepStarted {
        /// The step.
        step: Step,
        /// Its attempt, from 1.
        attempt: u32,
    },
    /// The step's output is durable.
    StepSucceeded {
        /// The step.
        step: Step,
        /// What follows.
        then: Then,
    },
    /// The attempt failed.
    StepFailed {
        /// The step.
        step: Step,
        /// What to tell the operator.
        failure: String,
        /// What follows.
        then: AfterFailure,
    },
    /// The attempt was cut short through no fault of its own.
    StepInterrupted {
        /// The step.
        step: Step,
        /// By what.
        cause: Interruption,
    },
    /// The instruction could not be made.
    SynthesisFailed {
        /// What to tell the operator.
        message: String,
    },
    /// A delivery was accepted or given up.
    DeliverySettled {
        /// Whether the endpoint accepted it.
        accepted: bool,
    },
    /// Deliveries that were given up are tried again.
    Redriven {
        /// How many.
        deliveries: u32,
    },
    /// Somebody or a policy ended the run.
    Cancelled {
        /// Who or what.
        reason: String,
    },
    /// The run took longer than its deadline.
    DeadlinePassed {
        /// What was under way.
        step: Step,
    },
}

/// What follows a step that succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "then", rename_all = "snake_case")]
pub enum Then {
    /// A later step.
    Step {
        /// Which.
        step: Step,
    },
    /// The artifact is done and owed to this many endpoints.
    Dispatch {
        /// Deliveries made; none means that the run is over.
        deliveries: u32,
    },
}

/// What follows a step that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "then", rename_all = "snake_case")]
pub enum AfterFailure {
    /// Another attempt.
    Retry {
        /// Not before this.
        until: Timestamp,
    },
    /// The run fails.
    GiveUp,
}

/// What cut an attempt short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interruption {
    /// The engine died while the attempt ran; bounded by [`STEP_INTERRUPTIONS_MAX`].
    Crash,
    /// A halt killed it; does not count.
    Halt,
    /// The node was stopped; does not count.
    Stop,
    /// The batch that did this step for several runs failed as a whole, which is no run's own fault; does not count. Only the first attempt of a
    /// normalize step is part of a batch, so that it happens at most once a step.
    Batch,
    /// The answer to its claim was lost and nobody made the attempt; does not count.
    Unclaimed,
}

/// An event that cannot happen in this state: a defect, or a log that was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{event}` cannot happen to a run that is `{state}`")]
pub struct IllegalEvent {
    /// The state's name.
    pub state: &'static str,
    /// The event's name.
    pub event: &'static str,
}

impl Step {
    /// The word used in records, paths and output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tier1 => "tier1",
            Self::Tier2 => "tier2",
            Self::Tier3 => "tier3",
            Self::Normalize => "normalize",
        }
    }

    /// The step of this word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Tier1, Self::Tier2, Self::Tier3, Self::Normalize].into_iter().find(|step| step.name() == word)
    }

    const fn failed_stage(self) -> FailedStage {
        match self {
            Self::Tier1 => FailedStage::Tier1,
            Self::Tier2 => FailedStage::Tier2,
            Self::Tier3 => FailedStage::Tier3,
            Self::Normalize => FailedStage::Normalize,
        }
    }
}

impl Progress {
    /// A step that was not started yet.
    pub const fn new(step: Step) -> Self {
        Self { step, started: 0, failed: 0, interrupted: 0 }
    }
}

impl Ending {
    /// The outcome without its reasons.
    pub const fn outcome(&self) -> Outcome {
        match self {
            Self::Succeeded => Outcome::Succeeded,
            Self::Partial { .. } => Outcome::Partial,
            Self::Failed { .. } => Outcome::Failed,
            Self::Cancelled { .. } => Outcome::Cancelled,
        }
    }
}

impl RunState {
    /// The state of a run that was just admitted.
    pub const fn admitted() -> Self {
        Self::admitted_at(Step::Tier1)
    }

    /// The state of a run that was admitted with the output of the steps before this one.
    pub const fn admitted_at(step: Step) -> Self {
        Self::Ready { progress: Progress::new(step) }
    }

    /// The word used in rows and output.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Ready { .. } => "ready",
            Self::Working { .. } => "working",
            Self::Waiting { .. } => "waiting",
            Self::Dispatching { .. } => "dispatching",
            Self::Finished { .. } => "finished",
        }
    }

    /// How it ended, if it did.
    pub const fn ending(&self) -> Option<&Ending> {
        match self {
            Self::Finished { ending } => Some(ending),
            Self::Ready { .. } | Self::Working { .. } | Self::Waiting { .. } | Self::Dispatching { .. } => {
                None
            }
        }
    }

    /// The state after an event, or a refusal that names both.
    pub fn next(&self, event: &RunEvent) -> Result<Self, IllegalEvent> {
        let illegal = || IllegalEvent { state: self.name(), event: event.name() };
        match self {
            Self::Ready { progress } | Self::Waiting { progress, .. } => progress.before_start(event),
            Self::Working { progress } => progress.while_working(event),
            Self::Dispatching { open, accepted, lost } => while_dispatching(*open, *accepted, *lost, event),
            Self::Finished { ending } => after_the_end(ending, event),
        }
        .ok_or_else(illegal)
    }
}

impl Progress {
    fn before_start(self, event: &RunEvent) -> Option<RunState> {
        match event {
            RunEvent::StepStarted { step, attempt } => (*step == self.step && *attempt == self.started + 1)
                .then_some(RunState::Working { progress: Self { started: *attempt, ..self } }),
            RunEvent::SynthesisFailed { message } => {
                (self == Self::new(Step::Tier1)).then(|| failed(FailedStage::Synthesis, message.clone()))
            }
            RunEvent::Cancelled { reason } => Some(cancelled(reason)),
            RunEvent::DeadlinePassed { step } => Some(overdue(*step)),
            RunEvent::StepSucceeded { .. }
            | RunEvent::StepFailed { .. }
            | RunEvent::StepInterrupted { .. }
            | RunEvent::DeliverySettled { .. }
            | RunEvent::Redriven { .. } => None,
        }
    }

    fn while_working(self, event: &RunEvent) -> Option<RunState> {
        match event {
            RunEvent::StepSucceeded { step, then } if *step == self.step => match then {
                Then::Step { step } => {
                    (*step > self.step).then_some(RunState::Ready { progress: Self::new(*step) })
                }
                Then::Dispatch { deliveries } => Some(dispatching(*deliveries, 0, 0)),
            },
            RunEvent::StepFailed { step, failure, then } if *step == self.step => Some(match then {
                AfterFailure::Retry { until } => {
                    RunState::Waiting { progress: Self { failed: self.failed + 1, ..self }, until: *until }
                }
                AfterFailure::GiveUp => failed(self.step.failed_stage(), failure.clone()),
            }),
            RunEvent::StepInterrupted { step, cause } if *step == self.step => self.interrupted(*cause),
            RunEvent::Cancelled { reason } => Some(cancelled(reason)),
            RunEvent::DeadlinePassed { step } => Some(overdue(*step)),
            RunEvent::StepStarted { .. }
            | RunEvent::StepSucceeded { .. }
            | RunEvent::StepFailed { .. }
            | RunEvent::StepInterrupted { .. }
            | RunEvent::SynthesisFailed { .. }
            | RunEvent::DeliverySettled { .. }
            | RunEvent::Redriven { .. } => None,
        }
    }

    fn interrupted(self, cause: Interruption) -> Option<RunState> {
        let interrupted = match cause {
            Interruption::Crash => self.interrupted + 1,
            Interruption::Halt | Interruption::Stop | Interruption::Unclaimed => self.interrupted,
            Interruption::Batch if self.step == Step::Normalize && self.started == 1 => self.interrupted,
            Interruption::Batch => return None,
        };
        if interrupted > STEP_INTERRUPTIONS_MAX {
            let message = format!("the engine died {interrupted} times while this step ran");
            return Some(failed(self.step.failed_stage(), message));
        }
        Some(RunState::Ready { progress: Self { interrupted, ..self } })
    }
}

fn while_dispatching(open: u32, accepted: u32, lost: u32, event: &RunEvent) -> Option<RunState> {
    match event {
        RunEvent::DeliverySettled { accepted: true } => {
            Some(dispatching(open.checked_sub(1)?, accepted + 1, lost))
        }
        RunEvent::DeliverySettled { accepted: false } => {
            Some(dispatching(open.checked_sub(1)?, accepted, lost + 1))
        }
        RunEvent::Redriven { deliveries } => {
            Some(dispatching(open + deliveries, accepted, lost.checked_sub(*deliveries)?))
        }
        RunEvent::Cancelled { reason } => Some(cancelled(reason)),
        RunEvent::StepStarted { .. }
        | RunEvent::StepSucceeded { .. }
        | RunEvent::StepFailed { .. }
        | RunEvent::StepInterrupted { .. }
        | RunEvent::SynthesisFailed { .. }
        | RunEvent::DeadlinePassed { .. } => None,
    }
}

fn after_the_end(ending: &Ending, event: &RunEvent) -> Option<RunState> {
    match (ending, event) {
        (Ending::Partial { accepted, lost }, RunEvent::Redriven { deliveries }) => {
            Some(dispatching(*deliveries, *accepted, lost.checked_sub(*deliveries)?))
        }
        (
            Ending::Succeeded | Ending::Partial { .. } | Ending::Failed { .. } | Ending::Cancelled { .. },
            RunEvent::StepStarted { .. }
            | RunEvent::StepSucceeded { .. }
            | RunEvent::StepFailed { .. }
            | RunEvent::StepInterrupted { .. }
            | RunEvent::SynthesisFailed { .. }
            | RunEvent::DeliverySettled { .. }
            | RunEvent::Redriven { .. }
            | RunEvent::Cancelled { .. }
            | RunEvent::DeadlinePassed { .. },
        ) => None,
    }
}

fn dispatching(open: u32, accepted: u32, lost: u32) -> RunState {
    match (open, lost) {
        (0, 0) => RunState::Finished { ending: Ending::Succeeded },
        (0, lost) => RunState::Finished { ending: Ending::Partial { accepted, lost } },
        (open, lost) => RunState::Dispatching { open, accepted, lost },
    }
}

fn failed(stage: FailedStage, message: String) -> RunState {
    RunState::Finished { ending: Ending::Failed { stage, message } }
}

fn cancelled(reason: &str) -> RunState {
    RunState::Finished { ending: Ending::Cancelled { reason: reason.to_owned() } }
}

fn overdue(step: Step) -> RunState {
    failed(FailedStage::Deadline, format!("the deadline passed before `{}` was done", step.name()))
}

impl RunEvent {
    /// The word used in records: also the record's kind.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::StepStarted { .. } => "step_started",
            Self::StepSucceeded { .. } => "step_succeeded",
            Self::StepFailed { .. } => "step_failed",
            Self::StepInterrupted { .. } => "step_interrupted",
            Self::SynthesisFailed { .. } => "synthesis_failed",
            Self::DeliverySettled { .. } => "delivery_settled",
            Self::Redriven { .. } => "redriven",
            Self::Cancelled { .. } => "cancelled",
            Self::DeadlinePassed { .. } => "deadline_passed",
        }
    }
}

#[cfg(test)]
mod tests_interrupted;
