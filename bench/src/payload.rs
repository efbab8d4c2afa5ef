//! The processors of the measured cycle: functions of this process that make as many bytes as the step is to have, different for every run, so
//! that nothing is stored once for two.

use async_trait::async_trait;
use bytes::Bytes;
use orbit_core::digest::Digest;
use orbit_core::run::Step;
use orbit_engine::tiers::{Job, Processed, Processor};
use tokio_util::sync::CancellationToken;

/// The output of tier 1, and the metadata of a candidate.
pub(crate) const SMALL_BYTES: usize = 1024;
/// The output of every later step.
pub(crate) const LARGE_BYTES: usize = 16 * 1024;

/// See the module.
pub(crate) struct Filling {
    /// Bytes of the outputs after tier 1.
    pub(crate) large: usize,
}

#[async_trait]
impl Processor for Filling {
    async fn process(&self, job: &Job, _: &CancellationToken) -> Processed {
        let bytes = match job.step {
            Step::Tier1 => SMALL_BYTES,
            Step::Tier2 | Step::Tier3 | Step::Normalize => self.large,
        };
        Processed::of(Ok(Bytes::from(fill(&Digest::of(job.idempotency_key.as_bytes()), bytes))))
    }
}

/// So many bytes that no compression makes fewer, from a seed.
pub(crate) fn fill(seed: &Digest, bytes: usize) -> Vec<u8> {
    let [a, b, c, d, e, f, g, h, ..] = seed.0;
    let mut state = u64::from_le_bytes([a, b, c, d, e, f, g, h]) | 1;
    let mut filled = Vec::with_capacity(bytes + 8);
    while filled.len() < bytes {
        // Xorshift (Marsaglia, 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        filled.extend_from_slice(&state.to_le_bytes());
    }
    filled.truncate(bytes);
    filled
}
