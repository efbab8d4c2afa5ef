//! Lanes: what the steps of runs need permits of, which lanes have somebody waiting, and who of them starts next.
//!
//! Nothing here costs more when the queue of a lane is long: lanes are found by jumping from one to the next in an index, and of each only as many
//! runs are looked at as may start. What is a loop over lanes on SQLite is one statement here, because every statement is a way to the server and back.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::try_join;
use jiff::Timestamp;
use orbit_core::run::Step;
use orbit_core::synthesis::named_processor;
use orbit_core::tiers::{Lane, Room};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::columns::{self, Length, Micros, NUL_KEPT_AS, Parameter, Row, Text, params};
use super::fault::Attempt;
use super::tx::{Connection, together};
use crate::contract::OpenDoors;
use crate::contract::tiers::{Startable, WaitingLane};

/// Of the further attempts that are due in one lane, those that are due longest and are compared by priority and age.
const DUE_COMPARED_MAX: u32 = 256;

/// Lanes by their numbers.
pub(super) type Occupied = BTreeMap<i64, Lane>;

/// Lanes that there are already, by profile and processor.
pub(super) type Known = BTreeMap<(Uuid, String), i64>;

/// The processor of each step that a request names one for.
fn processors(request: &Value) -> impl Iterator<Item = (Step, String)> {
    let steps = [Step::Tier1, Step::Tier2, Step::Tier3, Step::Normalize];
    steps
        .into_iter()
        .filter_map(|step| named_processor(request, step).map(|name| (step, name.replace('\0', NUL_KEPT_AS))))
}

/// Those that runs of this cycle need, as far as they are there: of each its profile and its request.
pub(super) async fn known<'a>(
    tx: &Connection,
    cycle_id: Uuid,
    runs: impl Iterator<Item = (Uuid, &'a Value)>,
) -> Attempt<Known> {
    let (mut profiles, mut names) = (BTreeSet::new(), BTreeSet::new());
    for (profile_id, request) in runs {
        profiles.insert(profile_id.to_string());
        names.extend(processors(request).map(|(_, name)| name));
    }
    let select = "SELECT profile_id, processor, lane FROM lanes JOIN cycles USING (run_profile_id)
        WHERE cycle_id = $1 AND profile_id = ANY ($2) AND processor = ANY ($3)";
    let texts = |of: BTreeSet<_>| Parameter::Texts(of.into_iter().collect());
    let parameters = vec![Parameter::Text(cycle_id.to_string()), texts(profiles), texts(names)];
    let read = |row: &Row| Ok(((columns::id(row, "profile_id")?, row.get("processor")?), row.get("lane")?));
    Ok(tx.query_all(select, Ok(parameters), read).await?.into_iter().collect())
}

/// The lane of each step of a run, by the step's word. A request that names no processor for a tier is refused when the run is worked on, and gets
/// there by a lane without a processor.
pub(super) async fn of_request(
    tx: &Connection,
    (cycle_id, profile_id): (Uuid, Uuid),
    request: &Value,
    known: &mut Known,
) -> Attempt<Value> {
    let mut lanes = Map::new();
    for (step, processor) in processors(request) {
        let key = (profile_id, processor);
        let lane = match known.get(&key) {
            Some(lane) => *lane,
            None => make(tx, (cycle_id, profile_id), &key.1).await?,
        };
        known.insert(key, lane);
        lanes.insert(step.name().to_owned(), lane.into());
    }
    Ok(Value::Object(lanes))
}

async fn make(tx: &Connection, (cycle_id, profile_id): (Uuid, Uuid), processor: &str) -> Attempt<i64> {
    let insert = "INSERT INTO lanes (processor, profile_id, run_profile_id)
        SELECT $1, $2, run_profile_id FROM cycles WHERE cycle_id = $3 RETURNING lane";
    tx.query_row(insert, params![processor, Text(profile_id), Text(cycle_id)], |row| row.get(0)).await
}

/// The columns of a [`Lane`].
pub(super) fn read(row: &Row) -> Attempt<Lane> {
    Ok(Lane {
        profile_id: columns::id(row, "profile_id")?,
        run_profile_id: columns::id(row, "run_profile_id")?,
        processor: row.get("processor")?,
    })
}

/// The lanes in which a run is ready: found by jumping from one to the next, so that a long queue costs as much as a short one.
const READY: &str = "ready (lane) AS (
        SELECT min(lane) FROM runs WHERE state = 'ready' AND batch_key IS NULL
        UNION ALL
        SELECT (SELECT min(r.lane) FROM runs r WHERE r.state = 'ready' AND r.batch_key IS NULL AND r.lane > ready.lane)
        FROM ready WHERE ready.lane IS NOT NULL)";
/// The lanes in which a run waits for a further attempt.
const WAITING: &str = "waiting (lane) AS (
        SELECT min(lane) FROM runs WHERE state = 'waiting'
        UNION ALL
        SELECT (SELECT min(r.lane) FROM runs r WHERE r.state = 'waiting' AND r.lane > waiting.lane)
        FROM waiting WHERE waiting.lane IS NOT NULL)";
/// Of the lane `o`: the runs that may start at once, first attempts (`further` false) or further ones, in their order.
const FIRST_READY: &str = "SELECT run_id, token, priority, ordinal FROM runs
        WHERE state = 'ready' AND batch_key IS NULL AND lane = o.lane AND (attempt > 0) = $2 AND deadline_at > $1
        ORDER BY priority DESC, ordinal LIMIT o.room";
/// The same of those that wait, as far as they are due: the first of those that are due longest.
const FIRST_DUE: &str = "SELECT run_id, token, priority, ordinal FROM (
            SELECT run_id, token, priority, ordinal FROM runs
            WHERE state = 'waiting' AND lane = o.lane AND due_at <= $1 AND deadline_at > $1
            ORDER BY due_at, ordinal LIMIT greatest(o.room, $2)) AS due
        ORDER BY priority DESC, ordinal LIMIT o.room";

/// Every lane that a run waits in.
pub(super) async fn occupied(tx: &Connection) -> Attempt<Occupied> {
    let sql = format!(
        "WITH RECURSIVE {READY}, {WAITING}
        SELECT * FROM lanes WHERE lane = ANY (ARRAY (SELECT lane FROM ready UNION SELECT lane FROM waiting))"
    );
    let found = tx.query_all(&sql, params![], |row| Ok((row.get("lane")?, read(row)?))).await?;
    Ok(found.into_iter().collect())
}

/// When the first further attempt is due, of all or of those after an instant.
pub(super) async fn first_due(tx: &Connection, after: Timestamp) -> Attempt<Option<Timestamp>> {
    let sql = format!(
        "WITH RECURSIVE {WAITING}
        SELECT min((SELECT min(due_at) FROM runs r WHERE r.state = 'waiting' AND r.lane = waiting.lane AND due_at > $1)) AS due_at
        FROM waiting"
    );
    tx.query_row(&sql, params![Micros(after)], |row| columns::instant_or_null(row, "due_at")).await
}

/// A run that may start as far as doors and time go, as it stands in the order of its lane.
struct Candidate {
    run_id: Uuid,
    token: i64,
    priority: f64,
    ordinal: i64,
    lane: i64,
}

/// The first runs of lanes with so much room each, in the order in which they start. They are held to the end of the transaction, without those that another one holds.
async fn first_of(
    tx: &Connection,
    rooms: &[(i64, u32)],
    doors: OpenDoors,
    now: Timestamp,
) -> Attempt<Vec<Candidate>> {
    let of = |one: &str| {
        format!(
            "SELECT o.lane, first.* FROM unnest($3::bigint[], $4::bigint[]) AS o (lane, room)
            CROSS JOIN LATERAL ({one} FOR UPDATE SKIP LOCKED) AS first"
        )
    };
    let (ready, due) = (of(FIRST_READY), of(FIRST_DUE));
    let of_rooms = |first: Parameter| {
        let (lanes, rooms) = rooms.iter().map(|(lane, room)| (*lane, i64::from(*room))).unzip();
        let now = Parameter::Integer(now.as_microsecond());
        Ok(vec![now, first, Parameter::Integers(lanes), Parameter::Integers(rooms)])
    };
    let read = |row: &Row| {
        let (priority, ordinal, lane) = (row.get("priority")?, row.get("ordinal")?, row.get("lane")?);
        Ok(Candidate {
            run_id: columns::id(row, "run_id")?,
            token: row.get("token")?,
            priority,
            ordinal,
            lane,
        })
    };
    let mut asked = Vec::new();
    if doors.first {
        asked.push(tx.query_all(&ready, of_rooms(Parameter::Truth(false)), read));
    }
    if doors.retry {
        asked.push(tx.query_all(&ready, of_rooms(Parameter::Truth(true)), read));
        asked.push(tx.query_all(&due, of_rooms(Parameter::Integer(DUE_COMPARED_MAX.into())), read));
    }
    Ok(together(asked).await?.into_iter().flatten().collect())
}

/// See [`crate::contract::tiers::RunStore::startable`].
pub(super) async fn startable(
    tx: &Connection,
    most: u32,
    doors: OpenDoors,
    now: Timestamp,
) -> Attempt<Startable> {
    // How many there are of a lane, up to `$2`.
    // Parameters, because a plan for a constant would not find its index: the server takes `x = false` for `NOT x`.
    let (ready, further) = (FIRST_READY.replace("$2", "$5"), FIRST_READY.replace("$2", "$6"));
    let due = FIRST_DUE.replace("$2", "0");
    let sql = format!(
        "WITH RECURSIVE {READY}, {WAITING}
        SELECT l.*, CASE WHEN $3::boolean THEN (SELECT count(*) FROM ({ready}) AS f) ELSE 0 END
            + CASE WHEN $4::boolean THEN (SELECT count(*) FROM ({further}) AS f) + (SELECT count(*) FROM ({due}) AS f) ELSE 0 END AS runs
        FROM (SELECT lane, $2::bigint AS room FROM (SELECT lane FROM ready UNION SELECT lane FROM waiting) AS any_of_them
            WHERE lane IS NOT NULL) AS o
        JOIN lanes l USING (lane) ORDER BY lane"
    );
    let parameters = params![Micros(now), most, doors.first, doors.retry, false, true];
    let read = |row: &Row| {
        let runs = row.get::<_, Length>("runs")?.0;
        let runs = u32::try_from(runs).unwrap_or(u32::MAX).min(most);
        Ok(WaitingLane { lane: read(row)?, runs })
    };
    let (mut lanes, next_due) = try_join(tx.query_all(&sql, parameters, read), first_due(tx, now)).await?;
    lanes.retain(|lane| lane.runs > 0);
    Ok(Startable { lanes, next_due })
}

/// The runs that start now: of each lane with room the first ones, of all of these those of the highest priority, then the oldest, each
/// taking its permits. Each with its token.
pub(super) async fn next(
    tx: &Connection,
    room: &Room,
    doors: OpenDoors,
    now: Timestamp,
) -> Attempt<Vec<(Uuid, i64)>> {
    next_of(tx, &occupied(tx).await?, room, doors, now).await
}

/// The same, where no other lane has a run that waits in it.
pub(super) async fn next_of(
    tx: &Connection,
    lanes: &Occupied,
    room: &Room,
    doors: OpenDoors,
    now: Timestamp,
) -> Attempt<Vec<(Uuid, i64)>> {
    let rooms: Vec<_> = lanes
        .iter()
        .map(|(number, lane)| (*number, room.for_lane(lane)))
        .filter(|(_, room)| *room > 0)
        .collect();
    if rooms.is_empty() {
        return Ok(Vec::new());
    }
    let mut candidates = first_of(tx, &rooms, doors, now).await?;
    candidates.sort_by(|a, b| b.priority.total_cmp(&a.priority).then(a.ordinal.cmp(&b.ordinal)));
    let mut room = room.clone();
    candidates.retain(|candidate| lanes.get(&candidate.lane).is_some_and(|lane| room.take(lane)));
    Ok(candidates.into_iter().map(|candidate| (candidate.run_id, candidate.token)).collect())
}
