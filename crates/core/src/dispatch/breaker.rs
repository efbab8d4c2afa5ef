//! How an endpoint does, by the attempts at it: a circuit breaker, and how long nothing has been accepted.
//!
//! ```text
//!            so many failures in a row          the pause is over: one attempt probes
//!   closed ───────────────────────────▶ open ────────────────────────────────▶ half open
//!     ▲                                  ▲                                       │   │
//!     │                                  └── the probe failed: twice the pause ──┘   │
//!     └───────────────────────────── an answer ──────────────────────────────────────┘
//! ```
//!
//! Live dispatch and every check of the log go through [`Health::next`]; what leads to what is decided in [`Health::after`].

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::outcome::{AttemptFailure, HttpFailure};
use crate::config::{BreakerRule, Endpoint, Millis, default_disable_after};

/// What an attempt says about its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// It took the delivery.
    Accepted,
    /// It answered and did not take it: 3xx and 4xx, but for 408 and 429. It is there, so nothing is gained by waiting for it.
    Alive,
    /// It could not be reached, did not answer in time, failed itself (5xx), or asked to be left alone (408, 429).
    Down,
    /// The attempt did not get as far as the endpoint, or was cut short from this side.
    Silent,
}

/// How an endpoint's answers are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// When its breaker opens, and for how long.
    pub breaker: BreakerRule,
    /// How long every attempt may fail before the endpoint is disabled. At half of it there is a warning.
    pub disable_after: Millis,
}

/// Whether an endpoint is sent to, and what is known against it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "health", rename_all = "snake_case")]
pub enum Health {
    /// It takes deliveries, as far as its breaker lets them through.
    Enabled {
        /// The breaker.
        breaker: Breaker,
        /// Since when nothing has been accepted; null while the last attempt that says anything was.
        failing: Option<Failing>,
    },
    /// It takes nothing until it is enabled.
    Disabled {
        /// Why.
        reason: String,
        /// Since when.
        at: Timestamp,
    },
}

/// A circuit breaker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "breaker", rename_all = "snake_case")]
pub enum Breaker {
    /// Deliveries are sent.
    Closed {
        /// Attempts in a row that found the endpoint down.
        failures: u32,
    },
    /// Nothing is sent.
    Open {
        /// Until then.
        until: Timestamp,
        /// How long that is in milliseconds.
        pause_ms: u64,
    },
    /// One attempt finds out.
    HalfOpen {
        /// The delivery it is for.
        probe: Uuid,
        /// When the pause was over.
        until: Timestamp,
        /// How long it was in milliseconds.
        pause_ms: u64,
    },
}

/// An endpoint of which every attempt fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failing {
    /// When the first of these attempts ended.
    pub since: Timestamp,
    /// Whether the operator was warned.
    pub warned: bool,
}

/// What can happen to an endpoint. Each is a record, [`HealthEvent::Answered`] that of the attempt's receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealthEvent {
    /// An attempt ended.
    Answered(Answer),
    /// The breaker opened.
    Opened {
        /// Nothing is sent before this.
        until: Timestamp,
        /// How long that is in milliseconds.
        pause_ms: u64,
    },
    /// The pause is over and one attempt was begun.
    HalfOpened {
        /// The delivery it is for.
        probe: Uuid,
    },
    /// The breaker closed.
    Closed,
    /// Every attempt has failed for half of the time after which the endpoint is disabled.
    Failing,
    /// The endpoint takes nothing more.
    Disabled {
        /// Why.
        reason: String,
        /// Since when.
        at: Timestamp,
    },
    /// The endpoint takes deliveries again.
    Enabled,
}

/// The end of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The delivery.
    pub delivery_id: Uuid,
    /// What it says about the endpoint.
    pub signal: Signal,
    /// When it ended.
    pub at: Timestamp,
}

/// How many attempts may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admits {
    /// As many as there are.
    Any,
    /// One, which probes.
    Probe,
    /// None.
    Nothing,
}

impl Signal {
    /// What the end of an attempt says about the endpoint.
    pub fn of(result: &Result<(), AttemptFailure>) -> Self {
        let failure = match result {
            Ok(()) => return Self::Accepted,
            Err(failure) => failure,
        };
        match failure {
            AttemptFailure::Status { status: 408 | 429 | 500.., .. } => Self::Down,
            AttemptFailure::Status { .. } => Self::Alive,
            AttemptFailure::Http { failure } => match failure {
                HttpFailure::Resolve { .. }
                | HttpFailure::Refused { .. }
                | HttpFailure::Connect { .. }
                | HttpFailure::Tls { .. }
                | HttpFailure::TimedOut { .. }
                | HttpFailure::Closed { .. }
                | HttpFailure::Malformed { .. }
                | HttpFailure::HeadTooLarge => Self::Down,
                HttpFailure::Unsendable { .. } | HttpFailure::Unreadable { .. } | HttpFailure::Cut { .. } => {
                    Self::Silent
                }
            },
            AttemptFailure::MissingSecret { .. }
            | AttemptFailure::UnusableSecret { .. }
            | AttemptFailure::Request { .. }
            | AttemptFailure::MissingArtifact { .. }
            | AttemptFailure::CorruptArtifact { .. }
            | AttemptFailure::Local { .. }
            | AttemptFailure::Cut { .. }
            | AttemptFailure::Panicked { .. } => Self::Silent,
        }
    }
}

impl From<&Endpoint> for Rule {
    fn from(endpoint: &Endpoint) -> Self {
        Self { breaker: endpoint.breaker, disable_after: endpoint.disable_after }
    }
}

impl Default for Rule {
    fn default() -> Self {
        Self { breaker: BreakerRule::default(), disable_after: default_disable_after() }
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::Enabled { breaker: Breaker::Closed { failures: 0 }, failing: None }
    }
}

impl Breaker {
    /// The word in columns and answers.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Closed { .. } => "closed",
            Self::Open { .. } => "open",
            Self::HalfOpen { .. } => "half_open",
        }
    }

    fn answered(&self, answer: &Answer) -> Self {
        match (answer.signal, self) {
            (Signal::Accepted | Signal::Alive, Self::Closed { .. }) => Self::Closed { failures: 0 },
            (Signal::Down, Self::Closed { failures }) => {
                Self::Closed { failures: failures.saturating_add(1) }
            }
            // The probe told nothing, so another one may.
            (Signal::Silent, Self::HalfOpen { probe, until, pause_ms }) if *probe == answer.delivery_id => {
                Self::Open { until: *until, pause_ms: *pause_ms }
            }
            (
                Signal::Accepted | Signal::Alive | Signal::Down | Signal::Silent,
                Self::Closed { .. } | Self::Open { .. } | Self::HalfOpen { .. },
            ) => self.clone(),
        }
    }

    /// What an answer does to it beyond being counted.
    fn after(&self, answer: &Answer, rule: &BreakerRule) -> Option<HealthEvent> {
        let open = |pause: Millis| {
            let pause_ms = pause.0.max(rule.pause.0).min(rule.pause_max.0);
            let wait = SignedDuration::from_millis(i64::try_from(pause_ms).unwrap_or(i64::MAX));
            let until = answer.at.checked_add(wait).unwrap_or(Timestamp::MAX);
            HealthEvent::Opened { until, pause_ms }
        };
        match (answer.signal, self) {
            (Signal::Accepted | Signal::Alive, Self::Open { .. } | Self::HalfOpen { .. }) => {
                Some(HealthEvent::Closed)
            }
            (Signal::Down, Self::Closed { failures }) => {
                (failures.saturating_add(1) >= rule.failures).then(|| open(rule.pause))
            }
            (Signal::Down, Self::HalfOpen { probe, pause_ms, .. }) => {
                (*probe == answer.delivery_id).then(|| open(Millis(pause_ms.saturating_mul(2))))
            }
            // What was under way when it opened tells nothing new.
            (Signal::Down, Self::Open { .. })
            | (Signal::Accepted | Signal::Alive, Self::Closed { .. })
            | (Signal::Silent, Self::Closed { .. } | Self::Open { .. } | Self::HalfOpen { .. }) => None,
        }
    }
}

impl Failing {
    fn answered(before: Option<Self>, answer: &Answer) -> Option<Self> {
        match answer.signal {
            Signal::Accepted => None,
            Signal::Silent => before,
            Signal::Alive | Signal::Down => before.or(Some(Self { since: answer.at, warned: false })),
        }
    }

    /// The warning, or the end; an end always follows a warning by an earlier attempt.
    fn after(self, answer: &Answer, disable_after: Millis) -> Option<HealthEvent> {
        match answer.signal {
            Signal::Accepted | Signal::Silent => return None,
            Signal::Alive | Signal::Down => {}
        }
        let failing_ms = answer.at.duration_since(self.since).as_millis();
        let limit_ms = i128::from(disable_after.0);
        if !self.warned {
            return (failing_ms * 2 >= limit_ms).then_some(HealthEvent::Failing);
        }
        let reason = || {
            let since = self.since.strftime("%Y-%m-%dT%H:%M:%SZ");
            format!("it has accepted nothing since {since}, which is longer than `disable_after` allows")
        };
        (failing_ms >= limit_ms).then(|| HealthEvent::Disabled { reason: reason(), at: answer.at })
    }
}

impl Health {
    /// How it does after this. Every event has an answer, so that any log can be read: one that does not fit changes nothing.
    #[must_use]
    pub fn next(&self, event: &HealthEvent) -> Self {
        let (breaker, failing) = match (self, event) {
            (Self::Disabled { .. }, HealthEvent::Enabled) => return Self::default(),
            (Self::Disabled { .. }, _) => return self.clone(),
            (Self::Enabled { breaker, failing }, _) => (breaker, *failing),
        };
        let (breaker, failing) = match event {
            HealthEvent::Answered(answer) => (breaker.answered(answer), Failing::answered(failing, answer)),
            HealthEvent::Opened { until, pause_ms } => {
                (Breaker::Open { until: *until, pause_ms: *pause_ms }, failing)
            }
            HealthEvent::HalfOpened { probe } => match breaker {
                Breaker::Open { until, pause_ms } => {
                    (Breaker::HalfOpen { probe: *probe, until: *until, pause_ms: *pause_ms }, failing)
                }
                Breaker::Closed { .. } | Breaker::HalfOpen { .. } => (breaker.clone(), failing),
            },
            HealthEvent::Closed => (Breaker::Closed { failures: 0 }, failing),
            HealthEvent::Failing => {
                (breaker.clone(), failing.map(|failing| Failing { warned: true, ..failing }))
            }
            HealthEvent::Disabled { reason, at } => {
                return Self::Disabled { reason: reason.clone(), at: *at };
            }
            HealthEvent::Enabled => (breaker.clone(), failing),
        };
        Self::Enabled { breaker, failing }
    }

    /// Everything that an answer leads to, in order; the answer itself comes first.
    pub fn after(&self, answer: Answer, rule: &Rule) -> Vec<HealthEvent> {
        let mut events = vec![HealthEvent::Answered(answer)];
        if let Self::Enabled { breaker, failing } = self {
            events.extend(breaker.after(&answer, &rule.breaker));
            events.extend(failing.and_then(|failing| failing.after(&answer, rule.disable_after)));
        }
        events
    }

    /// How many attempts may begin now.
    pub fn admits(&self, now: Timestamp) -> Admits {
        match self {
            Self::Enabled { breaker: Breaker::Closed { .. }, .. } => Admits::Any,
            Self::Enabled { breaker: Breaker::Open { until, .. }, .. } if *until <= now => Admits::Probe,
            Self::Enabled { breaker: Breaker::Open { .. } | Breaker::HalfOpen { .. }, .. }
            | Self::Disabled { .. } => Admits::Nothing,
        }
    }
}

#[cfg(test)]
#[path = "tests_breaker.rs"]
mod tests;
