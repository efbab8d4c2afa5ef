//! Stores move to the other backend and back, at any moment of their life, and go on there as if nothing had been.

use std::path::Path;

use orbit_store::StoreError;
use orbit_store::postgres::PostgresStore;
use orbit_store::sqlite::SqliteStore;
use orbit_store::sqlite::verify::{Request, verify};
use orbit_store::transfer::{End, Found, Moved, Progress, TransferError, look, transfer};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::Value;
use tokio::sync::Notify;

use super::cluster::{TestDatabase, connect};
use super::twins::told;
use crate::conformance::world::{World, log_is_whole, namespace};
use crate::history::{Call, History, calls};

/// Each of them costs three stores and two moves.
const CASES: u32 = 6;

async fn moved(from: End<'_>, to: End<'_>) -> Result<Moved, TransferError> {
    transfer(from, to, &namespace(), &mut |_| ()).await
}

/// Nothing in the file contradicts anything.
fn is_sound(file: &Path) {
    let report = verify(
        &Request { database: file, blobs: None, against: None, key: None, positioned: None },
        &mut |_| (),
    );
    let report = report.unwrap();
    assert_eq!(report.faults.count, 0, "{:?}", report.faults.kept);
}

async fn there_and_back(before: Vec<Call>, after: Vec<Call>) {
    let folder = tempfile::tempdir().unwrap();
    let (first, last) = (folder.path().join("first.db"), folder.path().join("last.db"));
    let database = TestDatabase::migrated().await;
    let stays = SqliteStore::in_memory(&namespace()).unwrap();
    let (mut here, mut there) = (History::default(), History::default());
    let leaves = SqliteStore::open(&first, &namespace()).unwrap();
    for call in before {
        here.call(&stays, call.clone()).await;
        there.call(&leaves, call).await;
    }
    drop(leaves);
    let gone = moved(End::Sqlite(&first), End::Postgres(&database.owner())).await.unwrap();
    let store = PostgresStore::open(&database.runtime(), &namespace()).await.unwrap();
    // Who goes on there has to join first.
    for call in [Call::Join].into_iter().chain(after) {
        here.call(&stays, call.clone()).await;
        there.call(&store, call).await;
    }
    let expected = told(&World::new(&stays)).await;
    agree(&told(&World::new(&store)).await, &expected);
    log_is_whole(&store).await;
    drop(store);
    let owner = database.owner();
    let refused = moved(End::Postgres(&owner), End::Sqlite(&last)).await.unwrap_err().to_string();
    assert!(refused.contains("works on the store"), "{refused}");
    connect(&owner).await.batch_execute("UPDATE nodes SET expires_at = 0").await.unwrap();
    let back = moved(End::Postgres(&owner), End::Sqlite(&last)).await.unwrap();
    assert!(back.size >= gone.size && back.rows == back.copied, "{back:?}");
    is_sound(&last);
    let store = SqliteStore::open(&last, &namespace()).unwrap();
    agree(&told(&World::new(&store)).await, &expected);
    log_is_whole(&store).await;
}

/// Record by record, so that the first difference is what is shown.
fn agree(found: &[Value], expected: &[Value]) {
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), expected.len());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, max_shrink_iters: 32, ..ProptestConfig::default() })]

    #[test]
    fn a_store_goes_on_where_it_was_moved_to(before in calls(), after in calls()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(there_and_back(before, after));
    }
}

/// A file in which a good deal has happened.
async fn filled(file: &Path, rounds: u32) {
    let store = SqliteStore::open(file, &namespace()).unwrap();
    let mut history = History::default();
    let mut runner = TestRunner::deterministic();
    for _ in 0..rounds {
        for call in calls().new_tree(&mut runner).unwrap().current() {
            history.call(&store, call).await;
        }
    }
}

#[tokio::test]
async fn a_move_that_is_broken_off_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("orbit.db");
    filled(&file, 4).await;
    let database = TestDatabase::migrated().await;
    let (mut tries, mut copied) = (0, 0);
    let moved = loop {
        tries += 3;
        // Each try is ended three steps later than the one before.
        let (mut steps, enough) = (0, Notify::new());
        let mut progress = |_: Progress| {
            steps += 1;
            if steps == tries {
                enough.notify_one();
            }
        };
        let (owner, name) = (database.owner(), namespace());
        let ended = tokio::select! {
            biased;
            () = enough.notified() => None,
            moved = transfer(End::Sqlite(&file), End::Postgres(&owner), &name, &mut progress) => Some(moved),
        };
        if let Some(moved) = ended {
            break moved.unwrap();
        }
        match PostgresStore::open(&database.runtime(), &name).await.err() {
            Some(StoreError::Refused { message, .. }) => {
                assert!(message.contains("arriving"), "{message}");
            }
            // Before its mark, and after the last step.
            other => assert!(other.is_none() && (copied == 0 || steps > 20), "{other:?}"),
        }
        copied = copied.max(steps);
    };
    assert!(tries > 20 && moved.copied < moved.rows, "{tries} tries, {moved:?}");
    PostgresStore::open(&database.runtime(), &namespace()).await.unwrap();
}

#[tokio::test]
async fn what_is_moved_is_served_once() {
    let folder = tempfile::tempdir().unwrap();
    let (file, other) = (folder.path().join("orbit.db"), folder.path().join("other.db"));
    filled(&file, 4).await;
    filled(&other, 3).await;
    let database = TestDatabase::migrated().await;
    let owner = database.owner();
    let first = moved(End::Sqlite(&file), End::Postgres(&owner)).await.unwrap();
    assert!(first.rows > 50 && first.rows == first.copied, "{first:?}");
    let refused = |result: Result<(), StoreError>| {
        let error = result.unwrap_err();
        assert!(matches!(error, StoreError::Refused { .. }) && error.to_string().contains("gone"), "{error}");
    };
    refused(SqliteStore::open(&file, &namespace()).map(drop));
    assert_eq!(look(End::Sqlite(&file), &namespace()).await.unwrap(), Found::Gone);
    assert_eq!(look(End::Postgres(&owner), &namespace()).await.unwrap(), Found::Whole);
    // Once more is answered as what it was.
    let again = moved(End::Sqlite(&file), End::Postgres(&owner)).await.unwrap();
    assert_eq!(again, Moved { rows: 0, copied: 0, before: true, ..first.clone() });
    let empty = TestDatabase::migrated().await;
    let error = moved(End::Sqlite(&file), End::Postgres(&empty.owner())).await.unwrap_err();
    assert!(matches!(error, TransferError::Marked { .. }), "{error}");
    assert_eq!(look(End::Postgres(&empty.owner()), &namespace()).await.unwrap(), Found::Nothing);
    let error = moved(End::Sqlite(&other), End::Postgres(&owner)).await.unwrap_err();
    assert!(matches!(error, TransferError::Occupied { .. }), "{error}");
    let error = moved(End::Postgres(&owner), End::Sqlite(&file)).await.unwrap_err();
    assert!(matches!(error, TransferError::Left { .. }), "{error}");
    // The source was not marked: a crash came before. The next try finds everything there.
    rusqlite::Connection::open(&file).unwrap().execute("UPDATE store SET moved = NULL", ()).unwrap();
    let again = moved(End::Sqlite(&file), End::Postgres(&owner)).await.unwrap();
    assert_eq!(again, Moved { copied: 0, ..first });
    refused(SqliteStore::open(&file, &namespace()).map(drop));
}

#[tokio::test]
async fn a_target_that_was_changed_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("orbit.db");
    filled(&file, 4).await;
    let source = || rusqlite::Connection::open(&file).unwrap();
    let database = TestDatabase::migrated().await;
    let (owner, client) = (database.owner(), connect(&database.owner()).await);
    moved(End::Sqlite(&file), End::Postgres(&owner)).await.unwrap();
    for (change, undo, table) in [
        ("UPDATE steps SET attempts = attempts + 7", "UPDATE steps SET attempts = attempts - 7", "steps"),
        ("UPDATE cycles SET queued = NOT queued", "UPDATE cycles SET queued = NOT queued", "cycles"),
        ("UPDATE initiations SET weight = -weight", "UPDATE initiations SET weight = -weight", "initiations"),
    ] {
        client.batch_execute(change).await.unwrap();
        source().execute("UPDATE store SET moved = NULL", ()).unwrap();
        let error = moved(End::Sqlite(&file), End::Postgres(&owner)).await.unwrap_err().to_string();
        assert!(error.contains(&format!("`{table}` differs")), "{error}");
        client.batch_execute(undo).await.unwrap();
    }
}
