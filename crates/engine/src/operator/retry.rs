//! Does a finished run again: a new cycle with one run, of the same initiation, that cites the old one.
//!
//! It runs under the active snapshot, because whoever retries has mended something, or under the old one if that is asked for. From a later step it is
//! given what the step before made in the old run. The initiation is used although it is taken: a person named it.

use jiff::Timestamp;
use orbit_core::config::{DocState, Profile, RunProfile, Snapshot};
use orbit_core::digest::Digest;
use orbit_core::governance::{Closed, Door};
use orbit_core::id::{Trigger, cycle_id, initiation_id};
use orbit_core::run::Step;
use orbit_core::synthesis::{CycleIdentity, ExecutionRequest, InitiationView, SynthesisError, synthesize};
use orbit_store::StoreError;
use orbit_store::contract::Artifact;
use orbit_store::contract::schedule::NewCycle;
use orbit_store::contract::selection::Start;
use orbit_store::contract::view::{RunView, StepView};
use serde_json::json;
use std::sync::Arc;
use uuid::Uuid;

use crate::namespace::Namespace;
use crate::selection::preset::{Preset, RetryOf};

/// How many retries of retries are gone back for the output of a step.
const RETRIES_FOLLOWED_MAX: usize = 100;

/// What to do again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// The old run.
    pub run_id: Uuid,
    /// Where to begin.
    pub from: Step,
    /// Names this retry: the same key never runs twice.
    pub key: String,
    /// Under the snapshot of the old run.
    pub pinned: bool,
}

/// The cycle that does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retried {
    /// Its id.
    pub cycle_id: Uuid,
    /// The snapshot it is pinned to.
    pub snapshot: Digest,
    /// False if a cycle of this key exists already.
    pub new: bool,
}

/// Why a run is not done again.
#[derive(Debug, thiserror::Error)]
pub enum RetryError {
    /// There is no such run.
    #[error("there is no run `{run_id}`")]
    NoRun {
        /// Its id.
        run_id: Uuid,
    },
    /// It is not over.
    #[error("run `{run_id}` is not finished: it is {state}")]
    Unfinished {
        /// Its id.
        run_id: Uuid,
        /// Its state's word.
        state: String,
    },
    /// Nothing is active, or the old snapshot is not stored.
    #[error("the namespace has no snapshot to run it under")]
    NoSnapshot,
    /// The snapshot no longer has what the run was made of.
    #[error("the active configuration has no {kind} `{label}` any more (id {id})")]
    Gone {
        /// `profile` or `run profile`.
        kind: &'static str,
        /// Its label at the time.
        label: String,
        /// Its id.
        id: Uuid,
    },
    /// Nothing is known of what it was about.
    #[error("run `{run_id}` has no initiation")]
    NoInitiation {
        /// Its id.
        run_id: Uuid,
    },
    /// The profile has no such step.
    #[error("profile `{profile}` has no step `{}`", step.name())]
    NoStep {
        /// Its label.
        profile: String,
        /// The step.
        step: Step,
    },
    /// The step before was never done.
    #[error("run `{run_id}` has no output of `{}`, which is what `{}` begins with", before.name(), step.name())]
    NoOutput {
        /// The old run.
        run_id: Uuid,
        /// Whose output is wanted.
        before: Step,
        /// What was to be done again.
        step: Step,
    },
    /// The output of the step before is no longer kept.
    #[error("the output of `{}` ({digest}) is not kept any more{}", before.name(), by_rule(*dropped_at))]
    OutputGone {
        /// Whose output it was.
        before: Step,
        /// SHA-256 of its bytes.
        digest: Digest,
        /// When it was dropped; none if it vanished otherwise.
        dropped_at: Option<Timestamp>,
    },
    /// The gate is closed.
    #[error("nothing is started: {0}")]
    Closed(Closed),
    /// The execution request cannot be made.
    #[error(transparent)]
    Synthesis(#[from] SynthesisError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Afterwards the cycle exists, and the selector admits its run.
pub async fn retry(namespace: &Namespace, wanted: &Retry) -> Result<Retried, RetryError> {
    let run_id = wanted.run_id;
    let old = namespace.store.run(run_id).await?.ok_or(RetryError::NoRun { run_id })?;
    let short = &run_id.to_string()[..8];
    let trigger = Trigger::Manual { key: format!("retry-{short}-{}", wanted.key) };
    // As for every firing by hand the key alone names it.
    let id = cycle_id(&namespace.name, old.run_profile_id, &trigger, Timestamp::UNIX_EPOCH);
    if let Some(cycle) = namespace.store.cycle(id).await? {
        return Ok(Retried { cycle_id: id, snapshot: cycle.snapshot, new: false });
    }
    if old.state != "finished" {
        return Err(RetryError::Unfinished { run_id, state: old.state });
    }
    let snapshot = snapshot(namespace, &old, wanted.pinned).await?;
    let (profile, run_profile) = documents(&snapshot, &old)?;
    ask(namespace, profile, run_profile).map_err(RetryError::Closed)?;
    let cycle = CycleIdentity { id, trigger: trigger.to_string(), nominal: namespace.shared.clock.now() };
    let initiation = initiation(namespace, run_id, id).await?;
    let request = synthesize(&snapshot, profile, run_profile, initiation, cycle.clone())?;
    let start = start(namespace, &old, &request, wanted.from).await?;
    let preset = Preset { requests: vec![request], retry: Some(RetryOf { run_id, start }) };
    let new = NewCycle {
        cycle_id: id,
        run_profile_id: run_profile.run_profile_id,
        run_profile: run_profile.label.to_string(),
        trigger: cycle.trigger,
        nominal: cycle.nominal,
        snapshot: snapshot.digest(),
        queued: false,
        preset: json!(preset),
        detail: json!({ "reason": "retry", "retry_of": run_id, "from": wanted.from }),
    };
    let new = namespace.store.fire(new, namespace.shared.clock.now()).await?;
    namespace.nudges.selection.notify_one();
    Ok(Retried { cycle_id: id, snapshot: snapshot.digest(), new })
}

async fn snapshot(namespace: &Namespace, old: &RunView, pinned: bool) -> Result<Arc<Snapshot>, RetryError> {
    let found = if pinned { namespace.snapshot(old.snapshot).await? } else { namespace.active() };
    found.ok_or(RetryError::NoSnapshot)
}

/// What the run was made of, by id: labels may have changed.
fn documents<'a>(snapshot: &'a Snapshot, old: &RunView) -> Result<(&'a Profile, &'a RunProfile), RetryError> {
    let profile = snapshot.profile_of(old.profile_id);
    let profile = profile.ok_or_else(|| RetryError::Gone {
        kind: "profile",
        label: old.profile.clone(),
        id: old.profile_id,
    })?;
    let run_profile = snapshot.run_profile_of(old.run_profile_id);
    let run_profile = run_profile.ok_or_else(|| RetryError::Gone {
        kind: "run profile",
        label: old.run_profile.clone(),
        id: old.run_profile_id,
    })?;
    Ok((profile, run_profile))
}

/// The states that count are the active snapshot's, as at admission.
fn ask(namespace: &Namespace, profile: &Profile, run_profile: &RunProfile) -> Result<(), Closed> {
    let active = namespace.active();
    let now = |ours: DocState, find: &dyn Fn(&Snapshot) -> Option<DocState>| {
        active.as_deref().and_then(find).unwrap_or(ours)
    };
    let of_profile =
        now(profile.state, &|snapshot| snapshot.profile_of(profile.profile_id).map(|one| one.state));
    let of_run_profile = now(run_profile.state, &|snapshot| {
        snapshot.run_profile_of(run_profile.run_profile_id).map(|one| one.state)
    });
    let labels = (format!("profile `{}`", profile.label), format!("run profile `{}`", run_profile.label));
    namespace.ask(Door::Tick, &[(&labels.1, of_run_profile), (&labels.0, of_profile)])
}

/// What the old run was about, as the initiation of the new cycle.
async fn initiation(
    namespace: &Namespace,
    run_id: Uuid,
    cycle_id: Uuid,
) -> Result<InitiationView, RetryError> {
    let no_initiation = || RetryError::NoInitiation { run_id };
    let asked = namespace.store.run_request(run_id).await?.ok_or_else(no_initiation)?;
    let id = initiation_id(cycle_id);
    if let Ok(view) = serde_json::from_value::<InitiationView>(asked.request["initiation"].clone()) {
        return Ok(InitiationView { id, ..view });
    }
    // Its request could not be made.
    let initiation = asked.initiation.ok_or_else(no_initiation)?;
    Ok(InitiationView {
        id,
        label: initiation.label,
        weight: initiation.weight,
        metadata: initiation.metadata,
    })
}

/// Where the new run begins; none for tier 1.
async fn start(
    namespace: &Namespace,
    old: &RunView,
    request: &ExecutionRequest,
    step: Step,
) -> Result<Option<Start>, RetryError> {
    if request.step(step).is_none() {
        return Err(RetryError::NoStep { profile: request.profile.label.to_string(), step });
    }
    let steps = request.steps.iter().map(|one| one.step);
    let Some(before) = steps.filter(|one| *one < step).max() else { return Ok(None) };
    let no_output = || RetryError::NoOutput { run_id: old.run_id, before, step };
    let mut run = old.clone();
    for _ in 0..RETRIES_FOLLOWED_MAX {
        if let Some(input) = run.steps.iter().find_map(|one| output(one, before)) {
            if !namespace.payloads.contains(input.digest).await? {
                let dropped_at = namespace.payloads.dropped_at(input.digest).await?;
                return Err(RetryError::OutputGone { before, digest: input.digest, dropped_at });
            }
            return Ok(Some(Start { step, input }));
        }
        // A retry that began later was itself given what an older run had made.
        let older = run.retry_of.filter(|_| run.from.is_some_and(|from| from > before));
        let older = namespace.store.run(older.ok_or_else(no_output)?).await?;
        run = older.ok_or_else(no_output)?;
    }
    Err(no_output())
}

fn by_rule(dropped_at: Option<Timestamp>) -> String {
    dropped_at.map_or_else(String::new, |at| format!(": it was dropped at {at}, by `retention.artifacts`"))
}

fn output(step: &StepView, wanted: Step) -> Option<Artifact> {
    if step.step != wanted.name() || step.state != "succeeded" {
        return None;
    }
    Some(Artifact { digest: step.digest?, bytes: step.bytes?, media_type: step.media_type.clone()? })
}
