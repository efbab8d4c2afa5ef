//! Lanes: what the steps of runs need permits of, which lanes have somebody waiting, and who of them starts next.
//!
//! Nothing here costs more when the queue of a lane is long: lanes are found by jumping from one to the next in an index, and of each only as many
//! runs are looked at as may start.

use std::collections::BTreeMap;

use jiff::Timestamp;
use orbit_core::run::Step;
use orbit_core::synthesis::named_processor;
use orbit_core::tiers::{Lane, Room};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::columns::{self, Micros, Text};
use super::fault::Attempt;
use crate::contract::tiers::{Startable, WaitingLane};
use crate::contract::{OpenDoors, earlier};

/// Of the further attempts that are due in one lane, those that are due longest and are compared by priority and age.
const DUE_COMPARED_MAX: u32 = 256;

/// The lane of each step of a run, by the step's word. A request that names no processor for a tier is refused when the run is worked on, and gets
/// there by a lane without a processor.
pub(super) fn of_request(
    tx: &Connection,
    cycle_id: Uuid,
    profile_id: Uuid,
    request: &Value,
) -> Attempt<Value> {
    let of_cycle = "SELECT run_profile_id FROM cycles WHERE cycle_id = ?1";
    let run_profile_id =
        tx.prepare_cached(of_cycle)?.query_row([Text(cycle_id)], |row| columns::id(row, "run_profile_id"))?;
    let mut lanes = Map::new();
    for step in [Step::Tier1, Step::Tier2, Step::Tier3, Step::Normalize] {
        let Some(processor) = named_processor(request, step) else { continue };
        let lane = Lane { profile_id, run_profile_id, processor: processor.to_owned() };
        lanes.insert(step.name().to_owned(), number(tx, &lane)?.into());
    }
    Ok(Value::Object(lanes))
}

fn number(tx: &Connection, lane: &Lane) -> Attempt<i64> {
    let key = params![lane.processor, Text(lane.profile_id), Text(lane.run_profile_id)];
    let select = "SELECT lane FROM lanes WHERE processor = ?1 AND profile_id = ?2 AND run_profile_id = ?3";
    if let Some(found) = tx.prepare_cached(select)?.query_row(key, |row| row.get(0)).optional()? {
        return Ok(found);
    }
    let insert =
        "INSERT INTO lanes (processor, profile_id, run_profile_id) VALUES (?1, ?2, ?3) RETURNING lane";
    Ok(tx.prepare_cached(insert)?.query_row(key, |row| row.get(0))?)
}

/// The columns of a [`Lane`].
pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Lane> {
    Ok(Lane {
        profile_id: columns::id(row, "profile_id")?,
        run_profile_id: columns::id(row, "run_profile_id")?,
        processor: row.get("processor")?,
    })
}

/// The first lane after this one in which a run is ready.
const NEXT_READY: &str = "SELECT min(lane) FROM runs INDEXED BY runs_ready WHERE state = 'ready' AND batch_key IS NULL AND lane > ?1";
/// The first lane after this one in which a run waits for a further attempt.
const NEXT_WAITING: &str =
    "SELECT min(lane) FROM runs INDEXED BY runs_due WHERE state = 'waiting' AND lane > ?1";

/// Every lane that this statement finds, in order.
fn numbers(tx: &Connection, next: &str) -> Attempt<Vec<i64>> {
    let mut statement = tx.prepare_cached(next)?;
    let mut found = Vec::new();
    while let Some(lane) =
        statement.query_row([found.last().copied().unwrap_or(i64::MIN)], |row| row.get(0))?
    {
        found.push(lane);
    }
    Ok(found)
}

/// Every lane that a run waits in.
fn occupied(tx: &Connection) -> Attempt<BTreeMap<i64, Lane>> {
    let mut lane = tx.prepare_cached("SELECT * FROM lanes WHERE lane = ?1")?;
    let mut found = BTreeMap::new();
    for number in numbers(tx, NEXT_READY)?.into_iter().chain(numbers(tx, NEXT_WAITING)?) {
        found.insert(number, lane.query_row([number], read)?);
    }
    Ok(found)
}

/// When the first further attempt is due, of all or of those after an instant.
pub(super) fn first_due(tx: &Connection, after: Timestamp) -> Attempt<Option<Timestamp>> {
    let sql = "SELECT min(due_at) AS due_at FROM runs INDEXED BY runs_due
        WHERE state = 'waiting' AND lane = ?1 AND due_at > ?2";
    let mut statement = tx.prepare_cached(sql)?;
    let mut first = None;
    for lane in numbers(tx, NEXT_WAITING)? {
        let due = statement
            .query_row(params![lane, Micros(after)], |row| columns::instant_or_null(row, "due_at"))?;
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

/// The first runs of a lane, in the order in which they start.
fn first_of(
    tx: &Connection,
    (lane, limit): (i64, u32),
    doors: OpenDoors,
    now: Timestamp,
) -> Attempt<Vec<Candidate>> {
    let ready = "SELECT run_id, priority, ordinal FROM runs INDEXED BY runs_ready
        WHERE state = 'ready' AND batch_key IS NULL AND lane = ?1 AND (attempt > 0) = ?2 AND deadline_at > ?3
        ORDER BY priority DESC, ordinal LIMIT ?4";
    let due = "SELECT run_id, priority, ordinal FROM (
            SELECT run_id, priority, ordinal FROM runs INDEXED BY runs_due
            WHERE state = 'waiting' AND lane = ?1 AND due_at <= ?2 AND deadline_at > ?2
            ORDER BY due_at, ordinal LIMIT ?3)
        ORDER BY priority DESC, ordinal LIMIT ?4";
    let read = |row: &Row<'_>| {
        let (priority, ordinal) = (row.get("priority")?, row.get("ordinal")?);
        Ok(Candidate { run_id: columns::id(row, "run_id")?, priority, ordinal, lane })
    };
    let mut found = Vec::new();
    for (further, open) in [(false, doors.first), (true, doors.retry)] {
        if open {
            let mut statement = tx.prepare_cached(ready)?;
            for candidate in statement.query_map(params![lane, further, Micros(now), limit], read)? {
                found.push(candidate?);
            }
        }
    }
    if doors.retry {
        let mut statement = tx.prepare_cached(due)?;
        let parameters = params![lane, Micros(now), DUE_COMPARED_MAX.max(limit), limit];
        for candidate in statement.query_map(parameters, read)? {
            found.push(candidate?);
        }
    }
    Ok(found)
}

/// See [`crate::contract::tiers::RunStore::startable`].
pub(super) fn startable(tx: &Connection, most: u32, doors: OpenDoors, now: Timestamp) -> Attempt<Startable> {
    let mut lanes = Vec::new();
    for (number, lane) in occupied(tx)? {
        let found = first_of(tx, (number, most), doors, now)?.len();
        let runs = u32::try_from(found).unwrap_or(u32::MAX).min(most);
        if runs > 0 {
            lanes.push(WaitingLane { lane, runs });
        }
    }
    Ok(Startable { lanes, next_due: first_due(tx, now)? })
}

/// The runs that start now: of each lane with room the first ones, of all of these those of the highest priority, then the oldest, each
/// taking its permits.
pub(super) fn next(tx: &Connection, room: &Room, doors: OpenDoors, now: Timestamp) -> Attempt<Vec<Uuid>> {
    let lanes = occupied(tx)?;
    let mut candidates = Vec::new();
    for (number, lane) in &lanes {
        let room = room.for_lane(lane);
        if room > 0 {
            candidates.extend(first_of(tx, (*number, room), doors, now)?);
        }
    }
    candidates.sort_by(|a, b| b.priority.total_cmp(&a.priority).then(a.ordinal.cmp(&b.ordinal)));
    let mut room = room.clone();
    candidates.retain(|candidate| lanes.get(&candidate.lane).is_some_and(|lane| room.take(lane)));
    Ok(candidates.into_iter().map(|candidate| candidate.run_id).collect())
}

#[cfg(test)]
mod tests {
    use super::super::migrate;
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    const OPEN: OpenDoors = OpenDoors { first: true, retry: true };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    /// Lane 1 is of the processor `full` and lane 2 of `free`; rows are added as `transition` writes them.
    fn world() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        migrate::migrate(&connection, "memory").unwrap();
        connection
            .execute_batch(
                "INSERT INTO cycles (cycle_id, run_profile_id, run_profile, trigger, nominal, snapshot, queued, state, fired_at, preset)
                    VALUES ('c', '00000000-0000-0000-0000-000000000007', 'daily', 'manual:1', 0, 's', 0, 'running', 0, 'null');
                INSERT INTO lanes (lane, profile_id, run_profile_id, processor) VALUES
                    (1, '00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-000000000007', 'full'),
                    (2, '00000000-0000-0000-0000-000000000002', '00000000-0000-0000-0000-000000000007', 'free');",
            )
            .unwrap();
        connection
    }

    fn add(connection: &Connection, count: u32, lane: i64, (state, attempt): (&str, u32)) {
        let sql = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?1)
            INSERT INTO runs (run_id, cycle_id, profile_id, profile, initiation, state, state_json, attempt, due_at, lane, priority, deadline_at, started_at)
            SELECT printf('00000000-0000-0000-%04x-%012x', ?2 * 16 + ?4, (SELECT count(*) FROM runs) + n), 'c', 'p', 'p', 'i', ?3, '{}', ?4,
                iif(?3 = 'waiting', ?5, NULL), ?2, 0.5, ?6, 0 FROM n";
        let parameters = params![count, lane, state, attempt, Micros(at(0)), Micros(at(1_000))];
        connection.execute(sql, parameters).unwrap();
    }

    /// Instructions of the database's machine that an act takes.
    fn effort<T>(connection: &mut Connection, act: impl FnOnce(&Connection) -> T) -> (u64, T) {
        let steps = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&steps);
        let counting = move || {
            count.fetch_add(1, Ordering::Relaxed);
            false
        };
        connection.progress_handler(1, Some(counting)).unwrap();
        let answer = act(connection);
        connection.progress_handler(0, None::<fn() -> bool>).unwrap();
        (steps.load(Ordering::Relaxed), answer)
    }

    #[test]
    fn a_long_queue_costs_as_much_as_a_short_one() {
        let room = Room { processors: BTreeMap::from([("full".to_owned(), 0)]), ..Room::of(4) };
        let mut seen = Vec::new();
        for count in [50, 100_000] {
            let mut connection = world();
            add(&connection, count, 1, ("ready", 0));
            add(&connection, count, 1, ("ready", 1));
            add(&connection, 2, 2, ("ready", 0));
            let mut all = |doors| {
                // Statements are prepared before they are counted.
                for _ in 0..2 {
                    next(&connection, &room, doors, at(1)).unwrap();
                    startable(&connection, 16, doors, at(1)).unwrap();
                }
                let (claim, picked) =
                    effort(&mut connection, |tx| next(tx, &room, doors, at(1)).unwrap().len());
                let (look, found) =
                    effort(&mut connection, |tx| startable(tx, 16, doors, at(1)).unwrap().lanes.len());
                (claim, picked, look, found)
            };
            let closed = OpenDoors { first: false, retry: true };
            seen.push((all(OPEN), all(closed)));
        }
        let ((claim, picked, look, found), closed) = seen[0];
        assert_eq!((picked, found), (2, 2));
        assert_eq!((closed.1, closed.3), (0, 1));
        assert!(claim > 0 && look > 0);
        assert_eq!(seen[0], seen[1]);
    }

    #[test]
    fn a_long_queue_of_further_attempts_costs_what_is_compared() {
        let room = Room { processors: BTreeMap::from([("full".to_owned(), 0)]), ..Room::of(4) };
        let mut seen = Vec::new();
        for count in [500, 50_000] {
            let mut connection = world();
            add(&connection, count, 1, ("waiting", 1));
            add(&connection, count, 2, ("waiting", 1));
            next(&connection, &room, OPEN, at(1)).unwrap();
            seen.push(effort(&mut connection, |tx| next(tx, &room, OPEN, at(1)).unwrap().len()));
        }
        assert_eq!(seen[0].1, 4);
        assert_eq!(seen[0], seen[1]);
    }

    #[test]
    fn every_search_goes_through_an_index() {
        let connection = world();
        let plan = |sql: &str| -> String {
            let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let lines = statement.query_map((), |row| row.get::<_, String>("detail")).unwrap();
            lines.collect::<Result<Vec<_>, _>>().unwrap().join("\n")
        };
        let next = plan(&NEXT_READY.replace("?1", "0"));
        assert!(next.contains("runs_ready (lane>?)"), "{next}");
        let next = plan(&NEXT_WAITING.replace("?1", "0"));
        assert!(next.contains("runs_due (lane>?)"), "{next}");
        let first = plan(
            "SELECT run_id FROM runs INDEXED BY runs_ready WHERE state = 'ready' AND batch_key IS NULL AND lane = 1 AND (attempt > 0) = 0
                AND deadline_at > 7 ORDER BY priority DESC, ordinal LIMIT 4",
        );
        assert!(first.contains("runs_ready (lane=? AND <expr>=?)") && !first.contains("B-TREE"), "{first}");
    }
}
