//! Steps are claimed, committed, interrupted by a crash, ended by a deadline or by hand.

use async_trait::async_trait;
use jiff::Timestamp;
use orbit_core::record::{Kind, Subject};
use orbit_core::run::{Interruption, Progress, RunEvent, RunState, Step, Then};
use rusqlite::{Connection, Row, params};
use serde_json::Value;
use uuid::Uuid;

use super::columns::{self, Length, Micros, Text};
use super::fault::{Attempt, Fault};
use super::record::{Facts, Seen, evidence, fact, facts};
use super::settle;
use super::transition::{self, Run, attempt_facts, step_place};
use super::{SqliteStore, cycle, token};
use crate::StoreError;
use crate::contract::tiers::{ClaimedStep, RunStore, StepCommit, StepCommitted};
use crate::contract::{Artifact, BATCH_MAX, Claim, OpenDoors, Recovered, earlier};

#[async_trait]
impl RunStore for SqliteStore {
    async fn recover(&self, detail: Value, now: Timestamp) -> Result<Recovered, StoreError> {
        self.write(move |tx| recover(tx, &detail, now)).await
    }

    async fn claim_steps(
        &self,
        limit: u32,
        doors: OpenDoors,
        now: Timestamp,
    ) -> Result<Vec<ClaimedStep>, StoreError> {
        self.write(move |tx| {
            let startable = startable(tx, limit, doors, now)?;
            startable
                .into_iter()
                .map(|run_id| start(tx, &mut transition::load_known(tx, run_id)?, now))
                .collect()
        })
        .await
    }

    async fn commit_step(
        &self,
        claim: Claim,
        commit: StepCommit,
        now: Timestamp,
    ) -> Result<StepCommitted, StoreError> {
        self.write(move |tx| commit_step(tx, claim, &commit, now)).await
    }

    async fn expire_runs(&self, now: Timestamp) -> Result<u32, StoreError> {
        self.write(move |tx| expire(tx, now)).await
    }

    async fn next_step_due(&self) -> Result<Option<Timestamp>, StoreError> {
        self.read(next_due).await
    }

    async fn cancel_run(
        &self,
        run_id: Uuid,
        reason: &str,
        now: Timestamp,
    ) -> Result<Option<RunState>, StoreError> {
        let event = RunEvent::Cancelled { reason: reason.to_owned() };
        self.write(move |tx| {
            let Some(mut run) = transition::load(tx, run_id)? else { return Ok(None) };
            let before = run.state.clone();
            if before.ending().is_some() {
                return Ok(None);
            }
            let of = facts_of_step(&run);
            transition::apply(tx, &mut run, &event, of, now)?;
            Ok(Some(before))
        })
        .await
    }
}

/// Names the attempt that is under way, if one is.
fn facts_of_step(run: &Run) -> Facts {
    match &run.state {
        RunState::Working { progress } => attempt_facts(run.id, progress.step, progress.started),
        RunState::Ready { .. }
        | RunState::Waiting { .. }
        | RunState::Dispatching { .. }
        | RunState::Finished { .. } => Facts::new(),
    }
}

/// The step that a run waits to start.
fn to_start(state: &RunState) -> Option<Progress> {
    match state {
        RunState::Ready { progress } | RunState::Waiting { progress, .. } => Some(*progress),
        RunState::Working { .. } | RunState::Dispatching { .. } | RunState::Finished { .. } => None,
    }
}

fn ids(tx: &Connection, sql: &str, parameters: impl rusqlite::Params) -> Attempt<Vec<Uuid>> {
    let mut statement = tx.prepare_cached(sql)?;
    let rows = statement.query_map(parameters, |row| columns::id(row, "run_id"))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Runs whose step may start. Those that are ready come from an index in the order of the answer, so that a long queue costs nothing.
fn startable(tx: &Connection, limit: u32, doors: OpenDoors, now: Timestamp) -> Attempt<Vec<Uuid>> {
    let sql = "SELECT run_id FROM (
            SELECT * FROM (SELECT run_id, priority, ordinal FROM runs INDEXED BY runs_by_state
                WHERE state = 'ready' AND deadline_at > ?1 AND iif(attempt = 0, ?2, ?3)
                ORDER BY priority DESC, ordinal LIMIT ?4)
            UNION ALL
            SELECT run_id, priority, ordinal FROM runs INDEXED BY runs_due
                WHERE state = 'waiting' AND due_at <= ?1 AND deadline_at > ?1 AND ?3)
        ORDER BY priority DESC, ordinal LIMIT ?4";
    ids(tx, sql, params![Micros(now), doors.first, doors.retry, limit])
}

/// The run's next attempt is the caller's.
fn start(tx: &Connection, run: &mut Run, now: Timestamp) -> Attempt<ClaimedStep> {
    let progress =
        to_start(&run.state).ok_or_else(|| Fault::contradiction("a run without a step was claimed"))?;
    let (step, attempt) = (progress.step, progress.started + 1);
    run.token = token::next(tx)?;
    tx.prepare_cached("UPDATE runs SET token = ?2 WHERE run_id = ?1")?
        .execute(params![Text(run.id), run.token])?;
    let event = RunEvent::StepStarted { step, attempt };
    transition::apply(tx, run, &event, attempt_facts(run.id, step, attempt), now)?;
    let sql = "SELECT request, artifact_digest, artifact_bytes, artifact_media_type
        FROM run_requests JOIN runs USING (run_id) WHERE run_id = ?1";
    let read = |row: &Row<'_>| Ok((columns::json(row, "request")?, artifact(row)?));
    let (request, input) = tx.prepare_cached(sql)?.query_row([Text(run.id)], read)?;
    Ok(ClaimedStep {
        claim: Claim { id: run.id, token: run.token },
        cycle_id: run.cycle_id,
        profile_id: run.profile_id,
        snapshot: run.snapshot,
        request,
        step,
        attempt,
        failed: progress.failed,
        input,
        deadline_at: run.deadline_at,
    })
}

/// The artifact of a run as its columns hold it.
pub(super) fn artifact(row: &Row<'_>) -> rusqlite::Result<Option<Artifact>> {
    let digest = columns::digest_or_null(row, "artifact_digest")?;
    let bytes = columns::length_or_null(row, "artifact_bytes")?;
    let media_type: Option<String> = row.get("artifact_media_type")?;
    let all = digest.zip(bytes).zip(media_type);
    Ok(all.map(|((digest, bytes), media_type)| Artifact { digest, bytes, media_type }))
}

fn commit_step(tx: &Connection, claim: Claim, commit: &StepCommit, now: Timestamp) -> Attempt<StepCommitted> {
    let Some(mut run) = transition::load(tx, claim.id)?.filter(|run| run.token == claim.token) else {
        return Ok(StepCommitted::Lost);
    };
    let RunState::Working { progress } = run.state else { return Ok(StepCommitted::Lost) };
    agrees(commit)?;
    let of = attempt_facts(run.id, progress.step, progress.started);
    if let Some(artifact) = &commit.artifact {
        keep_artifact(tx, run.id, progress.step, artifact)?;
    }
    let mut body = facts(commit.detail.clone());
    body.extend(of.clone());
    if let Some(Artifact { digest, bytes, media_type }) = &commit.artifact {
        let artifact = serde_json::json!({ "digest": digest, "bytes": bytes, "media_type": media_type });
        body.extend(facts(artifact));
    }
    transition::apply(tx, &mut run, &commit.event, body, now)?;
    if let Some(seen) = &commit.evidence {
        evidence(tx, now, run.subject(), Seen { evidence: seen, kind: Kind::StepOutput, of })?;
    }
    settle::owe(tx, &mut run, &commit.deliveries, now)?;
    let can_start = matches!(run.state, RunState::Ready { .. }) && run.deadline_at > now;
    let next = if commit.claim_next && can_start { Some(Box::new(start(tx, &mut run, now)?)) } else { None };
    Ok(StepCommitted::Done { state: run.state, next })
}

/// A step succeeds with an artifact and owes exactly the deliveries that its event counts.
fn agrees(commit: &StepCommit) -> Attempt<()> {
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
    if succeeded != commit.artifact.is_some() || u32::try_from(commit.deliveries.len()) != Ok(owed) {
        return Err(Fault::contradiction(format!(
            "`{}` with {} deliveries and {} artifact",
            commit.event.name(),
            commit.deliveries.len(),
            if commit.artifact.is_some() { "an" } else { "no" }
        )));
    }
    Ok(())
}

fn keep_artifact(tx: &Connection, run_id: Uuid, step: Step, artifact: &Artifact) -> Attempt<()> {
    let (id, digest, bytes) = (Text(run_id), Text(artifact.digest), Length(artifact.bytes));
    let update = "UPDATE runs SET artifact_digest = ?2, artifact_bytes = ?3, artifact_media_type = ?4 WHERE run_id = ?1";
    tx.prepare_cached(update)?.execute(params![id, digest, bytes, artifact.media_type])?;
    let update = "UPDATE steps SET digest = ?2, bytes = ?3, media_type = ?4 WHERE run_id = ?1 AND place = ?5";
    tx.prepare_cached(update)?.execute(params![id, digest, bytes, artifact.media_type, step_place(step)])?;
    Ok(())
}

fn expire(tx: &Connection, now: Timestamp) -> Attempt<u32> {
    let sql = "SELECT run_id FROM runs INDEXED BY runs_by_deadline
        WHERE state IN ('ready', 'waiting') AND deadline_at <= ?1 ORDER BY deadline_at LIMIT ?2";
    let mut expired = 0;
    for run_id in ids(tx, sql, params![Micros(now), BATCH_MAX])? {
        let mut run = transition::load_known(tx, run_id)?;
        let Some(Progress { step, .. }) = to_start(&run.state) else { continue };
        transition::apply(tx, &mut run, &RunEvent::DeadlinePassed { step }, Facts::new(), now)?;
        expired += 1;
    }
    Ok(expired)
}

/// A ready run starts as soon as a worker is free, so that only its deadline is something to wait for.
fn next_due(tx: &Connection) -> Attempt<Option<Timestamp>> {
    let least = |sql: &str| -> Attempt<Option<Timestamp>> {
        Ok(tx.prepare_cached(sql)?.query_row((), |row| columns::instant_or_null(row, "least"))?)
    };
    let due = least("SELECT min(due_at) AS least FROM runs WHERE state = 'waiting'")?;
    let deadline = least(
        "SELECT min(deadline_at) AS least FROM runs INDEXED BY runs_by_deadline WHERE state IN ('ready', 'waiting')",
    )?;
    Ok(earlier(due, deadline))
}

fn recover(tx: &Connection, detail: &Value, now: Timestamp) -> Attempt<Recovered> {
    let epoch = token::raise_epoch(tx)?;
    let mut recovered = Recovered::default();
    for run_id in ids(tx, "SELECT run_id FROM runs WHERE state = 'working' ORDER BY ordinal", ())? {
        let mut run = transition::load_known(tx, run_id)?;
        let RunState::Working { progress } = run.state else { continue };
        let event = RunEvent::StepInterrupted { step: progress.step, cause: Interruption::Crash };
        let of = attempt_facts(run_id, progress.step, progress.started);
        transition::apply(tx, &mut run, &event, of, now)?;
        recovered.steps_interrupted += 1;
    }
    recovered.attempts_unknown = settle::answers_lost(tx, now)?;
    let reclaimed = tx.execute(cycle::WAIT_AGAIN, ())?;
    recovered.cycles_reclaimed = u32::try_from(reclaimed).unwrap_or(u32::MAX);
    let mut body = facts(detail.clone());
    body.insert("epoch".to_owned(), epoch.into());
    body.insert("recovered".to_owned(), serde_json::json!(recovered));
    fact(tx, now, Kind::NodeStarted, Subject::default(), body)?;
    Ok(recovered)
}
