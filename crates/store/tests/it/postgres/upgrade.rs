//! Another schema: it is not made while nodes work, and whoever knows only the one before writes nothing to it.

use orbit_core::record::{Kind, Record, Subject};
use orbit_store::StoreError;
use orbit_store::contract::node::{Load, NodeStore as _};
use orbit_store::contract::record::RecordStore as _;
use orbit_store::postgres::{PostgresStore, SCHEMA, migrate, pending};
use serde_json::Map;
use tokio_postgres::Client;

use super::cluster::{TestDatabase, connect};
use crate::conformance::world::{World, at, joining, namespace};

/// A schema that no binary of today knows.
const NEXT: &str =
    "INSERT INTO migrations (number, checksum) SELECT max(number) + 1, min(checksum) FROM migrations";
/// Everything that a node could have changed.
const ROWS: &str = "SELECT concat((SELECT string_agg(store::text, '|') FROM store), '#', (SELECT string_agg(nodes::text, '|') FROM nodes), '#',
    (SELECT count(*) FROM log_records), '#', (SELECT count(*) FROM log_pending))";

/// A database whose newest migration is to come, or so it says, by an owner that row-level security binds.
async fn older() -> (TestDatabase, String) {
    let database = TestDatabase::empty().await;
    let sql = "CREATE ROLE upgrader LOGIN CREATEROLE;
        DO $$ BEGIN EXECUTE format('ALTER DATABASE %I OWNER TO upgrader', current_database()); END $$";
    connect(&database.owner()).await.batch_execute(sql).await.unwrap();
    let owner = database.role("upgrader");
    migrate(&owner).await.unwrap();
    let session = connect(&owner).await;
    session.execute("DELETE FROM migrations WHERE number = $1", &[&i64::from(SCHEMA)]).await.unwrap();
    (database, owner)
}

/// A node of a binary of that time, whose lease lasts so long.
async fn works(database: &TestDatabase, namespace: &str, node: &str, seconds: i64) {
    let sql = format!(
        "INSERT INTO nodes (namespace, epoch, node, version, schema, started_at, lease_ms, expires_at)
        SELECT '{namespace}', {seconds} + 1000, '{node}', '0.0.9', 1, 0, 15000, (extract(epoch FROM now()) * 1000000)::bigint + {seconds} * 1000000"
    );
    connect(&database.owner()).await.batch_execute(&sql).await.unwrap();
}

#[tokio::test]
async fn a_schema_stays_while_a_node_works_with_it() {
    let (database, owner) = older().await;
    works(&database, "studio", "north", 600).await;
    works(&database, "lab", "north", 601).await;
    works(&database, "lab", "gone", -1).await;
    let looked = pending(&owner).await.unwrap();
    let [north] = &looked.nodes[..] else { panic!("one of them is there: {looked:?}") };
    assert_eq!((&*north.node, &*north.version, north.namespaces), ("north", "0.0.9", 2));
    assert!((1..=601_000).contains(&north.lease_ms), "{north:?}");
    let refused = migrate(&owner).await.unwrap_err();
    let StoreError::Refused { message, .. } = &refused else { panic!("{refused}") };
    let expected =
        "its schema stays 1 while nodes work with it: `north` (version 0.0.9, 2 namespaces, its lease lasts ";
    assert!(message.starts_with(expected), "{message}");
    let session = connect(&owner).await;
    let is_forced = "SELECT relforcerowsecurity FROM pg_class WHERE relname = 'nodes'";
    assert!(session.query_one(is_forced, &[]).await.unwrap().get::<_, bool>(0));
    let made = session.query_one("SELECT max(number) FROM migrations", &[]).await.unwrap();
    assert_eq!(made.get::<_, i64>(0), 1, "nothing was changed");

    let over = "UPDATE nodes SET expires_at = 0";
    connect(&database.owner()).await.batch_execute(over).await.unwrap();
    // It goes on then, and as far as it can where everything is there already.
    let error = migrate(&owner).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Io { message, .. } if message.contains("already exists")),
        "{error}"
    );
    assert!(pending(&owner).await.unwrap().nodes.is_empty());
    assert!(session.query_one(is_forced, &[]).await.unwrap().get::<_, bool>(0));
}

fn is_newer<T>(answer: Result<T, StoreError>) {
    match answer {
        Err(StoreError::Newer { found, known, .. }) => assert_eq!((found, known), (SCHEMA + 1, SCHEMA)),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it goes on"),
    }
}

/// A store whose database is nobody else's.
async fn served() -> (PostgresStore, TestDatabase) {
    let database = TestDatabase::migrated().await;
    (PostgresStore::open(&database.runtime(), &namespace()).await.unwrap(), database)
}

async fn rows(owner: &Client) -> String {
    owner.query_one(ROWS, &[]).await.unwrap().get(0)
}

fn record() -> Vec<Record> {
    vec![Record::fact(at(0), Kind::NodeStarted, Subject::default(), Map::new().into())]
}

#[tokio::test]
async fn a_node_that_meets_a_newer_schema_writes_nothing_more() {
    let (node, database) = served().await;
    World::new(&node).join(at(0)).await;
    // One that has a connection already, and one that has not.
    let waiting = PostgresStore::open(&database.runtime(), &namespace()).await.unwrap();
    waiting.append(record()).await.unwrap();
    let owner = connect(&database.owner()).await;
    owner.batch_execute(NEXT).await.unwrap();
    let before = rows(&owner).await;
    is_newer(node.renew(Load::default()).await);
    is_newer(node.append(record()).await);
    is_newer(node.leave().await);
    is_newer(waiting.join(&joining("late"), at(0)).await);
    is_newer(waiting.append(record()).await);
    assert_eq!(rows(&owner).await, before);
    is_newer(PostgresStore::open(&database.runtime(), &namespace()).await);
    owner.batch_execute(&format!("DELETE FROM migrations WHERE number > {SCHEMA}")).await.unwrap();
    is_newer(node.append(record()).await);
}

#[tokio::test]
async fn a_connection_that_is_made_later_meets_it_too() {
    let (node, database) = served().await;
    let owner = connect(&database.owner()).await;
    node.append(record()).await.unwrap();
    owner.batch_execute(NEXT).await.unwrap();
    let before = rows(&owner).await;
    let cut = "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    owner.query_one(cut, &[]).await.unwrap();
    is_newer(node.append(record()).await);
    assert_eq!(rows(&owner).await, before);
}

#[tokio::test]
async fn whoever_joins_during_a_migration_finds_the_schema_that_it_made() {
    let (node, database) = served().await;
    let (mut migrating, owner) = (connect(&database.owner()).await, connect(&database.owner()).await);
    let migration = migrating.transaction().await.unwrap();
    migration.batch_execute("ALTER TABLE nodes NO FORCE ROW LEVEL SECURITY").await.unwrap();
    let joins = tokio::spawn(async move { node.join(&joining("late"), at(0)).await.map(drop) });
    let waits = "SELECT count(*) FROM pg_locks WHERE relation = 'nodes'::regclass AND NOT granted";
    while owner.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        tokio::task::yield_now().await;
    }
    migration.batch_execute(&format!("{NEXT}; ALTER TABLE nodes FORCE ROW LEVEL SECURITY")).await.unwrap();
    migration.commit().await.unwrap();
    is_newer(joins.await.unwrap());
    let nodes = owner.query_one("SELECT count(*) FROM nodes", &[]).await.unwrap();
    assert_eq!(nodes.get::<_, i64>(0), 0);
}
