//! What is claimed and worked on by nobody waits again, while the process that claimed it goes on.

use jiff::Timestamp;
use orbit_core::run::{Interruption, RunEvent, RunState};
use serde_json::json;
use uuid::Uuid;

use super::columns::{self, Text, params};
use super::fault::Attempt;
use super::transition::{self, attempt_facts};
use super::tx::{Connection, Tx};
use super::{cycle, settle, tiers};

/// See [`crate::contract::tiers::RunStore::reclaim`].
pub(super) async fn reclaim(tx: &Tx, held: &[Uuid], now: Timestamp) -> Attempt<u32> {
    let mut free = 0;
    let working = "SELECT run_id FROM runs WHERE state = 'working' ORDER BY ordinal";
    for run_id in tiers::ids(tx, working, params![]).await? {
        let mut run = transition::load_known(tx, run_id).await?;
        let RunState::Working { progress } = run.state else { continue };
        if held.contains(&run_id) {
            continue;
        }
        let event = RunEvent::StepInterrupted { step: progress.step, cause: Interruption::Unclaimed };
        let of = attempt_facts(run_id, progress.step, progress.started);
        transition::apply(tx, &mut run, &event, of, now).await?;
        free += 1;
    }
    let message = "the claim of this attempt was lost before anything was sent";
    let receipt = json!({ "outcome": "interrupted", "message": message });
    free += settle::answers_lost(tx, held, &receipt, now).await?;
    for cycle_id in selecting(tx).await?.into_iter().filter(|id| !held.contains(id)) {
        let sql = format!("{} AND cycle_id = $1", cycle::WAIT_AGAIN);
        tx.execute(&sql, params![Text(cycle_id)]).await?;
        free += 1;
    }
    Ok(free)
}

async fn selecting(tx: &Connection) -> Attempt<Vec<Uuid>> {
    let sql = "SELECT cycle_id FROM cycles WHERE state = 'selecting'";
    tx.query_all(sql, params![], |row| columns::id(row, "cycle_id")).await
}
