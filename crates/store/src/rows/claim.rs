//! Whose a claim is, and what it means that it is free.

use orbit_core::run::Interruption;
use serde_json::{Value, json};
use uuid::Uuid;

use super::delivery::ended_receipt;
use crate::contract::Recovered;

/// Bits of a token that count the claims of one incarnation; those above are its number.
const COUNTER_BITS: u32 = 32;
/// Claims that an incarnation makes at most; then it has to join anew.
pub(crate) const CLAIMS_MAX: i64 = (1 << COUNTER_BITS) - 1;

/// The token of an incarnation's so-manyth claim, from 1; none if it may make no more.
pub(crate) fn token(epoch: i64, claim: i64) -> Option<i64> {
    (epoch > 0 && (1..=CLAIMS_MAX).contains(&claim)).then(|| (epoch << COUNTER_BITS) + claim)
}

/// The incarnation that has made the claim.
const fn epoch_of(token: i64) -> i64 {
    token >> COUNTER_BITS
}

/// Which claims are to be free.
#[derive(Debug)]
pub(crate) enum Free<'a> {
    /// Those of everybody but these incarnations.
    AllBut(Vec<i64>),
    /// Those of this incarnation.
    Of(i64),
    /// Those of this incarnation but for what it holds.
    Unheld(i64, &'a [Uuid]),
}

impl Free<'_> {
    /// Whether this claim on this row is one of them.
    pub(crate) fn covers(&self, id: Uuid, token: i64) -> bool {
        let epoch = epoch_of(token);
        match self {
            Self::AllBut(members) => !members.contains(&epoch),
            Self::Of(one) => epoch == *one,
            Self::Unheld(one, held) => epoch == *one && !held.contains(&id),
        }
    }

    /// Why a step is interrupted by it.
    pub(crate) const fn cause(&self) -> Interruption {
        match self {
            Self::AllBut(_) | Self::Of(_) => Interruption::Crash,
            Self::Unheld(..) => Interruption::Unclaimed,
        }
    }

    /// The receipt of an attempt by it.
    pub(crate) fn receipt(&self) -> Value {
        match self {
            Self::AllBut(_) | Self::Of(_) => ended_receipt(),
            Self::Unheld(..) => {
                let message = "the claim of this attempt was lost before anything was sent";
                json!({ "outcome": "interrupted", "message": message })
            }
        }
    }
}

impl Recovered {
    /// How much it is.
    pub(crate) const fn total(self) -> u32 {
        self.steps_interrupted + self.attempts_unknown + self.cycles_reclaimed
    }

    /// Both together.
    pub(crate) const fn and(self, other: Self) -> Self {
        Self {
            steps_interrupted: self.steps_interrupted + other.steps_interrupted,
            attempts_unknown: self.attempts_unknown + other.attempts_unknown,
            cycles_reclaimed: self.cycles_reclaimed + other.cycles_reclaimed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_whose_claim_it_is() {
        let check = |epoch, claim, expected: Option<i64>| {
            let token = token(epoch, claim);
            assert_eq!(token.map(epoch_of), expected, "{epoch} {claim}");
        };
        check(1, 1, Some(1));
        check(7, CLAIMS_MAX, Some(7));
        check(i64::from(i32::MAX), CLAIMS_MAX, Some(i64::from(i32::MAX)));
        // Nobody has joined, and a counter that would run into the next incarnation.
        check(0, 1, None);
        check(7, 0, None);
        check(7, CLAIMS_MAX + 1, None);
    }

    #[test]
    fn what_is_free_is_told_by_its_token() {
        let (id, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let check = |free: &Free<'_>, epoch, expected| {
            let token = token(epoch, 3).unwrap();
            assert_eq!(free.covers(id, token), expected, "{free:?} {epoch}");
        };
        check(&Free::AllBut(vec![2, 4]), 1, true);
        check(&Free::AllBut(vec![2, 4]), 4, false);
        check(&Free::Of(2), 2, true);
        check(&Free::Of(2), 1, false);
        check(&Free::Unheld(2, &[other]), 2, true);
        check(&Free::Unheld(2, &[id]), 2, false);
        check(&Free::Unheld(2, &[]), 3, false);
    }
}
