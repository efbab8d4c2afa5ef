//! Steps are claimed, committed, interrupted by a crash, ended by a deadline or by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::{try_join, try_join3};
use jiff::Timestamp;
use orbit_core::digest::Digest;
use orbit_core::record::Kind;
use orbit_core::run::{Interruption, Progress, RunEvent, RunState};
use serde_json::{Value, json};
use uuid::Uuid;

use super::begun::Known;
use super::columns::{self, Micros, Parameter, Row, Text, params};
use super::fault::{Attempt, Fault};
use super::normalize;
use super::record::{Facts, Seen, evidence, facts};
use super::run_rows::{Over, With};
use super::settle;
use super::transition::{self, Run, attempt_facts};
use super::tx::{Connection, Tx, reading, together, writing};
use super::{PostgresStore, dispatch, early, endpoint, lanes, payload, quarantine, token};
use crate::StoreError;
use crate::contract::dispatch::{ClaimedDelivery, NewDelivery};
use crate::contract::selection::NewRun;
use crate::contract::tiers::{ClaimedStep, Free, RunStore, Startable, StepCommit, StepCommitted};
use crate::contract::{Artifact, BATCH_MAX, Claim, OpenDoors, earlier};
use crate::rows::run::to_start;
pub(super) use crate::rows::step::Told;
use crate::rows::step::{Done, agrees, commit_facts, next_claimed, next_step};

#[async_trait]
impl RunStore for PostgresStore {
    async fn startable(&self, most: u32, doors: OpenDoors, now: Timestamp) -> Result<Startable, StoreError> {
        reading!(self, |tx| lanes::startable(tx, most, doors, now).await)
    }

    async fn claim_steps(&self, free: Free, now: Timestamp) -> Result<Vec<ClaimedStep>, StoreError> {
        writing!(self, |tx| {
            let next = lanes::next(tx, &free.room, free.doors, now).await?;
            let begun = tx.membership().map(|membership| &membership.begun);
            let known =
                next.into_iter().map(|(id, token)| (id, begun.and_then(|begun| begun.starts(id, token))));
            start_all(tx, known.collect(), &told_of(&free), now).await
        })
    }

    async fn commit_step(
        &self,
        claim: Claim,
        commit: StepCommit,
        now: Timestamp,
    ) -> Result<StepCommitted, StoreError> {
        // What is done again writes for itself.
        let mut early = early::keep(&self.database, &commit, now).await;
        writing!(self, |tx| Box::pin(commit_step(tx, claim, (&commit, early.take()), now)).await)
    }

    async fn expire_runs(&self, now: Timestamp) -> Result<u32, StoreError> {
        // Asked much more often than there is something to do, which a reader can tell.
        let due = reading!(self, |tx| first_deadline(tx).await)?;
        if due.is_none_or(|due| due > now) {
            return Ok(0);
        }
        writing!(self, |tx| expire(tx, now).await)
    }

    async fn next_step_due(&self) -> Result<Option<Timestamp>, StoreError> {
        reading!(self, |tx| next_due(tx).await)
    }

    async fn cancel_run(
        &self,
        run_id: Uuid,
        reason: &str,
        now: Timestamp,
    ) -> Result<Option<RunState>, StoreError> {
        let event = RunEvent::Cancelled { reason: reason.to_owned() };
        writing!(self, |tx| {
            let Some(mut run) = transition::load(tx, run_id).await? else { return Ok(None) };
            let before = run.state.clone();
            if before.ending().is_some() {
                return Ok(None);
            }
            let of = run.facts_of_step();
            transition::apply(tx, &mut run, &event, of, now).await?;
            Ok(Some(before))
        })
    }
}

pub(super) async fn ids(
    tx: &Connection,
    sql: &str,
    parameters: Attempt<Vec<Parameter>>,
) -> Attempt<Vec<Uuid>> {
    tx.query_all(sql, parameters, |row| columns::id(row, "run_id")).await
}

/// A run that was admitted by this process and waits for its first step: nothing of it need be read.
pub(super) struct Admitted {
    run: Run,
    lane: i64,
    claimed: ClaimedStep,
    at: Timestamp,
}

impl Admitted {
    /// Those that wait in a lane.
    pub(super) fn of(
        made: Vec<(Run, Option<i64>)>,
        admitted: &[NewRun],
        run_profile_id: Uuid,
        at: Timestamp,
    ) -> Attempt<Vec<Self>> {
        let mut waiting = Vec::new();
        for ((mut run, lane), new) in made.into_iter().zip(admitted) {
            let Some(lane) = lane.filter(|_| to_start(&run.state).is_some()) else { continue };
            run.made = new.start.as_ref().map(|start| start.input.clone());
            let claimed = next_step(&run, run_profile_id, Arc::new(new.request.clone()))?;
            run.made = None;
            waiting.push(Self { run, lane, claimed, at });
        }
        Ok(waiting)
    }

    #[cfg(test)]
    pub(super) fn example(id: Uuid, request: Value, at: Timestamp) -> Self {
        let snapshot = Digest::of(b"snapshot");
        let state = RunState::admitted();
        let (cycle_id, profile_id) = (Uuid::nil(), Uuid::nil());
        let run = Run { id, cycle_id, profile_id, snapshot, state, token: 0, deadline_at: at, made: None };
        let claimed =
            next_step(&run, Uuid::nil(), Arc::new(request)).expect("an admitted run has a next step");
        Self { run, lane: 0, claimed, at }
    }

    /// Of the run.
    pub(super) const fn id(&self) -> Uuid {
        self.run.id
    }

    /// The bytes of its execution request.
    pub(super) fn request_bytes(&self) -> usize {
        self.claimed.request.to_string().len()
    }

    fn look(self) -> Look {
        Look { run: self.run, claimed: self.claimed, admitted: self.at, is_first_step: true }
    }
}

/// What a start with the admission asks beforehand: the lanes that runs wait in, without those that are admitted.
pub(super) async fn expect_starts(tx: &Tx, free: Option<&Free>) -> Attempt<lanes::Occupied> {
    match free {
        Some(_) => try_join(lanes::occupied(tx), expect_claims(tx)).await.map(|(occupied, ())| occupied),
        None => Ok(lanes::Occupied::new()),
    }
}

/// Those of these runs that are next, as far as there is room, where others wait in these lanes; and those that are not.
pub(super) async fn start_of(
    tx: &Tx,
    runs: Vec<Admitted>,
    mut occupied: lanes::Occupied,
    free: &Free,
    now: Timestamp,
) -> Attempt<(Vec<ClaimedStep>, Vec<Admitted>)> {
    occupied.extend(runs.iter().map(|one| (one.lane, one.claimed.lane.clone())));
    let next = lanes::next_of(tx, &occupied, &free.room, free.doors, now).await?;
    let mut runs: BTreeMap<_, _> = runs.into_iter().map(|one| (one.run.id, one)).collect();
    let mut started = Vec::new();
    for (run_id, _) in next {
        let Some(mut look) = runs.remove(&run_id).map(Admitted::look) else { continue };
        look.claimed.quarantine = quarantine::of_step(tx, run_id, look.claimed.step).await?;
        started.push(begin(tx, look, &told_of(free), now).await?);
    }
    Ok((started, runs.into_values().collect()))
}

/// What the record of a run's first step tells.
fn told_of(free: &Free) -> Told<'_> {
    Told { waits: Some(&free.waits), ..Told::default() }
}

/// The next attempts of these runs are the caller's. Those are read that are not known.
pub(super) async fn start_all(
    tx: &Tx,
    runs: Vec<(Uuid, Option<Admitted>)>,
    told: &Told<'_>,
    now: Timestamp,
) -> Attempt<Vec<ClaimedStep>> {
    if runs.is_empty() {
        return Ok(Vec::new());
    }
    let looks = runs.into_iter().map(async |(run_id, known)| match known {
        Some(known) => Ok(known.look()),
        None => look(tx, run_id).await,
    });
    let looks = looks.collect();
    let (looks, ()) = try_join(together(looks), expect_claims(tx)).await?;
    let mut claimed = Vec::with_capacity(looks.len());
    for mut look in looks {
        let ClaimedStep { step, quarantine, .. } = &mut look.claimed;
        *quarantine = quarantine::of_step(tx, look.run.id, *step).await?;
        claimed.push(begin(tx, look, told, now).await?);
    }
    Ok(claimed)
}

/// What every claim of a step asks once a transaction, at once.
async fn expect_claims(tx: &Tx) -> Attempt<()> {
    try_join(token::look(tx), quarantine::is_anybody_suspect(tx)).await.map(|_| ())
}

/// The run, whose last step has just ended, goes on with the next one for who did that and has its request: nothing of it need be read.
async fn go_on(
    tx: &Tx,
    (run, run_profile_id): (&mut Run, Uuid),
    (over, request): (Over, Arc<Value>),
    now: Timestamp,
) -> Attempt<ClaimedStep> {
    let mut claimed = next_step(run, run_profile_id, request)?;
    claimed.quarantine = quarantine::of_step(tx, run.id, claimed.step).await?;
    let body = attempt_facts(run.id, claimed.step, claimed.attempt);
    starts(tx, (run, Some(over)), claimed, body, now).await
}

/// What there is to know of a step that starts, but for who is quarantined.
struct Look {
    run: Run,
    claimed: ClaimedStep,
    admitted: Timestamp,
    is_first_step: bool,
}

async fn look(tx: &Tx, run_id: Uuid) -> Attempt<Look> {
    let sql = "SELECT run_id, cycle_id, cycles.run_profile_id, runs.profile_id, snapshot, runs.state_json, runs.token, deadline_at,
            request, artifact_digest, artifact_bytes, artifact_media_type, started_at, coalesce(start_step, 'tier1') AS first_step, processor
        FROM runs JOIN cycles USING (cycle_id) JOIN run_requests USING (run_id) JOIN lanes USING (lane) WHERE run_id = $1";
    tx.query_row(sql, params![Text(run_id)], |row| {
        let run = transition::read(row)?;
        let progress =
            to_start(&run.state).ok_or_else(|| Fault::contradiction("a run without a step was claimed"))?;
        let claimed = ClaimedStep {
            claim: Claim { id: run.id, token: run.token },
            cycle_id: run.cycle_id,
            snapshot: run.snapshot,
            request: columns::json(row, "request").map(Arc::new)?,
            lane: lanes::read(row)?,
            step: progress.step,
            attempt: progress.started + 1,
            failed: progress.failed,
            input: artifact(row)?,
            deadline_at: run.deadline_at,
            quarantine: None,
        };
        let is_first_step = row.get::<_, String>("first_step")? == claimed.step.name();
        Ok(Look { run, claimed, admitted: columns::instant(row, "started_at")?, is_first_step })
    })
    .await
}

/// Nothing is waited for, once the transaction has seen that it is a node.
async fn begin(tx: &Tx, seen: Look, told: &Told<'_>, now: Timestamp) -> Attempt<ClaimedStep> {
    let Look { mut run, claimed, admitted, is_first_step } = seen;
    let mut body = attempt_facts(run.id, claimed.step, claimed.attempt);
    body.extend(told.more.clone());
    // A run that does an old one again may begin at a later step.
    if let Some(waits) = told.waits.filter(|_| claimed.attempt == 1 && is_first_step) {
        body.extend(facts(json!(waits.account(&claimed.lane, admitted, now))));
    }
    starts(tx, (&mut run, None), claimed, body, now).await
}

async fn starts(
    tx: &Tx,
    (run, after): (&mut Run, Option<Over>),
    mut claimed: ClaimedStep,
    body: Facts,
    now: Timestamp,
) -> Attempt<ClaimedStep> {
    run.token = token::next(tx).await?;
    claimed.claim.token = run.token;
    transition::start(tx, (run, after), (claimed.step, claimed.attempt), body, now).await?;
    if let Some(membership) = tx.membership() {
        membership.begun.remember(run, &claimed);
    }
    Ok(claimed)
}

/// The artifact of a run as its columns hold it.
pub(super) fn artifact(row: &Row) -> Attempt<Option<Artifact>> {
    let digest = columns::digest_or_null(row, "artifact_digest")?;
    let bytes = columns::length_or_null(row, "artifact_bytes")?;
    let media_type: Option<String> = row.get("artifact_media_type")?;
    let all = digest.zip(bytes).zip(media_type);
    Ok(all.map(|((digest, bytes), media_type)| Artifact { digest, bytes, media_type }))
}

/// A step under way as its commit finds it.
struct UnderWay {
    run: Run,
    run_profile_id: Uuid,
    /// Where this process has begun the step.
    ahead: Option<Ahead>,
}

/// What need not be asked when the commit owes something.
struct Ahead {
    request: Arc<Value>,
    /// At each endpoint where the commit may send at once, before what it owes itself.
    due: Vec<Vec<ClaimedDelivery>>,
}

/// The step of this claim, if it is still the claim's, and the payload which went ahead is there; of what this process has begun itself both are demanded with what is written.
async fn under_way(
    tx: &Tx,
    claim: Claim,
    (commit, early): (&StepCommit, Option<Digest>),
    now: Timestamp,
) -> Attempt<Option<UnderWay>> {
    let Some(known) = tx.membership().and_then(|membership| membership.begun.take(claim)) else {
        let found = transition::load_claimed(tx, claim).await?;
        if let Some(digest) = early {
            payload::demand(tx, digest).await?;
        }
        return Ok(found.map(|(run, run_profile_id)| UnderWay { run, run_profile_id, ahead: None }));
    };
    let Known { run, run_profile_id, request } = known;
    let due = dispatch::due_free(tx, commit.send.as_ref(), now).await?;
    Ok(Some(UnderWay { run, run_profile_id, ahead: Some(Ahead { request, due }) }))
}

/// What the run owes from now on, as it is claimed: but for the token.
fn owed(run: &Run, request: &Value, commit: &StepCommit) -> Vec<ClaimedDelivery> {
    let Some(artifact) = &commit.artifact else { return Vec::new() };
    let owed = |new: &NewDelivery| ClaimedDelivery {
        claim: Claim { id: new.delivery_id, token: 0 },
        run_id: run.id,
        cycle_id: run.cycle_id,
        profile_id: run.profile_id,
        snapshot: run.snapshot,
        request: request.clone(),
        endpoint: new.endpoint.clone(),
        url: new.url.clone(),
        attempt: 1,
        attempt_in_round: 1,
        artifact: artifact.clone(),
    };
    commit.deliveries.iter().map(owed).collect()
}

/// What the step has made is the run's. A payload that went ahead is demanded elsewhere.
async fn keep_made(
    tx: &Connection,
    run: &mut Run,
    (commit, early): (&StepCommit, Option<Digest>),
    now: Timestamp,
) -> Attempt<()> {
    let Some(artifact) = &commit.artifact else { return Ok(()) };
    run.made = Some(artifact.clone());
    match early {
        Some(_) => Ok(()),
        None => payload::keep(tx, (artifact.digest, artifact.bytes, commit.content.as_deref()), now).await,
    }
}

/// The payload of the commit may be there already; see `early`.
async fn commit_step(
    tx: &Tx,
    claim: Claim,
    (commit, early): (&StepCommit, Option<Digest>),
    now: Timestamp,
) -> Attempt<StepCommitted> {
    let expected = async { if commit.claim_next.is_some() { expect_claims(tx).await } else { Ok(()) } };
    let free = commit.send.iter().flat_map(|free| free.endpoints.keys());
    let endpoints: BTreeSet<_> = commit.deliveries.iter().map(|new| &new.endpoint).chain(free).collect();
    let healths = endpoint::healths(tx, endpoints);
    let (found, healths, ()) =
        try_join3(under_way(tx, claim, (commit, early), now), healths, expected).await?;
    let Some(UnderWay { mut run, run_profile_id, ahead }) = found else { return Ok(StepCommitted::Lost) };
    let RunState::Working { progress } = run.state else { return Ok(StepCommitted::Lost) };
    agrees(commit)?;
    let of = attempt_facts(run.id, progress.step, progress.started);
    keep_made(tx, &mut run, (commit, early), now).await?;
    let mut body = commit_facts(commit, &of);
    let mut crash = quarantine::Crash::default();
    match commit.event {
        RunEvent::StepInterrupted { step, cause: Interruption::Crash } => {
            body.extend(crash.count(tx, run.id, step).await?);
        }
        RunEvent::StepSucceeded { step, .. } => quarantine::clear(tx, run.id, step).await?,
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
    let over = Over { step: progress.step, token: run.token, early };
    if request.is_some() {
        transition::apply_before_start(tx, &mut run, &commit.event, body, now)?;
    } else {
        let with = if ahead.is_some() { With::Known(over) } else { With::Step };
        transition::apply_with(tx, &mut run, (&commit.event, with), body, now).await?;
    }
    crash.judge(tx, now).await?;
    if let Some(place) = &commit.batch {
        normalize::wait(tx, run.id, place).await?;
    }
    if let Some((key, artifact)) = commit.work.zip(commit.artifact.as_ref()) {
        normalize::remember(tx, &Done { key, artifact, run_id: run.id, step: progress.step }, now).await?;
    }
    if let Some(seen) = &commit.evidence {
        evidence(tx, now, run.subject(), Seen { evidence: seen, kind: Kind::StepOutput, of })?;
    }
    settle::owe(tx, &mut run, (&commit.deliveries, &healths), now).await?;
    let next = match request {
        Some(request) => Some(Box::new(go_on(tx, (&mut run, run_profile_id), (over, request), now).await?)),
        None => None,
    };
    let free = commit.send.as_ref();
    let due = match ahead {
        Some(Ahead { request, due }) => dispatch::due_with(free, due, owed(&run, &request, commit)),
        None => dispatch::due_free(tx, free, now).await?,
    };
    let sending = dispatch::claim_free(tx, (free, due), &healths, now).await?;
    Ok(StepCommitted::Done { state: run.state, next, sending })
}

async fn expire(tx: &Tx, now: Timestamp) -> Attempt<u32> {
    let sql = "SELECT run_id FROM runs
        WHERE state IN ('ready', 'waiting') AND deadline_at <= $1 ORDER BY deadline_at LIMIT $2";
    let mut expired = 0;
    for run_id in ids(tx, sql, params![Micros(now), BATCH_MAX]).await? {
        let mut run = transition::load_known(tx, run_id).await?;
        let Some(Progress { step, .. }) = to_start(&run.state) else { continue };
        transition::apply(tx, &mut run, &RunEvent::DeadlinePassed { step }, Facts::new(), now).await?;
        expired += 1;
    }
    Ok(expired)
}

/// A ready run starts as soon as a worker is free, so that only its deadline is something to wait for.
async fn next_due(tx: &Connection) -> Attempt<Option<Timestamp>> {
    Ok(earlier(lanes::first_due(tx, Timestamp::MIN).await?, first_deadline(tx).await?))
}

async fn first_deadline(tx: &Connection) -> Attempt<Option<Timestamp>> {
    let sql = "SELECT min(deadline_at) AS least FROM runs WHERE state IN ('ready', 'waiting')";
    tx.query_row(sql, params![], |row| columns::instant_or_null(row, "least")).await
}
