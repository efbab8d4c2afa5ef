//! Ranks: which of two candidates is better.
//!
//! A weighted choice without state: every candidate draws a number from a hash of the seed and of itself, and its weight bends it. The
//! best of them are a weighted sample without replacement, whatever their order (P. S. Efraimidis and P. G. Spirakis, Weighted random sampling with a
//! reservoir, Information Processing Letters 97, 2006, algorithm A).

use std::cmp::Ordering;

use uuid::Uuid;

use crate::digest::{Digest, Hasher};

/// A place in the order of candidates; the least one is the best.
#[derive(Clone, Copy, Debug)]
pub struct Rank {
    cost: f64,
    tie: Digest,
}

impl Rank {
    /// The rank in a weighted choice. With u uniform in (0, 1), the paper keeps the greatest u^(1/w); -ln(u)/w orders the same way and does
    /// not vanish for small weights.
    pub fn weighted(seed: Uuid, hash: Digest, weight: f64) -> Self {
        Self { cost: -uniform(seed, hash).ln() / weight, tie: hash }
    }

    /// The rank by place in the source.
    #[expect(clippy::cast_precision_loss, reason = "exact below 2^53 lines, which no pass reaches")]
    pub const fn in_order(position: u64, hash: Digest) -> Self {
        Self { cost: position as f64, tie: hash }
    }
}

impl Ord for Rank {
    fn cmp(&self, other: &Self) -> Ordering {
        self.cost.total_cmp(&other.cost).then_with(|| self.tie.cmp(&other.tie))
    }
}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Rank {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Rank {}

/// A number in (0, 1), both ends excluded, in steps of 2^-52: half a step is added so that it is exact and never 0 or 1.
#[expect(clippy::cast_precision_loss, reason = "52 bits fit a double exactly")]
fn uniform(seed: Uuid, hash: Digest) -> f64 {
    let mut hasher = Hasher::default();
    hasher.update(seed.as_bytes());
    hasher.update(&hash.0);
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finish().0[..8]);
    let bits = u64::from_be_bytes(first) >> 12;
    (bits as f64 + 0.5) / (1_u64 << 52) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u32) -> Digest {
        Digest::of(&n.to_be_bytes())
    }

    /// How often each of the weights wins over many seeds.
    fn wins(weights: &[f64], draws: u32) -> Vec<u32> {
        let mut wins = vec![0; weights.len()];
        for draw in 0..draws {
            let rank = |(n, weight): (u32, &f64)| {
                (Rank::weighted(Uuid::from_u128(draw.into()), hash(n), *weight), n)
            };
            let best = (0..).zip(weights).map(rank).min().unwrap().1;
            wins[usize::try_from(best).unwrap()] += 1;
        }
        wins
    }

    /// Pearson's statistic of the wins against the shares that the weights promise.
    fn chi_square(weights: &[f64], draws: u32) -> f64 {
        let total: f64 = weights.iter().sum();
        let expected = |weight: &f64| weight / total * f64::from(draws);
        let term =
            |(won, weight): (u32, &f64)| (f64::from(won) - expected(weight)).powi(2) / expected(weight);
        wins(weights, draws).into_iter().zip(weights).map(term).sum()
    }

    #[test]
    fn the_first_is_drawn_by_weight() {
        // The seeds are fixed, so each statistic is one number; 37.7 is the 99.99th percentile at 9 degrees of freedom.
        let check = |weights: &[f64]| {
            let statistic = chi_square(weights, 20_000);
            assert!(statistic < 37.7, "{weights:?}: {statistic}");
        };
        check(&[1.0; 10]);
        check(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0]);
        check(&[100.0, 1.0, 1.0, 1.0, 50.0]);
        check(&[1e-300, 3e-300]);
        // And the statistic does see a wrong share.
        let skewed = wins(&[1.0, 1.0], 20_000);
        assert!((9_500..10_500).contains(&skewed[0]), "{skewed:?}");
        assert!(wins(&[1.0, 3.0], 20_000)[0] < 5_500);
    }

    #[test]
    fn a_rank_depends_on_seed_candidate_and_weight_alone() {
        let seed = Uuid::from_u128(7);
        let rank = |seed, n, weight| Rank::weighted(seed, hash(n), weight);
        assert_eq!(rank(seed, 1, 1.0), rank(seed, 1, 1.0));
        assert_ne!(rank(seed, 1, 1.0), rank(Uuid::from_u128(8), 1, 1.0));
        assert_ne!(rank(seed, 1, 1.0), rank(seed, 2, 1.0));
        assert!(rank(seed, 1, 2.0) < rank(seed, 1, 1.0));
        // Weights at the ends of the range still give an order.
        assert_ne!(rank(seed, 1, f64::MIN_POSITIVE), rank(seed, 2, f64::MIN_POSITIVE));
        assert_ne!(rank(seed, 1, f64::MAX), rank(seed, 2, f64::MAX));
        assert!(Rank::in_order(1, hash(9)) < Rank::in_order(2, hash(1)));
    }
}
