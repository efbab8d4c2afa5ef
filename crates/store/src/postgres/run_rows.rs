//! The rows that a transition of a run writes, its own and those of its steps, in one statement: every statement costs the server and this process more than a row
//! does.

use jiff::Timestamp;
use orbit_core::digest::Digest;
use orbit_core::run::Step;

use super::columns::{Json, Length, Micros, Parameter, Text, params};
use super::fault::Attempt;
use super::tx::Connection;
use crate::rows::run::{Run, StateColumns, StepChange, columns_of, step_place};

/// The row of the run, by [`of_run`]. A step that the request does not have stands where the first one stood, to be refused by whoever works on it. Whatever
/// happens to a run that waits for a batch, it waits no longer.
macro_rules! run {
    ($more:literal) => {
        concat!(
            "UPDATE runs SET state = $2, state_json = $3, attempt = $4, due_at = $5, finished_at = $6, token = $8,
            artifact_digest = coalesce($9, artifact_digest), artifact_bytes = coalesce($10, artifact_bytes),
            artifact_media_type = coalesce($11, artifact_media_type),
            lane = CASE WHEN $7::text IS NOT NULL THEN (SELECT coalesce(lanes::json ->> $7::text, lanes::json ->> 'tier1')::bigint
                FROM run_requests q WHERE q.run_id = $1) END,
            batch_key = NULL, batch_items_max = NULL, batch_due_at = NULL
            WHERE run_id = $1",
            $more
        )
    };
}
/// The row of the step that is over, by [`of_over`].
macro_rules! over {
    () => {
        "UPDATE steps SET state = $12, finished_at = $13, failure = coalesce($14, failure),
        digest = coalesce($9, digest), bytes = coalesce($10, bytes), media_type = coalesce($11, media_type)
        WHERE run_id = $1 AND place = $15"
    };
}
/// The row of a step whose attempt is under way: when, where, which, and the how many-th.
macro_rules! started {
    ($at:literal, $place:literal, $step:literal, $attempt:literal) => {
        concat!(
            "INSERT INTO steps (run_id, place, step, state, attempts, started_at) VALUES ($1, ", $place, ", ", $step, ", 'working', ", $attempt, ", ", $at, ")
            ON CONFLICT (namespace, run_id, place) DO UPDATE SET state = 'working', attempts = excluded.attempts, finished_at = NULL"
        )
    };
}

const RUN: &str = run!("");
const RUN_AND_OVER: &str = concat!("WITH run AS (", run!(""), ") ", over!());
const RUN_AND_STARTED: &str = concat!("WITH run AS (", run!(""), ") ", started!("$12", "$13", "$14", "$15"));
/// Where the run is not the claim's with this token any more, or a payload that went ahead is not there, it divides by zero; see `begun`.
const GOES_ON: &str = concat!(
    "WITH run AS (",
    run!(" AND token = $18 AND state = 'working' RETURNING run_id"),
    "), over AS (",
    over!(),
    "), started AS (",
    started!("$13", "$16", "$17", "$4"),
    ") SELECT 1 / count(*) FROM run
        WHERE $19::text IS NULL OR EXISTS (SELECT 1 FROM payloads WHERE payloads.digest = $19 AND dropped_at IS NULL)"
);

/// A step that has just succeeded, and that another one follows in the same transaction.
#[derive(Clone, Copy)]
pub(super) struct Over {
    pub(super) step: Step,
    /// Of its claim.
    pub(super) token: i64,
    /// Its payload, if that went ahead; see `early`.
    pub(super) early: Option<Digest>,
}

/// The run stands where it stands, and what the change makes of its step is noted for screens.
pub(super) async fn write(
    tx: &Connection,
    run: &Run,
    change: Option<StepChange<'_>>,
    now: Timestamp,
) -> Attempt<()> {
    let mut parameters = of_run(run, now)?;
    let sql = match change {
        None => RUN,
        Some(StepChange::Over { step, state, failure }) => {
            parameters.extend(of_over(step, (state, failure), now)?);
            RUN_AND_OVER
        }
        Some(StepChange::Started { step, attempt }) => {
            parameters.extend(params![Micros(now), step_place(step), step.name(), attempt]?);
            RUN_AND_STARTED
        }
    };
    tx.send(sql, Ok(parameters)).await
}

/// The run goes from one step to the next one. Nothing of the transaction is true unless the first one was still under way by its token, and its payload is there.
pub(super) async fn go_on(tx: &Connection, run: &Run, over: Over, next: Step, now: Timestamp) -> Attempt<()> {
    let mut parameters = of_run(run, now)?;
    parameters.extend(of_over(over.step, ("succeeded", None), now)?);
    parameters.extend(params![step_place(next), next.name(), over.token, over.early.map(Text)]?);
    tx.send(GOES_ON, Ok(parameters)).await
}

/// The first eleven.
fn of_run(run: &Run, now: Timestamp) -> Attempt<Vec<Parameter>> {
    let StateColumns { name, attempt, due_at, to_start } = columns_of(&run.state);
    let finished_at = run.state.ending().map(|_| Micros(now));
    let made = run.made.as_ref();
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
    ]
}

/// From the twelfth to the fifteenth.
fn of_over(step: Step, (state, failure): (&str, Option<&str>), now: Timestamp) -> Attempt<Vec<Parameter>> {
    params![state, Micros(now), failure, step_place(step)]
}
