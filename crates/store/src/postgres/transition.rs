//! The one place where a run changes: its state goes through [`RunState::next`], and the row, the record and what follows for its steps,
//! deliveries and cycle are written together.

use jiff::Timestamp;
use orbit_core::record::Kind;
use orbit_core::run::{Ending, RunEvent, RunState, Step};
use uuid::Uuid;

use super::columns::{self, Json, Length, Micros, Row, Text, params};
use super::cycle;
use super::fault::{Attempt, Fault};
use super::record::{Facts, fact};
use super::tx::{Connection, Tx};
use crate::contract::Claim;
pub(super) use crate::rows::run::{Run, StateColumns, attempt_facts, columns_of, step_place};
use crate::rows::run::{StepChange, step_change};

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
    let before = run.advance(event)?;
    keep(tx, run, &before, event, now).await?;
    run.made = None;
    fact(tx, now, Kind::from(event), run.subject(), run.told(event, facts))?;
    match (before.ending(), run.state.ending()) {
        (None, Some(_)) => cycle::end_if_done(tx, (run.cycle_id, run.snapshot), now).await,
        (Some(_) | None, None) | (Some(_), Some(_)) => Ok(()),
    }
}

/// A step has succeeded, and the next one starts in the same transaction: the row is written once, with that.
pub(super) async fn apply_before_start(
    tx: &Tx,
    run: &mut Run,
    event: &RunEvent,
    facts: Facts,
    now: Timestamp,
) -> Attempt<()> {
    let before = run.advance(event)?;
    note_step(tx, run, &before, event, now).await?;
    fact(tx, now, Kind::from(event), run.subject(), run.told(event, facts))
}

/// What the event makes of rows, as far as no record of its own tells it: those of the run and its step, of deliveries that are cancelled with it, and
/// of its cycle if that is open again. The fold of the log comes here too.
pub(super) async fn keep(
    tx: &Connection,
    run: &Run,
    before: &RunState,
    event: &RunEvent,
    now: Timestamp,
) -> Attempt<()> {
    write(tx, run, now).await?;
    note_step(tx, run, before, event, now).await?;
    match (before.ending(), run.state.ending()) {
        (None, Some(Ending::Cancelled { reason })) => cancel_deliveries(tx, run.id, reason, now).await,
        (Some(_), None) => cycle::reopen(tx, run.cycle_id).await,
        (None, None | Some(Ending::Succeeded | Ending::Partial { .. } | Ending::Failed { .. }))
        | (Some(_), Some(_)) => Ok(()),
    }
}

async fn write(tx: &Connection, run: &Run, now: Timestamp) -> Attempt<()> {
    let StateColumns { name, attempt, due_at, to_start } = columns_of(&run.state);
    let finished_at = run.state.ending().map(|_| Micros(now));
    let made = run.made.as_ref();
    // A step that the request does not have stands where the first one stood, to be refused by whoever works on it. Whatever happens to a run that
    // waits for a batch, it waits no longer.
    let update = "UPDATE runs SET state = $2, state_json = $3, attempt = $4, due_at = $5, finished_at = $6, token = $8,
        artifact_digest = coalesce($9, artifact_digest), artifact_bytes = coalesce($10, artifact_bytes),
        artifact_media_type = coalesce($11, artifact_media_type),
        lane = CASE WHEN $7::text IS NOT NULL THEN (SELECT coalesce(lanes::json ->> $7::text, lanes::json ->> 'tier1')::bigint
            FROM run_requests q WHERE q.run_id = $1) END,
        batch_key = NULL, batch_items_max = NULL, batch_due_at = NULL
        WHERE run_id = $1";
    tx.send(
        update,
        params![
            Text(run.id),
            name,
            Json(&run.state),
            attempt,
            due_at.map(Micros),
            finished_at,
            to_start.map(Step::name),
            run.token,
            made.map(|made| Text(made.digest)),
            made.map(|made| Length(made.bytes)),
            made.map(|made| made.media_type.clone())
        ],
    )
    .await?;
    Ok(())
}

/// Keeps the row of the step for screens.
async fn note_step(
    tx: &Connection,
    run: &Run,
    before: &RunState,
    event: &RunEvent,
    now: Timestamp,
) -> Attempt<()> {
    let (step, state, failure) = match step_change(before, event) {
        Some(StepChange::Started { step, attempt }) => {
            return start_step(tx, run.id, (step, attempt), now).await;
        }
        Some(StepChange::Over { step, state, failure }) => (step, state, failure),
        None => return Ok(()),
    };
    let made = run.made.as_ref();
    let update = "UPDATE steps SET state = $3, finished_at = $4, failure = coalesce($5, failure),
        digest = coalesce($6, digest), bytes = coalesce($7, bytes), media_type = coalesce($8, media_type)
        WHERE run_id = $1 AND place = $2";
    tx.send(
        update,
        params![
            Text(run.id),
            step_place(step),
            state,
            Micros(now),
            failure,
            made.map(|made| Text(made.digest)),
            made.map(|made| Length(made.bytes)),
            made.map(|made| made.media_type.clone())
        ],
    )
    .await?;
    Ok(())
}

async fn start_step(
    tx: &Connection,
    run_id: Uuid,
    (step, attempt): (Step, u32),
    now: Timestamp,
) -> Attempt<()> {
    let upsert = "INSERT INTO steps (run_id, place, step, state, attempts, started_at)
        VALUES ($1, $2, $3, 'working', $4, $5) ON CONFLICT (namespace, run_id, place)
        DO UPDATE SET state = 'working', attempts = excluded.attempts, finished_at = NULL";
    tx.send(upsert, params![Text(run_id), step_place(step), step.name(), attempt, Micros(now)]).await?;
    Ok(())
}

/// What a cancelled run owes is no longer owed. An attempt under way keeps its token, so that its receipt is still taken.
async fn cancel_deliveries(tx: &Connection, run_id: Uuid, reason: &str, now: Timestamp) -> Attempt<()> {
    let update = "UPDATE deliveries SET state = 'cancelled', reason = $2, due_at = NULL, settled_at = $3
        WHERE run_id = $1 AND state IN ('waiting', 'sending')";
    tx.send(update, params![Text(run_id), reason, Micros(now)]).await?;
    Ok(())
}
