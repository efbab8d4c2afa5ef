//! The rows that a transition of a run writes, its own and those of its steps, in one statement: every statement costs the server and this process more than a row
//! does.

use jiff::Timestamp;
use orbit_core::digest::Digest;
use orbit_core::run::Step;
use uuid::Uuid;

use super::columns::{Json, Length, Micros, Parameter, Text, params};
use super::fault::{Attempt, Fault};
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

/// The row of a delivery that is settled.
macro_rules! settled {
    ($state:literal, $dead:literal, $at:literal, $delivery:literal) => {
        concat!(
            "UPDATE deliveries SET state = ",
            $state,
            ", reason = ",
            $dead,
            ", due_at = NULL, settled_at = ",
            $at,
            "
            WHERE delivery_id = ",
            $delivery
        )
    };
}

/// Where the run is not the claim's with its token any more, or a payload that went ahead is not there, it divides by zero, which `Fault::is_passing` knows: no statement divides but to
/// demand. See `begun`.
macro_rules! demanded {
    ($digest:literal) => {
        concat!(
            "SELECT 1 / count(*) FROM run WHERE ",
            $digest,
            "::text IS NULL OR EXISTS (SELECT 1 FROM payloads WHERE payloads.digest = ",
            $digest,
            " AND dropped_at IS NULL)"
        )
    };
}

const RUN: &str = run!("");
const RUN_AND_OVER: &str = concat!("WITH run AS (", run!(""), ") ", over!());
const RUN_AND_KNOWN: &str = concat!(
    "WITH run AS (",
    run!(" AND token = $16 AND state = 'working' RETURNING run_id"),
    "), over AS (",
    over!(),
    ") ",
    demanded!("$17")
);
const RUN_AND_SETTLED: &str = concat!("WITH run AS (", run!(""), ") ", settled!("$12", "$13", "$14", "$15"));
/// Without a run.
const SETTLED: &str = settled!("$1", "$2", "$3", "$4");
const RUN_AND_STARTED: &str = concat!("WITH run AS (", run!(""), ") ", started!("$12", "$13", "$14", "$15"));
const GOES_ON: &str = concat!(
    "WITH run AS (",
    run!(" AND token = $18 AND state = 'working' RETURNING run_id"),
    "), over AS (",
    over!(),
    "), started AS (",
    started!("$13", "$16", "$17", "$4"),
    ") ",
    demanded!("$19")
);

/// The step of a claim that is over, as it is known and not read: nothing of the transaction is true unless it is still under way by the claim's token (see `begun`).
#[derive(Clone, Copy)]
pub(super) struct Over {
    pub(super) step: Step,
    /// Of its claim.
    pub(super) token: i64,
    /// Its payload, if that went ahead; see `early`.
    pub(super) early: Option<Digest>,
}

/// What is written with a run in the same statement.
#[derive(Clone, Copy)]
pub(super) enum With<'a> {
    /// What the change makes of its step.
    Step,
    /// The same of a step that is known and not read.
    Known(Over),
    /// The row of a delivery that is settled: accepted, or a dead letter for this reason.
    Settled { delivery_id: Uuid, dead: Option<&'a str> },
}

/// The run stands where it stands, and what the change makes of its step is noted for screens.
pub(super) async fn write(
    tx: &Connection,
    run: &Run,
    (change, with): (Option<StepChange<'_>>, With<'_>),
    now: Timestamp,
) -> Attempt<()> {
    let mut parameters = of_run(run, now)?;
    let sql = match (with, change) {
        (With::Step, None) => RUN,
        (With::Step, Some(StepChange::Over { step, state, failure })) => {
            parameters.extend(of_over(step, (state, failure), now)?);
            RUN_AND_OVER
        }
        (With::Step, Some(StepChange::Started { step, attempt })) => {
            parameters.extend(params![Micros(now), step_place(step), step.name(), attempt]?);
            RUN_AND_STARTED
        }
        (With::Known(known), Some(StepChange::Over { step, state, failure })) => {
            parameters.extend(of_over(step, (state, failure), now)?);
            parameters.extend(params![known.token, known.early.map(Text)]?);
            RUN_AND_KNOWN
        }
        (With::Settled { delivery_id, dead }, None) => {
            parameters.extend(of_settled(delivery_id, dead, now)?);
            RUN_AND_SETTLED
        }
        (With::Known(_) | With::Settled { .. }, _) => {
            return Err(Fault::contradiction("what happened to a run is not what is written with it"));
        }
    };
    tx.send(sql, Ok(parameters)).await
}

/// The row of a delivery that is settled, and that is no run's.
pub(super) async fn settle(
    tx: &Connection,
    delivery_id: Uuid,
    dead: Option<&str>,
    now: Timestamp,
) -> Attempt<()> {
    tx.send(SETTLED, of_settled(delivery_id, dead, now)).await
}

fn of_settled(delivery_id: Uuid, dead: Option<&str>, now: Timestamp) -> Attempt<Vec<Parameter>> {
    params![if dead.is_some() { "dead" } else { "accepted" }, dead, Micros(now), Text(delivery_id)]
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
