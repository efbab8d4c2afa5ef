//! What a decision remembers until the next one: it is kept with the cursor, so that it outlives turns and restarts.
//!
//! Owns the words for firings that do not fire and the rule by which equal ones become one record.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::digest::Digest;
use crate::governance::Closed;
use crate::limits::{DECISIONS_OPEN_MAX, FIRING_LATE_MAX};

/// Why a nominal instant did not become a cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// The run profile is new: its schedule begins now. Stands for no firing.
    FirstSeen,
    /// The clock stands before what is decided already: nothing fires until it has passed that. Stands for no firing.
    ClockBack,
    /// It lies before the moment at which a changed schedule was first seen.
    ScheduleChanged,
    /// An exclusion holds it.
    Excluded,
    /// An earlier cycle was under way.
    Skipped,
    /// No node was up, or the clock jumped over it.
    Missed,
    /// A later firing stands for it.
    Coalesced,
    /// `ORBIT_PAUSED` was set, or the run profile was paused.
    Paused,
    /// The namespace or the node was halted.
    Halted,
    /// The run profile was archived.
    Archived,
    /// There was too little free space.
    DiskFloor,
}

/// A decision and its reason; equal ones are told together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Why {
    pub(super) decision: Decision,
    pub(super) reason: String,
}

/// A run of equal decisions: one record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    /// What was decided.
    pub decision: Decision,
    /// Why, for people.
    pub reason: String,
    /// The first nominal instant.
    pub from: Timestamp,
    /// The last nominal instant.
    pub to: Timestamp,
    /// How many firings it stands for.
    pub count: u64,
}

/// Everything that is kept with a cursor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Memory {
    /// The schedule of the last complete turn.
    pub(super) schedule: Option<Digest>,
    /// The gate is closed, or it was and not everything that came due meanwhile is decided.
    pub(super) closed: Option<ClosedPeriod>,
    /// Firings of a catch-up that goes on over several turns.
    pub(super) caught_up: usize,
    /// The cursor for which a clock that was set back has been recorded.
    pub(super) ahead: Option<Timestamp>,
    /// Decisions that are not recorded yet.
    pub(super) open: Option<Open>,
}

/// A time in which nothing could fire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ClosedPeriod {
    pub(super) since: Timestamp,
    /// None as long as it lasts.
    pub(super) until: Option<Timestamp>,
    pub(super) why: Why,
    /// Whether it ends by a halt or pause being lifted, the time of which is known.
    pub(super) lifted: bool,
}

/// A run of equal decisions that may grow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Open {
    decided: Decided,
    since: Timestamp,
}

/// Collects a turn's decisions into runs.
pub(super) struct Journal<'a> {
    pub(super) memory: &'a mut Memory,
    pub(super) now: Timestamp,
    /// What is to be recorded.
    pub(super) decided: Vec<Decided>,
}

impl Decided {
    /// The body of the record.
    pub fn body(&self, run_profile_id: Uuid, run_profile: &str) -> Value {
        json!({
            "run_profile_id": run_profile_id,
            "run_profile": run_profile,
            "decision": self.decision,
            "reason": self.reason,
            "from": self.from,
            "to": self.to,
            "count": self.count,
        })
    }
}

impl Why {
    pub(super) fn new(decision: Decision, reason: impl Into<String>) -> Self {
        Self { decision, reason: reason.into() }
    }

    /// What a closed gate makes of a firing.
    pub(super) fn gate(closed: &Closed) -> Self {
        let decision = match closed {
            Closed::HaltedGlobal { .. } | Closed::HaltedNamespace { .. } => Decision::Halted,
            Closed::Document { state, .. } if state == "archived" => Decision::Archived,
            Closed::LeaseLapsed | Closed::Paused | Closed::Document { .. } => Decision::Paused,
            // The bytes that are free change all the time; equal reasons are one record.
            Closed::DiskFloor { floor_bytes, .. } => {
                return Self::new(Decision::DiskFloor, format!("fewer than {floor_bytes} bytes are free"));
            }
        };
        Self::new(decision, closed.to_string())
    }
}

impl ClosedPeriod {
    pub(super) fn begin(since: Timestamp, closed: &Closed) -> Self {
        let lifted = match closed {
            Closed::HaltedGlobal { .. } | Closed::HaltedNamespace { .. } | Closed::Paused => true,
            Closed::LeaseLapsed | Closed::Document { .. } | Closed::DiskFloor { .. } => false,
        };
        Self { since, until: None, why: Why::gate(closed), lifted }
    }
}

impl Memory {
    /// An unreadable memory is an empty one: the cursor alone keeps firings from repeating.
    pub(super) fn read(value: &Value) -> Self {
        Self::deserialize(value).unwrap_or_default()
    }

    pub(super) fn write(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// When the open run is recorded at the latest.
    pub(super) fn settles_at(&self) -> Option<Timestamp> {
        self.open.as_ref().and_then(|open| open.since.checked_add(open_max()).ok())
    }

    /// When a clock that was set back is no longer behind what is decided.
    pub(super) fn caught_up_at(&self) -> Option<Timestamp> {
        self.ahead.and_then(|ahead| ahead.checked_sub(span(FIRING_LATE_MAX)).ok())
    }
}

impl Journal<'_> {
    /// One firing more that does not fire.
    pub(super) fn note(&mut self, why: Why, nominal: Timestamp) {
        if let Some(Open { decided, .. }) = &mut self.memory.open
            && decided.decision == why.decision
            && decided.reason == why.reason
        {
            decided.to = nominal;
            decided.count += 1;
            return;
        }
        self.settle();
        let Why { decision, reason } = why;
        let decided = Decided { decision, reason, from: nominal, to: nominal, count: 1 };
        self.memory.open = Some(Open { decided, since: self.now });
    }

    /// The open run is complete.
    pub(super) fn settle(&mut self) {
        self.decided.extend(self.memory.open.take().map(|open| open.decided));
    }

    /// With the gate open, what was missed while it was closed or no node was up cannot grow any more.
    pub(super) fn settle_past(&mut self) {
        let over = |open: &Open| match open.decided.decision {
            Decision::Skipped | Decision::Excluded => false,
            Decision::FirstSeen
            | Decision::ClockBack
            | Decision::ScheduleChanged
            | Decision::Missed
            | Decision::Coalesced
            | Decision::Paused
            | Decision::Halted
            | Decision::Archived
            | Decision::DiskFloor => true,
        };
        if self.memory.open.as_ref().is_some_and(over) {
            self.settle();
        }
    }

    /// A run that is open for long is recorded, whichever way the clock was moved meanwhile.
    pub(super) fn settle_old(&mut self) {
        let old = |open: &Open| self.now.duration_since(open.since).abs() >= open_max();
        if self.memory.open.as_ref().is_some_and(old) {
            self.settle();
        }
    }
}

fn open_max() -> SignedDuration {
    span(DECISIONS_OPEN_MAX)
}

/// A configured duration as a signed one.
pub(super) fn span(millis: crate::config::Millis) -> SignedDuration {
    SignedDuration::from_millis(i64::try_from(millis.0).unwrap_or(i64::MAX))
}
