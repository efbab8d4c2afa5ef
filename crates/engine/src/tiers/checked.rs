//! Requests that were checked against their snapshot, so that this is done once for a run and not once for each of its steps: it reads the whole
//! configuration.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use orbit_core::config::Snapshot;
use orbit_core::synthesis::ExecutionRequest;
use orbit_store::contract::tiers::ClaimedStep;
use serde::Deserialize as _;
use serde_json::Value;
use uuid::Uuid;

/// Runs that are remembered; with more of them at work some are checked again.
const REMEMBERED_MAX: usize = 512;

/// See the module.
#[derive(Default)]
pub(crate) struct CheckedRequests {
    of_runs: Mutex<HashMap<Uuid, Checked>>,
}

struct Checked {
    /// As the store gave it. The same value is the same request: the store hands it on from step to step.
    written: Arc<Value>,
    request: Arc<ExecutionRequest>,
}

impl CheckedRequests {
    /// The request of a claimed step, which names nothing that is not in the snapshot as it names it; or why not.
    pub(super) fn checked(
        &self,
        claimed: &ClaimedStep,
        snapshot: &Snapshot,
    ) -> Result<Arc<ExecutionRequest>, String> {
        let run_id = claimed.claim.id;
        if let Some(found) = self.lock().get(&run_id)
            && Arc::ptr_eq(&found.written, &claimed.request)
        {
            return Ok(Arc::clone(&found.request));
        }
        let request = ExecutionRequest::deserialize(&*claimed.request).map_err(|error| error.to_string())?;
        request.check(snapshot).map_err(|error| error.to_string())?;
        let request = Arc::new(request);
        let mut of_runs = self.lock();
        if of_runs.len() >= REMEMBERED_MAX {
            of_runs.clear();
        }
        let written = Arc::clone(&claimed.request);
        of_runs.insert(run_id, Checked { written, request: Arc::clone(&request) });
        Ok(request)
    }

    /// The run goes no further for now.
    pub(super) fn forget(&self, run_id: Uuid) {
        self.lock().remove(&run_id);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Checked>> {
        // Whole after any panic: every change to it is a single call.
        self.of_runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
