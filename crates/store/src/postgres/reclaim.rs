//! What is claimed and worked on by nobody waits again.

use jiff::Timestamp;
use orbit_core::run::{Interruption, RunEvent, RunState};
use uuid::Uuid;

use super::columns::{self, Text, params};
use super::fault::Attempt;
use super::transition::{self, attempt_facts};
use super::tx::{Connection, Tx};
use super::{cycle, quarantine, settle, tiers};
use crate::contract::Recovered;
use crate::rows::claim::Free;

/// Runs at work, in order.
const WORKING: &str = "SELECT run_id FROM runs WHERE state = 'working' ORDER BY ordinal";

/// These claims are free: steps are interrupted, attempts have their receipt, cycles wait again. A crash counts once against each processor.
pub(super) async fn free(tx: &Tx, claims: &Free<'_>, now: Timestamp) -> Attempt<Recovered> {
    let mut freed = Recovered::default();
    let mut crash = quarantine::Crash::default();
    for run_id in tiers::ids(tx, WORKING, params![]).await? {
        let mut run = transition::load_known(tx, run_id).await?;
        let RunState::Working { progress } = run.state else { continue };
        if !claims.covers(run_id, run.token) {
            continue;
        }
        let event = RunEvent::StepInterrupted { step: progress.step, cause: claims.cause() };
        let mut of = attempt_facts(run_id, progress.step, progress.started);
        if claims.cause() == Interruption::Crash {
            of.extend(crash.count(tx, run_id, progress.step).await?);
        }
        transition::apply(tx, &mut run, &event, of, now).await?;
        freed.steps_interrupted += 1;
    }
    crash.judge(tx, now).await?;
    freed.attempts_unknown = settle::answers_lost(tx, claims, now).await?;
    for cycle_id in selecting(tx, claims).await? {
        let sql = format!("{} AND cycle_id = $1", cycle::WAIT_AGAIN);
        tx.send(&sql, params![Text(cycle_id)]).await?;
        freed.cycles_reclaimed += 1;
    }
    Ok(freed)
}

/// Whether any of these claims is out.
pub(super) async fn is_anything_held(tx: &Connection, claims: &Free<'_>) -> Attempt<bool> {
    for run_id in tiers::ids(tx, WORKING, params![]).await? {
        if claims.covers(run_id, transition::load_known(tx, run_id).await?.token) {
            return Ok(true);
        }
    }
    let unanswered = settle::unanswered(tx, claims).await?;
    Ok(!unanswered.is_empty() || !selecting(tx, claims).await?.is_empty())
}

async fn selecting(tx: &Connection, claims: &Free<'_>) -> Attempt<Vec<Uuid>> {
    let sql = "SELECT cycle_id, token FROM cycles WHERE state = 'selecting'";
    let read = |row: &columns::Row| Ok((columns::id(row, "cycle_id")?, row.get::<_, i64>("token")?));
    let all = tx.query_all(sql, params![], read).await?.into_iter();
    Ok(all.filter(|(id, token)| claims.covers(*id, *token)).map(|(id, _)| id).collect())
}
