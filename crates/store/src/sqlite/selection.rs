//! Cycles are claimed, get their initiation, and then their runs.

use std::collections::BTreeSet;

use async_trait::async_trait;
use jiff::Timestamp;
use orbit_core::digest::Digest;
use orbit_core::limits::SELECTION_KEPT_MAX;
use orbit_core::record::{Kind, Subject};
use orbit_core::run::{Outcome, RunEvent, RunState};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::json;
use uuid::Uuid;

use super::columns::{self, Json, Length, Micros, Text};
use super::fault::Attempt;
use super::record::{Facts, fact, facts};
use super::transition::{self, Run};
use super::tx::Tx;
use super::{SqliteStore, cycle, lanes, tiers, token};
use crate::StoreError;
use crate::contract::Claim;
use crate::contract::selection::{
    Admitting, Choice, ClaimedCycle, Initiation, NewRun, SelectionStore, TakeRule, Taken,
};
use crate::rows::admitted::label_of;

#[async_trait]
impl SelectionStore for SqliteStore {
    async fn claim_cycles(&self, most: u32, now: Timestamp) -> Result<Vec<ClaimedCycle>, StoreError> {
        // Nothing is timed: the instant belongs to the contract, for stores with leases.
        let _ = now;
        // Asked whenever a cycle may be over, which should not wait for a commit of nothing.
        if self.readers.read_blocking(next)?.is_none() {
            return Ok(Vec::new());
        }
        // One after the other: the first may be what a queued one of the same run profile waits for.
        // What is lost with the power is a cycle that waits again; what is written under the claim comes behind it.
        self.write_unflushed(move |tx| (0..most).map_while(|_| claim(tx).transpose()).collect()).await
    }

    fn taken(&self, rule: &TakeRule, hashes: &[Digest]) -> Result<BTreeSet<Digest>, StoreError> {
        self.readers.read_blocking(|tx| {
            let mut taken = BTreeSet::new();
            for hash in hashes {
                if is_taken(tx, rule, *hash)? {
                    taken.insert(*hash);
                }
            }
            Ok(taken)
        })
    }

    async fn take_initiation(
        &self,
        claim: Claim,
        choice: Choice,
        now: Timestamp,
    ) -> Result<Taken, StoreError> {
        self.write(move |tx| take(tx, claim, &choice, now)).await
    }

    async fn take_and_admit(
        &self,
        claim: Claim,
        choice: Choice,
        Admitting { runs, free }: Admitting,
        now: Timestamp,
    ) -> Result<Taken, StoreError> {
        self.write(move |tx| {
            let had_one = initiation_of(tx, claim.id)?.is_some();
            let taken = take(tx, claim, &choice, now)?;
            let is_first =
                matches!(&taken, Taken::Initiation(taken) if choice.candidates.first() == Some(taken));
            if had_one || !is_first {
                return Ok(taken);
            }
            admit(tx, claim, &runs, now)?;
            let started = match &free {
                Some(free) => tiers::start_of(tx, &runs, free, now)?,
                None => Vec::new(),
            };
            Ok(Taken::Admitted { started })
        })
        .await
    }

    async fn admit(&self, claim: Claim, runs: Vec<NewRun>, now: Timestamp) -> Result<bool, StoreError> {
        self.write(move |tx| admit(tx, claim, &runs, now)).await
    }

    async fn fail_selection(&self, claim: Claim, message: &str, now: Timestamp) -> Result<bool, StoreError> {
        let message = message.to_owned();
        self.write(move |tx| fail(tx, claim, &message, now)).await
    }

    async fn unclaim_cycle(&self, claim: Claim) -> Result<(), StoreError> {
        self.write(move |tx| {
            let sql = format!("{} AND cycle_id = ?1 AND token = ?2", cycle::WAIT_AGAIN);
            tx.prepare_cached(&sql)?.execute(params![Text(claim.id), claim.token])?;
            Ok(())
        })
        .await
    }
}

/// The cycle that is claimed next.
fn next(tx: &Connection) -> Attempt<Option<Uuid>> {
    let sql = format!(
        "SELECT cycle_id FROM cycles q INDEXED BY cycles_by_state WHERE q.state IN ('waiting', 'queued')
            AND (q.state = 'waiting' OR NOT EXISTS (
                SELECT 1 FROM cycles c WHERE c.run_profile_id = q.run_profile_id AND c.state <> 'finished' AND {active}))
        ORDER BY ordinal LIMIT 1",
        active = cycle::IS_ACTIVE
    );
    Ok(tx.prepare_cached(&sql)?.query_row((), |row| columns::id(row, "cycle_id")).optional()?)
}

fn claim(tx: &Connection) -> Attempt<Option<ClaimedCycle>> {
    let Some(cycle_id) = next(tx)? else { return Ok(None) };
    let claim = Claim { id: cycle_id, token: token::next(tx)? };
    let update = "UPDATE cycles SET state = 'selecting', token = ?2 WHERE cycle_id = ?1
        RETURNING run_profile_id, trigger, nominal, snapshot, preset";
    let mut claimed = tx.prepare_cached(update)?.query_row(params![Text(cycle_id), claim.token], |row| {
        Ok(ClaimedCycle {
            claim,
            run_profile_id: columns::id(row, "run_profile_id")?,
            trigger: row.get("trigger")?,
            nominal: columns::instant(row, "nominal")?,
            snapshot: columns::digest(row, "snapshot")?,
            preset: columns::json(row, "preset")?,
            initiation: None,
        })
    })?;
    claimed.initiation = initiation_of(tx, cycle_id)?;
    Ok(Some(claimed))
}

/// The initiation of a cycle, if it has one.
pub(super) fn initiation_of(tx: &Connection, cycle_id: Uuid) -> Attempt<Option<Initiation>> {
    let sql = "SELECT initiation_id, label, weight, metadata, hash FROM initiations WHERE cycle_id = ?1";
    let read = |row: &Row<'_>| {
        Ok(Initiation {
            id: columns::id(row, "initiation_id")?,
            label: row.get("label")?,
            weight: row.get("weight")?,
            metadata: columns::json(row, "metadata")?,
            hash: columns::digest(row, "hash")?,
        })
    };
    Ok(tx.prepare_cached(sql)?.query_row([Text(cycle_id)], read).optional()?)
}

fn is_taken(tx: &Connection, rule: &TakeRule, hash: Digest) -> Attempt<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM initiation_holds WHERE scope = ?1 AND hash = ?2
        AND (?3 IS NULL OR taken_at >= ?3))";
    let since = rule.taken_since.map(Micros);
    Ok(tx.prepare_cached(sql)?.query_row(params![rule.scope, Text(hash), since], |row| row.get(0))?)
}

fn take(tx: &Tx<'_>, claim: Claim, choice: &Choice, now: Timestamp) -> Attempt<Taken> {
    if !cycle::is_held(tx, claim)? {
        return Ok(Taken::Lost);
    }
    if let Some(initiation) = initiation_of(tx, claim.id)? {
        // A cycle has exactly one; a repeated call is given the one it has.
        return Ok(Taken::Initiation(initiation));
    }
    let subject = cycle::about(claim.id, cycle::snapshot(tx, claim.id)?);
    for initiation in &choice.candidates {
        if hold(tx, initiation, &choice.rule, now)? {
            keep(tx, claim.id, initiation, &choice.rule, now)?;
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
    cycle::finish(tx, claim.id, (Outcome::Skipped, Some(reason)), now)?;
    Ok(Taken::Exhausted)
}

/// The conditional upsert: the hash is this initiation's unless another holds it.
pub(super) fn hold(
    tx: &Connection,
    initiation: &Initiation,
    rule: &TakeRule,
    now: Timestamp,
) -> Attempt<bool> {
    let upsert = "INSERT INTO initiation_holds (scope, hash, initiation_id, taken_at) VALUES (?1, ?2, ?3, ?4)
        ON CONFLICT (scope, hash) DO UPDATE SET initiation_id = excluded.initiation_id, taken_at = excluded.taken_at
        WHERE taken_at < ?5";
    let since = rule.taken_since.map(Micros);
    let changed = tx.prepare_cached(upsert)?.execute(params![
        rule.scope,
        Text(initiation.hash),
        Text(initiation.id),
        Micros(now),
        since
    ])?;
    Ok(changed == 1)
}

/// The row of a cycle's initiation.
pub(super) fn keep(
    tx: &Connection,
    cycle_id: Uuid,
    initiation: &Initiation,
    rule: &TakeRule,
    now: Timestamp,
) -> Attempt<()> {
    let insert =
        "INSERT INTO initiations (initiation_id, cycle_id, label, weight, metadata, hash, scope, release_on,
        selected_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    tx.prepare_cached(insert)?.execute(params![
        Text(initiation.id),
        Text(cycle_id),
        initiation.label,
        initiation.weight,
        Json(&initiation.metadata),
        Text(initiation.hash),
        rule.scope,
        Json(&rule.release_on),
        Micros(now),
    ])?;
    Ok(())
}

fn admit(tx: &Tx<'_>, claim: Claim, runs: &[NewRun], now: Timestamp) -> Attempt<bool> {
    if !cycle::is_held(tx, claim)? {
        return Ok(false);
    }
    tx.prepare_cached("UPDATE cycles SET state = 'running' WHERE cycle_id = ?1")?
        .execute([Text(claim.id)])?;
    let snapshot = cycle::snapshot(tx, claim.id)?;
    let initiation = initiation_of(tx, claim.id)?.map(|initiation| initiation.label);
    let mut admitted = Vec::new();
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
        insert(tx, &run, new, initiation.as_deref(), now)?;
        tell_admitted(tx, &run, new, now)?;
        admitted.push(run);
    }
    // Only now, so that a first run that is rejected does not end the cycle before the second exists.
    for (run, new) in admitted.iter_mut().zip(runs) {
        if let Some(message) = &new.rejected {
            let event = RunEvent::SynthesisFailed { message: message.clone() };
            transition::apply(tx, run, &event, Facts::new(), now)?;
        }
    }
    if runs.is_empty() {
        cycle::end_if_done(tx, claim.id, now)?;
    }
    Ok(true)
}

/// The rows of a run that is admitted.
pub(super) fn insert(
    tx: &Connection,
    run: &Run,
    new: &NewRun,
    initiation: Option<&str>,
    now: Timestamp,
) -> Attempt<()> {
    let about = label_of(&new.request).or(initiation).unwrap_or_default();
    let state = transition::columns_of(&run.state);
    let lanes = lanes::of_request(tx, run.cycle_id, run.profile_id, &new.request)?;
    let lane = state.to_start.and_then(|step| lanes[step.name()].as_i64());
    let input = new.start.as_ref().map(|start| &start.input);
    let sql = "INSERT INTO runs (run_id, cycle_id, profile_id, profile, initiation, state, state_json, attempt, lane, priority,
        deadline_at, started_at, retry_of, start_step, artifact_digest, artifact_bytes, artifact_media_type)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)";
    tx.prepare_cached(sql)?.execute(params![
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
    ])?;
    tx.prepare_cached("INSERT INTO run_requests (run_id, request, lanes) VALUES (?1, ?2, ?3)")?
        .execute(params![Text(run.id), Json(&new.request), Json(lanes)])?;
    Ok(())
}

fn tell_admitted(tx: &Tx<'_>, run: &Run, new: &NewRun, now: Timestamp) -> Attempt<()> {
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

fn fail(tx: &Tx<'_>, claim: Claim, message: &str, now: Timestamp) -> Attempt<bool> {
    if !cycle::is_held(tx, claim)? {
        return Ok(false);
    }
    let subject: Subject = cycle::about(claim.id, cycle::snapshot(tx, claim.id)?);
    fact(tx, now, Kind::SelectionFailed, subject, facts(json!({ "message": message })))?;
    cycle::finish(tx, claim.id, (Outcome::Failed, Some(message)), now)?;
    Ok(true)
}
