//! Runs for screens, with their steps and what they owe.

use orbit_core::run::{Ending, RunState};
use rusqlite::{Connection, OptionalExtension, Row};
use uuid::Uuid;

use super::columns::{self, Text};
use super::fault::Attempt;
use super::view::List;
use super::view_delivery;
use crate::contract::view::{Page, PageRequest, RunView, StepView};

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
        started_at: columns::instant(row, "started_at")?,
        finished_at: columns::instant_or_null(row, "finished_at")?,
        steps: Vec::new(),
        deliveries: Vec::new(),
    })
}

fn reason(ending: &Ending) -> Option<String> {
    match ending {
        Ending::Succeeded => None,
        Ending::Partial { accepted, lost } => {
            Some(format!("{lost} of {} deliveries were given up", accepted + lost))
        }
        Ending::Failed { message, .. } => Some(message.clone()),
        Ending::Cancelled { reason } => Some(reason.clone()),
    }
}

fn complete(tx: &Connection, mut run: RunView) -> Attempt<RunView> {
    let mut statement = tx.prepare_cached("SELECT * FROM steps WHERE run_id = ?1 ORDER BY place")?;
    run.steps = statement.query_map([Text(run.run_id)], step)?.collect::<Result<_, _>>()?;
    run.deliveries = view_delivery::of_run(tx, run.run_id)?;
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
