//! The wait before the next attempt.

use std::time::Duration;

use crate::config::{Backoff, Jitter};

/// How long to wait after the `failed`-th failure (from 1) of a step.
///
/// The wait is `initial * factor^(failed - 1)`, never more than `max`. Full jitter draws uniformly from zero to that, both included, in whole
/// milliseconds, so that many runs that failed together do not return together. `random` is uniform over its whole range.
pub fn delay(backoff: &Backoff, failed: u32, random: u64) -> Duration {
    let exponent = i32::try_from(failed.saturating_sub(1)).unwrap_or(i32::MAX);
    let longest = backoff.max.to_duration();
    let grown = backoff.initial.to_duration().as_secs_f64() * backoff.factor.powi(exponent);
    // A product that is no duration (too large, or not a number) is the longest wait.
    let wait = Duration::try_from_secs_f64(grown).map_or(longest, |wait| wait.min(longest));
    match backoff.jitter {
        Jitter::None => wait,
        Jitter::Full => {
            let choices = wait.as_millis().saturating_add(1);
            let drawn = (u128::from(random).saturating_mul(choices)) >> u64::BITS;
            Duration::from_millis(u64::try_from(drawn).unwrap_or(u64::MAX))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Millis;
    use proptest::prelude::*;

    fn backoff(jitter: Jitter) -> Backoff {
        Backoff { initial: Millis(1_000), factor: 2.0, max: Millis(5_000), jitter }
    }

    #[test]
    fn waits() {
        let check = |jitter: Jitter, failed: u32, random: u64, expected_ms: u64| {
            let wait = delay(&backoff(jitter), failed, random);
            assert_eq!(wait, Duration::from_millis(expected_ms), "{jitter:?} {failed} {random}");
        };
        check(Jitter::None, 0, 7, 1_000);
        check(Jitter::None, 1, 7, 1_000);
        check(Jitter::None, 2, 7, 2_000);
        check(Jitter::None, 3, 7, 4_000);
        check(Jitter::None, 4, 7, 5_000);
        check(Jitter::None, u32::MAX, 7, 5_000);
        check(Jitter::Full, 1, 0, 0);
        check(Jitter::Full, 1, u64::MAX / 2, 500);
        check(Jitter::Full, 1, u64::MAX, 1_000);
        check(Jitter::Full, 4, u64::MAX, 5_000);
    }

    #[test]
    fn a_factor_that_is_no_number_waits_the_longest() {
        let odd = Backoff { factor: f64::NAN, ..backoff(Jitter::None) };
        assert_eq!(delay(&odd, 2, 0), Duration::from_secs(5));
    }

    proptest! {
        #[test]
        fn never_longer_than_allowed(failed: u32, random: u64, factor in 1.0..10.0_f64, initial in 0..100_000_u64) {
            let any = Backoff { initial: Millis(initial), factor, ..backoff(Jitter::Full) };
            prop_assert!(delay(&any, failed, random) <= Duration::from_secs(5));
        }
    }
}
