//! Cursors, and cycles that fire.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use orbit_core::run::{Outcome, RunEvent};
use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use super::SqliteStore;
use super::columns::{self, Json, Micros, Text};
use super::cycle;
use super::fault::Attempt;
use super::record::{Facts, append};
use super::transition;
use super::tx::Tx;
use crate::StoreError;
use crate::contract::schedule::{
    CycleLoad, NewCycle, ScheduleCommit, ScheduleCursor, ScheduleStore, Standing,
};

#[async_trait]
impl ScheduleStore for SqliteStore {
    async fn standing(&self, run_profile_ids: &[Uuid]) -> Result<BTreeMap<Uuid, Standing>, StoreError> {
        let ids = run_profile_ids.to_vec();
        self.read(move |tx| ids.iter().map(|id| Ok((*id, standing(tx, *id)?))).collect()).await
    }

    async fn commit_schedules(
        &self,
        commits: Vec<ScheduleCommit>,
        now: Timestamp,
    ) -> Result<Vec<Option<Vec<Uuid>>>, StoreError> {
        self.write(move |tx| commits.iter().map(|commit| commit_schedule(tx, commit, now)).collect()).await
    }

    async fn fire(&self, cycle: NewCycle, now: Timestamp) -> Result<bool, StoreError> {
        self.write(move |tx| cycle::fire(tx, &cycle, now)).await
    }

    async fn cancel_cycles(
        &self,
        run_profile_id: Uuid,
        reason: &str,
        now: Timestamp,
    ) -> Result<Vec<Uuid>, StoreError> {
        let reason = reason.to_owned();
        self.write(move |tx| cancel(tx, run_profile_id, &reason, now)).await
    }
}

fn standing(tx: &Connection, run_profile_id: Uuid) -> Attempt<Standing> {
    let sql = "SELECT decided_through, open_decisions FROM schedule_cursors WHERE run_profile_id = ?1";
    let read = |row: &rusqlite::Row<'_>| {
        Ok(ScheduleCursor {
            decided_through: columns::instant(row, "decided_through")?,
            open_decisions: columns::json(row, "open_decisions")?,
        })
    };
    let cursor = tx.prepare_cached(sql)?.query_row([Text(run_profile_id)], read).optional()?;
    Ok(Standing { cursor, load: load(tx, run_profile_id)? })
}

fn commit_schedule(tx: &Tx<'_>, commit: &ScheduleCommit, now: Timestamp) -> Attempt<Option<Vec<Uuid>>> {
    let found = tx
        .prepare_cached("SELECT decided_through FROM schedule_cursors WHERE run_profile_id = ?1")?
        .query_row([Text(commit.run_profile_id)], |row| row.get::<_, i64>(0))
        .optional()?;
    if found != commit.base.map(Timestamp::as_microsecond) {
        return Ok(None);
    }
    let upsert =
        "INSERT INTO schedule_cursors (run_profile_id, decided_through, open_decisions) VALUES (?1, ?2, ?3)
        ON CONFLICT (run_profile_id) DO UPDATE
        SET decided_through = excluded.decided_through, open_decisions = excluded.open_decisions";
    let cursor = &commit.cursor;
    tx.prepare_cached(upsert)?.execute(params![
        Text(commit.run_profile_id),
        Micros(cursor.decided_through),
        Json(&cursor.open_decisions)
    ])?;
    commit.records.iter().try_for_each(|record| append(tx, record))?;
    let mut new = Vec::new();
    for cycle in &commit.fire {
        if cycle::fire(tx, cycle, now)? {
            new.push(cycle.cycle_id);
        }
    }
    Ok(Some(new))
}

fn load(tx: &Connection, run_profile_id: Uuid) -> Attempt<CycleLoad> {
    let sql = format!(
        "SELECT coalesce(sum({active}), 0) AS active, coalesce(sum(c.state = 'queued'), 0) AS queued
        FROM cycles c WHERE c.run_profile_id = ?1 AND c.state <> 'finished'",
        active = cycle::IS_ACTIVE
    );
    let read =
        |row: &rusqlite::Row<'_>| Ok(CycleLoad { active: row.get("active")?, queued: row.get("queued")? });
    Ok(tx.prepare_cached(&sql)?.query_row([Text(run_profile_id)], read)?)
}

fn cancel(tx: &Tx<'_>, run_profile_id: Uuid, reason: &str, now: Timestamp) -> Attempt<Vec<Uuid>> {
    let sql = format!(
        "SELECT cycle_id, state FROM cycles c WHERE c.run_profile_id = ?1 AND c.state <> 'finished'
            AND (c.state = 'queued' OR {active}) ORDER BY ordinal",
        active = cycle::IS_ACTIVE
    );
    let mut statement = tx.prepare_cached(&sql)?;
    let read = |row: &rusqlite::Row<'_>| Ok((columns::id(row, "cycle_id")?, row.get::<_, String>("state")?));
    let cycles = statement.query_map([Text(run_profile_id)], read)?.collect::<Result<Vec<_>, _>>()?;
    let mut working = Vec::new();
    for (cycle_id, state) in cycles {
        if state == "running" {
            cancel_runs(tx, cycle_id, reason, now, &mut working)?;
        } else {
            cycle::finish(tx, cycle_id, (Outcome::Cancelled, Some(reason)), now)?;
        }
    }
    Ok(working)
}

/// Ends the runs that have no artifact; what is owed of finished artifacts is still delivered.
fn cancel_runs(
    tx: &Tx<'_>,
    cycle_id: Uuid,
    reason: &str,
    now: Timestamp,
    working: &mut Vec<Uuid>,
) -> Attempt<()> {
    let mut statement = tx.prepare_cached(
        "SELECT run_id, state FROM runs WHERE cycle_id = ?1 AND state IN ('ready', 'working', 'waiting') ORDER BY ordinal",
    )?;
    let read = |row: &rusqlite::Row<'_>| Ok((columns::id(row, "run_id")?, row.get::<_, String>("state")?));
    let runs = statement.query_map([Text(cycle_id)], read)?.collect::<Result<Vec<_>, _>>()?;
    for (run_id, state) in runs {
        let mut run = transition::load_known(tx, run_id)?;
        let event = RunEvent::Cancelled { reason: reason.to_owned() };
        transition::apply(tx, &mut run, &event, Facts::new(), now)?;
        if state == "working" {
            working.push(run_id);
        }
    }
    Ok(())
}
