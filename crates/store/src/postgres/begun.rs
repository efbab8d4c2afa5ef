//! Steps that this incarnation has begun, and runs that it has admitted: what would be read of them is known (ADR 14).
//!
//! The commit of a step holds the turn of its namespace, and everybody behind it would wait for what it reads. So it reads nothing of a run that this process has put
//! there itself, but demands with what it writes (see `run_rows`) that the run is still its claim's. Where it is not, which is as rare as a takeover or a run that is cancelled, the server refuses the statement
//! and with it the whole transaction; whoever is in it is done again, and finds nothing here the second time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use uuid::Uuid;

use super::tiers::Admitted;
use super::transition::Run;
use crate::contract::Claim;
use crate::contract::tiers::ClaimedStep;

/// Steps that are remembered; the claim that is oldest is forgotten for one more, and read where it is committed.
const REMEMBERED_MAX: usize = 4096;

/// Runs that are remembered while they wait for their first step; the oldest is forgotten for one more, and read where it starts.
const WAITING_MAX: usize = 1024;

/// A run whose step has begun.
pub(super) struct Known {
    /// As it stands.
    pub(super) run: Run,
    /// Its run profile.
    pub(super) run_profile_id: Uuid,
    /// Its execution request, which whoever does the step has as well.
    pub(super) request: Arc<Value>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Begun(Mutex<Remembered>);

#[derive(Default)]
struct Remembered {
    /// By token, which counts up.
    steps: BTreeMap<i64, Known>,
    /// In the order of their admission.
    waiting: VecDeque<Admitted>,
}

impl Begun {
    /// The run stands so when the transaction is durable; nobody learns of the token before.
    pub(super) fn remember(&self, run: &Run, claimed: &ClaimedStep) {
        let known = Known {
            run: run.clone(),
            run_profile_id: claimed.lane.run_profile_id,
            request: Arc::clone(&claimed.request),
        };
        let steps = &mut self.lock().steps;
        steps.insert(run.token, known);
        while steps.len() > REMEMBERED_MAX {
            steps.pop_first();
        }
    }

    /// The run of this claim as its step began, once.
    pub(super) fn take(&self, claim: Claim) -> Option<Known> {
        self.lock().steps.remove(&claim.token).filter(|known| known.run.id == claim.id)
    }

    /// These wait for their first step. Their admission is durable: had it been undone, another node might have admitted others by the same ids.
    pub(super) fn waits(&self, admitted: Vec<Admitted>) {
        let waiting = &mut self.lock().waiting;
        waiting.extend(admitted);
        let over = waiting.len().saturating_sub(WAITING_MAX);
        waiting.drain(..over);
    }

    /// The run as it was admitted, once, if its token says that it was never claimed since: it stands as it stood then.
    pub(super) fn starts(&self, run_id: Uuid, token: i64) -> Option<Admitted> {
        let waiting = &mut self.lock().waiting;
        let place = waiting.iter().position(|one| one.id() == run_id)?;
        waiting.remove(place).filter(|_| token == 0)
    }

    fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
