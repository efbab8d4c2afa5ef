//! A cycle's life in rows: it fires once, it ends when all of its runs have ended, and a redrive opens it again.

use std::collections::BTreeSet;

use futures_util::future::try_join;
use jiff::Timestamp;
use orbit_core::digest::Digest;
use orbit_core::record::{Kind, Subject};
use orbit_core::run::{Ending, Outcome, RunState};
use serde_json::json;
use uuid::Uuid;

use super::columns::{self, Micros, NUL_KEPT_AS, Parameter, Row, Text, params};
use super::fault::{Attempt, Fault};
use super::record::{fact, facts};
use super::tx::{Connection, Tx};
use crate::contract::schedule::NewCycle;

/// SQL that is true of a cycle `c` that counts for overlap: not yet running, or with a run that has no artifact.
pub(super) const IS_ACTIVE: &str = "(c.state IN ('waiting', 'selecting') OR (c.state = 'running' AND EXISTS (
    SELECT 1 FROM runs WHERE runs.cycle_id = c.cycle_id AND runs.state IN ('ready', 'working', 'waiting'))))";

/// The cycle exists; whether it is new.
pub(super) async fn fire(tx: &Tx, cycle: &NewCycle, now: Timestamp) -> Attempt<bool> {
    let new = !insert_all(tx, &[cycle], now).await?.is_empty();
    if new {
        tell(tx, cycle, now)?;
    }
    Ok(new)
}

/// The same of a cycle that is not expected to be there, without waiting for what the server says: where it is, nothing of the transaction is true.
pub(super) async fn fire_new(tx: &Tx, cycle: &NewCycle, now: Timestamp) -> Attempt<()> {
    tx.send(INSERT, Ok(columns_of(&[cycle], now))).await?;
    tell(tx, cycle, now)
}

/// The record of a cycle that is new.
pub(super) fn tell(tx: &Tx, cycle: &NewCycle, now: Timestamp) -> Attempt<()> {
    let mut body = facts(cycle.detail.clone());
    body.extend(facts(json!({
        "run_profile_id": cycle.run_profile_id,
        "run_profile": cycle.run_profile,
        "trigger": cycle.trigger,
        "nominal": cycle.nominal,
        "queued": cycle.queued,
        "preset": cycle.preset,
    })));
    fact(tx, now, Kind::CycleFired, about(cycle.cycle_id, cycle.snapshot), body)
}

/// The rows, in order, by [`columns_of`].
const INSERT: &str = "INSERT INTO cycles (cycle_id, run_profile_id, run_profile, trigger, nominal, snapshot, queued, state,
            fired_at, preset)
        SELECT cycle_id, run_profile_id, run_profile, trigger, nominal, snapshot, state = 'queued', state, $8, preset
        FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[], $9::text[])
            WITH ORDINALITY AS given (cycle_id, run_profile_id, run_profile, trigger, nominal, snapshot, state, preset, n)
        ORDER BY n";

/// The rows; the ids of those that are new.
pub(super) async fn insert_all(
    tx: &Connection,
    cycles: &[&NewCycle],
    now: Timestamp,
) -> Attempt<BTreeSet<Uuid>> {
    if cycles.is_empty() {
        return Ok(BTreeSet::new());
    }
    let insert = format!("{INSERT} ON CONFLICT (namespace, cycle_id) DO NOTHING RETURNING cycle_id");
    let columns = Ok(columns_of(cycles, now));
    let new = tx.query_all(&insert, columns, |row| columns::id(row, "cycle_id")).await?;
    Ok(new.into_iter().collect())
}

fn columns_of(cycles: &[&NewCycle], now: Timestamp) -> Vec<Parameter> {
    let texts = |of: fn(&NewCycle) -> String| {
        Parameter::Texts(cycles.iter().map(|cycle| of(cycle).replace('\0', NUL_KEPT_AS)).collect())
    };
    let state = |cycle: &NewCycle| if cycle.queued { "queued" } else { "waiting" }.to_owned();
    vec![
        texts(|cycle| cycle.cycle_id.to_string()),
        texts(|cycle| cycle.run_profile_id.to_string()),
        texts(|cycle| cycle.run_profile.clone()),
        texts(|cycle| cycle.trigger.clone()),
        Parameter::Integers(cycles.iter().map(|cycle| cycle.nominal.as_microsecond()).collect()),
        texts(|cycle| cycle.snapshot.to_string()),
        texts(state),
        Parameter::Integer(now.as_microsecond()),
        texts(|cycle| cycle.preset.to_string()),
    ]
}

/// The subject of a cycle's records.
pub(super) fn about(cycle_id: Uuid, snapshot: Digest) -> Subject {
    Subject { cycle_id: Some(cycle_id), snapshot: Some(snapshot), ..Subject::default() }
}

/// The snapshot that a cycle is pinned to.
pub(super) async fn snapshot(tx: &Connection, cycle_id: Uuid) -> Attempt<Digest> {
    let sql = "SELECT snapshot FROM cycles WHERE cycle_id = $1";
    tx.query_row(sql, params![Text(cycle_id)], |row| columns::digest(row, "snapshot")).await
}

/// What a cycle's end depends on besides the run that may be its last.
pub(super) struct Beside {
    has_others: bool,
    awaits_others: bool,
    held: Option<Hold>,
}

impl Beside {
    /// For a query that knows the run as `r`, and joins [`Self::HOLD`].
    pub(super) const COLUMNS: &str =
        "EXISTS (SELECT 1 FROM runs o WHERE o.cycle_id = r.cycle_id AND o.run_id <> r.run_id) AS has_others,
        EXISTS (SELECT 1 FROM runs o WHERE o.cycle_id = r.cycle_id AND o.run_id <> r.run_id AND o.state <> 'finished') AS awaits_others,
        h.initiation_id, h.scope, h.hash, h.release_on";
    /// The candidate that the run's cycle holds.
    pub(super) const HOLD: &str =
        "LEFT JOIN initiations h ON h.cycle_id = r.cycle_id AND h.released_at IS NULL";

    pub(super) fn read(row: &Row) -> Attempt<Self> {
        let holds = row.get::<_, Option<String>>("initiation_id")?.is_some();
        Ok(Self {
            has_others: row.get("has_others")?,
            awaits_others: row.get("awaits_others")?,
            held: if holds { Some(hold(row)?) } else { None },
        })
    }
}

/// Ends the cycle if none of its runs is unfinished. One of them has just ended so, unless it has none.
pub(super) async fn end_if_done(
    tx: &Tx,
    (cycle_id, snapshot): (Uuid, Digest),
    last: Option<Outcome>,
    now: Timestamp,
) -> Attempt<()> {
    let (outcomes, held) = match (tx.takes_beside(cycle_id)?, last) {
        (Some(Beside { awaits_others: true, .. }), _) => return Ok(()),
        (Some(Beside { has_others: false, held, .. }), Some(last)) => (Some(vec![last]), held),
        (Some(Beside { held, .. }), _) => (outcomes(tx, cycle_id).await?, held),
        (None, _) => try_join(outcomes(tx, cycle_id), holds(tx, cycle_id)).await?,
    };
    match outcomes {
        Some(outcomes) => {
            let outcome = (Outcome::of_cycle(&outcomes), None);
            finish_holding(tx, (about(cycle_id, snapshot), held), outcome, now).await
        }
        None => Ok(()),
    }
}

/// How the runs of a cycle have ended, if all of them have.
async fn outcomes(tx: &Connection, cycle_id: Uuid) -> Attempt<Option<Vec<Outcome>>> {
    let sql = "SELECT state_json FROM runs WHERE cycle_id = $1 ORDER BY ordinal";
    let read = |row: &Row| columns::json::<RunState>(row, "state_json");
    let runs = tx.query_all(sql, params![Text(cycle_id)], read).await?;
    Ok(runs.iter().map(|state| state.ending().map(Ending::outcome)).collect())
}

/// The cycle is finished with this outcome and, where the outcome alone does not say it, this reason. Its candidate is free again if its
/// rule says so.
pub(super) async fn finish(
    tx: &Tx,
    (cycle_id, snapshot): (Uuid, Digest),
    (outcome, reason): (Outcome, Option<&str>),
    now: Timestamp,
) -> Attempt<()> {
    let held = holds(tx, cycle_id).await?;
    finish_holding(tx, (about(cycle_id, snapshot), held), (outcome, reason), now).await
}

async fn finish_holding(
    tx: &Tx,
    (subject, held): (Subject, Option<Hold>),
    (outcome, reason): (Outcome, Option<&str>),
    now: Timestamp,
) -> Attempt<()> {
    let cycle_id = subject.cycle_id.ok_or_else(|| Fault::contradiction("a cycle without an id"))?;
    end(tx, cycle_id, (outcome, reason), now).await?;
    let mut body = facts(json!({ "outcome": outcome }));
    if let Some(reason) = reason {
        body.insert("reason".to_owned(), reason.into());
    }
    fact(tx, now, Kind::CycleFinished, subject, body)?;
    match held {
        Some(held) if held.release_on.iter().any(|word| word == outcome.name()) => {
            release(tx, (subject, held), outcome, now).await
        }
        Some(_) | None => Ok(()),
    }
}

/// The row of a cycle that is finished.
pub(super) async fn end(
    tx: &Connection,
    cycle_id: Uuid,
    (outcome, reason): (Outcome, Option<&str>),
    now: Timestamp,
) -> Attempt<()> {
    let update = "UPDATE cycles SET state = 'finished', outcome = $2, reason = $3, finished_at = $4 WHERE cycle_id = $1";
    tx.send(update, params![Text(cycle_id), outcome.name(), reason, Micros(now)]).await?;
    Ok(())
}

/// A finished cycle is running again, because one of its runs is.
pub(super) async fn reopen(tx: &Connection, cycle_id: Uuid) -> Attempt<()> {
    let sql = "UPDATE cycles SET state = 'running', outcome = NULL, reason = NULL, finished_at = NULL
        WHERE cycle_id = $1 AND state = 'finished'";
    tx.send(sql, params![Text(cycle_id)]).await?;
    Ok(())
}

/// The cycle is not running again: it waits as it did before it was claimed.
pub(super) const WAIT_AGAIN: &str =
    "UPDATE cycles SET state = CASE WHEN queued THEN 'queued' ELSE 'waiting' END WHERE state = 'selecting'";

/// A cycle that is its claim's holder's.
pub(super) struct HeldCycle {
    /// The snapshot that it is pinned to.
    pub(super) snapshot: Digest,
    /// Its run profile.
    pub(super) run_profile_id: Uuid,
}

/// The cycle of a claim, if it is still its holder's.
pub(super) async fn held(tx: &Connection, claim: crate::contract::Claim) -> Attempt<Option<HeldCycle>> {
    let sql = "SELECT snapshot, run_profile_id FROM cycles WHERE cycle_id = $1 AND token = $2 AND state = 'selecting'";
    tx.query_optional(sql, params![Text(claim.id), claim.token], held_of).await
}

/// Reads the columns of a [`HeldCycle`].
pub(super) fn held_of(row: &Row) -> Attempt<HeldCycle> {
    let run_profile_id = columns::id(row, "run_profile_id")?;
    Ok(HeldCycle { snapshot: columns::digest(row, "snapshot")?, run_profile_id })
}

/// A candidate that a cycle holds.
struct Hold {
    initiation_id: Uuid,
    scope: String,
    hash: String,
    release_on: Vec<String>,
}

/// The candidate that the cycle holds, if it does.
async fn holds(tx: &Connection, cycle_id: Uuid) -> Attempt<Option<Hold>> {
    let sql = "SELECT initiation_id, scope, hash, release_on FROM initiations WHERE cycle_id = $1 AND released_at IS NULL";
    tx.query_optional(sql, params![Text(cycle_id)], hold).await
}

fn hold(row: &Row) -> Attempt<Hold> {
    Ok(Hold {
        initiation_id: columns::id(row, "initiation_id")?,
        scope: row.get("scope")?,
        hash: row.get("hash")?,
        release_on: columns::json(row, "release_on")?,
    })
}

async fn release(tx: &Tx, (subject, held): (Subject, Hold), outcome: Outcome, now: Timestamp) -> Attempt<()> {
    let Hold { initiation_id, scope, hash, .. } = held;
    free(tx, initiation_id, (&scope, &hash), now).await?;
    let body = json!({ "initiation_id": initiation_id, "hash": hash, "scope": scope, "outcome": outcome });
    fact(tx, now, Kind::InitiationReleased, subject, facts(body))
}

/// Rows of an initiation that is held no more.
pub(super) async fn free(
    tx: &Connection,
    initiation_id: Uuid,
    (scope, hash): (&str, &str),
    now: Timestamp,
) -> Attempt<()> {
    tx.send(
        "UPDATE initiations SET released_at = $2 WHERE initiation_id = $1",
        params![Text(initiation_id), Micros(now)],
    )
    .await?;
    tx.send(
        "DELETE FROM initiation_holds WHERE scope = $1 AND hash = $2 AND initiation_id = $3",
        params![scope, hash, Text(initiation_id)],
    )
    .await?;
    // An older holder may still count for a rule with a longer window.
    tx.send(
        "INSERT INTO initiation_holds (scope, hash, initiation_id, taken_at)
            SELECT scope, hash, initiation_id, selected_at FROM initiations
            WHERE scope = $1 AND hash = $2 AND released_at IS NULL ORDER BY selected_at DESC LIMIT 1
            ON CONFLICT DO NOTHING",
        params![scope, hash],
    )
    .await?;
    Ok(())
}
