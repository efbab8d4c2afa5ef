//! Steps that this incarnation has begun: what their commits would read of their runs is known, as long as the claim is its (ADR 14).
//!
//! The commit of a step holds the turn of its namespace, and everybody behind it would wait for what it reads. So it reads nothing of a run that this process has put
//! there itself, but demands with what it writes (see `run_rows`) that the run is still its claim's. Where it is not, which is as rare as a takeover or a run that is cancelled, the server refuses the statement
//! and with it the whole transaction; whoever is in it is done again, and finds nothing here the second time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use uuid::Uuid;

use super::transition::Run;
use crate::contract::Claim;
use crate::contract::tiers::ClaimedStep;

/// Steps that are remembered; the claim that is oldest is forgotten for one more, and read where it is committed.
const REMEMBERED_MAX: usize = 4096;

/// A run whose step has begun.
pub(super) struct Known {
    /// As it stands.
    pub(super) run: Run,
    /// Its run profile.
    pub(super) run_profile_id: Uuid,
    /// Its execution request, which whoever does the step has as well.
    pub(super) request: Arc<Value>,
}

/// See the module: by token, which counts up.
#[derive(Default)]
pub(super) struct Begun(Mutex<BTreeMap<i64, Known>>);

impl Begun {
    /// The run stands so when the transaction is durable; nobody learns of the token before.
    pub(super) fn remember(&self, run: &Run, claimed: &ClaimedStep) {
        let known = Known {
            run: run.clone(),
            run_profile_id: claimed.lane.run_profile_id,
            request: Arc::clone(&claimed.request),
        };
        let mut begun = self.lock();
        begun.insert(run.token, known);
        while begun.len() > REMEMBERED_MAX {
            begun.pop_first();
        }
    }

    /// The run of this claim as its step began, once.
    pub(super) fn take(&self, claim: Claim) -> Option<Known> {
        self.lock().remove(&claim.token).filter(|known| known.run.id == claim.id)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<i64, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
