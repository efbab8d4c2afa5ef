//! SQLite: the conformance suite in memory and on disk, and what only a file can show.

use std::os::unix::fs::PermissionsExt;

use orbit_core::config::NamespaceName;
use orbit_core::record::tree::{Frontier, NODE_LEVELS, leaf_hash};
use orbit_core::record::{Body, Kind, Record, Subject};
use orbit_store::StoreError;
use orbit_store::contract::record::RecordStore;
use orbit_store::contract::retention::{Older, RetentionStore};
use orbit_store::sqlite::SqliteStore;
use rusqlite::Connection;
use serde_json::json;

use crate::conformance::world::{World, at, log_is_whole, namespace};

mod in_memory {
    crate::conformance::conformance! {
        (orbit_store::sqlite::SqliteStore::in_memory(&crate::conformance::world::namespace()).unwrap(), ())
    }
}

mod on_disk {
    crate::conformance::conformance! {{
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("studio").join("orbit.db");
        let name = crate::conformance::world::namespace();
        (orbit_store::sqlite::SqliteStore::open(&path, &name).unwrap(), folder)
    }}
}

fn open(folder: &tempfile::TempDir) -> SqliteStore {
    SqliteStore::open(&folder.path().join("data/orbit.db"), &namespace()).unwrap()
}

fn raw(folder: &tempfile::TempDir) -> Connection {
    Connection::open(folder.path().join("data/orbit.db")).unwrap()
}

#[test]
fn a_new_file_is_the_owners_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let mode = |path: &str| std::fs::metadata(folder.path().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("data"), mode("data/orbit.db")), (0o700, 0o600));
    assert_eq!(mode("data/orbit.db-wal"), 0o600);
    drop(store);
    assert!(!folder.path().join("data/orbit.db-wal").exists(), "a store that is closed leaves one file");
    let pragma =
        |name: &str| raw(&folder).pragma_query_value(None, name, |row| row.get::<_, String>(0)).unwrap();
    assert_eq!(pragma("journal_mode"), "wal");
    assert_eq!(pragma("integrity_check"), "ok");
}

#[tokio::test]
async fn what_was_done_is_there_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let run_id = World::new(&store).dispatching(1, &["archive"], at(0)).await;
    let sending = World::new(&store).claim_delivery("archive", at(1)).await;
    let before = World::new(&store).log().await;
    drop(store);
    let store = open(&folder);
    let world = World::new(&store);
    assert_eq!(world.log().await, before);
    assert_eq!(world.state_of_run(run_id).await.0, "dispatching");
    assert_eq!(store_recovered(&world).await, 1);
    assert!(world.claim_delivery("archive", at(2)).await.claim.token > sending.claim.token);
    log_is_whole(&store).await;
}

async fn store_recovered(world: &World<'_>) -> u32 {
    world.store.recover(json!({}), at(2)).await.unwrap().attempts_unknown
}

#[tokio::test]
async fn the_log_is_append_only() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    World::new(&store).admitted(1, 1, at(0)).await;
    let connection = raw(&folder);
    let refused = |sql: &str| {
        let error = connection.execute(sql, ()).unwrap_err().to_string();
        assert!(error.contains("append-only"), "{sql}: {error}");
    };
    refused("UPDATE log_records SET header = '{}' WHERE position = 0");
    refused("DELETE FROM log_records WHERE position = 0");
    refused("DELETE FROM log_records");
    refused("UPDATE log_bodies SET body = '{}'");
    refused("DELETE FROM log_bodies WHERE position = 0");
    refused("INSERT OR REPLACE INTO log_records (position, header) SELECT position, header FROM log_records");
    refused("INSERT OR REPLACE INTO log_bodies (position, body) VALUES (0, '{}')");
    refused("INSERT INTO log_records (position, header) VALUES (99, '{}')");
    let tables: Vec<String> = connection
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE 'log\\_%' ESCAPE '\\'")
        .unwrap()
        .query_map((), |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(tables, ["log_records", "log_bodies"]);
    log_is_whole(&store).await;
}

#[test]
fn another_schema_or_namespace_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(&folder));
    let path = folder.path().join("data/orbit.db");
    let refusal = |name: &str| {
        let namespace = NamespaceName::parse(name).unwrap();
        SqliteStore::open(&path, &namespace).err().expect("refused")
    };
    let error = refusal("other");
    assert!(matches!(&error, StoreError::Corrupt { message, .. } if message.contains("`studio`")), "{error}");
    raw(&folder).execute("INSERT INTO migrations (number, checksum) VALUES (7, 'x')", ()).unwrap();
    let error = refusal("studio");
    assert!(matches!(error, StoreError::Newer { found: 7, known: 1, .. }), "{error}");
    raw(&folder).execute_batch("DELETE FROM migrations WHERE number = 7").unwrap();
    let other = format!("sha256:{}", "0".repeat(64));
    raw(&folder).execute("UPDATE migrations SET checksum = ?1", [other]).unwrap();
    let error = refusal("studio");
    assert!(
        matches!(&error, StoreError::Corrupt { message, .. } if message.contains("migration 1")),
        "{error}"
    );
}

#[test]
fn what_is_no_database_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orbit.db");
    std::fs::write(&path, "this is not a database, but a text of some length").unwrap();
    let error = SqliteStore::open(&path, &namespace()).err().expect("refused");
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    let error = SqliteStore::open(&path.join("below"), &namespace()).err().expect("refused");
    assert!(matches!(error, StoreError::Io { .. }), "{error}");
    assert!(error.to_string().contains("orbit.db"), "{error}");
}

/// Root over the headers, and every node that is kept, made anew.
fn tree_of(connection: &Connection) -> orbit_core::digest::Digest {
    let mut statement = connection.prepare("SELECT header FROM log_records ORDER BY position").unwrap();
    let mut frontier = Frontier::new();
    let mut nodes = 0;
    for header in statement.query_map((), |row| row.get::<_, String>(0)).unwrap() {
        frontier.push(leaf_hash(header.unwrap().as_bytes()), |level, index, hash| {
            if level > 0 && level.is_multiple_of(NODE_LEVELS) {
                let sql = "SELECT hash FROM log_nodes WHERE level = ?1 AND idx = ?2";
                let parameters = (level, i64::try_from(index).unwrap());
                let kept: [u8; 32] = connection.query_row(sql, parameters, |row| row.get(0)).unwrap();
                assert_eq!(kept, hash.0);
                nodes += 1;
            }
        });
    }
    let kept: u64 = connection.query_row("SELECT count(*) FROM log_nodes", (), |row| row.get(0)).unwrap();
    assert!(nodes > 0 && nodes == kept, "{nodes} of {kept}");
    frontier.root()
}

#[tokio::test]
async fn what_was_dropped_changes_no_proof_and_gives_its_space_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let seen = |number: u32| Record {
        at: at(0),
        kind: Kind::StepOutput,
        subject: Subject::default(),
        body: Body::Evidence {
            salt: [1; 16],
            value: json!({ "number": number, "text": "x".repeat(20_000) }),
        },
    };
    store.append((0..100).map(seen).collect()).await.unwrap();
    let before = tree_of(&raw(&folder));
    let older = Older { than: at(1), limit: 1000 };
    drop(store);
    let length = || std::fs::metadata(folder.path().join("data/orbit.db")).unwrap().len();
    let full = length();
    let store = open(&folder);
    assert_eq!(tree_of(&raw(&folder)), before);
    assert_eq!(store.drop_evidence(older, at(2)).await.unwrap().count, 100);
    while store.give_back(64).await.unwrap() > 0 {}
    drop(store);
    assert!(full > 2_000_000 && length() < full / 4, "{full} bytes before, {} after", length());
    // The only change of the tree is the record that tells of it.
    let connection = raw(&folder);
    let told: String = connection
        .query_row("SELECT header FROM log_records WHERE position = 100", (), |row| row.get(0))
        .unwrap();
    assert!(told.contains("bodies_dropped"), "{told}");
    let mut frontier = Frontier::new();
    let mut statement = connection.prepare("SELECT header FROM log_records WHERE position < 100").unwrap();
    for header in statement.query_map((), |row| row.get::<_, String>(0)).unwrap() {
        frontier.push(leaf_hash(header.unwrap().as_bytes()), |_, _, _| ());
    }
    assert_eq!(frontier.root(), before);
    tree_of(&connection);
    let bodies = "DELETE FROM log_bodies";
    assert!(connection.execute(bodies, ()).is_err(), "facts never leave");
}
