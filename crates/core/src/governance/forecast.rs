//! When the disk's floor will be reached, told from how much space was free before.
//!
//! Looked at is the disk, whoever fills it, because that is what closes the gate. The rate is that of the last day or of the last week, whichever
//! is faster: whole days, because schedules repeat by the day; the week, because one day may be quiet; the day, because what an operator freed
//! once hides in the week what fills the disk now.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::DiskFacts;
use crate::config::Millis;
use crate::limits::{FREE_SPACE_AHEAD_MAX, FREE_SPACE_EVERY, FREE_SPACE_HISTORY_MAX, FREE_SPACE_HISTORY_MIN};

const DAY: Millis = Millis::hours(24);

/// How much space was free at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// When.
    pub at: Timestamp,
    /// So many bytes.
    pub free_bytes: u64,
}

/// What is to be expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Forecast {
    /// The history is shorter than [`FREE_SPACE_HISTORY_MIN`].
    Unknown {
        /// How far back it goes.
        known_ms: u64,
        /// How far it must.
        needed_ms: u64,
    },
    /// Free space does not shrink.
    Steady,
    /// It shrinks, and the floor is further away than [`FREE_SPACE_AHEAD_MAX`].
    Slow {
        /// So many bytes less each day.
        bytes_a_day: u64,
    },
    /// It shrinks down to the floor.
    Fills {
        /// So many bytes less each day.
        bytes_a_day: u64,
        /// When it gets there at this rate.
        floor_at: Timestamp,
    },
    /// There is less free space than the floor already.
    Reached,
}

/// What the samples say, each of which counts unless it is older than [`FREE_SPACE_HISTORY_MAX`] or from the future.
pub fn forecast(samples: &[Sample], disk: DiskFacts, now: Timestamp) -> Forecast {
    if disk.free_bytes < disk.floor_bytes {
        return Forecast::Reached;
    }
    let oldest_within = |age_max: Millis| {
        let ages = samples.iter().filter_map(|sample| Some((age_ms(sample.at, now)?, sample.free_bytes)));
        ages.filter(|(age, _)| *age <= age_max.0).max_by_key(|(age, _)| *age)
    };
    let week = oldest_within(FREE_SPACE_HISTORY_MAX);
    let known_ms = week.map_or(0, |(age, _)| age);
    if known_ms < FREE_SPACE_HISTORY_MIN.0 {
        return Forecast::Unknown { known_ms, needed_ms: FREE_SPACE_HISTORY_MIN.0 };
    }
    // A last sample that is younger than half a day would make a day of an hour.
    let day = oldest_within(DAY).filter(|(age, _)| *age >= DAY.0 / 2);
    let rates = [week, day].into_iter().flatten().map(|(age, free)| a_day(free, disk.free_bytes, age));
    let Some(bytes_a_day) = rates.max().filter(|rate| *rate > 0) else { return Forecast::Steady };
    let left = u128::from(disk.free_bytes - disk.floor_bytes);
    let ahead = left * u128::from(DAY.0) / u128::from(bytes_a_day);
    let ahead = u64::try_from(ahead).ok().map(Millis).filter(|ahead| *ahead <= FREE_SPACE_AHEAD_MAX);
    match ahead.and_then(|ahead| now.checked_add(ahead.to_duration()).ok()) {
        Some(floor_at) => Forecast::Fills { bytes_a_day, floor_at },
        None => Forecast::Slow { bytes_a_day },
    }
}

/// Bytes lost within so many milliseconds, by the day; nothing where there are more than before.
fn a_day(before: u64, now: u64, age_ms: u64) -> u64 {
    let lost = u128::from(before.saturating_sub(now));
    let rate = (lost * u128::from(DAY.0)).checked_div(u128::from(age_ms));
    u64::try_from(rate.unwrap_or(0)).unwrap_or(u64::MAX)
}

fn age_ms(at: Timestamp, now: Timestamp) -> Option<u64> {
    u64::try_from(now.duration_since(at).as_millis()).ok()
}

/// When the next sample is due; at once where there is none, or where the clock was set back behind the newest.
pub fn next_sample(samples: &[Sample], now: Timestamp) -> Timestamp {
    let newest = samples.iter().map(|sample| sample.at).max().filter(|newest| *newest <= now);
    newest.and_then(|newest| newest.checked_add(FREE_SPACE_EVERY.to_duration()).ok()).unwrap_or(now)
}

/// The samples with a new one at their end. What can count no more is dropped, so that there are at most as many as hours in
/// [`FREE_SPACE_HISTORY_MAX`], and one.
pub fn with_sample(mut samples: Vec<Sample>, new: Sample) -> Vec<Sample> {
    samples.retain(|sample| age_ms(sample.at, new.at).is_some_and(|age| age <= FREE_SPACE_HISTORY_MAX.0));
    samples.push(new);
    samples
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;
    const HOUR: u64 = 3_600_000;

    fn now() -> Timestamp {
        "2026-11-26T12:00:00Z".parse().unwrap()
    }

    fn ago(hours: i64) -> Timestamp {
        now() - jiff::SignedDuration::from_hours(hours)
    }

    fn samples(of: &[(i64, u64)]) -> Vec<Sample> {
        of.iter().map(|(hours, free)| Sample { at: ago(*hours), free_bytes: free * GIB }).collect()
    }

    fn fills(gib_a_day: u64, in_hours: i64) -> Forecast {
        Forecast::Fills { bytes_a_day: gib_a_day * GIB, floor_at: ago(-in_hours) }
    }

    #[test]
    fn forecasts() {
        let unknown = |hours: u64| Forecast::Unknown { known_ms: hours * HOUR, needed_ms: 24 * HOUR };
        // Now 100 GiB are free and the floor is 10: 90 are left.
        let check = |before: &[(i64, u64)], expected: Forecast| {
            let disk = DiskFacts { free_bytes: 100 * GIB, floor_bytes: 10 * GIB };
            assert_eq!(forecast(&samples(before), disk, now()), expected, "{before:?}");
        };
        check(&[], unknown(0));
        check(&[(23, 200)], unknown(23));
        check(&[(-3, 500), (2, 101)], unknown(2));
        check(&[(24, 100)], Forecast::Steady);
        check(&[(24, 90)], Forecast::Steady);
        check(&[(24, 110)], fills(10, 9 * 24));
        check(&[(48, 120)], fills(10, 9 * 24));
        check(&[(168, 170)], fills(10, 9 * 24));
        // Too old: all that is left is the sample of three hours ago.
        check(&[(169, 400), (3, 101)], unknown(3));
        // A quiet day of a busy week, and a busy day of a week in which much was freed.
        check(&[(168, 170), (24, 100)], fills(10, 9 * 24));
        check(&[(168, 20), (24, 115)], fills(15, 6 * 24));
        // A burst of an hour is not a day; what came before it is.
        check(&[(168, 107), (1, 101)], fills(1, 90 * 24));
        check(&[(30, 100), (12, 105)], fills(10, 9 * 24));
        // The order is not looked at, nor is the future.
        check(&[(1, 300), (-5, 900), (48, 120)], fills(10, 9 * 24));
    }

    #[test]
    fn ends_of_the_scale() {
        let check = |before: u64, free_bytes: u64, floor_bytes: u64, expected: Forecast| {
            let before = [Sample { at: ago(24), free_bytes: before }];
            let disk = DiskFacts { free_bytes, floor_bytes };
            assert_eq!(forecast(&before, disk, now()), expected);
        };
        check(9, 4, 5, Forecast::Reached);
        check(9, 5, 5, Forecast::Fills { bytes_a_day: 4, floor_at: now() });
        check(3651, 3650, 0, Forecast::Fills { bytes_a_day: 1, floor_at: ago(-3650 * 24) });
        check(3652, 3651, 0, Forecast::Slow { bytes_a_day: 1 });
        check(u64::MAX, u64::MAX - 1, 0, Forecast::Slow { bytes_a_day: 1 });
        check(u64::MAX, 0, 0, Forecast::Fills { bytes_a_day: u64::MAX, floor_at: now() });
        // Less than a byte a day.
        let before = [Sample { at: ago(48), free_bytes: 6 }];
        assert_eq!(forecast(&before, DiskFacts { free_bytes: 5, floor_bytes: 0 }, now()), Forecast::Steady);
    }

    #[test]
    fn samples_are_taken_by_the_hour_and_kept_for_a_week() {
        let due = |of: &[(i64, u64)]| next_sample(&samples(of), now());
        assert_eq!(due(&[]), now());
        assert_eq!(due(&[(5, 1), (0, 1)]), ago(-1));
        assert_eq!(due(&[(1, 1)]), now());
        assert_eq!(due(&[(5, 1)]), ago(4));
        assert_eq!(due(&[(-1, 1)]), now(), "the clock was set back");
        let new = Sample { at: now(), free_bytes: 7 * GIB };
        let kept = with_sample(samples(&[(169, 1), (168, 2), (3, 3), (-1, 4)]), new);
        assert_eq!(kept, samples(&[(168, 2), (3, 3), (0, 7)]));
        let hourly = (0..1000)
            .rev()
            .fold(Vec::new(), |kept, hours| with_sample(kept, Sample { at: ago(hours), free_bytes: 1 }));
        assert_eq!(hourly.len(), 169);
    }

    #[test]
    fn it_is_told_as_json() {
        let told = serde_json::to_value(fills(1, 24)).unwrap();
        let expected =
            serde_json::json!({ "state": "fills", "bytes_a_day": GIB, "floor_at": "2026-11-27T12:00:00Z" });
        assert_eq!(told, expected);
        assert_eq!(serde_json::from_value::<Forecast>(told).unwrap(), fills(1, 24));
    }
}
