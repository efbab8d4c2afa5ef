//! When there is something to decide again.

use jiff::{SignedDuration, Timestamp};

use super::tests_decide::{Bench, day, missed};
use crate::config::{Millis, MissedPolicy};
use crate::governance::Closed;

/// Instants at which there is nothing to decide, if nothing but the time is another: right after now, in between, and right before the next.
pub(super) fn before_next(now: Timestamp, next: Option<Timestamp>) -> impl Iterator<Item = Timestamp> {
    let next = next.unwrap_or_else(|| now.checked_add(SignedDuration::from_hours(1_000)).unwrap());
    let long = next.duration_since(now);
    let before = SignedDuration::from_micros(1);
    [before.min(long / 2), long / 3, long - before.min(long / 2)]
        .map(|after| now.checked_add(after).unwrap())
        .into_iter()
}

#[test]
fn what_is_held_is_looked_at_when_it_may_be_held_no_longer() {
    let check = |policy, window: Millis, turns: &[(&str, Option<&str>)]| {
        let mut bench = Bench::hourly();
        bench.resume = missed(policy, window).1;
        (bench.catch_up.policy, bench.closed) = (MissedPolicy::None, Some(Closed::Paused));
        for (now, next) in turns {
            assert_eq!(bench.plan(day(now)).next, next.map(day), "at {now}");
        }
    };
    // One is noted and waits for more; a held one is looked at again when it is late.
    let noted = ("00:30", Some("01:00"));
    check(MissedPolicy::None, Millis::hours(3), &[noted, ("01:00", Some("02:00"))]);
    let late = ("01:00", Some("01:01:00.000000001"));
    // The next one stands for it.
    check(MissedPolicy::Last, Millis::hours(3), &[noted, late, ("01:30", Some("02:00"))]);
    // Nothing does, and it becomes too old; the longer of the two windows may be that of `catch_up`.
    check(MissedPolicy::All, Millis::hours(3), &[noted, late, ("01:30", Some("04:00:00.000000001"))]);
}

#[test]
fn a_clock_that_was_set_back_is_looked_at_when_it_is_no_longer_behind() {
    let mut bench = Bench::hourly();
    bench.check(&[("01:00", &["01:00 due"])]);
    bench.check(&[("00:10", &["clock_back×0 00:10..01:00"])]);
    assert_eq!(bench.plan(day("00:11")).next, Some(day("00:59")));
    assert_eq!(bench.plan(day("00:59")).next, Some(day("02:00")));
    // Set back once more it is told once more.
    bench.check(&[("00:10", &["clock_back×0 00:10..01:00"])]);
}
