//! Cycles are claimed, get their initiation, and then their runs.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use futures_util::future::{try_join, try_join4};
use jiff::Timestamp;
use orbit_core::digest::Digest;
use orbit_core::limits::SELECTION_KEPT_MAX;
use orbit_core::record::Kind;
use orbit_core::run::{Outcome, RunEvent, RunState};
use serde_json::json;
use uuid::Uuid;

use super::columns::{self, Json, Length, Micros, Parameter, Row, Text, params};
use super::cycle::HeldCycle;
use super::fault::Attempt;
use super::record::{Facts, fact, facts};
use super::transition::{self, Run};
use super::tx::{Connection, Mode, Tx, reading, transaction, writing};
use super::{PostgresStore, cycle, lanes, tiers, token};
use crate::StoreError;
use crate::contract::Claim;
use crate::contract::selection::{
    Admitting, Choice, ClaimedCycle, Initiation, NewRun, SelectionStore, TakeRule, Taken,
};
use crate::rows::admitted::label_of;

#[async_trait]
impl SelectionStore for PostgresStore {
    async fn claim_cycles(&self, most: u32, now: Timestamp) -> Result<Vec<ClaimedCycle>, StoreError> {
        // Nothing is timed: the instant belongs to the contract, for stores with leases.
        let _ = now;
        // Asked whenever a cycle may be over, which should not wait for its turn to change something.
        if !reading!(self, |tx| is_any(tx).await)? {
            return Ok(Vec::new());
        }
        writing!(self, |tx| claim(tx, most).await)
    }

    fn taken(&self, rule: &TakeRule, hashes: &[Digest]) -> Result<BTreeSet<Digest>, StoreError> {
        let (rule, hashes) = (rule.clone(), hashes.to_vec());
        self.blocking.ask(move |database| {
            Box::pin(
                async move { transaction!(database, Mode::Reading, |tx| taken(tx, &rule, &hashes).await) },
            )
        })
    }

    async fn take_initiation(
        &self,
        claim: Claim,
        choice: Choice,
        now: Timestamp,
    ) -> Result<Taken, StoreError> {
        writing!(self, |tx| {
            let first = hold_first(tx, claim, &choice, now);
            let (cycle, has_first) = try_join(held(tx, claim), first).await?;
            let Some(cycle) = cycle.map(|cycle| cycle.before(has_first)) else { return Ok(Taken::Lost) };
            take(tx, (claim, &cycle), (&choice, has_first), now).await
        })
    }

    async fn take_and_admit(
        &self,
        claim: Claim,
        choice: Choice,
        Admitting { runs, free }: Admitting,
        now: Timestamp,
    ) -> Result<Taken, StoreError> {
        let (taken, waiting) = writing!(self, |tx| {
            let first = hold_first(tx, claim, &choice, now);
            let starts = tiers::expect_starts(tx, free.as_ref());
            let (cycle, has_first, mut known, occupied) =
                Box::pin(try_join4(held(tx, claim), first, lanes(tx, claim, &runs), starts)).await?;
            let Some(cycle) = cycle.map(|cycle| cycle.before(has_first)) else {
                return Ok((Taken::Lost, Vec::new()));
            };
            let taken = take(tx, (claim, &cycle), (&choice, has_first), now).await?;
            let is_first =
                matches!(&taken, Taken::Initiation(taken) if choice.candidates.first() == Some(taken));
            if cycle.initiation.is_some() || !is_first {
                return Ok((taken, Vec::new()));
            }
            let label = choice.candidates.first().map(|first| first.label.as_str());
            let made = admit(tx, (claim, &cycle.cycle, label), (&runs, &mut known), now).await?;
            let waiting = tiers::Admitted::of(made, &runs, cycle.cycle.run_profile_id, now)?;
            let (started, waiting) = match &free {
                Some(free) => tiers::start_of(tx, waiting, occupied, free, now).await?,
                None => (Vec::new(), waiting),
            };
            Ok((Taken::Admitted { started }, waiting))
        })?;
        if let Some(membership) = self.database.member.get() {
            membership.begun.waits(waiting);
        }
        Ok(taken)
    }

    async fn admit(&self, claim: Claim, runs: Vec<NewRun>, now: Timestamp) -> Result<bool, StoreError> {
        writing!(self, |tx| {
            let (found, mut known) = try_join(held(tx, claim), lanes(tx, claim, &runs)).await?;
            let Some(Held { cycle, initiation }) = found else { return Ok(false) };
            let label = initiation.as_ref().map(|initiation| initiation.label.as_str());
            admit(tx, (claim, &cycle, label), (&runs, &mut known), now).await?;
            Ok(true)
        })
    }

    async fn fail_selection(&self, claim: Claim, message: &str, now: Timestamp) -> Result<bool, StoreError> {
        let message = message.to_owned();
        writing!(self, |tx| fail(tx, claim, &message, now).await)
    }

    async fn unclaim_cycle(&self, claim: Claim) -> Result<(), StoreError> {
        writing!(self, |tx| {
            let sql = format!("{} AND cycle_id = $1 AND token = $2", cycle::WAIT_AGAIN);
            tx.send(&sql, params![Text(claim.id), claim.token]).await?;
            Ok(())
        })
    }
}

/// SQL that is true of a cycle `q` that may be claimed.
fn may_begin() -> String {
    format!(
        "q.state IN ('waiting', 'queued') AND (q.state = 'waiting' OR NOT EXISTS (
            SELECT 1 FROM cycles c WHERE c.run_profile_id = q.run_profile_id AND c.state <> 'finished' AND {active}))",
        active = cycle::IS_ACTIVE
    )
}

/// Whether a cycle may be claimed.
async fn is_any(tx: &Tx) -> Attempt<bool> {
    let sql = format!("SELECT EXISTS (SELECT 1 FROM cycles q WHERE {})", may_begin());
    tx.query_row(&sql, params![], |row| row.get(0)).await
}

/// Cycles that are next, of those that are queued the first of each run profile that has none under way: with it, the others wait on.
async fn claim(tx: &Tx, most: u32) -> Attempt<Vec<ClaimedCycle>> {
    let sql = format!(
        "SELECT cycle_id, run_profile_id, state = 'queued' AS queued FROM cycles q WHERE {}
        ORDER BY ordinal LIMIT $1 FOR UPDATE OF q SKIP LOCKED",
        may_begin()
    );
    let read = |row: &Row| {
        let run_profile_id = columns::id(row, "run_profile_id")?;
        Ok((columns::id(row, "cycle_id")?, row.get::<_, bool>("queued")?.then_some(run_profile_id)))
    };
    let mut begun = BTreeSet::new();
    let mut found = tx.query_all(&sql, params![most], read).await?;
    found.retain(|(_, queued_of)| queued_of.is_none_or(|run_profile_id| begun.insert(run_profile_id)));
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let (mut ids, mut tokens) = (Vec::new(), Vec::new());
    for (cycle_id, _) in &found {
        ids.push(cycle_id.to_string());
        tokens.push(token::next(tx).await?);
    }
    let update = "UPDATE cycles SET state = 'selecting', token = given.token
        FROM unnest($1::text[], $2::bigint[]) AS given (cycle_id, token) WHERE cycles.cycle_id = given.cycle_id
        RETURNING ordinal, cycles.cycle_id, cycles.token, run_profile_id, trigger, nominal, snapshot, preset";
    let initiations = "SELECT cycle_id, initiation_id, label, weight, metadata, hash FROM initiations WHERE cycle_id = ANY ($1)";
    let parameters = vec![Parameter::Texts(ids.clone()), Parameter::Integers(tokens)];
    let (mut claimed, mut initiations) = try_join(
        tx.query_all(update, Ok(parameters), |row| Ok((row.get::<_, i64>("ordinal")?, claimed(row)?))),
        tx.query_all(initiations, Ok(vec![Parameter::Texts(ids)]), |row| {
            Ok((columns::id(row, "cycle_id")?, initiation(row)?))
        }),
    )
    .await
    .map(|(claimed, initiations)| (claimed, initiations.into_iter().collect::<BTreeMap<Uuid, _>>()))?;
    claimed.sort_by_key(|(ordinal, _)| *ordinal);
    let with_initiation = |(_, mut cycle): (i64, ClaimedCycle)| {
        cycle.initiation = initiations.remove(&cycle.claim.id);
        cycle
    };
    Ok(claimed.into_iter().map(with_initiation).collect())
}

fn claimed(row: &Row) -> Attempt<ClaimedCycle> {
    Ok(ClaimedCycle {
        claim: Claim { id: columns::id(row, "cycle_id")?, token: row.get("token")? },
        run_profile_id: columns::id(row, "run_profile_id")?,
        trigger: row.get("trigger")?,
        nominal: columns::instant(row, "nominal")?,
        snapshot: columns::digest(row, "snapshot")?,
        preset: columns::json(row, "preset")?,
        initiation: None,
    })
}

/// A cycle that is its claim's holder's, and the initiation that it has already.
struct Held {
    cycle: HeldCycle,
    initiation: Option<Initiation>,
}

impl Held {
    /// As it was before its first candidate was tried: which of the two came first is not known, as they are asked at once.
    fn before(self, has_first: bool) -> Self {
        Self { initiation: self.initiation.filter(|_| !has_first), ..self }
    }
}

async fn held(tx: &Connection, claim: Claim) -> Attempt<Option<Held>> {
    let sql = "SELECT snapshot, run_profile_id, initiation_id, label, weight, metadata, hash
        FROM cycles LEFT JOIN initiations USING (cycle_id) WHERE cycle_id = $1 AND token = $2 AND state = 'selecting'";
    let read = |row: &Row| {
        let has_one = row.get::<_, Option<String>>("initiation_id")?.is_some();
        let initiation = if has_one { Some(initiation(row)?) } else { None };
        Ok(Held { cycle: cycle::held_of(row)?, initiation })
    };
    tx.query_optional(sql, params![Text(claim.id), claim.token], read).await
}

fn initiation(row: &Row) -> Attempt<Initiation> {
    Ok(Initiation {
        id: columns::id(row, "initiation_id")?,
        label: row.get("label")?,
        weight: row.get("weight")?,
        metadata: columns::json(row, "metadata")?,
        hash: columns::digest(row, "hash")?,
    })
}

/// The initiation of a cycle, if it has one.
pub(super) async fn initiation_of(tx: &Connection, cycle_id: Uuid) -> Attempt<Option<Initiation>> {
    let sql = "SELECT initiation_id, label, weight, metadata, hash FROM initiations WHERE cycle_id = $1";
    tx.query_optional(sql, params![Text(cycle_id)], initiation).await
}

async fn taken(tx: &Connection, rule: &TakeRule, hashes: &[Digest]) -> Attempt<BTreeSet<Digest>> {
    let sql = "SELECT hash FROM initiation_holds WHERE scope = $1 AND hash = ANY ($3)
        AND ($2::bigint IS NULL OR taken_at >= $2)";
    let mut parameters = params![rule.scope, rule.taken_since.map(Micros)]?;
    parameters.push(Parameter::Texts(hashes.iter().map(Digest::to_string).collect()));
    let taken = tx.query_all(sql, Ok(parameters), |row| columns::digest(row, "hash")).await?;
    Ok(taken.into_iter().collect())
}

async fn take(
    tx: &Tx,
    (claim, Held { cycle, initiation }): (Claim, &Held),
    (choice, has_first): (&Choice, bool),
    now: Timestamp,
) -> Attempt<Taken> {
    if let Some(initiation) = initiation {
        // A cycle has exactly one; a repeated call is given the one it has.
        return Ok(Taken::Initiation(initiation.clone()));
    }
    let subject = cycle::about(claim.id, cycle.snapshot);
    for (number, initiation) in choice.candidates.iter().enumerate() {
        let has_it =
            if number == 0 { has_first } else { hold(tx, claim, (initiation, &choice.rule), now).await? };
        if has_it {
            let body = json!({
                "initiation": initiation,
                "scope": choice.rule.scope,
                "release_on": choice.rule.release_on,
                "report": choice.report,
            });
            fact(tx, now, Kind::InitiationSelected, subject, facts(body))?;
            return Ok(Taken::Initiation(initiation.clone()));
        }
    }
    if choice.candidates.len() >= SELECTION_KEPT_MAX {
        return Ok(Taken::Outrun);
    }
    let body = json!({ "report": choice.report, "scope": choice.rule.scope });
    fact(tx, now, Kind::SelectionExhausted, subject, facts(body))?;
    let reason = choice.report["reason"].as_str().unwrap_or("no candidate was new");
    cycle::finish(tx, (claim.id, cycle.snapshot), (Outcome::Skipped, Some(reason)), now).await?;
    Ok(Taken::Exhausted)
}

/// The first candidate of a choice, if there is one, is tried before it is known whose the cycle is: that is asked at once, and mostly nobody else has it.
async fn hold_first(tx: &Connection, claim: Claim, choice: &Choice, now: Timestamp) -> Attempt<bool> {
    match choice.candidates.first() {
        Some(first) => hold(tx, claim, (first, &choice.rule), now).await,
        None => Ok(false),
    }
}

/// The conditional upsert: the hash is this initiation's, which is the cycle's, unless another holds it, or the cycle is not the claim's or has an initiation.
async fn hold(
    tx: &Connection,
    claim: Claim,
    (initiation, rule): (&Initiation, &TakeRule),
    now: Timestamp,
) -> Attempt<bool> {
    let upsert = "WITH held AS (
            INSERT INTO initiation_holds (scope, hash, initiation_id, taken_at)
            SELECT $1::text, $2::text, $3::text, $4::bigint
            WHERE EXISTS (SELECT 1 FROM cycles WHERE cycle_id = $6 AND token = $7 AND state = 'selecting')
                AND NOT EXISTS (SELECT 1 FROM initiations WHERE cycle_id = $6)
            ON CONFLICT (namespace, scope, hash) DO UPDATE SET initiation_id = excluded.initiation_id, taken_at = excluded.taken_at
            WHERE initiation_holds.taken_at < $5 RETURNING initiation_id, scope, hash, taken_at
        ) INSERT INTO initiations (initiation_id, cycle_id, label, weight, metadata, hash, scope, release_on, selected_at)
        SELECT initiation_id, $6::text, $8::text, $9::float8, $10::text, hash, scope, $11::text, taken_at FROM held";
    let parameters = params![
        rule.scope,
        Text(initiation.hash),
        Text(initiation.id),
        Micros(now),
        rule.taken_since.map(Micros),
        Text(claim.id),
        claim.token,
        initiation.label,
        initiation.weight,
        Json(&initiation.metadata),
        Json(&rule.release_on),
    ];
    Ok(tx.execute(upsert, parameters).await? == 1)
}

/// The runs are there; each with the lane in which it waits.
async fn admit(
    tx: &Tx,
    (claim, cycle, initiation): (Claim, &HeldCycle, Option<&str>),
    (runs, known): (&[NewRun], &mut lanes::Known),
    now: Timestamp,
) -> Attempt<Vec<(Run, Option<i64>)>> {
    let snapshot = cycle.snapshot;
    tx.send("UPDATE cycles SET state = 'running' WHERE cycle_id = $1", params![Text(claim.id)]).await?;
    let mut made = Vec::new();
    for new in runs {
        let run = Run {
            id: new.run_id,
            cycle_id: claim.id,
            profile_id: new.profile_id,
            snapshot,
            state: new.start.as_ref().map_or(RunState::admitted(), |start| RunState::admitted_at(start.step)),
            token: 0,
            deadline_at: new.deadline_at,
            made: None,
        };
        let lane = insert(tx, &run, (new, initiation), known, now).await?;
        tell_admitted(tx, &run, new, now)?;
        made.push((run, lane));
    }
    // Only now, so that a first run that is rejected does not end the cycle before the second exists.
    for ((run, _), new) in made.iter_mut().zip(runs) {
        if let Some(message) = &new.rejected {
            let event = RunEvent::SynthesisFailed { message: message.clone() };
            transition::apply(tx, run, &event, Facts::new(), now).await?;
        }
    }
    if runs.is_empty() {
        cycle::end_if_done(tx, (claim.id, snapshot), None, now).await?;
    }
    Ok(made)
}

/// Those lanes of these runs that there are already.
async fn lanes(tx: &Connection, claim: Claim, runs: &[NewRun]) -> Attempt<lanes::Known> {
    lanes::known(tx, claim.id, runs.iter().map(|run| (run.profile_id, &run.request))).await
}

/// The rows of a run that is admitted; the lane in which it waits.
async fn insert(
    tx: &Connection,
    run: &Run,
    (new, initiation): (&NewRun, Option<&str>),
    known: &mut lanes::Known,
    now: Timestamp,
) -> Attempt<Option<i64>> {
    let about = label_of(&new.request).or(initiation).unwrap_or_default();
    let state = transition::columns_of(&run.state);
    let lanes = lanes::of_request(tx, (run.cycle_id, run.profile_id), &new.request, known).await?;
    let lane = state.to_start.and_then(|step| lanes[step.name()].as_i64());
    let input = new.start.as_ref().map(|start| &start.input);
    let sql = "WITH run AS (
            INSERT INTO runs (run_id, cycle_id, profile_id, profile, initiation, state, state_json, attempt, lane, priority,
            deadline_at, started_at, retry_of, start_step, artifact_digest, artifact_bytes, artifact_media_type)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
        ) INSERT INTO run_requests (run_id, request, lanes) VALUES ($1, $18, $19)";
    tx.send(
        sql,
        params![
            Text(run.id),
            Text(run.cycle_id),
            Text(run.profile_id),
            new.profile,
            about,
            state.name,
            Json(&run.state),
            state.attempt,
            lane,
            new.priority,
            Micros(run.deadline_at),
            Micros(now),
            new.retry_of.map(Text),
            new.start.as_ref().map(|start| start.step.name()),
            input.map(|input| Text(input.digest)),
            input.map(|input| Length(input.bytes)),
            input.map(|input| &input.media_type),
            Json(&new.request),
            Json(lanes),
        ],
    )
    .await?;
    Ok(lane)
}

fn tell_admitted(tx: &Tx, run: &Run, new: &NewRun, now: Timestamp) -> Attempt<()> {
    let mut body = facts(json!({
        "profile": new.profile,
        "priority": new.priority,
        "deadline_at": new.deadline_at,
        "request": new.request,
    }));
    if let Some(retry_of) = new.retry_of {
        body.insert("retry_of".to_owned(), json!(retry_of));
    }
    if let Some(start) = &new.start {
        body.insert("start".to_owned(), json!(start));
    }
    fact(tx, now, Kind::RunAdmitted, run.subject(), body)
}

async fn fail(tx: &Tx, claim: Claim, message: &str, now: Timestamp) -> Attempt<bool> {
    let Some(HeldCycle { snapshot, .. }) = cycle::held(tx, claim).await? else { return Ok(false) };
    let subject = cycle::about(claim.id, snapshot);
    fact(tx, now, Kind::SelectionFailed, subject, facts(json!({ "message": message })))?;
    cycle::finish(tx, (claim.id, snapshot), (Outcome::Failed, Some(message)), now).await?;
    Ok(true)
}
