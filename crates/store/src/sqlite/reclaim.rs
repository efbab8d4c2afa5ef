//! What is claimed and worked on by nobody waits again.

use jiff::Timestamp;
use orbit_core::run::{Interruption, RunEvent, RunState};
use rusqlite::Connection;
use uuid::Uuid;

use super::columns::{self, Text};
use super::fault::Attempt;
use super::transition::{self, attempt_facts};
use super::tx::Tx;
use super::{cycle, quarantine, settle, tiers};
use crate::contract::Recovered;
use crate::rows::claim::Free;

/// Runs at work, in order.
const WORKING: &str = "SELECT run_id FROM runs WHERE state = 'working' ORDER BY ordinal";

/// These claims are free: steps are interrupted, attempts have their receipt, cycles wait again. A crash counts once against each processor.
pub(super) fn free(tx: &Tx<'_>, claims: &Free<'_>, now: Timestamp) -> Attempt<Recovered> {
    let mut freed = Recovered::default();
    let mut crash = quarantine::Crash::default();
    for run_id in tiers::ids(tx, WORKING, ())? {
        let mut run = transition::load_known(tx, run_id)?;
        let RunState::Working { progress } = run.state else { continue };
        if !claims.covers(run_id, run.token) {
            continue;
        }
        let event = RunEvent::StepInterrupted { step: progress.step, cause: claims.cause() };
        let mut of = attempt_facts(run_id, progress.step, progress.started);
        if claims.cause() == Interruption::Crash {
            of.extend(crash.count(tx, run_id, progress.step)?);
        }
        transition::apply(tx, &mut run, &event, of, now)?;
        freed.steps_interrupted += 1;
    }
    crash.judge(tx, now)?;
    freed.attempts_unknown = settle::answers_lost(tx, claims, now)?;
    for cycle_id in selecting(tx, claims)? {
        let sql = format!("{} AND cycle_id = ?1", cycle::WAIT_AGAIN);
        tx.prepare_cached(&sql)?.execute([Text(cycle_id)])?;
        freed.cycles_reclaimed += 1;
    }
    Ok(freed)
}

/// Whether any of these claims is out.
pub(super) fn is_anything_held(tx: &Connection, claims: &Free<'_>) -> Attempt<bool> {
    for run_id in tiers::ids(tx, WORKING, ())? {
        if claims.covers(run_id, transition::load_known(tx, run_id)?.token) {
            return Ok(true);
        }
    }
    Ok(!settle::unanswered(tx, claims)?.is_empty() || !selecting(tx, claims)?.is_empty())
}

fn selecting(tx: &Connection, claims: &Free<'_>) -> Attempt<Vec<Uuid>> {
    let mut statement = tx.prepare_cached("SELECT cycle_id, token FROM cycles WHERE state = 'selecting'")?;
    let rows =
        statement.query_map((), |row| Ok((columns::id(row, "cycle_id")?, row.get::<_, i64>("token")?)))?;
    let all = rows.collect::<Result<Vec<_>, _>>()?.into_iter();
    Ok(all.filter(|(id, token)| claims.covers(*id, *token)).map(|(id, _)| id).collect())
}
