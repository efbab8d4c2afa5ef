//! What happens to one cycle between its claim and its runs: the gate, the initiation, the requests, the admission.
//!
//! Every step may be repeated after a crash: an initiation that the cycle has already is kept, and ids are those of the first time.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use orbit_core::config::{DocName, Millis, Profile, RunProfile, Snapshot};
use orbit_core::digest::Digest;
use orbit_core::governance::{Closed, Door};
use orbit_core::id::run_id;
use orbit_core::record::{Kind, Subject};
use orbit_core::synthesis::{CycleIdentity, ExecutionRequest, InitiationView, SynthesisError, synthesize};
use orbit_store::StoreError;
use orbit_store::contract::selection::{Admitting, Choice, ClaimedCycle, Initiation, NewRun, Taken};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::pass::{self, Reading};
use super::preset::{self, Preset, PresetError, RetryOf};
use super::sources::SourceError;
use crate::namespace::Namespace;
use crate::service::POLL_MAX;
use crate::tiers::StartPermits;

/// Passes over the source of a cycle, where others take all that each of them keeps. After that it waits again, behind them.
const PASSES_MAX: u32 = 16;

/// Why a cycle gets no runs.
#[derive(Debug, thiserror::Error)]
pub enum AdmissionError {
    /// A halt, a pause, a stop or many other cycles came first; the cycle waits again.
    #[error("the selection was cut short")]
    Cut,
    /// The gate is closed to what was asked for.
    #[error("{0}")]
    Closed(Closed),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The cycle is pinned to a snapshot that the store does not have.
    #[error("the store has no snapshot {digest}")]
    NoSnapshot {
        /// The snapshot.
        digest: Digest,
    },
    /// The snapshot does not have the cycle's run profile.
    #[error("the snapshot has no run profile with the id `{id}`")]
    NoRunProfile {
        /// The run profile.
        id: Uuid,
    },
    /// The run profile names a profile that the snapshot does not have.
    #[error("run profile `{run_profile}` names the profile `{reference}`, which the snapshot does not have")]
    NoProfile {
        /// The run profile's label.
        run_profile: DocName,
        /// What it names.
        reference: String,
    },
    /// The run profile names a source that the snapshot does not have.
    #[error("the snapshot has no source `{name}`")]
    NoSource {
        /// The source.
        name: DocName,
    },
    /// The source cannot be read to its end.
    #[error("source `{name}`: {error}")]
    Source {
        /// The source.
        name: DocName,
        /// Why.
        error: SourceError,
    },
    /// The requests that the cycle was given cannot be run.
    #[error(transparent)]
    Preset(#[from] PresetError),
    /// No candidate is new, so there is nothing to show.
    #[error(
        "no candidate of source `{source_name}` is new: {candidates} candidates, {taken} of the best taken already"
    )]
    Exhausted {
        /// The source.
        source_name: DocName,
        /// Candidates seen.
        candidates: u64,
        /// Those that were asked for and are taken.
        taken: u64,
    },
    /// A request cannot be made.
    #[error(transparent)]
    Synthesis(#[from] SynthesisError),
}

impl AdmissionError {
    /// What a source's failure means for the cycle.
    pub(super) fn from_source(name: &DocName, error: SourceError) -> Self {
        match error {
            SourceError::Cut => Self::Cut,
            SourceError::Store(error) => Self::Store(error),
            SourceError::Open { .. }
            | SourceError::NotAFile { .. }
            | SourceError::Read(_)
            | SourceError::Header(_)
            | SourceError::HeaderTooLong
            | SourceError::Secret { .. }
            | SourceError::Program { .. }
            | SourceError::Remote { .. } => Self::Source { name: name.clone(), error },
        }
    }
}

/// A cycle with the documents that it is pinned to.
struct Admission<'a> {
    namespace: &'a Arc<Namespace>,
    snapshot: &'a Snapshot,
    run_profile: &'a RunProfile,
    cycle: &'a ClaimedCycle,
    preset: Option<Preset>,
    cancel: CancellationToken,
}

/// Gives a claimed cycle its initiation and its runs. Afterwards it is running, or finished because nothing is new or nothing may run, or no longer the
/// caller's; true in the first case. With [`AdmissionError::Cut`] it is to wait again, and with any other error to fail.
pub async fn select_and_admit(
    namespace: &Arc<Namespace>,
    cycle: ClaimedCycle,
) -> Result<bool, AdmissionError> {
    // Registered before the gate is asked, so that a halt finds either a closed gate or this act.
    let act = namespace.running.begin(cycle.claim.id);
    if namespace.ask(Door::Admit, &[]).is_err() {
        return Err(AdmissionError::Cut);
    }
    let snapshot = namespace.snapshot(cycle.snapshot).await?;
    let snapshot = snapshot.ok_or(AdmissionError::NoSnapshot { digest: cycle.snapshot })?;
    let id = cycle.run_profile_id;
    let run_profile = snapshot.run_profile_of(id);
    let run_profile = run_profile.ok_or(AdmissionError::NoRunProfile { id })?;
    let preset = preset::preset(&cycle, &snapshot, run_profile)?;
    let cancel = act.token.clone();
    Admission { namespace, snapshot: &snapshot, run_profile, cycle: &cycle, preset, cancel }.admit().await
}

impl Admission<'_> {
    /// Whether it has runs now.
    async fn admit(&self) -> Result<bool, AdmissionError> {
        let mut open = Vec::new();
        let mut closed = Vec::new();
        for profile in self.surfaces()? {
            match self.ask_profile(profile)? {
                None => open.push(profile),
                Some(why) => closed.push((profile, why)),
            }
        }
        let initiation = match self.initiation(&open, &closed).await? {
            Taken::Initiation(initiation) => initiation,
            Taken::Admitted { .. } => return Ok(!open.is_empty()),
            Taken::Exhausted | Taken::Lost | Taken::Outrun => return Ok(false),
        };
        for (profile, why) in closed {
            self.leave_out(profile, &why).await;
        }
        let now = self.namespace.shared.clock.now();
        let runs = self.runs(&open, &initiation, now);
        let ends_soon = ends_soon(&runs, now);
        let has_runs = !runs.is_empty();
        // A claim that was lost belongs to somebody who does all this again, or to nobody because the cycle was cancelled.
        let admitted = self.namespace.store.admit(self.cycle.claim, runs, now).await?;
        self.namespace.nudges.tiers.notify_one();
        if ends_soon {
            self.namespace.nudges.keeper.notify_one();
        }
        Ok(admitted && has_runs)
    }

    /// The runs of these profiles for this initiation.
    fn runs(&self, open: &[&Profile], initiation: &Initiation, now: Timestamp) -> Vec<NewRun> {
        match &self.preset {
            Some(Preset { requests, retry }) => requests
                .iter()
                .filter(|request| open.iter().any(|profile| profile.profile_id == request.profile.id))
                .map(|request| new_run(request, retry.clone(), now))
                .collect(),
            None => open.iter().map(|profile| self.synthesized(profile, initiation, now)).collect(),
        }
    }

    /// The profiles that the cycle is to run, each once.
    fn surfaces(&self) -> Result<Vec<&Profile>, AdmissionError> {
        if let Some(Preset { requests, .. }) = &self.preset {
            let named = |profile: &&Profile| requests.iter().any(|one| one.profile.id == profile.profile_id);
            return Ok(self.snapshot.profiles.values().filter(named).collect());
        }
        profiles_of(self.snapshot, self.run_profile)
    }

    /// The cycle's initiation; or it has its runs already, is finished or no longer the caller's.
    async fn initiation(
        &self,
        open: &[&Profile],
        closed: &[(&Profile, Closed)],
    ) -> Result<Taken, AdmissionError> {
        if let Some(initiation) = &self.cycle.initiation {
            return Ok(Taken::Initiation(initiation.clone()));
        }
        for _ in 0..PASSES_MAX {
            let choice = match (self.ask_run_profile()?, open, closed) {
                (Some(why), ..) => self.nothing(&why),
                (None, [], [(_, why), ..]) => self.nothing(why),
                (None, ..) => self.choose().await?,
            };
            match self.take(choice, open, closed).await? {
                // Others took all that this pass has kept, and so are further than before.
                Taken::Outrun => {}
                taken @ (Taken::Initiation(_) | Taken::Admitted { .. } | Taken::Exhausted | Taken::Lost) => {
                    return Ok(taken);
                }
            }
        }
        Err(AdmissionError::Cut)
    }

    /// Takes the first of what was chosen that is still new, with its runs if that can be in one transaction.
    async fn take(
        &self,
        choice: Choice,
        open: &[&Profile],
        closed: &[(&Profile, Closed)],
    ) -> Result<Taken, AdmissionError> {
        if self.cancel.is_cancelled() {
            return Err(AdmissionError::Cut);
        }
        let (now, claim) = (self.namespace.shared.clock.now(), self.cycle.claim);
        let store = &self.namespace.store;
        Ok(match choice.candidates.first() {
            // Most likely nobody takes the best one meanwhile: then its runs cost no transaction of their own.
            Some(first) if closed.is_empty() => {
                let runs = self.runs(open, first, now);
                self.take_and_admit(choice, runs, now).await?
            }
            Some(_) | None => store.take_initiation(claim, choice, now).await?,
        })
    }

    /// The same with these runs, of which those start at once that need not wait.
    async fn take_and_admit(
        &self,
        choice: Choice,
        runs: Vec<NewRun>,
        now: Timestamp,
    ) -> Result<Taken, StoreError> {
        let (namespace, claim) = (self.namespace, self.cycle.claim);
        let permits = StartPermits::new(namespace, self.cycle.run_profile_id, &runs);
        let (count, ends_soon) = (runs.len(), ends_soon(&runs, now));
        let admitting = Admitting { runs, free: permits.as_ref().map(|permits| permits.free.clone()) };
        let call = async {
            Ok(match namespace.store.take_and_admit(claim, choice, admitting, now).await? {
                Taken::Admitted { started } => {
                    let claimed = started.into_iter().map(|step| (step.claim.id, step)).collect();
                    (Taken::Admitted { started: Vec::new() }, claimed)
                }
                taken @ (Taken::Initiation(_) | Taken::Exhausted | Taken::Outrun | Taken::Lost) => {
                    (taken, Vec::new())
                }
            })
        };
        let answer = namespace.claims.claim_with(call).await;
        if answer.as_ref().map_or(0, |(_, steps)| steps.len()) < count {
            // The workers start the others; or nobody waits for a permit of the node any more.
            namespace.nudges.tiers.notify_one();
        }
        let (taken, steps) = answer?;
        if ends_soon {
            namespace.nudges.keeper.notify_one();
        }
        if let Some(permits) = permits {
            permits.start(namespace, steps);
        }
        Ok(taken)
    }

    async fn choose(&self) -> Result<Choice, AdmissionError> {
        if let Some(request) = self.preset.as_ref().and_then(|preset| preset.requests.first()) {
            return preset::choice(self.namespace, self.run_profile, request).await;
        }
        let reading = Reading {
            snapshot: self.snapshot,
            run_profile: self.run_profile,
            cycle_id: self.cycle.claim.id,
            act_id: self.cycle.claim.id,
            cancel: &self.cancel,
        };
        pass::read(self.namespace, &reading).await
    }

    /// A choice of nothing, which ends the cycle as skipped. To wait instead would hold up every cycle behind this one, and fire it at a
    /// moment that nobody expects.
    fn nothing(&self, why: &Closed) -> Choice {
        let rule = pass::rule(self.run_profile, self.namespace.shared.clock.now());
        Choice { candidates: Vec::new(), rule, report: json!({ "reason": why.to_string() }) }
    }

    /// The state that counts is the active snapshot's: what the operator wants now, not what was wanted when the cycle fired.
    fn ask_run_profile(&self) -> Result<Option<Closed>, AdmissionError> {
        let ours = self.run_profile;
        let active = self.namespace.active();
        let now = active.as_ref().and_then(|snapshot| snapshot.run_profile_of(ours.run_profile_id));
        let state = now.map_or(ours.state, |one| one.state);
        self.ask(&format!("run profile `{}`", ours.label), state)
    }

    fn ask_profile(&self, ours: &Profile) -> Result<Option<Closed>, AdmissionError> {
        let active = self.namespace.active();
        let now = active.as_ref().and_then(|snapshot| snapshot.profile_of(ours.profile_id));
        let state = now.map_or(ours.state, |one| one.state);
        self.ask(&format!("profile `{}`", ours.label), state)
    }

    fn ask(
        &self,
        document: &str,
        state: orbit_core::config::DocState,
    ) -> Result<Option<Closed>, AdmissionError> {
        match self.namespace.ask(Door::Admit, &[(document, state)]) {
            Ok(()) => Ok(None),
            Err(why @ Closed::Document { .. }) => Ok(Some(why)),
            Err(
                Closed::LeaseLapsed
                | Closed::HaltedGlobal { .. }
                | Closed::HaltedNamespace { .. }
                | Closed::Paused
                | Closed::DiskFloor { .. },
            ) => Err(AdmissionError::Cut),
        }
    }

    async fn leave_out(&self, profile: &Profile, why: &Closed) {
        let subject = Subject {
            cycle_id: Some(self.cycle.claim.id),
            run_id: None,
            profile_id: Some(profile.profile_id),
            snapshot: Some(self.cycle.snapshot),
        };
        let body = json!({ "door": Door::Admit, "reason": why.to_string(), "profile": profile.label });
        self.namespace.record(Kind::GateClosed, subject, body).await;
    }

    /// The profile's run; one whose request cannot be made is rejected and leaves the others running.
    fn synthesized(&self, profile: &Profile, initiation: &Initiation, now: Timestamp) -> NewRun {
        let cycle = CycleIdentity {
            id: self.cycle.claim.id,
            trigger: self.cycle.trigger.clone(),
            nominal: self.cycle.nominal,
        };
        match synthesize(self.snapshot, profile, self.run_profile, view(initiation), cycle) {
            Ok(request) => new_run(&request, None, now),
            Err(error) => NewRun {
                run_id: run_id(self.cycle.claim.id, profile.profile_id),
                profile_id: profile.profile_id,
                profile: profile.label.to_string(),
                priority: priority(profile.execution_rules.synthesis.priority),
                deadline_at: after(now, self.run_profile.execution_policy.deadline),
                request: Value::Null,
                rejected: Some(error.to_string()),
                retry_of: None,
                start: None,
            },
        }
    }
}

/// Whether a run has less time than the keeper sleeps, which sees every other deadline in time.
fn ends_soon(runs: &[NewRun], now: Timestamp) -> bool {
    runs.iter().any(|run| run.deadline_at <= now + POLL_MAX)
}

/// The profiles that a run profile names, each once, in order.
pub(super) fn profiles_of<'a>(
    snapshot: &'a Snapshot,
    run_profile: &RunProfile,
) -> Result<Vec<&'a Profile>, AdmissionError> {
    let mut profiles: Vec<&Profile> = Vec::new();
    for reference in &run_profile.execution_policy.profiles {
        let unknown = || AdmissionError::NoProfile {
            run_profile: run_profile.label.clone(),
            reference: reference.clone(),
        };
        let profile = snapshot.profile(reference).ok_or_else(unknown)?;
        if profiles.iter().all(|known| known.profile_id != profile.profile_id) {
            profiles.push(profile);
        }
    }
    Ok(profiles)
}

/// The initiation as requests show it.
pub(super) fn view(initiation: &Initiation) -> InitiationView {
    InitiationView {
        id: initiation.id,
        label: initiation.label.clone(),
        weight: initiation.weight,
        metadata: initiation.metadata.clone(),
    }
}

fn new_run(request: &ExecutionRequest, retry: Option<RetryOf>, now: Timestamp) -> NewRun {
    let (retry_of, start) = retry.map(|retry| (retry.run_id, retry.start)).unzip();
    NewRun {
        run_id: request.run.run_id,
        profile_id: request.profile.id,
        profile: request.profile.label.to_string(),
        priority: priority(request.instruction.priority),
        deadline_at: after(now, request.deadline),
        request: json!(request),
        rejected: None,
        retry_of,
        start: start.flatten(),
    }
}

/// A request that was written by hand may say anything.
fn priority(written: f64) -> f64 {
    if written.is_nan() { 0.0 } else { written.clamp(0.0, 1.0) }
}

fn after(now: Timestamp, span: Millis) -> Timestamp {
    let span = SignedDuration::from_millis(i64::try_from(span.0).unwrap_or(i64::MAX));
    now.checked_add(span).unwrap_or(Timestamp::MAX)
}
