//! Cursors, and cycles that fire.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use orbit_core::run::{Outcome, RunEvent};
use uuid::Uuid;

use super::PostgresStore;
use super::columns::{self, Json, Micros, Row, Text, params};
use super::cycle;
use super::fault::Attempt;
use super::record::{Facts, append};
use super::transition;
use super::tx::{Connection, Tx, reading, writing};
use crate::StoreError;
use crate::contract::schedule::{CycleLoad, NewCycle, ScheduleCommit, ScheduleCursor, ScheduleStore};

#[async_trait]
impl ScheduleStore for PostgresStore {
    async fn cursors(&self) -> Result<BTreeMap<Uuid, ScheduleCursor>, StoreError> {
        reading!(self, |tx| cursors(tx).await)
    }

    async fn commit_schedule(
        &self,
        commit: ScheduleCommit,
        now: Timestamp,
    ) -> Result<Option<Vec<Uuid>>, StoreError> {
        writing!(self, |tx| commit_schedule(tx, &commit, now).await)
    }

    async fn fire(&self, cycle: NewCycle, now: Timestamp) -> Result<bool, StoreError> {
        writing!(self, |tx| cycle::fire(tx, &cycle, now).await)
    }

    async fn cycle_load(&self, run_profile_id: Uuid) -> Result<CycleLoad, StoreError> {
        reading!(self, |tx| load(tx, run_profile_id).await)
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

async fn cursors(tx: &Connection) -> Attempt<BTreeMap<Uuid, ScheduleCursor>> {
    let sql = "SELECT run_profile_id, decided_through, open_decisions FROM schedule_cursors";
    let read = |row: &Row| {
        let cursor = ScheduleCursor {
            decided_through: columns::instant(row, "decided_through")?,
            open_decisions: columns::json(row, "open_decisions")?,
        };
        Ok((columns::id(row, "run_profile_id")?, cursor))
    };
    Ok(tx.query_all(sql, params![], read).await?.into_iter().collect())
}

async fn commit_schedule(tx: &Tx, commit: &ScheduleCommit, now: Timestamp) -> Attempt<Option<Vec<Uuid>>> {
    let found = tx
        .query_optional(
            "SELECT decided_through FROM schedule_cursors WHERE run_profile_id = $1",
            params![Text(commit.run_profile_id)],
            |row| row.get::<_, i64>(0),
        )
        .await?;
    if found != commit.base.map(Timestamp::as_microsecond) {
        return Ok(None);
    }
    let upsert =
        "INSERT INTO schedule_cursors (run_profile_id, decided_through, open_decisions) VALUES ($1, $2, $3)
        ON CONFLICT (namespace, run_profile_id) DO UPDATE
        SET decided_through = excluded.decided_through, open_decisions = excluded.open_decisions";
    let cursor = &commit.cursor;
    tx.send(
        upsert,
        params![Text(commit.run_profile_id), Micros(cursor.decided_through), Json(&cursor.open_decisions)],
    )
    .await?;
    commit.records.iter().try_for_each(|record| append(tx, record))?;
    let mut new = Vec::new();
    for cycle in &commit.fire {
        if cycle::fire(tx, cycle, now).await? {
            new.push(cycle.cycle_id);
        }
    }
    Ok(Some(new))
}

async fn load(tx: &Connection, run_profile_id: Uuid) -> Attempt<CycleLoad> {
    let sql = format!(
        "SELECT count(*) FILTER (WHERE {active}) AS active, count(*) FILTER (WHERE c.state = 'queued') AS queued
        FROM cycles c WHERE c.run_profile_id = $1 AND c.state <> 'finished'",
        active = cycle::IS_ACTIVE
    );
    let read = |row: &Row| Ok(CycleLoad { active: row.get("active")?, queued: row.get("queued")? });
    tx.query_row(&sql, params![Text(run_profile_id)], read).await
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
