//! The limit of runs a second: a bare program that inserts the same rows over as many connections.
//!
//! The rows are those of a store that an engine has filled, and so are the tables and indexes. They are in memory before the clock starts, and are only
//! inserted, each transaction with its statements in one round trip: nothing is read, changed, decided, hashed or sent. Triggers, foreign keys and row-level
//! security are not in force for it, and records are written once, where they end up.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::{try_join_all, try_join3};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row, Statement};

use super::server::Server;

/// Everything that a store holds.
pub(super) struct Rows {
    tables: Vec<Table>,
    /// Of so many runs.
    pub(super) runs: usize,
    /// How many rows there are.
    pub(super) count: usize,
    /// Their bytes, as they are sent.
    pub(super) bytes: usize,
}

struct Table {
    insert: String,
    rows: Vec<Vec<Value>>,
}

#[derive(Debug)]
enum Value {
    Text(Option<String>),
    Integer(Option<i64>),
    Real(Option<f64>),
    Truth(Option<bool>),
    Bytes(Option<Vec<u8>>),
}

impl Value {
    fn read(row: &Row, place: usize) -> anyhow::Result<Self> {
        Ok(match *row.columns()[place].type_() {
            Type::TEXT => Self::Text(row.try_get(place)?),
            Type::INT8 => Self::Integer(row.try_get(place)?),
            Type::FLOAT8 => Self::Real(row.try_get(place)?),
            Type::BOOL => Self::Truth(row.try_get(place)?),
            Type::BYTEA => Self::Bytes(row.try_get(place)?),
            ref other => anyhow::bail!("a column of type {other}"),
        })
    }

    fn parameter(&self) -> &(dyn ToSql + Sync) {
        match self {
            Self::Text(value) => value,
            Self::Integer(value) => value,
            Self::Real(value) => value,
            Self::Truth(value) => value,
            Self::Bytes(value) => value,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Text(value) => value.as_ref().map_or(0, String::len),
            Self::Integer(_) | Self::Real(_) => 8,
            Self::Truth(_) => 1,
            Self::Bytes(value) => value.as_ref().map_or(0, Vec::len),
        }
    }
}

impl Rows {
    /// Reads what so many runs have left.
    pub(super) async fn read(server: &Server, database: &str, runs: usize) -> anyhow::Result<Self> {
        let client = server.client(database).await?;
        let names = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'migrations' ORDER BY 1";
        let mut tables = Vec::new();
        for row in client.query(names, &[]).await? {
            tables.push(table(&client, row.try_get(0)?).await?);
        }
        let count = tables.iter().map(|table| table.rows.len()).sum();
        let bytes = tables.iter().flat_map(|table| &table.rows).flatten().map(Value::bytes).sum();
        Ok(Self { tables, runs, count, bytes })
    }

    /// A part of it for each run.
    pub(super) fn each(&self, number: usize) -> f64 {
        number as f64 / self.runs as f64
    }

    /// Inserts all of them into a new database over so many connections, a slice of every table in each of so many commits; how long that took.
    pub(super) async fn commit(
        &self,
        server: &Server,
        (connections, commits): (usize, usize),
    ) -> anyhow::Result<Duration> {
        let database = server.database().await?;
        let mut clients = Vec::new();
        for _ in 0..connections {
            let client = server.client(&database).await?;
            // No trigger and no foreign key.
            client.batch_execute("SET session_replication_role = replica").await?;
            let statements = self.tables.iter().map(|table| client.prepare(&table.insert));
            let statements = try_join_all(statements).await?;
            clients.push((client, statements));
        }
        let next = AtomicUsize::new(0);
        let began = Instant::now();
        let work = clients.iter().map(async |(client, statements)| -> anyhow::Result<()> {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= commits {
                    return Ok(());
                }
                self.slice(client, statements, (number, commits)).await?;
            }
        });
        try_join_all(work).await?;
        let took = began.elapsed();
        drop(clients);
        server.drop(&database).await?;
        Ok(took)
    }

    async fn slice(
        &self,
        client: &Client,
        statements: &[Statement],
        (number, commits): (usize, usize),
    ) -> anyhow::Result<()> {
        let mut inserts = Vec::new();
        for (table, statement) in self.tables.iter().zip(statements) {
            let of = |number: usize| table.rows.len() * number / commits;
            for row in &table.rows[of(number)..of(number + 1)] {
                inserts.push(async move {
                    let parameters: Vec<_> = row.iter().map(Value::parameter).collect();
                    client.execute(statement, &parameters).await
                });
            }
        }
        // Sent in this order, and answered together.
        try_join3(client.batch_execute("BEGIN"), try_join_all(inserts), client.batch_execute("COMMIT"))
            .await?;
        Ok(())
    }
}

/// In the order in which the rows lie.
async fn table(client: &Client, name: String) -> anyhow::Result<Table> {
    let columns = "SELECT column_name::text FROM information_schema.columns
        WHERE table_schema = 'public' AND table_name = $1 AND is_generated = 'NEVER' ORDER BY ordinal_position";
    let columns: Vec<String> =
        client.query(columns, &[&name]).await?.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    let places: Vec<_> = (1..=columns.len()).map(|place| format!("${place}")).collect();
    let (columns, places) = (columns.join(", "), places.join(", "));
    let rows = client
        .query(&format!("SELECT {columns} FROM {name} ORDER BY ctid"), &[])
        .await?
        .iter()
        .map(|row| (0..row.len()).map(|place| Value::read(row, place)).collect::<anyhow::Result<Vec<_>>>())
        .collect::<anyhow::Result<_>>()?;
    let insert = format!("INSERT INTO {name} ({columns}) OVERRIDING SYSTEM VALUE VALUES ({places})");
    Ok(Table { insert, rows })
}
