//! The verdict on each firing of one turn, before anything is said about what is under way.
//!
//! A firing is one of three things: *live*, *late* (no node was up, or the clock jumped over it: `catch_up` decides), or it came due
//! while the gate was *closed* (`resume` decides).

use jiff::{SignedDuration, Timestamp};

use super::Firing;
use super::decide::{Cause, Facts};
use super::memory::{ClosedPeriod, Decision, Memory, Why, span};
use crate::config::{CatchUp, Millis, MissedPolicy, Resume};
use crate::limits::{CATCH_UP_MAX, FIRING_LATE_MAX, FIRINGS_PER_TURN_MAX};

/// What becomes of one firing.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    Fire(Cause),
    Decline(Why),
}

/// Why a turn decides no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The next firing is due then, if there is one.
    Waits(Option<Timestamp>),
    /// The next firing may fire when the gate opens. Until then its verdict may be another one from this instant on.
    Held(Option<Timestamp>),
    /// The turn is long enough.
    More,
}

/// When a firing came due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Live,
    Late,
    Closed,
}

/// Judges the firings of one turn.
struct Judge<'a> {
    facts: &'a Facts<'a>,
    closed: Option<ClosedPeriod>,
    schedule_changed: bool,
    caught_up: usize,
    /// The last late one, and the last that came due while the gate was closed.
    last_late: Option<Timestamp>,
    last_closed: Option<Timestamp>,
}

/// What is due before this is late.
pub(super) fn late_before(facts: &Facts<'_>) -> Timestamp {
    let noticed = facts.now.checked_sub(span(FIRING_LATE_MAX)).unwrap_or(facts.now);
    // A start that lies in the future was before the clock was set back, and tells nothing.
    if facts.started_at <= facts.now { noticed.max(facts.started_at) } else { noticed }
}

pub(super) fn judge(
    facts: &Facts<'_>,
    memory: &Memory,
    after: Timestamp,
) -> (Vec<(Firing, Verdict)>, End, usize) {
    let mut firings = facts.schedule.firings(after).peekable();
    let mut judge = Judge::new(facts, memory);
    let (mut verdicts, mut fires) = (Vec::new(), 0);
    if firings.peek().is_some_and(|first| first.due <= facts.now) {
        judge.find_last(after);
    }
    let end = loop {
        let Some(firing) = firings.next().filter(|firing| firing.due <= facts.now) else {
            break End::Waits(None);
        };
        if verdicts.len() == FIRINGS_PER_TURN_MAX || fires == CATCH_UP_MAX {
            break End::More;
        }
        let Some(verdict) = judge.verdict(&firing) else { break End::Held(judge.reconsiders(&firing)) };
        fires += usize::from(matches!(verdict, Verdict::Fire(_)));
        verdicts.push((firing, verdict));
    };
    let end = match (end, verdicts.last()) {
        (End::Waits(_), last) => {
            let through = last.map_or(after, |(firing, _)| firing.nominal);
            End::Waits(facts.schedule.firings(through).next().map(|firing| firing.due))
        }
        (end, _) => end,
    };
    (verdicts, end, judge.caught_up)
}

impl<'a> Judge<'a> {
    fn new(facts: &'a Facts<'a>, memory: &Memory) -> Self {
        Self {
            facts,
            closed: memory.closed.clone(),
            schedule_changed: memory.schedule.is_some_and(|known| known != facts.schedule.digest),
            caught_up: memory.caught_up,
            last_late: None,
            last_closed: None,
        }
    }

    /// Finds the ones that stand for all others under `last`, without walking through what may be a long backlog.
    fn find_last(&mut self, after: Timestamp) {
        let schedule = self.facts.schedule;
        let mut late = schedule.last_due(late_before(self.facts));
        if let Some(period) = &self.closed {
            let until = period.until.unwrap_or(self.facts.now);
            let inclusive = until.checked_add(SignedDuration::from_nanos(1)).unwrap_or(until);
            let closed = schedule.last_due(inclusive).filter(|last| last.due >= period.since);
            self.last_closed = closed.map(|last| last.nominal).filter(|last| *last > after);
            if late.is_some_and(|last| self.class(last.due) == Class::Closed) {
                late = schedule.last_due(period.since);
            }
        }
        self.last_late = late.map(|last| last.nominal).filter(|last| *last > after);
    }

    fn class(&self, due: Timestamp) -> Class {
        let within =
            |period: &ClosedPeriod| period.since <= due && due <= period.until.unwrap_or(self.facts.now);
        if self.closed.as_ref().is_some_and(within) {
            Class::Closed
        } else if due < late_before(self.facts) {
            Class::Late
        } else {
            Class::Live
        }
    }

    /// None if the firing is held.
    fn verdict(&mut self, firing: &Firing) -> Option<Verdict> {
        let facts = self.facts;
        if firing.excluded {
            return Some(decline(Decision::Excluded, "an exclusion of the schedule holds it"));
        }
        if self.schedule_changed && facts.now.duration_since(firing.due) > span(FIRING_LATE_MAX) {
            return Some(decline(Decision::ScheduleChanged, "it lies before the schedule was changed"));
        }
        let wanted = match self.class(firing.due) {
            Class::Live => Ok(Cause::Due),
            Class::Late => self.late(firing),
            Class::Closed => self.while_closed(firing),
        };
        match (wanted, facts.closed.map(Why::gate)) {
            (Err(why), _) => Some(Verdict::Decline(why)),
            // An archived run profile may stay so for good; nothing is held for it.
            (Ok(_), Some(why)) if why.decision == Decision::Archived => Some(Verdict::Decline(why)),
            (Ok(_), Some(_)) => None,
            (Ok(cause), None) => {
                self.caught_up += usize::from(cause != Cause::Due);
                Some(Verdict::Fire(cause))
            }
        }
    }

    /// When a firing that is held may no longer be: when it is late, when it is too old, when a later one stands for it.
    fn reconsiders(&self, firing: &Firing) -> Option<Timestamp> {
        let Facts { schedule, catch_up, resume, now, .. } = *self.facts;
        let past = |at: Timestamp, long: Millis| {
            at.checked_add(span(long).saturating_add(SignedDuration::from_nanos(1))).ok()
        };
        let mut instants = vec![
            past(firing.due, FIRING_LATE_MAX),
            past(firing.nominal, catch_up.window),
            past(firing.nominal, resume.window),
        ];
        if [catch_up.policy, resume.policy].contains(&MissedPolicy::Last) {
            // At most one is nominal by now and due later.
            let inclusive = now.checked_add(SignedDuration::from_nanos(1)).unwrap_or(now);
            let pending = schedule.before(inclusive).filter(|last| last.due > now);
            instants.push(pending.or_else(|| schedule.after(now)).map(|next| next.due));
        }
        instants.into_iter().flatten().filter(|at| *at > now).min()
    }

    fn late(&self, firing: &Firing) -> Result<Cause, Why> {
        let CatchUp { policy, window } = self.facts.catch_up;
        let missed = if firing.due < self.facts.started_at {
            "no node was up when it was due"
        } else {
            "it was noticed too late"
        };
        let because = match self.missed(*policy, *window, firing, self.last_late) {
            Missed::Fires => return Ok(Cause::CaughtUp),
            Missed::Coalesced => return Err(coalesced()),
            Missed::None => "`catch_up` is `none`".to_owned(),
            Missed::TooOld => format!("it is older than the window of `catch_up`, {window}"),
            Missed::TooMany => format!("`catch_up` has fired {CATCH_UP_MAX} already"),
        };
        Err(Why::new(Decision::Missed, format!("{missed}, and {because}")))
    }

    fn while_closed(&self, firing: &Firing) -> Result<Cause, Why> {
        let Resume { policy, window } = self.facts.resume;
        let why = self.closed.as_ref().map(|period| period.why.clone());
        let Why { decision, reason } = why.unwrap_or_else(|| Why::new(Decision::Paused, "paused"));
        let reason = match self.missed(*policy, *window, firing, self.last_closed) {
            Missed::Fires => return Ok(Cause::Resumed),
            Missed::Coalesced => return Err(coalesced()),
            Missed::None => reason,
            Missed::TooOld => format!("{reason}; it is older than the window of `resume`, {window}"),
            Missed::TooMany => format!("{reason}; `resume` has fired {CATCH_UP_MAX} already"),
        };
        Err(Why::new(decision, reason))
    }

    fn missed(
        &self,
        policy: MissedPolicy,
        window: Millis,
        firing: &Firing,
        last: Option<Timestamp>,
    ) -> Missed {
        let too_old = self.facts.now.duration_since(firing.nominal) > span(window);
        match policy {
            MissedPolicy::None => Missed::None,
            MissedPolicy::Last | MissedPolicy::All if too_old => Missed::TooOld,
            MissedPolicy::Last if last == Some(firing.nominal) => Missed::Fires,
            MissedPolicy::Last => Missed::Coalesced,
            MissedPolicy::All if self.caught_up >= CATCH_UP_MAX => Missed::TooMany,
            MissedPolicy::All => Missed::Fires,
        }
    }
}

/// What a policy says of a firing that was missed.
enum Missed {
    Fires,
    Coalesced,
    None,
    TooOld,
    TooMany,
}

fn decline(decision: Decision, reason: &str) -> Verdict {
    Verdict::Decline(Why::new(decision, reason))
}

pub(super) fn coalesced() -> Why {
    Why::new(Decision::Coalesced, "a later firing stands for it")
}
