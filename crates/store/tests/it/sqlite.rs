//! SQLite: the conformance suite in memory and on disk, and what only a file can show.

use std::os::unix::fs::PermissionsExt;

use orbit_core::config::NamespaceName;
use orbit_core::record::tree::{Frontier, is_kept, leaf_hash};
use orbit_core::record::{Begin, Body, Kind, Record, Seed, Subject};
use orbit_store::StoreError;
use orbit_store::contract::log::LogStore as _;
use orbit_store::contract::record::{RecordFilter, RecordStore};
use orbit_store::contract::retention::{Older, RetentionStore};
use orbit_store::sqlite::SqliteStore;
use rusqlite::Connection;
use rusqlite::types::Value;
use serde_json::json;

use crate::conformance::world::{World, at, log_is_whole, namespace};

mod in_memory {
    crate::conformance::conformance! {
        (orbit_store::sqlite::SqliteStore::in_memory(&crate::conformance::world::namespace()).unwrap(), ())
    }
    // Not every store has pages to give back.
    crate::conformance::conformance! {
        (orbit_store::sqlite::SqliteStore::in_memory(&crate::conformance::world::namespace()).unwrap(), ());
        retention::{ free_pages_go_back }
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
    World::new(&store).join(at(0)).await;
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
    world.join(at(2)).await.attempts_unknown
}

/// Rows of one column.
fn texts(connection: &Connection, sql: &str) -> Vec<String> {
    let mut statement = connection.prepare(sql).unwrap();
    statement.query_map((), |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

/// A store with a row in every table of its log; the last two of 18 records are evidence, and the first of them has a tombstone.
async fn with_a_full_log(folder: &tempfile::TempDir) -> SqliteStore {
    let store = open(folder);
    let record = |body| Record { at: at(0), kind: Kind::NodeStarted, subject: Subject::default(), body };
    let fact = || record(Body::Fact(json!({})));
    let evidence = |salt| record(Body::Evidence { salt: [salt; 16], value: json!({ "tail": "text" }) });
    let mut records: Vec<_> = std::iter::repeat_with(fact).take(16).collect();
    records.extend([evidence(1), evidence(2)]);
    store.append(records).await.unwrap();
    raw(folder)
        .execute_batch(
            "INSERT INTO log_signers (number, origin, vkey, size) VALUES (0, 'orbit/studio/0', 'key', 0);
            INSERT INTO log_checkpoints (number, size, root, note) VALUES (0, 18, zeroblob(32), 'note');
            INSERT INTO log_tombstones (position, told_at) VALUES (16, 15), (3, 15);",
        )
        .unwrap();
    store
}

#[tokio::test]
async fn the_log_is_append_only() {
    let folder = tempfile::tempdir().unwrap();
    let store = with_a_full_log(&folder).await;
    let connection = raw(&folder);
    let dump = |table: &str| {
        let mut statement = connection.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let columns = statement.column_count();
        let values = |row: &rusqlite::Row<'_>| (0..columns).map(|at| row.get::<_, Value>(at)).collect();
        statement.query_map((), values).unwrap().collect::<Result<Vec<Vec<_>>, _>>().unwrap()
    };
    let refused = |sql: &str| {
        let error = connection.execute(sql, ()).unwrap_err().to_string();
        assert!(error.contains("append-only"), "{sql}: {error}");
    };
    let tables = texts(
        &connection,
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE 'log\\_%' ESCAPE '\\' ORDER BY name",
    );
    assert_eq!(
        tables,
        ["log_bodies", "log_checkpoints", "log_nodes", "log_records", "log_signers", "log_tombstones"]
    );
    for table in &tables {
        let before = dump(table);
        assert!(!before.is_empty(), "{table} has rows to protect");
        // Without the columns that are read out of the header: nobody can write those.
        let columns = texts(&connection, &format!("SELECT name FROM pragma_table_info('{table}')"));
        for column in &columns {
            refused(&format!("UPDATE {table} SET {column} = {column}"));
            refused(&format!("UPDATE OR REPLACE {table} SET {column} = {column}"));
        }
        refused(&format!("DELETE FROM {table}"));
        let columns = columns.join(", ");
        refused(&format!("INSERT OR REPLACE INTO {table} ({columns}) SELECT {columns} FROM {table}"));
        refused(&format!("REPLACE INTO {table} ({columns}) SELECT {columns} FROM {table} LIMIT 1"));
        assert_eq!(dump(table), before, "{table}");
    }
    refused("DELETE FROM log_records WHERE position = 0");
    refused("DELETE FROM log_bodies WHERE position = 0");
    refused("INSERT OR REPLACE INTO log_bodies (position, body) VALUES (0, '{}')");
    refused("INSERT INTO log_records (position, header) VALUES (99, '{}')");
    refused("INSERT INTO log_signers (number, origin, vkey, size) VALUES (2, 'o', 'k', 0)");
    refused("INSERT INTO log_checkpoints (number, size, root, note) VALUES (2, 20, zeroblob(32), '')");
    // A new number would replace the checkpoint that has its size.
    refused(
        "INSERT OR REPLACE INTO log_checkpoints (number, size, root, note) VALUES (1, 18, zeroblob(32), '')",
    );
    refused("INSERT INTO log_checkpoints (number, size, root, note) VALUES (1, 17, zeroblob(32), '')");
    log_is_whole(&store).await;
}

#[tokio::test]
async fn a_restored_log_goes_on_under_a_new_name() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let signer = |origin: &str| Seed::new([1; 32]).signer("studio", origin).unwrap();
    let (old, new) = (signer("orbit/studio/0000000000000000"), signer("orbit/studio/1111111111111111"));
    store.begin_signing(Begin::First(old.clone()), at(0)).await.unwrap();
    let ended = store.checkpoint(&old).await.unwrap().unwrap();
    drop(store);
    raw(&folder).execute("UPDATE store SET restored_at = 5000000", ()).unwrap();
    let store = open(&folder);
    assert_eq!(store.restored_at().await.unwrap(), Some("1970-01-01T00:00:05Z".parse().unwrap()));
    let begun = store.begin_signing(Begin::Restored(new.clone()), at(1)).await.unwrap();
    assert_eq!((begun.number, begun.size, &*begun.origin), (1, 1, new.verifier().name()));
    assert_eq!(store.restored_at().await.unwrap(), None);
    let told = World::new(&store).log_of("log_restored").await.pop().unwrap().body;
    let expected = json!({
        "restored_at": "1970-01-01T00:00:05Z", "old_origin": old.verifier().name(), "old_size": 1, "old_root": ended.root,
        "origin": new.verifier().name(), "vkey": new.verifier().to_string(),
    });
    assert_eq!(told, expected);
    let goes_on = store.checkpoint(&new).await.unwrap().unwrap();
    assert_eq!((goes_on.number, goes_on.size), (1, 2));
}

#[tokio::test]
async fn only_evidence_with_a_tombstone_leaves_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let store = with_a_full_log(&folder).await;
    let connection = raw(&folder);
    let delete = |position: u32| {
        connection
            .execute("DELETE FROM log_bodies WHERE position = ?1", [position])
            .map_err(|error| error.to_string())
    };
    let refused = |position: u32| {
        let error = delete(position).unwrap_err();
        assert!(error.contains("only evidence with a tombstone"), "{position}: {error}");
    };
    refused(0);
    // A fact stays even where somebody made a tombstone for it.
    refused(3);
    refused(17);
    assert_eq!(delete(16), Ok(1));
    assert_eq!(connection.query_row("SELECT count(*) FROM log_records", (), |row| row.get(0)), Ok(18));
    let bodies = store.records(RecordFilter::default(), 100).await.unwrap();
    let gone: Vec<_> = bodies.iter().filter(|record| record.body.is_null()).map(|one| one.position).collect();
    assert_eq!(gone, [16]);
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
    let newest: u32 =
        raw(&folder).query_row("SELECT max(number) FROM migrations", (), |row| row.get(0)).unwrap();
    assert_eq!(newest, 2);
    raw(&folder).execute("INSERT INTO migrations (number, checksum) VALUES (7, 'x')", ()).unwrap();
    let error = refusal("studio");
    assert!(matches!(error, StoreError::Newer { found: 7, known, .. } if known == newest), "{error}");
    raw(&folder).execute_batch("DELETE FROM migrations WHERE number = 7").unwrap();
    for number in 1..=newest {
        let connection = raw(&folder);
        let sql = "SELECT checksum FROM migrations WHERE number = ?1";
        let whole: String = connection.query_row(sql, [number], |row| row.get(0)).unwrap();
        let other = format!("sha256:{}", "0".repeat(64));
        let change = "UPDATE migrations SET checksum = ?1 WHERE number = ?2";
        connection.execute(change, rusqlite::params![other, number]).unwrap();
        let error = refusal("studio");
        let named = format!("migration {number} ");
        assert!(matches!(&error, StoreError::Corrupt { message, .. } if message.contains(&named)), "{error}");
        connection.execute(change, rusqlite::params![whole, number]).unwrap();
    }
    drop(open(&folder));
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
            if is_kept(level) {
                let sql = "SELECT hash FROM log_nodes WHERE level = ?1 AND idx = ?2";
                let parameters = (level, i64::try_from(index).unwrap());
                let kept: [u8; 32] = connection.query_row(sql, parameters, |row| row.get(0)).unwrap();
                assert_eq!(kept, hash.0);
                nodes += 1;
            }
        });
    }
    let kept: i64 = connection.query_row("SELECT count(*) FROM log_nodes", (), |row| row.get(0)).unwrap();
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
