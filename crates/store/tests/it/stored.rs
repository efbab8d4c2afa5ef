//! Stores of earlier schemas, as their binaries left them, are brought up to date: nothing is lost, and work goes on.

use orbit_core::record::{Kind, Record, Subject};
use orbit_store::contract::quarantine::QuarantineStore;
use orbit_store::contract::rebuild::RebuildMode;
use orbit_store::contract::record::{RecordFilter, RecordStore};
use orbit_store::contract::retention::RetentionStore;
use orbit_store::contract::view::{PageRequest, StoreView};
use orbit_store::sqlite::compact::compact;
use orbit_store::sqlite::{SCHEMA, SqliteStore, inspect, schema_of};
use rusqlite::Connection;
use serde_json::json;

use crate::conformance::world::{at, log_is_whole};

/// A copy of the stored file in a folder of its own.
fn copy(number: u32) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("orbit.db");
    let stored = format!("{}/tests/stores/{number:04}.db", env!("CARGO_MANIFEST_DIR"));
    std::fs::copy(&stored, &file).unwrap();
    (folder, file)
}

fn headers(file: &std::path::Path) -> Vec<String> {
    let connection = Connection::open(file).unwrap();
    let mut statement = connection.prepare("SELECT header FROM log_records ORDER BY position").unwrap();
    statement.query_map((), |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

#[test]
fn there_is_a_store_of_every_earlier_schema() {
    for number in 1..SCHEMA {
        let (_folder, file) = copy(number);
        assert_eq!(schema_of(&file), Some(number));
        assert!(std::fs::metadata(&file).unwrap().len() < 200 * 1024);
    }
}

#[tokio::test]
async fn the_first_schema_is_brought_up_to_date() {
    let (folder, file) = copy(1);
    let before = headers(&file);
    assert!(before.len() > 32, "a log with nodes");
    let lab = orbit_core::config::NamespaceName::parse("lab").unwrap();
    let store = SqliteStore::open(&file, &lab).unwrap();
    assert_eq!(schema_of(&file), Some(SCHEMA));
    assert_eq!(schema_of(&folder.path().join("orbit.db.before-2")), Some(1));
    assert_eq!(headers(&folder.path().join("orbit.db.before-2")), before);
    assert_eq!(headers(&file), before);
    // What the file was made to hold, and what screens show of it.
    let count = |sql: &str| {
        let connection = Connection::open(&file).unwrap();
        connection.query_row(sql, (), |row| row.get::<_, u32>(0)).unwrap()
    };
    assert_eq!(count("SELECT count(*) FROM deliveries WHERE state = 'dead'"), 1);
    assert_eq!(count("SELECT count(*) FROM runs WHERE retry_of IS NOT NULL"), 1);
    assert_eq!(count("SELECT count(*) FROM endpoints WHERE state = 'open'"), 1);
    assert_eq!(count("SELECT count(*) FROM halts WHERE lifted_at IS NULL"), 1);
    assert!(count("SELECT count(*) FROM notices WHERE body IS NOT NULL") > 0);
    // Payloads that steps made are known as files.
    assert_eq!(
        count("SELECT count(*) FROM payloads WHERE content IS NULL AND dropped_at IS NULL"),
        count("SELECT count(DISTINCT digest) FROM steps")
    );
    assert!(count("SELECT count(*) FROM payloads") > 0);
    let page = || PageRequest { cursor: None, limit: 100 };
    assert!(!store.runs(None, page()).await.unwrap().items.is_empty());
    assert!(!store.cycles(page()).await.unwrap().items.is_empty());
    assert!(!store.initiations(page()).await.unwrap().items.is_empty());
    assert!(!store.deliveries(None, page()).await.unwrap().items.is_empty());
    assert!(store.quarantined().await.unwrap().is_empty());
    log_is_whole(&store).await;
    // The log goes on, and its tree is that of all headers, old and new.
    let fact = |_| Record::fact(at(0), Kind::NodeStarted, Subject::default(), json!({}));
    store.append((0..20).map(fact).collect()).await.unwrap();
    let records = store.records(RecordFilter::default(), u32::MAX).await.unwrap();
    assert_eq!(records.len(), before.len() + 20);
    drop(store);
    let mut tree = orbit_core::record::tree::Frontier::new();
    for header in headers(&file) {
        tree.push(orbit_core::record::tree::leaf_hash(header.as_bytes()), |_, _, _| ());
    }
    let held = inspect::inspect(&file).unwrap();
    assert_eq!((held.log_size, held.log_root, held.schema), (tree.size(), tree.root(), SCHEMA));
    // Its records tell less than those of today; what they leave open is taken from the rows.
    let store = SqliteStore::open(&file, &lab).unwrap();
    let found = store.rebuild(RebuildMode::Compare, at(0), std::sync::Arc::new(|_, _| ())).await.unwrap();
    assert_eq!(found.differing(), 0, "{found:?}");
    drop(store);
    // Opened again there is nothing to do.
    std::fs::remove_file(folder.path().join("orbit.db.before-2")).unwrap();
    drop(SqliteStore::open(&file, &lab).unwrap());
    assert!(!folder.path().join("orbit.db.before-2").exists());
}

#[tokio::test]
async fn a_store_that_never_shrank_gives_its_space_back() {
    let (folder, file) = copy(1);
    let lab = orbit_core::config::NamespaceName::parse("lab").unwrap();
    let pages = |pragma: &str| {
        let connection = Connection::open(&file).unwrap();
        connection.query_row(&format!("PRAGMA {pragma}"), (), |row| row.get::<_, u32>(0)).unwrap()
    };
    let padding = |bytes: u32| {
        Connection::open(&file).unwrap().execute_batch(&format!(
            "CREATE TABLE padding (x BLOB); INSERT INTO padding VALUES (zeroblob({bytes})); DROP TABLE padding;"
        ))
    };
    padding(2_000_000).unwrap();
    drop(SqliteStore::open(&file, &lab).unwrap());
    let before = headers(&file);
    assert_eq!(pages("auto_vacuum"), 0);
    assert!(pages("freelist_count") > 3000);
    // Somebody looks into it: nothing is done.
    let reader = Connection::open(&file).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM log_records").unwrap();
    let refused = compact(&file, |_, _| ()).unwrap_err().to_string();
    assert!(refused.contains("another process") || refused.contains("locked"), "{refused}");
    drop(reader);
    // A crash left half of one.
    std::fs::write(folder.path().join("orbit.db.compact"), "half").unwrap();
    let done = compact(&file, |_, _| ()).unwrap();
    assert!(done.bytes_before > 2_000_000 && done.bytes_after < 500_000, "{done:?}");
    assert_eq!(std::fs::metadata(&file).unwrap().len(), done.bytes_after);
    assert_eq!((pages("auto_vacuum"), pages("freelist_count")), (2, 0));
    assert!(!folder.path().join("orbit.db.compact").exists());
    assert_eq!(headers(&file), before);
    // It is the same store, and from now on it gives back what it does not need.
    let store = SqliteStore::open(&file, &lab).unwrap();
    log_is_whole(&store).await;
    padding(2_000_000).unwrap();
    assert_eq!(store.give_back(u32::MAX).await.unwrap(), 0);
    drop(store);
    assert!(std::fs::metadata(&file).unwrap().len() < 500_000);
    std::fs::write(folder.path().join("other.db"), "").unwrap();
    let refused = compact(&folder.path().join("other.db"), |_, _| ()).unwrap_err().to_string();
    assert!(refused.contains("no store"), "{refused}");
}
