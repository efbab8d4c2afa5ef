//! Steps are claimed, committed, interrupted by a crash, ended by a deadline or by hand.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use orbit_core::record::Kind;
use orbit_core::run::{Interruption, Progress, RunEvent, RunState};
use rusqlite::{Connection, Row, params};
use serde_json::Value;
use uuid::Uuid;

use super::columns::{self, Micros, Text};
use super::fault::{Attempt, Fault};
use super::normalize;
use super::record::{Facts, Seen, evidence, facts};
use super::settle;
use super::transition::{self, Run, attempt_facts};
use super::tx::Tx;
use super::{SqliteStore, dispatch, lanes, payload, quarantine, token};
use crate::StoreError;
use crate::contract::selection::NewRun;
use crate::contract::tiers::{ClaimedStep, Free, RunStore, Startable, StepCommit, StepCommitted};
use crate::contract::{Artifact, BATCH_MAX, Claim, OpenDoors, earlier};
use crate::rows::run::to_start;
pub(super) use crate::rows::step::Told;
use crate::rows::step::{Done, agrees, commit_facts, next_claimed, next_step};

#[async_trait]
impl RunStore for SqliteStore {
    async fn startable(&self, most: u32, doors: OpenDoors, now: Timestamp) -> Result<Startable, StoreError> {
        self.look(move |tx| lanes::startable(tx, most, doors, now)).await
    }

    async fn claim_steps(&self, free: Free, now: Timestamp) -> Result<Vec<ClaimedStep>, StoreError> {
        self.write(move |tx| start_all(tx, lanes::next(tx, &free.room, free.doors, now)?, &free, now)).await
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
        // Asked much more often than there is something to do, which a reader can tell.
        let due = self.look(first_deadline).await?;
        if due.is_none_or(|due| due > now) {
            return Ok(0);
        }
        self.write(move |tx| expire(tx, now)).await
    }

    async fn next_step_due(&self) -> Result<Option<Timestamp>, StoreError> {
        self.look(next_due).await
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
            let of = run.facts_of_step();
            transition::apply(tx, &mut run, &event, of, now)?;
            Ok(Some(before))
        })
        .await
    }
}

pub(super) fn ids(tx: &Connection, sql: &str, parameters: impl rusqlite::Params) -> Attempt<Vec<Uuid>> {
    let mut statement = tx.prepare_cached(sql)?;
    let rows = statement.query_map(parameters, |row| columns::id(row, "run_id"))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Those of these runs that are next, as far as there is room.
pub(super) fn start_of(
    tx: &Tx<'_>,
    runs: &[NewRun],
    free: &Free,
    now: Timestamp,
) -> Attempt<Vec<ClaimedStep>> {
    let mut next = lanes::next(tx, &free.room, free.doors, now)?;
    next.retain(|run_id| runs.iter().any(|run| run.run_id == *run_id));
    start_all(tx, next, free, now)
}

/// The next attempts of these runs are the caller's.
fn start_all(tx: &Tx<'_>, runs: Vec<Uuid>, free: &Free, now: Timestamp) -> Attempt<Vec<ClaimedStep>> {
    runs.into_iter()
        .map(|run_id| {
            let run = &mut transition::load_known(tx, run_id)?;
            start(tx, run, Told { waits: Some(&free.waits), ..Told::default() }, now)
        })
        .collect()
}

/// The run's next attempt is the caller's.
pub(super) fn start(tx: &Tx<'_>, run: &mut Run, told: Told<'_>, now: Timestamp) -> Attempt<ClaimedStep> {
    let progress =
        to_start(&run.state).ok_or_else(|| Fault::contradiction("a run without a step was claimed"))?;
    let (step, attempt) = (progress.step, progress.started + 1);
    let sql = "SELECT request, artifact_digest, artifact_bytes, artifact_media_type, started_at,
            coalesce(start_step, 'tier1') AS first_step, l.profile_id, l.run_profile_id, l.processor
        FROM runs JOIN run_requests USING (run_id) JOIN lanes l USING (lane) WHERE run_id = ?1";
    let quarantine = quarantine::of_step(tx, run.id, step)?;
    let (claimed, admitted, is_first_step) = tx.prepare_cached(sql)?.query_row([Text(run.id)], |row| {
        let claimed = ClaimedStep {
            claim: Claim { id: run.id, token: run.token },
            cycle_id: run.cycle_id,
            snapshot: run.snapshot,
            request: columns::json(row, "request").map(Arc::new)?,
            lane: lanes::read(row)?,
            step,
            attempt,
            failed: progress.failed,
            input: artifact(row)?,
            deadline_at: run.deadline_at,
            quarantine,
        };
        let is_first_step = row.get::<_, String>("first_step")? == step.name();
        Ok((claimed, columns::instant(row, "started_at")?, is_first_step))
    })?;
    let mut body = attempt_facts(run.id, step, attempt);
    body.extend(told.more);
    // A run that does an old one again may begin at a later step.
    if let Some(waits) = told.waits.filter(|_| attempt == 1 && is_first_step) {
        body.extend(facts(serde_json::json!(waits.account(&claimed.lane, admitted, now))));
    }
    begin(tx, run, claimed, body, now)
}

/// The run, whose last step has just ended, goes on with the next one for who did that and has its request: nothing of it need be read.
fn go_on(
    tx: &Tx<'_>,
    (run, run_profile_id): (&mut Run, Uuid),
    request: Arc<Value>,
    now: Timestamp,
) -> Attempt<ClaimedStep> {
    let claimed = next_step(run, run_profile_id, request)?;
    let (step, attempt) = (claimed.step, claimed.attempt);
    let quarantine = quarantine::of_step(tx, run.id, step)?;
    begin(tx, run, ClaimedStep { quarantine, ..claimed }, attempt_facts(run.id, step, attempt), now)
}

fn begin(
    tx: &Tx<'_>,
    run: &mut Run,
    mut claimed: ClaimedStep,
    body: Facts,
    now: Timestamp,
) -> Attempt<ClaimedStep> {
    run.token = token::next(tx)?;
    claimed.claim.token = run.token;
    let event = RunEvent::StepStarted { step: claimed.step, attempt: claimed.attempt };
    transition::apply(tx, run, &event, body, now)?;
    Ok(claimed)
}

/// The artifact of a run as its columns hold it.
pub(super) fn artifact(row: &Row<'_>) -> rusqlite::Result<Option<Artifact>> {
    let digest = columns::digest_or_null(row, "artifact_digest")?;
    let bytes = columns::length_or_null(row, "artifact_bytes")?;
    let media_type: Option<String> = row.get("artifact_media_type")?;
    let all = digest.zip(bytes).zip(media_type);
    Ok(all.map(|((digest, bytes), media_type)| Artifact { digest, bytes, media_type }))
}

fn commit_step(tx: &Tx<'_>, claim: Claim, commit: &StepCommit, now: Timestamp) -> Attempt<StepCommitted> {
    let Some((mut run, run_profile_id)) = transition::load_claimed(tx, claim)? else {
        return Ok(StepCommitted::Lost);
    };
    let RunState::Working { progress } = run.state else { return Ok(StepCommitted::Lost) };
    agrees(commit)?;
    let of = attempt_facts(run.id, progress.step, progress.started);
    if let Some(artifact) = &commit.artifact {
        run.made = Some(artifact.clone());
        payload::keep(tx, (artifact.digest, artifact.bytes, commit.content.as_deref()), now)?;
    }
    let mut body = commit_facts(commit, &of);
    let mut crash = quarantine::Crash::default();
    match commit.event {
        RunEvent::StepInterrupted { step, cause: Interruption::Crash } => {
            body.extend(crash.count(tx, run.id, step)?);
        }
        RunEvent::StepSucceeded { step, .. } => quarantine::clear(tx, run.id, step)?,
        RunEvent::StepInterrupted {
            cause: Interruption::Halt | Interruption::Stop | Interruption::Batch | Interruption::Unclaimed,
            ..
        }
        | RunEvent::StepStarted { .. }
        | RunEvent::StepFailed { .. }
        | RunEvent::SynthesisFailed { .. }
        | RunEvent::DeliverySettled { .. }
        | RunEvent::Redriven { .. }
        | RunEvent::Cancelled { .. }
        | RunEvent::DeadlinePassed { .. } => {}
    }
    let request = next_claimed(&run, commit, now)?;
    match &request {
        Some(_) => transition::apply_before_start(tx, &mut run, &commit.event, body, now)?,
        None => transition::apply(tx, &mut run, &commit.event, body, now)?,
    }
    crash.judge(tx, now)?;
    if let Some(place) = &commit.batch {
        normalize::wait(tx, run.id, place)?;
    }
    if let Some((key, artifact)) = commit.work.zip(commit.artifact.as_ref()) {
        normalize::remember(tx, &Done { key, artifact, run_id: run.id, step: progress.step }, now)?;
    }
    if let Some(seen) = &commit.evidence {
        evidence(tx, now, run.subject(), Seen { evidence: seen, kind: Kind::StepOutput, of })?;
    }
    settle::owe(tx, &mut run, &commit.deliveries, now)?;
    let next = request.map(|request| go_on(tx, (&mut run, run_profile_id), request, now)).transpose()?;
    let sending = dispatch::claim_free(tx, commit.send.as_ref(), now)?;
    Ok(StepCommitted::Done { state: run.state, next: next.map(Box::new), sending })
}

fn expire(tx: &Tx<'_>, now: Timestamp) -> Attempt<u32> {
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
    Ok(earlier(lanes::first_due(tx, Timestamp::MIN)?, first_deadline(tx)?))
}

fn first_deadline(tx: &Connection) -> Attempt<Option<Timestamp>> {
    let sql = "SELECT min(deadline_at) AS least FROM runs INDEXED BY runs_by_deadline WHERE state IN ('ready', 'waiting')";
    Ok(tx.prepare_cached(sql)?.query_row((), |row| columns::instant_or_null(row, "least"))?)
}
