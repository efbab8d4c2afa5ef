//! The one place where a run changes: its state goes through [`RunState::next`], and the row, the record and what follows for its steps,
//! deliveries and cycle are written together.

use jiff::Timestamp;
use orbit_core::record::Kind;
use orbit_core::run::{Ending, RunEvent, Step};
use uuid::Uuid;

use super::columns::{self, Micros, Row, Text, params};
use super::cycle;
use super::fault::{Attempt, Fault};
use super::record::{Facts, fact};
use super::run_rows::{self, Over, With};
use super::tx::{Connection, Tx};
use crate::contract::Claim;
use crate::rows::run::step_change;
pub(super) use crate::rows::run::{Run, attempt_facts, columns_of};

const SELECT: &str =
    "SELECT run_id, cycle_id, run_profile_id, profile_id, snapshot, runs.state_json, runs.token, deadline_at
    FROM runs JOIN cycles USING (cycle_id) WHERE run_id = $1";

/// A run by id.
pub(super) async fn load(tx: &Connection, run_id: Uuid) -> Attempt<Option<Run>> {
    tx.query_optional(SELECT, params![Text(run_id)], read).await
}

/// The run of this claim, with its run profile, if it is still the claim's.
pub(super) async fn load_claimed(tx: &Connection, claim: Claim) -> Attempt<Option<(Run, Uuid)>> {
    let read = |row: &Row| Ok((read(row)?, columns::id(row, "run_profile_id")?));
    let found = tx.query_optional(SELECT, params![Text(claim.id)], read).await?;
    Ok(found.filter(|(run, _)| run.token == claim.token))
}

/// A run that a row refers to.
pub(super) async fn load_known(tx: &Connection, run_id: Uuid) -> Attempt<Run> {
    load(tx, run_id).await?.ok_or_else(|| Fault::contradiction(format!("run `{run_id}` is gone")))
}

/// Reads the columns of a [`Run`].
pub(super) fn read(row: &Row) -> Attempt<Run> {
    Ok(Run {
        id: columns::id(row, "run_id")?,
        cycle_id: columns::id(row, "cycle_id")?,
        profile_id: columns::id(row, "profile_id")?,
        snapshot: columns::digest(row, "snapshot")?,
        state: columns::json(row, "state_json")?,
        token: row.get("token")?,
        deadline_at: columns::instant(row, "deadline_at")?,
        made: None,
    })
}

/// The event has happened: row, step, record with these facts, and if the run has ended its deliveries and its cycle.
pub(super) async fn apply(
    tx: &Tx,
    run: &mut Run,
    event: &RunEvent,
    facts: Facts,
    now: Timestamp,
) -> Attempt<()> {
    apply_with(tx, run, (event, With::Step), facts, now).await
}

/// The same, and this is written in the statement of the run's row.
pub(super) async fn apply_with(
    tx: &Tx,
    run: &mut Run,
    (event, with): (&RunEvent, With<'_>),
    facts: Facts,
    now: Timestamp,
) -> Attempt<()> {
    let before = run.advance(event)?;
    run_rows::write(tx, run, (step_change(&before, event), with), now).await?;
    match (before.ending(), run.state.ending()) {
        (None, Some(Ending::Cancelled { reason })) => cancel_deliveries(tx, run.id, reason, now).await?,
        (Some(_), None) => cycle::reopen(tx, run.cycle_id).await?,
        (None, None | Some(Ending::Succeeded | Ending::Partial { .. } | Ending::Failed { .. }))
        | (Some(_), Some(_)) => {}
    }
    run.made = None;
    fact(tx, now, Kind::from(event), run.subject(), run.told(event, facts))?;
    match (before.ending(), run.state.ending()) {
        (None, Some(ending)) => {
            let last = Some(ending.outcome());
            cycle::end_if_done(tx, (run.cycle_id, run.snapshot), last, now).await
        }
        (Some(_) | None, None) | (Some(_), Some(_)) => Ok(()),
    }
}

/// A step has succeeded, and the next one starts in the same transaction: no row is written before that.
pub(super) fn apply_before_start(
    tx: &Tx,
    run: &mut Run,
    event: &RunEvent,
    facts: Facts,
    now: Timestamp,
) -> Attempt<()> {
    run.advance(event)?;
    fact(tx, now, Kind::from(event), run.subject(), run.told(event, facts))
}

/// The next attempt starts. Where the step before it has succeeded just now, that one is named.
pub(super) async fn start(
    tx: &Tx,
    (run, after): (&mut Run, Option<Over>),
    (step, attempt): (Step, u32),
    facts: Facts,
    now: Timestamp,
) -> Attempt<()> {
    let event = RunEvent::StepStarted { step, attempt };
    let Some(before) = after else { return apply(tx, run, &event, facts, now).await };
    run.advance(&event)?;
    run_rows::go_on(tx, run, before, step, now).await?;
    run.made = None;
    fact(tx, now, Kind::from(&event), run.subject(), run.told(&event, facts))
}

/// What a cancelled run owes is no longer owed. An attempt under way keeps its token, so that its receipt is still taken.
async fn cancel_deliveries(tx: &Connection, run_id: Uuid, reason: &str, now: Timestamp) -> Attempt<()> {
    let update = "UPDATE deliveries SET state = 'cancelled', reason = $2, due_at = NULL, settled_at = $3
        WHERE run_id = $1 AND state IN ('waiting', 'sending')";
    tx.send(update, params![Text(run_id), reason, Micros(now)]).await?;
    Ok(())
}
