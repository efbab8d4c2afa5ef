//! Both backends remember the same things under the same names.

use std::collections::BTreeMap;

use orbit_store::sqlite::SqliteStore;
use rusqlite::Connection;

use super::cluster::{TestDatabase, connect};
use crate::conformance::world::namespace;

/// Tables, and the columns of each with a word for their kind.
type Schema = BTreeMap<String, BTreeMap<String, String>>;

/// What PostgreSQL has more, less, or otherwise; `0001_initial.sql` says why.
fn as_on_sqlite(mut schema: Schema) -> Schema {
    for columns in schema.values_mut() {
        assert_eq!(columns.remove("namespace").as_deref(), Some("text"));
    }
    // Records that have no position yet.
    assert!(schema.remove("log_pending").is_some());
    let mut is = |table: &str, column: &str, kind: &str| {
        schema.get_mut(table).unwrap().insert(column.to_owned(), kind.to_owned());
    };
    // The namespace is the key of what there is once.
    is("store", "namespace", "text");
    is("store", "one", "integer");
    is("notify_cursor", "one", "integer");
    // Tokens come out of a sequence.
    is("store", "claims", "integer");
    is("cycles", "queued", "integer");
    schema
}

async fn postgres() -> Schema {
    let database = TestDatabase::migrated().await;
    let client = connect(&database.owner()).await;
    let sql = "SELECT table_name::text, column_name::text, data_type::text FROM information_schema.columns
        WHERE table_schema = 'public' AND table_name <> 'migrations'";
    let mut schema = Schema::new();
    for row in client.query(sql, &[]).await.unwrap() {
        let kind = match row.get(2) {
            "bigint" => "integer",
            "double precision" => "real",
            "bytea" => "blob",
            "text" => "text",
            "boolean" => "truth",
            other => panic!("a column of kind `{other}`"),
        };
        schema.entry(row.get(0)).or_default().insert(row.get(1), kind.to_owned());
    }
    schema
}

fn sqlite() -> Schema {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("orbit.db");
    drop(SqliteStore::open(&file, &namespace()).unwrap());
    let connection = Connection::open(&file).unwrap();
    // `table_xinfo` has columns that are read out of others too.
    let sql = "SELECT m.name, c.name, lower(c.type) FROM sqlite_schema m, pragma_table_xinfo(m.name) c
        WHERE m.type = 'table' AND m.name <> 'migrations' AND m.name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
    let mut statement = connection.prepare(sql).unwrap();
    let rows =
        statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, String>(2)?))).unwrap();
    let mut schema = Schema::new();
    for row in rows {
        let (table, column, kind): (String, String, String) = row.unwrap();
        let kind = kind.strip_suffix(" generated always").unwrap_or(&kind).to_owned();
        schema.entry(table).or_default().insert(column, kind);
    }
    schema
}

#[tokio::test]
async fn tables_and_columns_are_the_same() {
    assert_eq!(as_on_sqlite(postgres().await), sqlite());
}
