//! What is known of a step's attempt when it starts, and what its commit has to agree with.

use std::sync::Arc;

use jiff::Timestamp;
use orbit_core::digest::Digest;
use orbit_core::run::{IllegalEvent, RunEvent, RunState, Step, Then};
use orbit_core::synthesis::named_processor;
use orbit_core::tiers::{Lane, Waits};
use serde_json::{Value, json};
use uuid::Uuid;

use super::Contradiction;
use super::record::{Facts, facts};
use super::run::{Run, to_start};
use crate::contract::tiers::{ClaimedStep, StepCommit};
use crate::contract::{Artifact, Claim};

/// What is known of a start besides the attempt.
#[derive(Default)]
pub(crate) struct Told<'a> {
    /// What holds runs; the very first attempt of a run tells what held it.
    pub(crate) waits: Option<&'a Waits>,
    /// Further facts.
    pub(crate) more: Facts,
}

/// The request, if the commit of a step of this run, which has succeeded, claims the next one, and that can start.
pub(crate) fn next_claimed(
    run: &Run,
    commit: &StepCommit,
    now: Timestamp,
) -> Result<Option<Arc<Value>>, IllegalEvent> {
    let is_ready = matches!(run.state.next(&commit.event)?, RunState::Ready { .. });
    let has_succeeded = matches!(commit.event, RunEvent::StepSucceeded { .. });
    let can_start = is_ready && has_succeeded && run.deadline_at > now;
    Ok(commit.claim_next.clone().filter(|_| can_start && commit.batch.is_none()))
}

/// The step that a run goes on with, whose last one has just ended, before it has its token and whoever is quarantined was asked about.
pub(crate) fn next_step(
    run: &Run,
    run_profile_id: Uuid,
    request: Arc<Value>,
) -> Result<ClaimedStep, Contradiction> {
    let progress =
        to_start(&run.state).ok_or_else(|| Contradiction::new("a run without a step was claimed"))?;
    let lane = Lane {
        profile_id: run.profile_id,
        run_profile_id,
        // A step that the request does not have stands where the first one stood.
        processor: named_processor(&request, progress.step)
            .or_else(|| named_processor(&request, Step::Tier1))
            .unwrap_or_default()
            .to_owned(),
    };
    Ok(ClaimedStep {
        claim: Claim { id: run.id, token: run.token },
        cycle_id: run.cycle_id,
        snapshot: run.snapshot,
        request,
        lane,
        step: progress.step,
        attempt: progress.started + 1,
        failed: progress.failed,
        input: run.made.clone(),
        deadline_at: run.deadline_at,
        quarantine: None,
    })
}

/// What was done, by whom.
pub(crate) struct Done<'a> {
    /// The work's name.
    pub(crate) key: Digest,
    /// Its output.
    pub(crate) artifact: &'a Artifact,
    /// The run.
    pub(crate) run_id: Uuid,
    /// The step.
    pub(crate) step: Step,
}

/// The body of a commit's record; `of` names the attempt.
pub(crate) fn commit_facts(commit: &StepCommit, of: &Facts) -> Facts {
    let mut body = facts(commit.detail.clone());
    body.extend(of.clone());
    if let Some(Artifact { digest, bytes, media_type }) = &commit.artifact {
        body.extend(facts(json!({ "digest": digest, "bytes": bytes, "media_type": media_type })));
    }
    body.extend(facts(json!({ "batch_place": commit.batch, "work": commit.work })));
    body.retain(|_, value| !value.is_null());
    body
}

/// A step succeeds with an artifact and owes exactly the deliveries that its event counts.
pub(crate) fn agrees(commit: &StepCommit) -> Result<(), Contradiction> {
    let (succeeded, owed) = match &commit.event {
        RunEvent::StepSucceeded { then: Then::Dispatch { deliveries }, .. } => (true, *deliveries),
        RunEvent::StepSucceeded { then: Then::Step { .. }, .. } => (true, 0),
        RunEvent::StepStarted { .. }
        | RunEvent::StepFailed { .. }
        | RunEvent::StepInterrupted { .. }
        | RunEvent::SynthesisFailed { .. }
        | RunEvent::DeliverySettled { .. }
        | RunEvent::Redriven { .. }
        | RunEvent::Cancelled { .. }
        | RunEvent::DeadlinePassed { .. } => (false, 0),
    };
    let normalize_follows = Then::Step { step: Step::Normalize };
    let follows = matches!(&commit.event, RunEvent::StepSucceeded { then, .. } if *then == normalize_follows);
    if (commit.batch.is_some() && !follows) || (commit.work.is_some() && !succeeded) {
        let name = commit.event.name();
        return Err(Contradiction::new(format!("`{name}` with a place in a batch or work to remember")));
    }
    let weighs = commit.artifact.as_ref().zip(commit.content.as_ref());
    if weighs.is_some_and(|(artifact, content)| content.len() as u64 != artifact.bytes)
        || (commit.artifact.is_none() && commit.content.is_some())
    {
        return Err(Contradiction::new("the bytes of an artifact are not those of its length"));
    }
    if succeeded != commit.artifact.is_some() || u32::try_from(commit.deliveries.len()) != Ok(owed) {
        return Err(Contradiction::new(format!(
            "`{}` with {} deliveries and {} artifact",
            commit.event.name(),
            commit.deliveries.len(),
            if commit.artifact.is_some() { "an" } else { "no" }
        )));
    }
    Ok(())
}
