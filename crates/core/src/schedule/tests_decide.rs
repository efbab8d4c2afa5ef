//! Tables of decisions: late, paused, overlapping, coalesced; and the property that nothing is decided twice or never.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::json;

use super::tests::{any_instant, any_schedule, at, schedule};
use super::tests_next::before_next;
use super::{Cause, Cursor, Decided, Decision, Facts, Load, Plan, Schedule, decide};
use crate::config::{CatchUp, Millis, MissedPolicy, Overlap, Resume};
use crate::governance::Closed;
use crate::limits::{CATCH_UP_MAX, FIRINGS_PER_TURN_MAX};

/// A run profile over several turns.
pub(super) struct Bench {
    schedule: Schedule,
    overlap: Overlap,
    pub(super) catch_up: CatchUp,
    pub(super) resume: Resume,
    started_at: Timestamp,
    reopened_at: Option<Timestamp>,
    pub(super) closed: Option<Closed>,
    load: Load,
    cursor: Option<Cursor>,
}

impl Bench {
    /// Seen first at midnight of 2026-01-01, which is also when the node started.
    pub(super) fn hourly() -> Self {
        Self::every("1h")
    }

    fn every(interval: &str) -> Self {
        let mut bench = Self {
            schedule: schedule(json!({ "every": interval })),
            overlap: Overlap::Allow,
            catch_up: CatchUp::default(),
            resume: Resume::default(),
            started_at: day("00:00"),
            reopened_at: None,
            closed: None,
            load: Load::default(),
            cursor: None,
        };
        assert_eq!(bench.turn("00:00"), ["first_seen×0 00:00..00:00"]);
        bench
    }

    pub(super) fn plan(&mut self, now: Timestamp) -> Plan {
        let facts = Facts {
            schedule: &self.schedule,
            overlap: self.overlap,
            catch_up: &self.catch_up,
            resume: &self.resume,
            now,
            started_at: self.started_at,
            reopened_at: self.reopened_at,
            closed: self.closed.as_ref(),
            load: self.load,
        };
        let plan = decide(&facts, self.cursor.as_ref());
        if !plan.changed {
            assert_eq!(Some(&plan.cursor), self.cursor.as_ref());
        }
        self.cursor = Some(plan.cursor.clone());
        plan
    }

    /// What a turn fires and records, in words: `06:00 caught_up`, `missed×3 01:00..03:00`.
    fn turn(&mut self, now: &str) -> Vec<String> {
        let plan = self.plan(day(now));
        assert!(!plan.more);
        let fired = plan.fire.iter().map(|fire| {
            let queued = if fire.queued { " queued" } else { "" };
            let cancels = if fire.cancel_others { " cancels" } else { "" };
            format!("{} {}{queued}{cancels}", time(fire.nominal), word(fire.cause))
        });
        fired.chain(plan.decided.iter().map(shown)).collect()
    }

    /// The node stops, and starts then.
    fn restart(&mut self, at: &str) {
        self.restart_at(day(at));
    }

    fn restart_at(&mut self, at: Timestamp) {
        self.started_at = at;
    }

    /// The run that is not recorded yet.
    fn open(&self) -> Option<Decided> {
        let memory = &self.cursor.as_ref().unwrap().memory;
        serde_json::from_value(memory["open"]["decided"].clone()).ok()
    }

    pub(super) fn check(&mut self, turns: &[(&str, &[&str])]) {
        for (now, expected) in turns {
            assert_eq!(self.turn(now), *expected, "at {now}");
        }
    }
}

pub(super) fn day(time: &str) -> Timestamp {
    let full = if time.contains('T') { time.to_owned() } else { format!("01T{time}") };
    at(&format!("2026-01-{}{}Z", full, if full.matches(':').count() == 1 { ":00" } else { "" }))
}

fn time(at: Timestamp) -> String {
    let text = at.to_string();
    let (date, time) = text.split_once('T').unwrap();
    let time = time.strip_suffix('Z').unwrap();
    let time = time.strip_suffix(":00").unwrap_or(time);
    if date == "2026-01-01" { time.to_owned() } else { format!("{}T{time}", &date[8..]) }
}

fn word(cause: Cause) -> &'static str {
    match cause {
        Cause::Due => "due",
        Cause::CaughtUp => "caught_up",
        Cause::Resumed => "resumed",
    }
}

fn shown(decided: &Decided) -> String {
    let Decided { decision, from, to, count, .. } = decided;
    let word = serde_json::to_value(decision).unwrap();
    format!("{}×{count} {}..{}", word.as_str().unwrap(), time(*from), time(*to))
}

pub(super) fn missed(policy: MissedPolicy, window: Millis) -> (CatchUp, Resume) {
    (CatchUp { policy, window }, Resume { policy, window })
}

fn paused_document() -> Closed {
    Closed::Document { document: "run profile `a`".to_owned(), state: "paused".to_owned() }
}

#[test]
fn on_time() {
    let mut bench = Bench::hourly();
    bench.check(&[
        ("00:59:59", &[]),
        ("01:00", &["01:00 due"]),
        ("01:00:01", &[]),
        ("02:00:59", &["02:00 due"]),
    ]);
    assert_eq!(bench.plan(day("02:30")).next, Some(day("03:00")));
    // A restart within the grace of nobody: what came due while no node was up is late, what comes due after is not.
    bench.restart("03:00:10");
    bench.check(&[("03:00:11", &["03:00 caught_up"]), ("04:00:05", &["04:00 due"])]);
}

#[test]
fn catch_up() {
    let check = |policy, window, expected: &[&str]| {
        let mut bench = Bench::hourly();
        bench.catch_up = missed(policy, window).0;
        bench.restart("06:30");
        bench.check(&[("06:30", expected), ("06:31", &[]), ("07:00", &["07:00 due"])]);
    };
    check(MissedPolicy::None, Millis::hours(12), &["missed×6 01:00..06:00"]);
    check(MissedPolicy::Last, Millis::hours(12), &["06:00 caught_up", "coalesced×5 01:00..05:00"]);
    check(
        MissedPolicy::Last,
        Millis::hours(3),
        &["06:00 caught_up", "missed×3 01:00..03:00", "coalesced×2 04:00..05:00"],
    );
    check(MissedPolicy::Last, Millis::minutes(20), &["missed×6 01:00..06:00"]);
    check(
        MissedPolicy::All,
        Millis::hours(3),
        &["04:00 caught_up", "05:00 caught_up", "06:00 caught_up", "missed×3 01:00..03:00"],
    );
}

#[test]
fn excluded_firings_never_stand_for_missed_ones() {
    let mut bench = Bench::hourly();
    let exclude = json!([{ "from": "2026-01-01T05:00", "to": "2026-01-01T06:30" }]);
    bench.schedule = schedule(json!({ "every": "1h", "exclude": exclude }));
    // The schedule is not the one that was first seen; the first turn notices that and declines what is late.
    bench.check(&[("01:30", &["schedule_changed×1 01:00..01:00"])]);
    bench.restart("06:10");
    bench.check(&[("06:10", &["04:00 caught_up", "coalesced×2 02:00..03:00"])]);
    bench.check(&[("07:00", &["07:00 due", "excluded×2 05:00..06:00"])]);
}

#[test]
fn what_a_clock_does() {
    let mut bench = Bench::hourly();
    bench.check(&[
        ("01:00", &["01:00 due"]),
        ("02:00", &["02:00 due"]),
        // Back: nothing fires twice, and the record says once why nothing fires.
        ("00:30", &["clock_back×0 00:30..02:00"]),
        ("01:00", &[]),
        ("02:00", &[]),
        ("03:00", &["03:00 due"]),
        // A little back is nothing to tell.
        ("02:59:30", &[]),
        // A day forward: what was jumped over is late.
        ("02T03:10", &["02T03:00 caught_up", "missed×12 04:00..15:00", "coalesced×11 16:00..02T02:00"]),
        ("02T04:00", &["02T04:00 due"]),
    ]);
    // The node started by a clock that was ahead: its start tells nothing now.
    let mut bench = Bench::hourly();
    bench.catch_up.policy = MissedPolicy::None;
    bench.restart("05:00");
    bench.check(&[("01:00:05", &["01:00 due"])]);
}

#[test]
fn resume() {
    let check = |policy, window, opened: &[&str]| {
        let mut bench = Bench::every("10m");
        bench.resume = missed(policy, window).1;
        bench.closed = Some(Closed::Paused);
        bench.check(&[("00:05", &[]), ("00:10", &[]), ("00:20", &[]), ("00:30", &[])]);
        bench.closed = None;
        bench.check(&[("00:35", opened), ("00:36", &[]), ("00:40", &["00:40 due"])]);
    };
    let long = Millis::hours(9);
    check(MissedPolicy::None, long, &["paused×3 00:10..00:30"]);
    check(MissedPolicy::Last, long, &["00:30 resumed", "coalesced×2 00:10..00:20"]);
    check(MissedPolicy::All, long, &["00:10 resumed", "00:20 resumed", "00:30 resumed"]);
    check(MissedPolicy::All, Millis::minutes(10), &["00:30 resumed", "paused×2 00:10..00:20"]);
    check(MissedPolicy::Last, Millis::minutes(1), &["paused×3 00:10..00:30"]);
}

#[test]
fn every_closed_door_has_its_word() {
    let check = |closed: Closed, expected: &str| {
        let mut bench = Bench::every("10m");
        bench.closed = Some(closed);
        bench.check(&[("00:05", &[]), ("00:10", &[]), ("00:20", &[])]);
        bench.closed = None;
        bench.check(&[("00:25", &[expected])]);
    };
    let document =
        |state: &str| Closed::Document { document: "run profile `a`".to_owned(), state: state.to_owned() };
    check(Closed::HaltedGlobal { reason: "x".to_owned() }, "halted×2 00:10..00:20");
    check(Closed::HaltedNamespace { reason: "x".to_owned() }, "halted×2 00:10..00:20");
    check(Closed::Paused, "paused×2 00:10..00:20");
    check(document("paused"), "paused×2 00:10..00:20");
    check(document("archived"), "archived×2 00:10..00:20");
    // The free bytes differ each time, and it is one run all the same.
    check(Closed::DiskFloor { free_bytes: 1, floor_bytes: 9 }, "disk_floor×2 00:10..00:20");
    let mut bench = Bench::every("10m");
    bench.closed = Some(Closed::DiskFloor { free_bytes: 1, floor_bytes: 9 });
    bench.check(&[("00:10", &[])]);
    bench.closed = Some(Closed::DiskFloor { free_bytes: 2, floor_bytes: 9 });
    bench.check(&[("00:20", &[])]);
    // Another reason is another run.
    bench.closed = Some(Closed::HaltedGlobal { reason: "x".to_owned() });
    bench.check(&[("00:30", &["disk_floor×2 00:10..00:20"])]);
    // Archived ones are not held, whatever `resume` says.
    bench.resume.policy = MissedPolicy::All;
    bench.closed = Some(document("archived"));
    bench.check(&[("00:40", &["halted×1 00:30..00:30"])]);
    bench.closed = None;
    bench.check(&[("00:45", &["archived×1 00:40..00:40"])]);
}

#[test]
fn down_and_closed_are_told_apart() {
    // Down until 00:35, halted until 01:05, and a firing between the lifting and the turn.
    let mut bench = Bench::every("10m");
    bench.resume.policy = MissedPolicy::Last;
    bench.closed = Some(Closed::HaltedGlobal { reason: "x".to_owned() });
    bench.restart("00:35");
    bench.check(&[("00:35", &[]), ("00:40", &[]), ("00:50", &[])]);
    bench.closed = None;
    bench.reopened_at = Some(day("00:59:50"));
    let opened = [
        "00:30 caught_up",
        "00:50 resumed",
        "01:00 due",
        "coalesced×2 00:10..00:20",
        "coalesced×1 00:40..00:40",
    ];
    bench.check(&[("01:00:10", &opened)]);

    // A pause that a restart interrupts is one pause.
    let mut bench = Bench::every("10m");
    bench.closed = Some(paused_document());
    bench.check(&[("00:05", &[]), ("00:10", &[])]);
    bench.restart("00:25");
    bench.check(&[("00:25", &[]), ("00:30", &[])]);
    bench.closed = None;
    // A lifted halt says nothing about when a document was enabled.
    bench.reopened_at = Some(day("00:12"));
    bench.check(&[("00:41", &["paused×4 00:10..00:40"])]);
}

#[test]
fn overlap() {
    let check = |overlap, load: (u32, u32), expected: &[&str]| {
        let mut bench = Bench::every("10m");
        bench.overlap = overlap;
        bench.catch_up.policy = MissedPolicy::All;
        bench.load = Load { active: load.0, queued: load.1 };
        bench.restart("00:35");
        // Three at once: what the first of them starts is under way for the others.
        bench.check(&[("00:35", expected)]);
    };
    let all = ["00:10 caught_up", "00:20 caught_up", "00:30 caught_up"];
    let queued = ["00:10 caught_up queued", "00:20 caught_up queued", "00:30 caught_up queued"];
    check(Overlap::Allow, (3, 3), &all);
    check(Overlap::Skip, (0, 0), &["00:10 caught_up"]);
    check(Overlap::Skip, (1, 0), &[]);
    check(Overlap::Skip, (0, 1), &[]);
    check(Overlap::QueueOne, (0, 0), &["00:10 caught_up", "00:20 caught_up queued"]);
    check(Overlap::QueueOne, (1, 0), &["00:10 caught_up queued"]);
    check(Overlap::QueueOne, (1, 1), &[]);
    check(
        Overlap::QueueAll,
        (0, 0),
        &["00:10 caught_up", "00:20 caught_up queued", "00:30 caught_up queued"],
    );
    check(Overlap::QueueAll, (1, 5), &queued);
    check(Overlap::QueueAll, (1, 999), &queued[..1]);
    check(Overlap::QueueAll, (1, 1000), &[]);
    check(Overlap::CancelOther, (0, 0), &["00:30 caught_up", "coalesced×2 00:10..00:20"]);
    check(Overlap::CancelOther, (1, 0), &["00:30 caught_up cancels", "coalesced×2 00:10..00:20"]);
}

#[test]
fn equal_decisions_are_one_record() {
    let mut bench = Bench::every("10m");
    bench.overlap = Overlap::Skip;
    bench.check(&[("00:10", &["00:10 due"])]);
    bench.load.active = 1;
    bench.check(&[("00:20", &[]), ("00:30", &[])]);
    // A restart in the middle changes nothing, because the run is kept with the cursor.
    let text = serde_json::to_string(&bench.cursor.as_ref().unwrap().memory).unwrap();
    bench.cursor.as_mut().unwrap().memory = serde_json::from_str(&text).unwrap();
    bench.restart("00:35");
    bench.check(&[("00:40", &[]), ("00:50", &[]), ("01:00", &[]), ("01:10", &[])]);
    assert_eq!(bench.plan(day("01:11")).next, Some(day("01:20")));
    // It is recorded when it is an hour old, even between two firings.
    bench.check(&[("01:20", &["skipped×7 00:20..01:20"]), ("01:30", &[])]);
    bench.load.active = 0;
    bench.check(&[("01:40", &["01:40 due", "skipped×1 01:30..01:30"])]);

    let mut bench = Bench::every("3h");
    bench.overlap = Overlap::Skip;
    bench.load.active = 1;
    bench.check(&[("03:00", &[])]);
    assert_eq!(bench.plan(day("03:01")).next, Some(day("04:00")));
    bench.check(&[("03:59:59", &[]), ("04:00", &["skipped×1 03:00..03:00"]), ("05:00", &[])]);
}

#[test]
fn a_changed_schedule_makes_nothing_up() {
    let mut bench = Bench::hourly();
    bench.check(&[("01:00", &["01:00 due"])]);
    bench.schedule = schedule(json!({ "every": "20m" }));
    // What came due less than a minute ago still fires.
    bench
        .check(&[("02:00:30", &["02:00 due", "schedule_changed×2 01:20..01:40"]), ("02:20", &["02:20 due"])]);
    // A memory that cannot be read loses what was open and nothing else.
    bench.cursor.as_mut().unwrap().memory = json!({ "open": 1 });
    bench.check(&[("02:40", &["02:40 due"])]);
}

#[test]
fn jitter_moves_the_firing_and_not_its_nominal_instant() {
    let mut bench = Bench::hourly();
    bench.schedule = schedule(json!({ "every": "1h", "jitter": "30m" }));
    let due = bench.schedule.after(day("00:00")).unwrap().due;
    assert!(due > day("01:00") && due < day("01:30"));
    let before = bench.plan(due.checked_sub(SignedDuration::from_millis(1)).unwrap());
    assert_eq!((before.fire.len(), before.next), (0, Some(due)));
    let plan = bench.plan(due);
    assert_eq!(plan.fire[0].nominal, day("01:00"));
    assert_eq!(plan.fire[0].detail, json!({ "cause": "due", "due": due, "late_ms": 0 }));
}

#[test]
fn a_backlog_is_worked_off_in_bounded_turns() {
    let count = |bench: &mut Bench| {
        let (mut turns, mut fired, mut decided) = (0, 0, BTreeMap::<String, u64>::new());
        loop {
            let plan = bench.plan(day("03T00:00:30"));
            assert!(plan.fire.len() <= CATCH_UP_MAX);
            (turns, fired) = (turns + 1, fired + plan.fire.len());
            for run in plan.decided {
                *decided.entry(format!("{:?}", run.decision)).or_default() += run.count;
            }
            if !plan.more {
                break (turns, fired, decided);
            }
        }
    };
    let backlog = 2 * 86_400 / 10;
    let check = |policy, turns: usize, fired: usize| {
        let mut bench = Bench::every("10s");
        bench.catch_up = missed(policy, Millis::hours(100)).0;
        bench.restart("03T00:00:30");
        let (took, all, decided) = count(&mut bench);
        let rest: u64 = decided.values().sum();
        // The last three are due at or after the start.
        assert_eq!((took, all), (turns, fired), "{decided:?}");
        assert_eq!(all + usize::try_from(rest).unwrap(), backlog + 3);
    };
    let turns = backlog.div_ceil(FIRINGS_PER_TURN_MAX);
    check(MissedPolicy::None, turns, 1);
    check(MissedPolicy::Last, turns, 2);
    // The turn that fires the most it may ends there; the rest fits into the same number of turns.
    check(MissedPolicy::All, turns, CATCH_UP_MAX + 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever happens, every nominal instant after the first sight is decided exactly once and in order.
    #[test]
    fn every_firing_is_decided_exactly_once(
        value in any_schedule(),
        start in any_instant(),
        overlap in proptest::sample::select(vec![Overlap::Skip, Overlap::QueueOne, Overlap::QueueAll, Overlap::CancelOther, Overlap::Allow]),
        policies in proptest::array::uniform2(proptest::sample::select(vec![MissedPolicy::None, MissedPolicy::Last, MissedPolicy::All])),
        window in 1_u64..48,
        turns in proptest::collection::vec((-7_200_i64..40_000, 0_u8..6, 0_u32..3, any::<bool>()), 1..25),
    ) {
        let mut bench = Bench::hourly();
        bench.schedule = schedule(value);
        bench.overlap = overlap;
        bench.catch_up = missed(policies[0], Millis::hours(window)).0;
        bench.resume = missed(policies[1], Millis::hours(window)).1;
        (bench.cursor, bench.started_at) = (None, start);
        let (mut now, mut decided) = (start, Vec::<Decided>::new());
        let mut fired = Vec::new();
        let last = [(100_000, 0, 0, false), (100, 0, 0, false)];
        for (step, gate, active, restarts) in turns.into_iter().chain(last) {
            now = now.checked_add(SignedDuration::from_secs(step)).unwrap();
            bench.closed = match gate {
                0..=2 => None,
                3 => Some(Closed::Paused),
                4 => Some(paused_document()),
                _ => Some(Closed::HaltedGlobal { reason: "x".to_owned() }),
            };
            bench.load = Load { active, queued: 0 };
            if restarts {
                bench.restart_at(now);
            }
            loop {
                let before = bench.cursor.as_ref().map(|cursor| cursor.decided_through);
                let plan = bench.plan(now);
                prop_assert!(plan.fire.is_empty() || bench.closed.is_none());
                prop_assert!(Some(plan.cursor.decided_through) >= before);
                fired.extend(plan.fire.iter().map(|fire| fire.nominal));
                decided.extend(plan.decided);
                if !plan.more {
                    prop_assert!(plan.next.is_none_or(|next| next > now));
                    for quiet in before_next(now, plan.next) {
                        let plan = bench.plan(quiet);
                        prop_assert!(!plan.changed && plan.fire.is_empty() && !plan.more, "at {}", quiet);
                    }
                    break;
                }
            }
        }
        let begun = decided.iter().find(|run| run.decision == Decision::FirstSeen).unwrap().to;
        let through = bench.cursor.as_ref().unwrap().decided_through;
        let all: Vec<_> =
            bench.schedule.firings(begun).map(|firing| firing.nominal).take_while(|nominal| *nominal <= through).collect();
        let pending = bench.schedule.firings(through).next();
        prop_assert!(pending.is_none_or(|firing| firing.due > now), "the gate is open: nothing due is left");
        // The firings that did not fire are those that the runs stand for, each in exactly one.
        prop_assert!(fired.windows(2).all(|pair| pair[0] < pair[1]));
        let declined: Vec<_> = all.iter().filter(|nominal| !fired.contains(nominal)).collect();
        prop_assert_eq!(declined.len() + fired.len(), all.len(), "what fired is of the schedule");
        let open = bench.open();
        let runs: Vec<_> = decided.iter().chain(&open).filter(|run| run.count > 0).collect();
        let mut rest = declined.as_slice();
        for run in runs {
            let count = usize::try_from(run.count).unwrap();
            prop_assert!(count <= rest.len());
            let (these, others) = rest.split_at(count);
            prop_assert_eq!((*these[0], *these[count - 1]), (run.from, run.to));
            rest = others;
        }
        prop_assert!(rest.is_empty());
    }
}
