//! A fixed interval, counted from the Unix epoch in elapsed time: no clock change touches it.

use jiff::Timestamp;

use crate::config::Millis;

const NANOS_PER_MILLI: i128 = 1_000_000;

/// Fires at `offset + k × every` after the epoch, for every whole k.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interval {
    every: i128,
    offset: i128,
}

impl Interval {
    /// `every` must not be zero.
    pub(super) fn new(every: Millis, offset: Millis) -> Self {
        let nanos = |span: Millis| i128::from(span.0) * NANOS_PER_MILLI;
        Self { every: nanos(every).max(1), offset: nanos(offset) }
    }

    /// The first instant after this one.
    pub(super) fn next(self, after: Timestamp) -> Option<Timestamp> {
        let count = (after.as_nanosecond() - self.offset).div_euclid(self.every) + 1;
        Timestamp::from_nanosecond(self.offset + count * self.every).ok()
    }

    /// The last instant before this one.
    pub(super) fn previous(self, before: Timestamp) -> Option<Timestamp> {
        let count = (before.as_nanosecond() - 1 - self.offset).div_euclid(self.every);
        Timestamp::from_nanosecond(self.offset + count * self.every).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counted_from_the_epoch() {
        let check = |every: &str, offset: &str, at: &str, previous: &str, next: &str| {
            let interval = Interval::new(every.parse().unwrap(), offset.parse().unwrap());
            let at: Timestamp = at.parse().unwrap();
            let found = [interval.previous(at), interval.next(at)].map(|found| found.unwrap().to_string());
            assert_eq!(found, [previous, next], "{every} {offset} {at}");
        };
        check("10m", "0s", "2026-03-29T00:59:59Z", "2026-03-29T00:50:00Z", "2026-03-29T01:00:00Z");
        check("10m", "0s", "2026-03-29T01:00:00Z", "2026-03-29T00:50:00Z", "2026-03-29T01:10:00Z");
        check("10m", "90s", "2026-03-29T01:00:00Z", "2026-03-29T00:51:30Z", "2026-03-29T01:01:30Z");
        check("1h", "25h", "2026-03-29T01:00:00.5Z", "2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z");
        check("7d", "0s", "1970-01-01T00:00:00Z", "1969-12-25T00:00:00Z", "1970-01-08T00:00:00Z");
        check("1s", "250ms", "2026-01-01T00:00:00.25Z", "2025-12-31T23:59:59.25Z", "2026-01-01T00:00:01.25Z");
    }
}
