//! What is claimed and worked on by nobody waits again, while the process that claimed it goes on.

use jiff::Timestamp;
use orbit_core::run::{Interruption, RunEvent, RunState};
use rusqlite::Connection;
use serde_json::json;
use uuid::Uuid;

use super::columns::{self, Text};
use super::fault::Attempt;
use super::transition::{self, attempt_facts};
use super::tx::Tx;
use super::{cycle, settle, tiers};

/// See [`crate::contract::tiers::RunStore::reclaim`].
pub(super) fn reclaim(tx: &Tx<'_>, held: &[Uuid], now: Timestamp) -> Attempt<u32> {
    let mut free = 0;
    for run_id in tiers::ids(tx, "SELECT run_id FROM runs WHERE state = 'working' ORDER BY ordinal", ())? {
        let mut run = transition::load_known(tx, run_id)?;
        let RunState::Working { progress } = run.state else { continue };
        if held.contains(&run_id) {
            continue;
        }
        let event = RunEvent::StepInterrupted { step: progress.step, cause: Interruption::Unclaimed };
        let of = attempt_facts(run_id, progress.step, progress.started);
        transition::apply(tx, &mut run, &event, of, now)?;
        free += 1;
    }
    let message = "the claim of this attempt was lost before anything was sent";
    free += settle::answers_lost(tx, held, &json!({ "outcome": "interrupted", "message": message }), now)?;
    for cycle_id in selecting(tx)?.into_iter().filter(|id| !held.contains(id)) {
        let sql = format!("{} AND cycle_id = ?1", cycle::WAIT_AGAIN);
        tx.prepare_cached(&sql)?.execute([Text(cycle_id)])?;
        free += 1;
    }
    Ok(free)
}

fn selecting(tx: &Connection) -> Attempt<Vec<Uuid>> {
    let mut statement = tx.prepare_cached("SELECT cycle_id FROM cycles WHERE state = 'selecting'")?;
    let rows = statement.query_map((), |row| columns::id(row, "cycle_id"))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
