//! A token bucket: how many requests may be sent now, and when the next one may.

use jiff::{SignedDuration, Timestamp};

use crate::config::Rate;

/// What an endpoint's rate has left. It lives in memory: after a restart it is full, which a receiver sees as one more burst.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    tokens: f64,
    at: Timestamp,
}

impl Bucket {
    /// A full bucket.
    pub fn full(rate: &Rate, now: Timestamp) -> Self {
        Self { tokens: f64::from(rate.burst), at: now }
    }

    /// Fills it up to now and takes at most `wanted` requests out; how many that were. A clock that was set back fills nothing.
    pub fn take(&mut self, rate: &Rate, wanted: u32, now: Timestamp) -> u32 {
        let seconds = now.duration_since(self.at).as_secs_f64().max(0.0);
        self.tokens = (self.tokens + seconds * rate.per_second).min(f64::from(rate.burst));
        self.at = now;
        let taken = (0..wanted).take_while(|taken| f64::from(*taken) + 1.0 <= self.tokens).count();
        let taken = u32::try_from(taken).unwrap_or(u32::MAX);
        self.tokens -= f64::from(taken);
        taken
    }

    /// Gives back what was taken and not used.
    pub fn give_back(&mut self, unused: u32) {
        self.tokens += f64::from(unused);
    }

    /// When it has a whole request again.
    pub fn next(&self, rate: &Rate) -> Timestamp {
        let seconds = (1.0 - self.tokens).max(0.0) / rate.per_second;
        let wait = SignedDuration::try_from_secs_f64(seconds).unwrap_or(SignedDuration::MAX);
        self.at.checked_add(wait).unwrap_or(Timestamp::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taken_and_filled() {
        let rate = Rate { per_second: 2.0, burst: 3 };
        let at = |millis: i64| Timestamp::from_millisecond(millis).unwrap();
        let mut bucket = Bucket::full(&rate, at(0));
        let mut check = |millis: i64, wanted: u32, expected: u32, next: i64| {
            assert_eq!(bucket.take(&rate, wanted, at(millis)), expected, "at {millis}");
            assert_eq!(bucket.next(&rate), at(next), "after {millis}");
        };
        check(0, 2, 2, 0);
        check(0, 5, 1, 500);
        check(400, 1, 0, 500);
        check(500, 1, 1, 1000);
        check(300, 1, 0, 800);
        check(60_000, 9, 3, 60_500);
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let rate = Rate { per_second: 0.001, burst: 1 };
        let mut bucket = Bucket::full(&rate, Timestamp::UNIX_EPOCH);
        assert_eq!(bucket.take(&rate, 1, Timestamp::UNIX_EPOCH), 1);
        bucket.give_back(1);
        assert_eq!(bucket.take(&rate, 1, Timestamp::UNIX_EPOCH), 1);
        assert_eq!(bucket.next(&rate), Timestamp::from_second(1000).unwrap());
    }
}
