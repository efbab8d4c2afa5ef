//! A backlog of a million deliveries of one endpoint costs the others nothing. What is counted are steps of SQLite's virtual machine, which
//! are the same on every machine, however busy.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use orbit_core::config::NamespaceName;
use orbit_core::dispatch::breaker::{Breaker, Health};
use rusqlite::{Connection, params};
use uuid::Uuid;

use super::columns::Json;
use super::dispatch::{DUE, NEXT_IN_ORDER, due};
use super::tail::Tail;
use super::tx::Tx;
use super::{SqliteStore, endpoint, settle, view};
use crate::contract::dispatch::DispatchStore as _;
use crate::contract::node::{Joining, NodeStore as _};
use crate::contract::view::COUNT_MAX;
use crate::contract::{BATCH_MAX, OpenDoors};

const BACKLOG: u32 = 1_000_000;
const OPEN: OpenDoors = OpenDoors { first: true, retry: true };
/// A look at one row of a million is a few hundred steps; a look at all of them is millions.
const STEPS_MAX: u64 = 2000;
/// What it takes to count one row of an index, and no row beyond the bound.
const STEPS_A_COUNTED_ROW: u64 = 10;
const ID: &str = "00000000-0000-4000-8000-000000000000";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

/// One run that owes a million deliveries to `gone`, whose breaker is open, and one each to two others.
fn fill(connection: &Connection) {
    let state = r#"{"state":"dispatching","open":1000002,"accepted":0,"lost":0}"#;
    let digest = format!("sha256:{}", "0".repeat(64));
    let script = format!(
        "PRAGMA synchronous = OFF; PRAGMA cache_size = -200000; BEGIN;
        INSERT INTO cycles (cycle_id, run_profile_id, run_profile, trigger, nominal, snapshot, queued, state, fired_at, preset)
            VALUES ('{ID}', '{ID}', 'daily', 'schedule', 0, '{digest}', 0, 'running', 0, 'null');
        INSERT INTO runs (run_id, cycle_id, profile_id, profile, initiation, state, state_json, attempt, priority, deadline_at,
                artifact_digest, artifact_bytes, artifact_media_type, started_at)
            VALUES ('{ID}', '{ID}', '{ID}', 'plain', 'x', 'dispatching', '{state}', 0, 0.5, 0, '{digest}', 1, 'text/plain', 0);
        INSERT INTO run_requests (run_id, request, lanes) VALUES ('{ID}', 'null', '{{}}');
        INSERT INTO deliveries (delivery_id, run_id, endpoint, url, state, due_at, created_at)
            WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {BACKLOG})
            SELECT printf('00000000-0000-4000-8000-%012x', i), '{ID}', 'gone', 'https://gone.example.net/', 'waiting', i, 0 FROM n;
        INSERT INTO deliveries (delivery_id, run_id, endpoint, url, state, due_at, created_at) VALUES
            ('00000000-0000-4000-9000-000000000001', '{ID}', 'alive', 'https://alive.example.net/', 'waiting', 5, 0),
            ('00000000-0000-4000-9000-000000000002', '{ID}', 'well', 'https://well.example.net/', 'waiting', 5, 0);
        COMMIT;"
    );
    connection.execute_batch(&script).unwrap();
    let breaker = Breaker::Open { until: at(600), pause_ms: 1 };
    set_health(connection, "open", &Health::Enabled { breaker, failing: None });
}

fn set_health(connection: &Connection, state: &str, health: &Health) {
    let upsert =
        "INSERT OR REPLACE INTO endpoints (endpoint, state, open_until, health) VALUES ('gone', ?1, ?2, ?3)";
    let until = (state == "open").then(|| at(600).as_microsecond());
    connection.execute(upsert, params![state, until, Json(health)]).unwrap();
}

/// What it came to, and how many steps it took.
fn steps<T>(connection: &mut Connection, work: impl FnOnce(&Connection) -> T) -> (T, u64) {
    let count = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&count);
    let count_one = move || {
        counted.fetch_add(1, Ordering::Relaxed);
        false
    };
    connection.progress_handler(1, Some(count_one)).unwrap();
    let answer = work(connection);
    connection.progress_handler(0, None::<fn() -> bool>).unwrap();
    (answer, count.load(Ordering::Relaxed))
}

#[tokio::test]
async fn a_million_deliveries_of_one_endpoint_cost_the_others_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orbit.db");
    let name = NamespaceName::parse("studio").unwrap();
    drop(SqliteStore::open(&path, &name).unwrap());
    let mut connection = Connection::open(&path).unwrap();
    fill(&connection);

    let (waiting, cost) = steps(&mut connection, |tx| endpoint::waiting(tx).unwrap());
    let told: Vec<_> = waiting.iter().map(|one| (&*one.endpoint, one.due_at >= at(600))).collect();
    assert_eq!(told, [("alive", false), ("gone", true), ("well", false)]);
    assert!(cost < STEPS_MAX, "to know who waits took {cost} steps");
    let (counts, cost) = steps(&mut connection, |tx| view::counts(tx).unwrap());
    assert_eq!((counts.deliveries["waiting"], counts.runs["dispatching"]), (COUNT_MAX, 1));
    assert!(cost < COUNT_MAX * STEPS_A_COUNTED_ROW, "to count took {cost} steps");
    for (endpoint, sql, expected) in
        [("alive", DUE, 1), ("gone", DUE, 4), ("alive", NEXT_IN_ORDER, 1), ("gone", NEXT_IN_ORDER, 1)]
    {
        let (found, cost) = steps(&mut connection, |tx| due(tx, sql, (endpoint, 4), OPEN, at(0)).unwrap());
        assert_eq!(found.len(), expected, "{endpoint}");
        assert!(cost < STEPS_MAX, "a claim of `{endpoint}` took {cost} steps: {sql}");
    }

    let health = Health::Disabled { reason: "status 410".to_owned(), at: at(0) };
    let tail = Tail::load(&connection).unwrap();
    let give_up = |tx: &Connection| settle::give_up_disabled(&Tx::new(tx, &tail, 0), at(1)).unwrap();
    connection.execute_batch("BEGIN").unwrap();
    set_health(&connection, "disabled", &health);
    for _ in 0..2 {
        let (count, cost) = steps(&mut connection, give_up);
        assert_eq!(count, BATCH_MAX);
        assert!(cost < u64::from(BATCH_MAX) * STEPS_MAX, "to give up a batch took {cost} steps");
    }
    connection.execute_batch("ROLLBACK").unwrap();
    drop(connection);

    let store = SqliteStore::open(&path, &name).unwrap();
    let joining =
        Joining { node: "test".to_owned(), version: "1".to_owned(), lease: Duration::ZERO, former: None };
    store.join(&joining, at(0)).await.unwrap();
    let claim = async |endpoint: &str| store.claim_deliveries(endpoint, 4, OPEN, at(0)).await.unwrap();
    assert!(claim("gone").await.is_empty(), "its breaker is open");
    let claimed = claim("alive").await;
    assert_eq!(
        claimed.iter().map(|one| one.claim.id).collect::<Vec<_>>(),
        ["00000000-0000-4000-9000-000000000001".parse::<Uuid>().unwrap()]
    );
    let well = store.claim_next_in_order("well", OPEN, at(0)).await.unwrap();
    assert_eq!(well.unwrap().endpoint, "well");
    let probe = store.claim_deliveries("gone", 4, OPEN, at(600)).await.unwrap();
    assert_eq!(probe.len(), 1, "as many as are allowed, whatever waits");
}
