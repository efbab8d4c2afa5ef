//! When a failed delivery is tried again.

use jiff::{SignedDuration, Timestamp};

use super::outcome::Verdict;
use crate::config::DeliveryRetry;

/// What follows for a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing: the endpoint took it.
    Accepted,
    /// Another attempt.
    Retry {
        /// Not before this.
        until: Timestamp,
    },
    /// It is a dead letter.
    Dead {
        /// Why.
        reason: String,
    },
    /// It is a dead letter, and its endpoint takes nothing more.
    Disable {
        /// Why.
        reason: String,
    },
}

/// The wait after the n-th failed attempt (from 1): the schedule's n-th entry, of which the last one repeats, spread evenly over ±20 % by
/// a random number.
pub fn wait(retry: &DeliveryRetry, failed: u32, random: u64) -> SignedDuration {
    let index = usize::try_from(failed.saturating_sub(1)).unwrap_or(usize::MAX);
    let base = retry.schedule.get(index).or(retry.schedule.last()).map_or(0, |wait| wait.0);
    // 0.8 to 1.2 of it, in whole millionths.
    let factor = 800_000 + u128::from(random) % 400_001;
    let ms = u128::from(base) * factor / 1_000_000;
    SignedDuration::from_millis(i64::try_from(ms).unwrap_or(i64::MAX))
}

/// What follows from a verdict on the n-th attempt of a round (from 1), at `now`. The endpoint's own `Retry-After` can only lengthen the wait.
pub fn next(verdict: Verdict, retry: &DeliveryRetry, attempt: u32, random: u64, now: Timestamp) -> Next {
    match verdict {
        Verdict::Accepted => Next::Accepted,
        Verdict::Dead { reason } => Next::Dead { reason },
        Verdict::Disable { reason } => Next::Disable { reason },
        Verdict::Retry { reason, .. } if attempt >= retry.attempts => {
            Next::Dead { reason: format!("{reason}; that was the last of {} attempts", retry.attempts) }
        }
        Verdict::Retry { after, .. } => {
            let wait = wait(retry, attempt, random).max(after.unwrap_or_default());
            Next::Retry { until: now.checked_add(wait).unwrap_or(Timestamp::MAX) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Millis;
    use proptest::prelude::*;

    fn retry() -> DeliveryRetry {
        DeliveryRetry { attempts: 4, schedule: vec![Millis::seconds(10), Millis::seconds(100)] }
    }

    #[test]
    fn waits() {
        let check = |failed: u32, random: u64, expected_ms: i64| {
            assert_eq!(
                wait(&retry(), failed, random),
                SignedDuration::from_millis(expected_ms),
                "{failed} {random}"
            );
        };
        check(1, 0, 8_000);
        check(1, 200_000, 10_000);
        check(1, 400_000, 12_000);
        check(1, 400_001, 8_000);
        check(2, 200_000, 100_000);
        check(9, 200_000, 100_000);
        assert_eq!(wait(&DeliveryRetry { attempts: 1, schedule: vec![] }, 1, 7), SignedDuration::ZERO);
    }

    #[test]
    fn what_follows() {
        let now = Timestamp::UNIX_EPOCH;
        let check = |after: Option<i64>, attempt: u32, expected: Result<i64, &str>| {
            let after = after.map(SignedDuration::from_secs);
            let verdict = Verdict::Retry { reason: "no".to_owned(), after };
            let next = next(verdict, &retry(), attempt, 200_000, now);
            match expected {
                Ok(seconds) => {
                    assert_eq!(next, Next::Retry { until: now + SignedDuration::from_secs(seconds) });
                }
                Err(reason) => assert_eq!(next, Next::Dead { reason: reason.to_owned() }),
            }
        };
        check(None, 1, Ok(10));
        check(Some(3), 1, Ok(10));
        check(Some(30), 1, Ok(30));
        check(None, 3, Ok(100));
        check(None, 4, Err("no; that was the last of 4 attempts"));
        check(Some(1), 5, Err("no; that was the last of 4 attempts"));
    }

    proptest! {
        #[test]
        fn a_wait_stays_within_a_fifth(ms in 0..100_000_000_u64, failed: u32, random: u64) {
            let retry = DeliveryRetry { attempts: 8, schedule: vec![Millis(ms)] };
            let waited = wait(&retry, failed, random).as_millis();
            let ms = i128::from(ms);
            prop_assert!(ms * 8 / 10 <= waited && waited <= ms * 12 / 10, "{} of {}", waited, ms);
        }
    }
}
