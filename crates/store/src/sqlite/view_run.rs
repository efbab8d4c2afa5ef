//! Runs for screens, with their steps and what they owe.

use orbit_core::run::{RunState, Step};
use rusqlite::{Connection, OptionalExtension, Row};
use uuid::Uuid;

use super::columns::{self, Text};
use super::fault::Attempt;
use super::view::List;
use super::{selection, view_delivery};
use crate::contract::view::{Page, PageRequest, RunRequest, RunView, StepView};
use crate::rows::run::reason;

const RUNS: &str = "SELECT runs.*, c.run_profile_id, c.run_profile, c.snapshot, c.nominal
    FROM runs JOIN cycles c ON c.cycle_id = runs.cycle_id";

/// A page of runs, of one cycle if it is given.
pub(super) fn page(
    tx: &Connection,
    namespace: &str,
    cycle_id: Option<Uuid>,
    request: &PageRequest,
) -> Attempt<Page<RunView>> {
    let conditions = cycle_id.map(|id| ("runs.cycle_id", id.to_string())).into_iter().collect();
    let list = List { sql: RUNS, key: "runs.ordinal", conditions };
    list.page(tx, request, |row| read(row, namespace))?.map(|run| complete(tx, run))
}

/// A run.
pub(super) fn find(tx: &Connection, namespace: &str, run_id: Uuid) -> Attempt<Option<RunView>> {
    let sql = format!("{RUNS} WHERE run_id = ?1");
    let found = tx.prepare_cached(&sql)?.query_row([Text(run_id)], |row| read(row, namespace)).optional()?;
    found.map(|run| complete(tx, run)).transpose()
}

/// What a run was asked to do.
pub(super) fn request(tx: &Connection, run_id: Uuid) -> Attempt<Option<RunRequest>> {
    let sql = "SELECT cycle_id, request FROM run_requests JOIN runs USING (run_id) WHERE run_id = ?1";
    let read = |row: &Row<'_>| Ok((columns::id(row, "cycle_id")?, columns::json(row, "request")?));
    let found = tx.prepare_cached(sql)?.query_row([Text(run_id)], read).optional()?;
    let Some((cycle_id, request)) = found else { return Ok(None) };
    Ok(Some(RunRequest { request, initiation: selection::initiation_of(tx, cycle_id)? }))
}

fn read(row: &Row<'_>, namespace: &str) -> rusqlite::Result<RunView> {
    let state: RunState = columns::json(row, "state_json")?;
    Ok(RunView {
        run_id: columns::id(row, "run_id")?,
        cycle_id: columns::id(row, "cycle_id")?,
        namespace: namespace.to_owned(),
        profile_id: columns::id(row, "profile_id")?,
        profile: row.get("profile")?,
        run_profile_id: columns::id(row, "run_profile_id")?,
        run_profile: row.get("run_profile")?,
        snapshot: columns::digest(row, "snapshot")?,
        state: state.name().to_owned(),
        outcome: state.ending().map(|ending| ending.outcome().name().to_owned()),
        reason: state.ending().and_then(reason),
        initiation: row.get("initiation")?,
        nominal_time: columns::instant(row, "nominal")?,
        retry_of: row.get::<_, Option<Text<Uuid>>>("retry_of")?.map(|id| id.0),
        from: row.get::<_, Option<String>>("start_step")?.as_deref().and_then(Step::parse),
        retried_by: Vec::new(),
        started_at: columns::instant(row, "started_at")?,
        finished_at: columns::instant_or_null(row, "finished_at")?,
        steps: Vec::new(),
        deliveries: Vec::new(),
    })
}

fn complete(tx: &Connection, mut run: RunView) -> Attempt<RunView> {
    let mut statement = tx.prepare_cached("SELECT * FROM steps WHERE run_id = ?1 ORDER BY place")?;
    run.steps = statement.query_map([Text(run.run_id)], step)?.collect::<Result<_, _>>()?;
    run.deliveries = view_delivery::of_run(tx, run.run_id)?;
    let mut statement = tx.prepare_cached("SELECT run_id FROM runs WHERE retry_of = ?1 ORDER BY ordinal")?;
    let retries = statement.query_map([Text(run.run_id)], |row| columns::id(row, "run_id"))?;
    run.retried_by = retries.collect::<Result<_, _>>()?;
    Ok(run)
}

fn step(row: &Row<'_>) -> rusqlite::Result<StepView> {
    Ok(StepView {
        step: row.get("step")?,
        state: row.get("state")?,
        attempts: row.get("attempts")?,
        started_at: columns::instant(row, "started_at")?,
        finished_at: columns::instant_or_null(row, "finished_at")?,
        bytes: columns::length_or_null(row, "bytes")?,
        digest: columns::digest_or_null(row, "digest")?,
        media_type: row.get("media_type")?,
        failure: row.get("failure")?,
    })
}
