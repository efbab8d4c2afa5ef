//! Lanes: what the steps of runs need permits of, which lanes have somebody waiting, and who of them starts next.
//!
//! Nothing here costs more when the queue of a lane is long: lanes are found by jumping from one to the next in an index, and of each only as many
//! runs are looked at as may start.

use std::collections::BTreeMap;

use jiff::Timestamp;
use orbit_core::run::Step;
use orbit_core::tiers::{Lane, Room};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::columns::{self, Micros, Row, Text, params};
use super::fault::Attempt;
use super::tx::Connection;
use crate::contract::tiers::{Startable, WaitingLane};
use crate::contract::{OpenDoors, earlier};

/// Of the further attempts that are due in one lane, those that are due longest and are compared by priority and age.
const DUE_COMPARED_MAX: u32 = 256;

/// The lane of each step of a run, by the step's word. A request that names no processor for a tier is refused when the run is worked on, and gets
/// there by a lane without a processor.
pub(super) async fn of_request(
    tx: &Connection,
    cycle_id: Uuid,
    profile_id: Uuid,
    request: &Value,
) -> Attempt<Value> {
    let of_cycle = "SELECT run_profile_id FROM cycles WHERE cycle_id = $1";
    let run_profile_id =
        tx.query_row(of_cycle, params![Text(cycle_id)], |row| columns::id(row, "run_profile_id")).await?;
    let steps = request["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut lanes = Map::new();
    for step in [Step::Tier1, Step::Tier2, Step::Tier3, Step::Normalize] {
        let named = steps.iter().find(|one| one["step"] == step.name());
        if named.is_none() && step == Step::Normalize {
            continue;
        }
        let processor = named.and_then(|one| one["processor"]["name"].as_str()).unwrap_or_default();
        let lane = Lane { profile_id, run_profile_id, processor: processor.to_owned() };
        lanes.insert(step.name().to_owned(), number(tx, &lane).await?.into());
    }
    Ok(Value::Object(lanes))
}

async fn number(tx: &Connection, lane: &Lane) -> Attempt<i64> {
    let key = || params![lane.processor, Text(lane.profile_id), Text(lane.run_profile_id)];
    let select = "SELECT lane FROM lanes WHERE processor = $1 AND profile_id = $2 AND run_profile_id = $3";
    if let Some(found) = tx.query_optional(select, key(), |row| row.get(0)).await? {
        return Ok(found);
    }
    let insert =
        "INSERT INTO lanes (processor, profile_id, run_profile_id) VALUES ($1, $2, $3) RETURNING lane";
    tx.query_row(insert, key(), |row| row.get(0)).await
}

/// The columns of a [`Lane`].
pub(super) fn read(row: &Row) -> Attempt<Lane> {
    Ok(Lane {
        profile_id: columns::id(row, "profile_id")?,
        run_profile_id: columns::id(row, "run_profile_id")?,
        processor: row.get("processor")?,
    })
}

/// The first lane after this one in which a run is ready.
const NEXT_READY: &str =
    "SELECT min(lane) FROM runs WHERE state = 'ready' AND batch_key IS NULL AND lane > $1";
/// The first lane after this one in which a run waits for a further attempt.
const NEXT_WAITING: &str = "SELECT min(lane) FROM runs WHERE state = 'waiting' AND lane > $1";

/// Every lane that this statement finds, in order.
async fn numbers(tx: &Connection, next: &str) -> Attempt<Vec<i64>> {
    let mut found = Vec::new();
    while let Some(lane) =
        tx.query_row(next, params![found.last().copied().unwrap_or(i64::MIN)], |row| row.get(0)).await?
    {
        found.push(lane);
    }
    Ok(found)
}

/// Every lane that a run waits in.
async fn occupied(tx: &Connection) -> Attempt<BTreeMap<i64, Lane>> {
    let lane = "SELECT * FROM lanes WHERE lane = $1";
    let mut found = BTreeMap::new();
    for number in numbers(tx, NEXT_READY).await?.into_iter().chain(numbers(tx, NEXT_WAITING).await?) {
        found.insert(number, tx.query_row(lane, params![number], read).await?);
    }
    Ok(found)
}

/// When the first further attempt is due, of all or of those after an instant.
pub(super) async fn first_due(tx: &Connection, after: Timestamp) -> Attempt<Option<Timestamp>> {
    let sql = "SELECT min(due_at) AS due_at FROM runs
        WHERE state = 'waiting' AND lane = $1 AND due_at > $2";
    let mut first = None;
    for lane in numbers(tx, NEXT_WAITING).await? {
        let due = tx
            .query_row(sql, params![lane, Micros(after)], |row| columns::instant_or_null(row, "due_at"))
            .await?;
        first = earlier(first, due);
    }
    Ok(first)
}

/// A run that may start as far as doors and time go, as it stands in the order of its lane.
struct Candidate {
    run_id: Uuid,
    priority: f64,
    ordinal: i64,
    lane: i64,
}

/// Whether runs that are found are to be claimed.
#[derive(Clone, Copy)]
enum Hold {
    /// They are only looked at.
    Nothing,
    /// They are held to the end of the transaction, without those that another one holds.
    Rows,
}

fn locked(sql: &str, hold: Hold) -> String {
    match hold {
        Hold::Nothing => sql.to_owned(),
        Hold::Rows => format!("{sql} FOR UPDATE SKIP LOCKED"),
    }
}

/// The first runs of a lane, in the order in which they start.
async fn first_of(
    tx: &Connection,
    (lane, limit, hold): (i64, u32, Hold),
    doors: OpenDoors,
    now: Timestamp,
) -> Attempt<Vec<Candidate>> {
    let ready = "SELECT run_id, priority, ordinal FROM runs
        WHERE state = 'ready' AND batch_key IS NULL AND lane = $1 AND (attempt > 0) = $2 AND deadline_at > $3
        ORDER BY priority DESC, ordinal LIMIT $4";
    let due = "SELECT run_id, priority, ordinal FROM (
            SELECT run_id, priority, ordinal FROM runs
            WHERE state = 'waiting' AND lane = $1 AND due_at <= $2 AND deadline_at > $2
            ORDER BY due_at, ordinal LIMIT $3) AS due
        ORDER BY priority DESC, ordinal LIMIT $4";
    let read = |row: &Row| {
        let (priority, ordinal) = (row.get("priority")?, row.get("ordinal")?);
        Ok(Candidate { run_id: columns::id(row, "run_id")?, priority, ordinal, lane })
    };
    let mut found = Vec::new();
    for (further, open) in [(false, doors.first), (true, doors.retry)] {
        if open {
            let parameters = params![lane, further, Micros(now), limit];
            found.extend(tx.query_all(&locked(ready, hold), parameters, read).await?);
        }
    }
    if doors.retry {
        let parameters = params![lane, Micros(now), DUE_COMPARED_MAX.max(limit), limit];
        found.extend(tx.query_all(&locked(due, hold), parameters, read).await?);
    }
    Ok(found)
}

/// See [`crate::contract::tiers::RunStore::startable`].
pub(super) async fn startable(
    tx: &Connection,
    most: u32,
    doors: OpenDoors,
    now: Timestamp,
) -> Attempt<Startable> {
    let mut lanes = Vec::new();
    for (number, lane) in occupied(tx).await? {
        let found = first_of(tx, (number, most, Hold::Nothing), doors, now).await?.len();
        let runs = u32::try_from(found).unwrap_or(u32::MAX).min(most);
        if runs > 0 {
            lanes.push(WaitingLane { lane, runs });
        }
    }
    Ok(Startable { lanes, next_due: first_due(tx, now).await? })
}

/// The runs that start now: of each lane with room the first ones, of all of these those of the highest priority, then the oldest, each
/// taking its permits.
pub(super) async fn next(
    tx: &Connection,
    room: &Room,
    doors: OpenDoors,
    now: Timestamp,
) -> Attempt<Vec<Uuid>> {
    let lanes = occupied(tx).await?;
    let mut candidates = Vec::new();
    for (number, lane) in &lanes {
        let room = room.for_lane(lane);
        if room > 0 {
            candidates.extend(first_of(tx, (*number, room, Hold::Rows), doors, now).await?);
        }
    }
    candidates.sort_by(|a, b| b.priority.total_cmp(&a.priority).then(a.ordinal.cmp(&b.ordinal)));
    let mut room = room.clone();
    candidates.retain(|candidate| lanes.get(&candidate.lane).is_some_and(|lane| room.take(lane)));
    Ok(candidates.into_iter().map(|candidate| candidate.run_id).collect())
}
