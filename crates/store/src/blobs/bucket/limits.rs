//! Every bound of the bucket, in one place.

use std::time::Duration;

use object_store::{BackoffConfig, RetryConfig};

/// Threads that speak to buckets, for all namespaces of the process.
pub(super) const THREADS: usize = 2;
/// Bytes of a part, and of the largest object that is put in one request. An upload holds one part in memory.
pub(super) const PART_BYTES: u64 = 8 * 1024 * 1024;
/// Parts of an upload at most, by the protocol 10,000. Parts become larger where so many would not do.
pub(super) const PARTS_MAX: u64 = 9_000;
/// Objects that a page of a listing names at most.
pub const PAGE: usize = 1_000;
/// The largest object that the protocol copies within the bucket, and so the largest that can be removed.
pub(super) const COPY_BYTES_MAX: u64 = 5 * 1024 * 1024 * 1024;
/// An object is removed only so soon after its copy was begun: the copy must outlive, by much, every put that found the object before.
pub(super) const REMOVED_WITHIN: Duration = Duration::from_mins(10);
/// How often a payload is read before it counts as damaged: what was changed on the way is whole the second time.
pub(super) const READS_MAX: u32 = 2;
/// A request that only asks or changes a name is answered within this, its retries included.
const ASKED_WITHIN: Duration = Duration::from_mins(1);
/// What carries bytes may take longer by a second for so many.
const BYTES_A_SECOND_MIN: u64 = 64 * 1024;
/// How long the clock of the bucket is extrapolated by that of the machine.
pub(super) const CLOCK_KEPT: Duration = Duration::from_hours(1);
/// A connection is there within this.
pub(super) const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Silence of this length ends a request. While a part is sent the server says nothing, which may take as long as the slowest network that is waited for needs.
const SILENCE_MAX: Duration = Duration::from_secs(30 + PART_BYTES / BYTES_A_SECOND_MIN);
/// No request is made again after this.
const RETRIED_WITHIN: Duration = Duration::from_secs(20);
/// How often a request is made again at most.
const RETRIES_MAX: usize = 6;

/// How long a bucket is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waits {
    /// A request that only asks or changes a name is answered within this, its retries included.
    pub asked_within: Duration,
    /// Silence of this length ends a request.
    pub silence_max: Duration,
    /// No request is made again after this.
    pub retried_within: Duration,
}

impl Default for Waits {
    fn default() -> Self {
        Self { asked_within: ASKED_WITHIN, silence_max: SILENCE_MAX, retried_within: RETRIED_WITHIN }
    }
}

impl Waits {
    /// How long a request that carries so many bytes may take.
    pub(super) const fn within(self, bytes: u64) -> Duration {
        self.asked_within.saturating_add(Duration::from_secs(bytes / BYTES_A_SECOND_MIN))
    }
}

/// Requests that the server refuses for now (5xx, 429, 408), or that a broken connection cut off, are made again, a few times and for so long.
/// Whoever asked makes them again later, see the engine's patience.
pub(super) fn retries(within: Duration) -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(4),
            base: 2.0,
        },
        max_retries: RETRIES_MAX,
        retry_timeout: within,
    }
}

/// The length of each part but the last of an upload of so many bytes.
pub(super) const fn part_bytes(bytes: u64) -> u64 {
    let least = bytes.div_ceil(PARTS_MAX);
    if least > PART_BYTES { least } else { PART_BYTES }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_on_the_slowest_network_is_no_silence() {
        let sent = Duration::from_secs(PART_BYTES / BYTES_A_SECOND_MIN);
        let waits = Waits::default();
        assert!(waits.silence_max >= sent + Duration::from_secs(30));
        assert!(waits.within(PART_BYTES) >= waits.silence_max, "and neither ends the other early");
        assert_eq!(part_bytes(COPY_BYTES_MAX), PART_BYTES, "of everything that can be removed again");
    }
}
