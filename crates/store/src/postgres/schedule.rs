//! Cursors, and cycles that fire.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use futures_util::future::try_join;
use jiff::Timestamp;
use orbit_core::run::{Outcome, RunEvent};
use uuid::Uuid;

use super::PostgresStore;
use super::columns::{self, Parameter, Row, Text, params};
use super::cycle;
use super::fault::Attempt;
use super::record::{Facts, append};
use super::transition;
use super::tx::{Connection, Tx, reading, writing};
use crate::StoreError;
use crate::contract::schedule::{
    CycleLoad, NewCycle, ScheduleCommit, ScheduleCursor, ScheduleStore, Standing,
};

/// Firings by hand that ask whether their cycle is new, after one that was not.
const ASKS: u32 = 64;

#[async_trait]
impl ScheduleStore for PostgresStore {
    async fn standing(&self, run_profile_ids: &[Uuid]) -> Result<BTreeMap<Uuid, Standing>, StoreError> {
        reading!(self, |tx| standing(tx, run_profile_ids).await)
    }

    async fn commit_schedules(
        &self,
        commits: Vec<ScheduleCommit>,
        now: Timestamp,
    ) -> Result<Vec<Option<Vec<Uuid>>>, StoreError> {
        writing!(self, |tx| commit_schedules(tx, &commits, now).await)
    }

    async fn fire(&self, cycle: NewCycle, now: Timestamp) -> Result<bool, StoreError> {
        // Mostly it is new. What is done again asks, and so do the next ones, as whoever uses a key again may well do so with others.
        let asked =
            self.database.asks.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        let mut demands = asked.is_err();
        let is_new = writing!(self, |tx| {
            if std::mem::take(&mut demands) {
                cycle::fire_new(tx, &cycle, now).await.map(|()| true)
            } else {
                cycle::fire(tx, &cycle, now).await
            }
        })?;
        if !is_new {
            self.database.asks.store(ASKS, Ordering::Relaxed);
        }
        Ok(is_new)
    }

    async fn cancel_cycles(
        &self,
        run_profile_id: Uuid,
        reason: &str,
        now: Timestamp,
    ) -> Result<Vec<Uuid>, StoreError> {
        let reason = reason.to_owned();
        writing!(self, |tx| cancel(tx, run_profile_id, &reason, now).await)
    }
}

// As many as are asked for in one statement: each for itself would be a round trip.
async fn standing(tx: &Connection, run_profile_ids: &[Uuid]) -> Attempt<BTreeMap<Uuid, Standing>> {
    let cursors = "SELECT run_profile_id, decided_through, open_decisions FROM schedule_cursors WHERE run_profile_id = ANY ($1)";
    let cursor = |row: &Row| {
        let cursor = ScheduleCursor {
            decided_through: columns::instant(row, "decided_through")?,
            open_decisions: columns::json(row, "open_decisions")?,
        };
        Ok((columns::id(row, "run_profile_id")?, cursor))
    };
    let loads = format!(
        "SELECT c.run_profile_id, count(*) FILTER (WHERE {active}) AS active,
            count(*) FILTER (WHERE c.state = 'queued') AS queued
        FROM cycles c WHERE c.run_profile_id = ANY ($1) AND c.state <> 'finished' GROUP BY c.run_profile_id",
        active = cycle::IS_ACTIVE
    );
    let load = |row: &Row| {
        let load = CycleLoad { active: row.get("active")?, queued: row.get("queued")? };
        Ok((columns::id(row, "run_profile_id")?, load))
    };
    let ids = || Ok(vec![texts(run_profile_ids)]);
    let (cursors, loads) =
        try_join(tx.query_all(cursors, ids(), cursor), tx.query_all(&loads, ids(), load)).await?;
    let mut standing: BTreeMap<Uuid, Standing> =
        run_profile_ids.iter().map(|id| (*id, Standing::default())).collect();
    for (id, cursor) in cursors {
        standing.entry(id).or_default().cursor = Some(cursor);
    }
    for (id, load) in loads {
        standing.entry(id).or_default().load = load;
    }
    Ok(standing)
}

async fn commit_schedules(
    tx: &Tx,
    commits: &[ScheduleCommit],
    now: Timestamp,
) -> Attempt<Vec<Option<Vec<Uuid>>>> {
    let found = tx
        .query_all(
            "SELECT run_profile_id, decided_through FROM schedule_cursors WHERE run_profile_id = ANY ($1)",
            Ok(vec![texts(commits.iter().map(|commit| &commit.run_profile_id))]),
            |row| Ok((columns::id(row, "run_profile_id")?, columns::instant(row, "decided_through")?)),
        )
        .await?;
    let mut found: BTreeMap<Uuid, Timestamp> = found.into_iter().collect();
    let (mut accepted, mut cursors) = (Vec::new(), BTreeMap::new());
    for commit in commits {
        let is_base = found.get(&commit.run_profile_id) == commit.base.as_ref();
        if is_base {
            found.insert(commit.run_profile_id, commit.cursor.decided_through);
            cursors.insert(commit.run_profile_id, &commit.cursor);
        }
        accepted.push(is_base);
    }
    move_cursors(tx, &cursors).await?;
    let fired = || commits.iter().zip(&accepted).filter(|(_, is_base)| **is_base).map(|(commit, _)| commit);
    let mut new =
        cycle::insert_all(tx, &fired().flat_map(|commit| &commit.fire).collect::<Vec<_>>(), now).await?;
    let mut answers = Vec::new();
    for (commit, is_base) in commits.iter().zip(accepted) {
        if !is_base {
            answers.push(None);
            continue;
        }
        commit.records.iter().try_for_each(|record| append(tx, record))?;
        let mut ids = Vec::new();
        // A cycle that is there twice is new once.
        for cycle in commit.fire.iter().filter(|cycle| new.remove(&cycle.cycle_id)) {
            cycle::tell(tx, cycle, now)?;
            ids.push(cycle.cycle_id);
        }
        answers.push(Some(ids));
    }
    Ok(answers)
}

async fn move_cursors(tx: &Tx, cursors: &BTreeMap<Uuid, &ScheduleCursor>) -> Attempt<()> {
    if cursors.is_empty() {
        return Ok(());
    }
    let upsert = "INSERT INTO schedule_cursors (run_profile_id, decided_through, open_decisions)
        SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[])
        ON CONFLICT (namespace, run_profile_id) DO UPDATE
        SET decided_through = excluded.decided_through, open_decisions = excluded.open_decisions";
    let through = cursors.values().map(|cursor| cursor.decided_through.as_microsecond()).collect();
    let open = cursors.values().map(|cursor| cursor.open_decisions.to_string()).collect();
    let columns = vec![texts(cursors.keys()), Parameter::Integers(through), Parameter::Texts(open)];
    tx.send(upsert, Ok(columns)).await
}

fn texts<'a>(ids: impl IntoIterator<Item = &'a Uuid>) -> Parameter {
    Parameter::Texts(ids.into_iter().map(Uuid::to_string).collect())
}

async fn cancel(tx: &Tx, run_profile_id: Uuid, reason: &str, now: Timestamp) -> Attempt<Vec<Uuid>> {
    let sql = format!(
        "SELECT cycle_id, state FROM cycles c WHERE c.run_profile_id = $1 AND c.state <> 'finished'
            AND (c.state = 'queued' OR {active}) ORDER BY ordinal",
        active = cycle::IS_ACTIVE
    );
    let read = |row: &Row| Ok((columns::id(row, "cycle_id")?, row.get::<_, String>("state")?));
    let cycles = tx.query_all(&sql, params![Text(run_profile_id)], read).await?;
    let mut working = Vec::new();
    for (cycle_id, state) in cycles {
        if state == "running" {
            cancel_runs(tx, cycle_id, reason, now, &mut working).await?;
        } else {
            let snapshot = cycle::snapshot(tx, cycle_id).await?;
            cycle::finish(tx, (cycle_id, snapshot), (Outcome::Cancelled, Some(reason)), now).await?;
        }
    }
    Ok(working)
}

/// Ends the runs that have no artifact; what is owed of finished artifacts is still delivered.
async fn cancel_runs(
    tx: &Tx,
    cycle_id: Uuid,
    reason: &str,
    now: Timestamp,
    working: &mut Vec<Uuid>,
) -> Attempt<()> {
    let sql = "SELECT run_id, state FROM runs WHERE cycle_id = $1 AND state IN ('ready', 'working', 'waiting') ORDER BY ordinal";
    let read = |row: &Row| Ok((columns::id(row, "run_id")?, row.get::<_, String>("state")?));
    let runs = tx.query_all(sql, params![Text(cycle_id)], read).await?;
    for (run_id, state) in runs {
        let mut run = transition::load_known(tx, run_id).await?;
        let event = RunEvent::Cancelled { reason: reason.to_owned() };
        transition::apply(tx, &mut run, &event, Facts::new(), now).await?;
        if state == "working" {
            working.push(run_id);
        }
    }
    Ok(())
}
