//! Steps that this incarnation has begun, and runs that it has admitted: what would be read of them is known (ADR 14).
//!
//! The commit of a step holds the turn of its namespace, and everybody behind it would wait for what it reads. So it reads nothing of a run that this process has put
//! there itself, but demands with what it writes (see `run_rows`) that the run is still its claim's. Where it is not, which is as rare as a takeover or a run that is cancelled, the server refuses the statement
//! and with it the whole transaction; whoever is in it is done again, and finds nothing here the second time.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use uuid::Uuid;

use super::tiers::Admitted;
use super::transition::Run;
use crate::contract::Claim;
use crate::contract::tiers::ClaimedStep;

/// Steps that are remembered; the claim that is oldest is forgotten for one more, and read where it is committed.
const REMEMBERED_MAX: usize = 4096;

/// Runs that are remembered while they wait for their first step, of those that were admitted last; an older one is read where it starts.
const WAITING_MAX: usize = 1024;
/// Bytes of their execution requests.
const WAITING_BYTES: usize = 4 * 1024 * 1024;

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
    waiting: Waiting,
}

/// Runs that wait for their first step, each with the bytes of its request.
#[derive(Default)]
struct Waiting {
    runs: HashMap<Uuid, (Admitted, usize)>,
    /// In the order of their admission, with those that wait no longer.
    order: VecDeque<Uuid>,
    bytes: usize,
}

impl Waiting {
    fn add(&mut self, one: Admitted) {
        let bytes = one.request_bytes();
        self.bytes += bytes;
        self.order.push_back(one.id());
        self.runs.insert(one.id(), (one, bytes));
        while self.order.len() > WAITING_MAX || self.bytes > WAITING_BYTES {
            let Some(oldest) = self.order.pop_front() else { break };
            self.take(oldest);
        }
    }

    fn take(&mut self, run_id: Uuid) -> Option<Admitted> {
        let (one, bytes) = self.runs.remove(&run_id)?;
        self.bytes -= bytes;
        Some(one)
    }
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
        let mut remembered = self.lock();
        for one in admitted {
            remembered.waiting.add(one);
        }
    }

    /// The run as it was admitted, once, if its token says that it was never claimed since: it stands as it stood then.
    pub(super) fn starts(&self, run_id: Uuid, token: i64) -> Option<Admitted> {
        self.lock().waiting.take(run_id).filter(|_| token == 0)
    }

    fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;

    fn admitted(number: usize, request: &Value) -> Admitted {
        Admitted::example(Uuid::from_u128(number as u128), request.clone(), Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn what_waits_is_bounded_by_number_and_by_bytes() {
        let begun = Begun::default();
        let small = json!({});
        begun.waits((0..WAITING_MAX + 2).map(|number| admitted(number, &small)).collect());
        let knows = |number: usize| begun.starts(Uuid::from_u128(number as u128), 0).is_some();
        assert_eq!([0, 1, 2, WAITING_MAX + 1].map(knows), [false, false, true, true]);
        assert!(!knows(2), "once");
        let large = json!({ "text": "x".repeat(WAITING_BYTES / 2) });
        begun.waits((5000..5003).map(|number| admitted(number, &large)).collect());
        assert_eq!([3, 5000, 5001, 5002].map(knows), [false, false, false, true]);
        begun.waits(vec![admitted(6000, &json!({ "text": "x".repeat(WAITING_BYTES) }))]);
        assert!(!knows(6000), "one that is too large is not kept");
        assert_eq!(begun.lock().waiting.bytes, 0);
    }
}
