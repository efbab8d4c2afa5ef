//! Until when a lease is trusted.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::trusted;

/// See the module. Instants are readings of [`crate::clock::Clock::monotonic`].
#[derive(Debug, Default)]
pub struct Trust {
    /// None where there is no lease that could end.
    until: Mutex<Option<Duration>>,
}

impl Trust {
    /// A lease of this length was granted by a call before which the clock was read.
    pub fn granted(&self, asked: Duration, lease: Duration) {
        let mut until = self.lock();
        *until = (*until).max(Some(asked.saturating_add(trusted(lease))));
    }

    /// The incarnation is no more.
    pub fn lost(&self) {
        *self.lock() = Some(Duration::ZERO);
    }

    /// How long it lasts from this instant on; none if it does not end.
    pub fn left(&self, now: Duration) -> Option<Duration> {
        self.lock().map(|until| until.saturating_sub(now))
    }

    /// Whether the node may act.
    pub fn is_given(&self, now: Duration) -> bool {
        self.left(now).is_none_or(|left| !left.is_zero())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Duration>> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{KILL_GRACE, LEASE, LEASE_MIN, RENEWALS};
    use super::*;
    use crate::supervisor::CANCEL_GRACE_MAX;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn trust_ends_before_the_lease_and_begins_with_the_question() {
        let trust = Trust::default();
        assert!(trust.is_given(Duration::MAX), "no lease, no end");
        trust.granted(100 * SECOND, LEASE);
        let end = 100 * SECOND + Duration::from_millis(12_125);
        assert_eq!(trust.left(101 * SECOND), Some(end.saturating_sub(101 * SECOND)));
        assert!(trust.is_given(end.saturating_sub(Duration::from_nanos(1))));
        assert!(!trust.is_given(end) && !trust.is_given(Duration::MAX));
        // An answer that was late takes nothing back.
        trust.granted(99 * SECOND, LEASE);
        assert_eq!(trust.left(end), Some(Duration::ZERO));
        trust.lost();
        assert!(!trust.is_given(Duration::ZERO));
        trust.granted(200 * SECOND, LEASE);
        assert!(trust.is_given(201 * SECOND));
    }

    #[test]
    fn trust_outlives_the_pause_between_two_renewals_and_leaves_time_to_kill() {
        for lease in [LEASE_MIN, LEASE, 100 * LEASE] {
            assert!(trusted(lease) > lease / RENEWALS, "{lease:?}");
            assert!(trusted(lease) + KILL_GRACE < lease, "{lease:?}");
        }
        assert!(KILL_GRACE >= 2 * CANCEL_GRACE_MAX);
    }
}
