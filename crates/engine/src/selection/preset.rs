//! Cycles that were given their execution requests: nothing is selected, and what was given is held against the snapshot.

use std::sync::Arc;

use orbit_core::config::{RunProfile, Snapshot};
use orbit_core::limits::SURFACES_MAX;
use orbit_core::selection::{Candidate, Chosen, Malformed, candidate_hash};
use orbit_core::synthesis::{CycleIdentity, ExecutionRequest, RequestError};
use orbit_store::contract::selection::{Choice, ClaimedCycle, Start};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::admission::AdmissionError;
use super::pass;
use crate::namespace::Namespace;

/// What a cycle was given to run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Preset {
    /// One for each surface.
    pub(crate) requests: Vec<ExecutionRequest>,
    /// What is done again, if anything is.
    pub(crate) retry: Option<RetryOf>,
}

/// The run that a cycle of one run does again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RetryOf {
    /// The old run.
    pub(crate) run_id: Uuid,
    /// Where the new one begins, if not at tier 1.
    pub(crate) start: Option<Start>,
}

/// Requests that a cycle cannot run.
#[derive(Debug, thiserror::Error)]
pub enum PresetError {
    /// Not a list of execution requests.
    #[error("expected a list of execution requests, as `orbit run --dry-run --json` prints them: {message}")]
    Form {
        /// What the reader said.
        message: String,
    },
    /// None, or more than a cycle may have.
    #[error("{found} requests were given, expected 1 to {SURFACES_MAX}")]
    Count {
        /// How many.
        found: usize,
    },
    /// One does not fit the snapshot.
    #[error("request {number}: {source}; `orbit run --dry-run` makes requests for the present configuration")]
    Request {
        /// Its place, from 1.
        number: usize,
        /// What is wrong.
        source: RequestError,
    },
    /// One is of another run profile.
    #[error(
        "request {number} is of run profile `{found}`, and the cycle of `{expected}`; name `{found}` as the run profile"
    )]
    RunProfile {
        /// Its place, from 1.
        number: usize,
        /// What it names.
        found: String,
        /// The cycle's.
        expected: String,
    },
    /// One is of a profile that the snapshot does not have.
    #[error("request {number} is of a profile that the snapshot does not have: `{label}`")]
    Profile {
        /// Its place, from 1.
        number: usize,
        /// The profile's label.
        label: String,
    },
    /// Two are of one profile.
    #[error("request {number} is of profile `{label}`, which an earlier one is of")]
    Twice {
        /// Its place, from 1.
        number: usize,
        /// The profile's label.
        label: String,
    },
    /// They are about different things.
    #[error("request {number} has another initiation than the first; a cycle has one")]
    Initiation {
        /// Its place, from 1.
        number: usize,
    },
    /// The initiation is out of bounds.
    #[error("the initiation of the requests is malformed: {0}")]
    Malformed(#[from] Malformed),
}

/// A bare list is what `orbit run --request` gives.
fn given(preset: &Value) -> Result<Preset, PresetError> {
    let read = match preset {
        Value::Object(_) => serde_json::from_value(preset.clone()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            serde_json::from_value(preset.clone()).map(|requests| Preset { requests, retry: None })
        }
    };
    read.map_err(|error| PresetError::Form { message: error.to_string() })
}

/// The cycle's requests, rebound to it and checked; none if it selects.
pub(super) fn preset(
    cycle: &ClaimedCycle,
    snapshot: &Snapshot,
    run_profile: &RunProfile,
) -> Result<Option<Preset>, PresetError> {
    if cycle.preset.is_null() {
        return Ok(None);
    }
    let Preset { requests: given, retry } = given(&cycle.preset)?;
    if given.is_empty() || given.len() > SURFACES_MAX {
        return Err(PresetError::Count { found: given.len() });
    }
    let identity =
        CycleIdentity { id: cycle.claim.id, trigger: cycle.trigger.clone(), nominal: cycle.nominal };
    let mut bound: Vec<ExecutionRequest> = Vec::with_capacity(given.len());
    for (request, number) in given.into_iter().zip(1..) {
        let request = request.rebound(identity.clone());
        request.check(snapshot).map_err(|source| PresetError::Request { number, source })?;
        if request.run_profile.id != run_profile.run_profile_id {
            let found = request.run_profile.label.to_string();
            return Err(PresetError::RunProfile { number, found, expected: run_profile.label.to_string() });
        }
        let label = request.profile.label.to_string();
        if snapshot.profiles.values().all(|profile| profile.profile_id != request.profile.id) {
            return Err(PresetError::Profile { number, label });
        }
        if bound.iter().any(|earlier| earlier.profile.id == request.profile.id) {
            return Err(PresetError::Twice { number, label });
        }
        if bound.first().is_some_and(|first| first.initiation != request.initiation) {
            return Err(PresetError::Initiation { number });
        }
        bound.push(request);
    }
    Ok(Some(Preset { requests: bound, retry }))
}

/// The requests' own initiation as the cycle's only candidate. A person named it, so one that is held already is taken all the same: then
/// where it must be new is this cycle alone.
pub(super) async fn choice(
    namespace: &Namespace,
    run_profile: &RunProfile,
    request: &ExecutionRequest,
) -> Result<Choice, AdmissionError> {
    let view = request.initiation.clone();
    let candidate = Candidate::new(view.label, view.weight, view.metadata).map_err(PresetError::from)?;
    let hash = candidate_hash(&candidate, &run_profile.execution_policy.selection.dedupe.fields);
    let mut rule = pass::rule(run_profile, namespace.shared.clock.now());
    let (store, asked) = (Arc::clone(&namespace.store), rule.clone());
    let taken = tokio::task::spawn_blocking(move || store.is_taken(&asked, hash)).await;
    let taken = taken.map_err(|_| AdmissionError::Cut)??;
    if taken {
        rule.scope = format!("cycle:{}", request.cycle.id);
    }
    let report = json!({ "source": { "kind": "request" }, "kept": 1, "taken": u8::from(taken) });
    Ok(Choice { candidates: vec![pass::initiation(view.id, Chosen { candidate, hash })], rule, report })
}
