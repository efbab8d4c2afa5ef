//! Derived tables are made again from the log: whatever happened, the rows are the same, and work goes on as if nothing had been.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use orbit_core::canonical;
use orbit_store::StoreError;
use orbit_store::contract::governance::GovernanceStore as _;
use orbit_store::contract::rebuild::{RebuildMode, Rebuilt};
use orbit_store::sqlite::SqliteStore;
use orbit_store::sqlite::verify::{Request, verify};
use proptest::prelude::*;
use rusqlite::Connection;
use rusqlite::types::Value as Cell;
use serde_json::Value;

use crate::conformance::world::{World, answer, at, dead, log_is_whole, namespace};
use crate::history::{Call, History, calls};

const DERIVED: [&str; 17] = [
    "attempts",
    "cycles",
    "deliveries",
    "endpoints",
    "halts",
    "initiation_holds",
    "initiations",
    "lanes",
    "notices",
    "notify_cursor",
    "processor_crashes",
    "run_requests",
    "runs",
    "schedule_cursors",
    "steps",
    "store",
    "work_done",
];

/// Columns that no record tells, and what is left when every row of a table is lost: claims (`token`), what a schedule remembers, up to where
/// notices are followed, and in which order notices began to gather.
const UNTOLD: [(&str, &str); 8] = [
    ("cycles", "token"),
    ("runs", "token"),
    ("deliveries", "token"),
    ("schedule_cursors", "decided_through"),
    ("schedule_cursors", "open_decisions"),
    ("notify_cursor", "position"),
    ("notices", "ordinal"),
    ("store", "claims"),
];

/// Tables whose rows `log verify` holds to the log as well.
const HELD_BY_VERIFICATION: [&str; 8] =
    ["attempts", "cycles", "deliveries", "endpoints", "initiations", "notices", "runs", "steps"];

type Dump = BTreeMap<&'static str, Vec<BTreeMap<String, String>>>;

/// Every derived row, JSON in its canonical spelling.
fn dump(path: &Path) -> Dump {
    let connection = Connection::open(path).unwrap();
    let rows_of = |table| {
        let mut statement = connection.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let names: Vec<_> = statement.column_names().map(str::to_owned).collect();
        let mut rows: Vec<_> = statement
            .query_map((), |row| {
                Ok(names.iter().map(|name| (name.clone(), text(row.get(name.as_str()).unwrap()))).collect())
            })
            .unwrap()
            .collect::<Result<Vec<BTreeMap<_, _>>, _>>()
            .unwrap();
        rows.sort();
        rows
    };
    DERIVED.into_iter().map(|table| (table, rows_of(table))).collect()
}

fn text(cell: Cell) -> String {
    match cell {
        Cell::Text(text) => match serde_json::from_str::<Value>(&text) {
            Ok(value @ (Value::Object(_) | Value::Array(_))) => canonical::to_string(&value),
            _ => format!("{text:?}"),
        },
        other @ (Cell::Null | Cell::Integer(_) | Cell::Real(_) | Cell::Blob(_)) => format!("{other:?}"),
    }
}

/// What must be the same when every derived row was lost.
fn told(mut dump: Dump) -> Dump {
    for (table, column) in UNTOLD {
        for row in dump.get_mut(table).unwrap() {
            row.insert(column.to_owned(), "untold".to_owned());
        }
    }
    // A claim alone knows of it; recovery makes the same of it.
    for row in dump.get_mut("cycles").unwrap() {
        if row["state"] == text(Cell::Text("selecting".to_owned())) {
            let word = if row["queued"] == text(Cell::Integer(1)) { "queued" } else { "waiting" };
            row.insert("state".to_owned(), text(Cell::Text(word.to_owned())));
        }
    }
    // No record tells what gathers, or of a cursor that has moved without a decision.
    dump.get_mut("notices").unwrap().retain(|notice| notice["body"] != text(Cell::Null));
    dump.remove("schedule_cursors");
    for rows in dump.values_mut() {
        rows.sort();
    }
    dump
}

async fn rebuild(store: &SqliteStore, history: &History, mode: RebuildMode) -> Rebuilt {
    store.rebuild(mode, history.now(), Arc::new(|_, _| ())).await.unwrap()
}

/// The tables in which verification finds a fault; payloads are not looked at.
fn named_by_verification(path: &Path) -> BTreeSet<String> {
    let request = Request { database: path, blobs: None, against: None, key: None, positioned: None };
    let report = verify(&request, &mut |_| ()).unwrap();
    report.faults.kept.into_iter().map(|fault| fault.table).collect()
}

fn damage(path: &Path, sql: &str) {
    let connection = Connection::open(path).unwrap();
    connection
        .execute_batch(&format!("PRAGMA foreign_keys = off; PRAGMA ignore_check_constraints = on; {sql}"))
        .unwrap();
}

async fn live(store: &SqliteStore, history: &mut History, calls: &[Call]) {
    for call in calls {
        history.call(store, call.clone()).await;
    }
}

fn in_runtime(act: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(act);
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(32))]

    #[test]
    fn a_rebuild_finds_nothing_and_work_goes_on_as_at_a_twin(before in calls(), after in calls()) {
        in_runtime(async {
            let folder = tempfile::tempdir().unwrap();
            let (path, twin_path) = (folder.path().join("orbit.db"), folder.path().join("twin.db"));
            let store = SqliteStore::open(&path, &namespace()).unwrap();
            let mut history = History::default();
            live(&store, &mut history, &before).await;
            let rows = dump(&path);
            Connection::open(&path).unwrap().execute("VACUUM INTO ?1", [twin_path.to_str().unwrap()]).unwrap();
            assert_eq!(named_by_verification(&path), BTreeSet::new());
            let found = rebuild(&store, &history, RebuildMode::Apply).await;
            assert_eq!(found.differing(), 0, "{found:?}");
            assert_eq!(dump(&path), rows);

            let twin = SqliteStore::open(&twin_path, &namespace()).unwrap();
            // Positions are the same again.
            rebuild(&twin, &history, RebuildMode::Apply).await;
            let mut other = history.clone();
            live(&store, &mut history, &after).await;
            live(&twin, &mut other, &after).await;
            assert_eq!(dump(&path), dump(&twin_path));
            log_is_whole(&store).await;
        });
    }

    #[test]
    fn rows_that_are_all_lost_come_back(calls in calls(), after in calls()) {
        in_runtime(async {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("orbit.db");
            let store = SqliteStore::open(&path, &namespace()).unwrap();
            let mut history = History::default();
            live(&store, &mut history, &calls).await;
            let rows = dump(&path);
            let lose = DERIVED.iter().filter(|table| **table != "store").map(|table| format!("DELETE FROM {table};"));
            damage(&path, &lose.collect::<String>());
            damage(&path, "UPDATE store SET active_snapshot = NULL");
            rebuild(&store, &history, RebuildMode::Apply).await;
            assert_eq!(told(dump(&path)), told(rows));
            let again = rebuild(&store, &history, RebuildMode::Compare).await;
            assert_eq!(again.differing(), 0, "{again:?}");
            live(&store, &mut history, &after).await;
            log_is_whole(&store).await;
        });
    }

    #[test]
    fn rows_that_were_changed_are_put_right(calls in calls(), which in any::<u64>()) {
        in_runtime(async {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("orbit.db");
            let store = SqliteStore::open(&path, &namespace()).unwrap();
            let mut history = History::default();
            live(&store, &mut history, &calls).await;
            let rows = dump(&path);
            let damages = [
                "UPDATE runs SET state = 'finished', state_json = '{}', attempt = attempt + 1",
                "UPDATE runs SET lane = NULL, artifact_bytes = 7, deadline_at = 0, priority = priority / 2",
                "DELETE FROM run_requests; UPDATE steps SET attempts = 99",
                "UPDATE deliveries SET state = 'accepted', attempts = 0, due_at = NULL, ordinal = ordinal + 1000",
                "DELETE FROM deliveries WHERE ordinal % 2 = 0; DELETE FROM attempts",
                "UPDATE attempts SET receipt = '\"forged\"'; INSERT INTO halts (at, reason, lifted_at) VALUES (1, 'x', 2)",
                "DELETE FROM initiation_holds; UPDATE initiations SET released_at = 1, weight = 9.0",
                "UPDATE cycles SET state = 'finished', outcome = 'succeeded' WHERE state <> 'selecting'; DELETE FROM lanes",
                "INSERT INTO endpoints (endpoint, state, health) VALUES ('ghost', 'disabled', '{}'); DELETE FROM work_done",
                "UPDATE processor_crashes SET crashes = 0; UPDATE notices SET count = 999 WHERE body IS NOT NULL",
            ];
            let chosen = damages.iter().enumerate().filter(|(bit, _)| which >> bit & 1 == 1);
            let chosen: Vec<_> = chosen.map(|(_, sql)| *sql).collect();
            damage(&path, &chosen.join(";"));
            let damaged = dump(&path);
            let seen = rebuild(&store, &history, RebuildMode::Compare).await;
            assert_eq!(dump(&path), damaged, "comparing changes nothing");
            let named = named_by_verification(&path);
            for table in HELD_BY_VERIFICATION {
                let found = seen.tables.iter().find(|found| found.table == table).unwrap();
                assert_eq!(named.contains(table), found.differing() > 0, "`{table}`: {seen:?}");
            }
            assert_eq!(seen.differing() > 0, told(damaged) != told(rows.clone()), "{seen:?}");
            let put_right = rebuild(&store, &history, RebuildMode::Apply).await;
            assert_eq!(seen.tables, put_right.tables);
            assert_eq!(told(dump(&path)), told(rows));
            log_is_whole(&store).await;
        });
    }
}

#[tokio::test]
async fn a_rebuild_tells_what_it_found_and_how_far_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orbit.db");
    let store = SqliteStore::open(&path, &namespace()).unwrap();
    let world = World::new(&store);
    world.join(at(0)).await;
    let run_id = world.dispatching(1, &["archive"], at(0)).await;
    world.attempt("archive", answer("refused", dead()), at(1)).await;
    damage(&path, "DELETE FROM attempts; UPDATE runs SET state = 'ready'");
    let (done, total) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (seen, all) = (Arc::clone(&done), Arc::clone(&total));
    let progress = move |now: u64, of: u64| {
        seen.store(now, Ordering::Relaxed);
        all.store(of, Ordering::Relaxed);
    };
    let before = world.log().await.len() as u64;
    let rebuilt = store.rebuild(RebuildMode::Apply, at(2), Arc::new(progress)).await.unwrap();
    assert_eq!((done.load(Ordering::Relaxed), total.load(Ordering::Relaxed)), (before, before));
    assert_eq!((rebuilt.records, rebuilt.differing()), (before, 2));
    let told = world.log_of("tables_rebuilt").await.remove(0);
    assert_eq!(told.body["tables"], serde_json::to_value(&rebuilt.tables).unwrap());
    let found = |table| rebuilt.tables.iter().find(|found| found.table == table).unwrap();
    assert_eq!((found("attempts").missing, found("runs").changed, found("runs").rows), (1, 1, 1));
    assert_eq!(world.state_of_run(run_id).await, ("finished".to_owned(), Some("partial".to_owned())));
}

#[tokio::test]
async fn a_log_that_contradicts_itself_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orbit.db");
    let store = SqliteStore::open(&path, &namespace()).unwrap();
    World::new(&store).join(at(0)).await;
    World::new(&store).dispatching(1, &["archive"], at(0)).await;
    // Somebody writes a second start of a step into the log.
    damage(
        &path,
        "DROP TRIGGER log_bodies_no_update; UPDATE log_bodies SET body = json_set(body, '$.event.attempt', 7)
            WHERE position = (SELECT position FROM log_records WHERE header ->> '$.kind' = 'step_started');
        DELETE FROM attempts; DELETE FROM deliveries",
    );
    let rows = dump(&path);
    let refused = store.rebuild(RebuildMode::Apply, at(1), Arc::new(|_, _| ())).await.unwrap_err();
    let StoreError::Corrupt { message, .. } = &refused else { panic!("{refused}") };
    assert!(message.contains("(`step_started`) cannot follow those before it"), "{message}");
    assert_eq!(dump(&path), rows);
    assert!(World::new(&store).fire(2, at(2)).await, "the store still works");
}

#[tokio::test]
async fn a_restored_log_is_compared_but_not_rebuilt_before_it_has_its_new_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("orbit.db");
    drop(SqliteStore::open(&file, &namespace()).unwrap());
    orbit_store::sqlite::backup::mark_restored(&file, at(5), Some("restored")).unwrap();
    let store = SqliteStore::open(&file, &namespace()).unwrap();
    let rebuild = |mode| store.rebuild(mode, at(6), Arc::new(|_, _| {}));
    let refused = rebuild(RebuildMode::Apply).await.unwrap_err();
    assert!(refused.to_string().contains("has no new name yet"), "{refused}");
    assert!(rebuild(RebuildMode::Compare).await.is_ok());
    assert_eq!(store.halted().await.unwrap().unwrap().reason, "restored", "its halt is kept");
}
