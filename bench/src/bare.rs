//! The limit of runs a second: a bare program that commits the same rows and bytes in group commits.
//!
//! The rows are those of a store that an engine has filled, with the same tables, indexes and triggers and the same settings of the database. They
//! are in memory before the clock starts, and are only inserted: nothing is read, changed, decided, hashed or sent.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, params_from_iter};

/// Everything that a store holds.
pub(crate) struct Rows {
    schema: Vec<String>,
    tables: Vec<Table>,
}

struct Table {
    insert: String,
    rows: Vec<Vec<Value>>,
}

impl Rows {
    /// Reads a store that nobody has open.
    pub(crate) fn read(database: &Path) -> anyhow::Result<Self> {
        let connection = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let sql =
            "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY rowid";
        let schema =
            connection.prepare(sql)?.query_map((), |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
        let sql = "SELECT name, sql LIKE '%WITHOUT ROWID%' FROM sqlite_schema
            WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY rowid";
        let names = connection
            .prepare(sql)?
            .query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<Vec<(String, bool)>, _>>()?;
        let tables =
            names.iter().map(|(name, keyed)| table(&connection, name, *keyed)).collect::<Result<_, _>>()?;
        Ok(Self { schema, tables })
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.tables.iter().map(|table| table.rows.len()).sum()
    }

    /// Inserts all of them into a new database, a slice of every table in each of so many commits; how long that took.
    pub(crate) fn commit(&self, below: &Path, commits: usize) -> anyhow::Result<Duration> {
        let folder = tempfile::tempdir_in(below)?;
        let connection = database(&folder.path().join("bare.db"))?;
        for statement in &self.schema {
            connection.execute_batch(statement).with_context(|| statement.clone())?;
        }
        let began = Instant::now();
        for commit in 0..commits {
            connection.execute_batch("BEGIN IMMEDIATE")?;
            for table in &self.tables {
                let of = |number: usize| table.rows.len() * number / commits;
                let mut insert = connection.prepare_cached(&table.insert)?;
                for row in &table.rows[of(commit)..of(commit + 1)] {
                    insert.execute(params_from_iter(row))?;
                }
            }
            connection.execute_batch("COMMIT")?;
        }
        Ok(began.elapsed())
    }
}

/// A database with the settings of a store.
pub(crate) fn database(path: &Path) -> anyhow::Result<Connection> {
    let connection = Connection::open(path)?;
    orbit_store::sqlite::configure_writer(&connection)?;
    connection.pragma_update(None, "foreign_keys", false)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// In the order in which the rows were made, where it is known.
fn table(connection: &Connection, name: &str, keyed: bool) -> anyhow::Result<Table> {
    let columns = connection
        .prepare(&format!("PRAGMA table_info({name})"))?
        .query_map((), |row| row.get("name"))?
        .collect::<Result<Vec<String>, _>>()?;
    let places = vec!["?"; columns.len()].join(", ");
    let columns = columns.join(", ");
    let order = if keyed { "random()" } else { "rowid" };
    let mut select = connection.prepare(&format!("SELECT {columns} FROM {name} ORDER BY {order}"))?;
    let width = select.column_count();
    let rows = select
        .query_map((), |row| (0..width).map(|place| row.get(place)).collect::<Result<Vec<Value>, _>>())?
        .collect::<Result<_, _>>()?;
    Ok(Table { insert: format!("INSERT INTO {name} ({columns}) VALUES ({places})"), rows })
}
