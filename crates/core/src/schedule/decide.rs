//! The decision about every nominal instant between the cursor and now: it fires, or the record says why not.
//!
//! Each instant is decided once and in order, and the cursor ends at the last one that is. What may still fire when the gate opens is
//! held, and the cursor stays before it. Read next: `judge`.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::judge::{End, Verdict, coalesced, judge, late_before};
use super::memory::{ClosedPeriod, Decided, Decision, Journal, Memory, Why, span};
use super::{Firing, Schedule};
use crate::config::{CatchUp, Overlap, Resume};
use crate::governance::Closed;
use crate::limits::{FIRING_LATE_MAX, OVERLAP_QUEUE_MAX};

/// What a turn looks at.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// When it fires.
    pub schedule: &'a Schedule,
    /// What happens when an earlier cycle is under way.
    pub overlap: Overlap,
    /// What happens to late firings.
    pub catch_up: &'a CatchUp,
    /// What happens to firings that came due while the gate was closed.
    pub resume: &'a Resume,
    /// The present instant.
    pub now: Timestamp,
    /// Since when this node is up.
    pub started_at: Timestamp,
    /// When the gate was last opened, as far as that is known.
    pub reopened_at: Option<Timestamp>,
    /// Why nothing may fire now; none if the gate is open.
    pub closed: Option<&'a Closed>,
    /// What is under way. It matters only if something fires.
    pub load: Load,
}

/// How many cycles of the run profile are under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// At work.
    pub active: u32,
    /// Waiting behind them.
    pub queued: u32,
}

/// Up to where firings are decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Cursor {
    /// Every nominal instant up to and including this one is decided.
    pub decided_through: Timestamp,
    /// What decisions remember; kept as it is, and read by nobody else.
    pub memory: Value,
}

/// Why a cycle fires now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It is due.
    Due,
    /// It is late.
    CaughtUp,
    /// It came due while the gate was closed.
    Resumed,
}

/// A cycle that is to exist.
#[derive(Clone, Debug, PartialEq)]
pub struct Fire {
    /// The instant it stands for.
    pub nominal: Timestamp,
    /// It waits until no other cycle of the run profile is active.
    pub queued: bool,
    /// What is under way is cancelled first.
    pub cancel_others: bool,
    /// Why it fires.
    pub cause: Cause,
    /// The same for the record: `cause`, `due`, `late_ms` and, if the clocks changed, `change`.
    pub detail: Value,
}

/// Everything that a turn decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Cycles that fire, oldest first; at most [`crate::limits::CATCH_UP_MAX`].
    pub fire: Vec<Fire>,
    /// Runs of equal decisions that are complete and to be recorded.
    pub decided: Vec<Decided>,
    /// The new cursor.
    pub cursor: Cursor,
    /// Whether there is anything to commit.
    pub changed: bool,
    /// Whether another turn has more to decide at once.
    pub more: bool,
    /// Before this there is nothing to decide, unless the gate, the schedule or its policies change, the clock is set back, or somebody else decides.
    pub next: Option<Timestamp>,
}

/// Decides what happens now. Without a cursor the run profile is new: its schedule begins now, and nothing is made up for.
pub fn decide(facts: &Facts<'_>, cursor: Option<&Cursor>) -> Plan {
    let Some(cursor) = cursor else { return first_sight(facts) };
    let mut memory = Memory::read(&cursor.memory);
    keep_closed_period(facts, &mut memory);
    let (mut verdicts, end, caught_up) = judge(facts, &memory, cursor.decided_through);
    apply_overlap(facts, &mut verdicts);

    let mut journal = Journal { memory: &mut memory, now: facts.now, decided: Vec::new() };
    let (mut fire, mut load) = (Vec::new(), facts.load);
    let mut decided_through = cursor.decided_through;
    for (firing, verdict) in verdicts {
        decided_through = firing.nominal;
        match verdict.admitted(facts.overlap, &mut load) {
            Ok((cause, queued)) => {
                journal.settle();
                let cancel_others = facts.overlap == Overlap::CancelOther && busy(facts.load);
                let detail = detail(facts.now, &firing, cause);
                fire.push(Fire { nominal: firing.nominal, queued, cancel_others, cause, detail });
            }
            Err(why) => journal.note(why, firing.nominal),
        }
    }
    let decided = finish(facts, journal, end, caught_up, cursor.decided_through);
    let next = match end {
        End::Waits(due) => due,
        End::Held(reconsidered) => reconsidered,
        End::More => None,
    };
    let next = [next, memory.settles_at(), memory.caught_up_at()].into_iter().flatten().min();
    let after = Cursor { decided_through, memory: memory.write() };
    let changed = after != *cursor || !decided.is_empty();
    Plan { fire, decided, cursor: after, changed, more: end == End::More, next }
}

fn first_sight(facts: &Facts<'_>) -> Plan {
    let mut memory = Memory { schedule: Some(facts.schedule.digest), ..Memory::default() };
    keep_closed_period(facts, &mut memory);
    let reason = "the schedule begins now; earlier firings are not made up for".to_owned();
    let seen = Decided { decision: Decision::FirstSeen, reason, from: facts.now, to: facts.now, count: 0 };
    Plan {
        fire: Vec::new(),
        decided: vec![seen],
        cursor: Cursor { decided_through: facts.now, memory: memory.write() },
        changed: true,
        more: false,
        next: facts.schedule.firings(facts.now).next().map(|firing| firing.due),
    }
}

/// Notes that the gate is closed, or that it was opened again.
fn keep_closed_period(facts: &Facts<'_>, memory: &mut Memory) {
    match (facts.closed, &mut memory.closed) {
        (Some(closed), period) => {
            // What is undecided and not late came due too close to the closing to be told from what came after it.
            let since = period.as_ref().map_or(late_before(facts).min(facts.now), |period| period.since);
            *period = Some(ClosedPeriod::begin(since, closed));
        }
        (None, Some(period)) if period.until.is_none() => {
            let within = |at: &Timestamp| period.lifted && (period.since..=facts.now).contains(at);
            period.until = Some(facts.reopened_at.filter(within).unwrap_or(facts.now));
        }
        (None, _) => {}
    }
}

/// Of several firings that cancel one another only the last is worth starting.
fn apply_overlap(facts: &Facts<'_>, verdicts: &mut [(Firing, Verdict)]) {
    if facts.overlap != Overlap::CancelOther {
        return;
    }
    let fires = |(_, verdict): &&mut (Firing, Verdict)| matches!(verdict, Verdict::Fire(_));
    for (_, earlier) in verdicts.iter_mut().rev().filter(fires).skip(1) {
        *earlier = Verdict::Decline(coalesced());
    }
}

impl Verdict {
    /// The cause and whether the cycle waits, or why there is none. Counts the cycle.
    fn admitted(self, overlap: Overlap, load: &mut Load) -> Result<(Cause, bool), Why> {
        let cause = match self {
            Self::Decline(why) => return Err(why),
            Self::Fire(cause) => cause,
        };
        let room = match overlap {
            Overlap::Allow | Overlap::CancelOther => None,
            Overlap::Skip => Some(0),
            Overlap::QueueOne => Some(1),
            Overlap::QueueAll => Some(OVERLAP_QUEUE_MAX),
        };
        let queued = room.is_some() && busy(*load);
        if queued && room.is_some_and(|room| load.queued >= room) {
            let reason = match overlap {
                Overlap::QueueOne => "an earlier cycle is under way, and another waits".to_owned(),
                Overlap::QueueAll => format!("{OVERLAP_QUEUE_MAX} cycles wait already"),
                Overlap::Skip | Overlap::CancelOther | Overlap::Allow => {
                    "an earlier cycle is under way".to_owned()
                }
            };
            return Err(Why::new(Decision::Skipped, reason));
        }
        let counted = if queued { &mut load.queued } else { &mut load.active };
        *counted = counted.saturating_add(1);
        Ok((cause, queued))
    }
}

/// Brings the memory up to date and answers what is to be recorded.
fn finish(
    facts: &Facts<'_>,
    mut journal: Journal<'_>,
    end: End,
    caught_up: usize,
    base: Timestamp,
) -> Vec<Decided> {
    let open_gate = facts.closed.is_none();
    journal.memory.caught_up = if end == End::More { caught_up } else { 0 };
    if end != End::More {
        journal.memory.schedule = Some(facts.schedule.digest);
        if open_gate {
            journal.memory.closed = None;
            journal.settle_past();
        }
    }
    journal.settle_old();
    let set_back = base.duration_since(facts.now) > span(FIRING_LATE_MAX);
    if set_back && journal.memory.ahead != Some(base) {
        let reason =
            "the clock stands before what is decided already; nothing fires until it has passed that";
        journal.decided.push(Decided {
            decision: Decision::ClockBack,
            reason: reason.to_owned(),
            from: facts.now,
            to: base,
            count: 0,
        });
    }
    journal.memory.ahead = set_back.then_some(base);
    journal.decided
}

fn busy(load: Load) -> bool {
    load.active > 0 || load.queued > 0
}

fn detail(now: Timestamp, firing: &Firing, cause: Cause) -> Value {
    let cause = match cause {
        Cause::Due => "due",
        Cause::CaughtUp => "caught_up",
        Cause::Resumed => "resumed",
    };
    let late_ms = i64::try_from(now.duration_since(firing.due).as_millis()).unwrap_or(i64::MAX);
    let mut detail = json!({ "cause": cause, "due": firing.due, "late_ms": late_ms });
    if let Some(change) = firing.change {
        detail["change"] = Value::String(change.describe());
    }
    detail
}
