//! The only clock and the only randomness. Everything else takes them as parameters.

use std::time::Duration;

use jiff::Timestamp;
use nix::time::{ClockId, clock_gettime};

/// Time and randomness of a node.
pub trait Clock: Send + Sync {
    /// The present instant, in whole microseconds, which is what a store keeps.
    fn now(&self) -> Timestamp;
    /// How long ago some instant was that stays the same. It never goes back or jumps, whatever is done to the clock, and counts while the machine sleeps.
    fn monotonic(&self) -> Duration;
    /// Random bytes that nobody can guess.
    fn random(&self) -> [u8; 32];
}

/// The machine's clock and the kernel's randomness.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one home of the clock")]
    fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
    }

    fn monotonic(&self) -> Duration {
        match clock_gettime(ClockId::CLOCK_BOOTTIME) {
            Ok(since_boot) => since_boot.into(),
            Err(error) => {
                // Every Linux that has namespaces has it. Without it nobody can say how long a lease still is.
                tracing::error!(%error, "the kernel has no monotonic clock");
                std::process::abort();
            }
        }
    }

    #[expect(clippy::disallowed_methods, reason = "this is the one home of randomness")]
    fn random(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        if let Err(error) = getrandom::fill(&mut bytes) {
            // Salts and jitter do not exist without it, and a kernel that has none cannot run anything safely.
            tracing::error!(%error, "the kernel gave no randomness");
            std::process::abort();
        }
        bytes
    }
}

/// The first eight of the random bytes as a number, for jitter.
pub fn random_number(clock: &dyn Clock) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = clock.random();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// Half of the random bytes, for the salt of evidence.
pub fn salt(clock: &dyn Clock) -> [u8; 16] {
    let random = clock.random();
    std::array::from_fn(|index| random[index])
}
