//! Migrations: numbered SQL with the numbers of SQLite's, each in one transaction, each remembered with its checksum. Forward only.
//!
//! The owner of the tables makes them, before a node starts; a node, whose role may not, refuses a schema that is not the one it knows.

use orbit_core::digest::Digest;
use tokio_postgres::{Client, NoTls};

use super::columns::{Text, params};
use super::fault::{Attempt, Fault};
use super::pool;
use super::tx::Connection;
use crate::StoreError;

/// Every migration in order; the first is number 1.
const MIGRATIONS: [&str; 2] = [
    include_str!("../../migrations/postgres/0001_initial.sql"),
    include_str!("../../migrations/postgres/0002_log.sql"),
];
/// What holds for every table, those of the newest migration too.
const ISOLATION: &str = include_str!("../../migrations/postgres/isolation.sql");
/// The schema of a store that this binary can serve.
pub const SCHEMA: u32 = 2;
/// The advisory lock under which one process at a time migrates a database.
const LOCK: i64 = 0x006f_7262_6974;

/// The schema of the database is the newest that this binary knows, and the role `orbit_runtime` may serve stores in it. `config` is a URL or key=value
/// list of a role that owns the tables and may create roles. A newer database is refused, and so is one whose migrations were other ones.
pub async fn migrate(config: &str) -> Result<(), StoreError> {
    let config = pool::config(config).map_err(|fault| fault.at("postgres"))?;
    let place = pool::place(&config);
    let (mut client, connection) =
        config.connect(NoTls).await.map_err(|error| Fault::from(error).at(&place))?;
    let connection = tokio::spawn(connection);
    let migrated = migrate_by(&mut client, &place).await;
    drop(client);
    // It ends with its client; how is of no interest once the answer is there.
    let _ = connection.await;
    migrated
}

async fn migrate_by(client: &mut Client, place: &str) -> Result<(), StoreError> {
    for (number, sql) in (1..).zip(MIGRATIONS) {
        let found = apply(client, number, sql).await.map_err(|fault| fault.at(place))?;
        is_known(found, place)?;
    }
    Ok(())
}

/// The migration is made, if it is the next one; the number of the newest one that was there.
async fn apply(client: &mut Client, number: u32, sql: &str) -> Attempt<u32> {
    let transaction = client.transaction().await?;
    transaction.batch_execute(&format!("SELECT pg_advisory_xact_lock({LOCK})")).await?;
    transaction
        .batch_execute(
            "CREATE TABLE IF NOT EXISTS migrations (number BIGINT PRIMARY KEY, checksum TEXT NOT NULL)",
        )
        .await?;
    let newest = "SELECT coalesce(max(number), 0) FROM migrations";
    let found: i64 = transaction.query_one(newest, &[]).await?.try_get(0)?;
    let found = u32::try_from(found).map_err(Fault::unreadable)?;
    let checksum = Digest::of(sql.as_bytes()).to_string();
    if found >= number {
        let select = "SELECT checksum FROM migrations WHERE number = $1";
        let applied: String = transaction.query_one(select, &[&i64::from(number)]).await?.try_get(0)?;
        return if applied == checksum { Ok(found) } else { Err(another(number)) };
    }
    transaction.batch_execute(sql).await?;
    transaction.batch_execute(ISOLATION).await?;
    let insert = "INSERT INTO migrations (number, checksum) VALUES ($1, $2)";
    transaction.execute(insert, &[&i64::from(number), &checksum]).await?;
    transaction.commit().await?;
    Ok(found)
}

fn another(number: u32) -> Fault {
    Fault::contradiction(format!(
        "its migration {number} is not the one of this binary: another build of the same version wrote it"
    ))
}

fn is_known(found: u32, place: &str) -> Result<(), StoreError> {
    if found > SCHEMA {
        return Err(StoreError::Newer { place: place.to_owned(), found, known: SCHEMA });
    }
    Ok(())
}

/// Refuses a database whose schema is not the one that this binary serves.
pub(super) async fn is_served(tx: &Connection, place: &str) -> Result<(), StoreError> {
    let found = applied(tx).await.map_err(|fault| fault.at(place))?;
    let newest = u32::try_from(found.len()).unwrap_or(u32::MAX);
    is_known(newest, place)?;
    if newest < SCHEMA {
        let message =
            format!("it has schema {newest}, and {SCHEMA} is needed: its owner has to migrate it first");
        return Err(StoreError::Refused { place: place.to_owned(), message });
    }
    for ((number, sql), checksum) in (1..).zip(MIGRATIONS).zip(found) {
        if checksum != Digest::of(sql.as_bytes()) {
            return Err(another(number).at(place));
        }
    }
    Ok(())
}

/// The checksums of the migrations that were made, in order.
async fn applied(tx: &Connection) -> Attempt<Vec<Digest>> {
    let exists = "SELECT to_regclass('migrations') IS NOT NULL";
    if !tx.query_row(exists, params![], |row| row.get::<_, bool>(0)).await? {
        return Ok(Vec::new());
    }
    let sql = "SELECT checksum FROM migrations ORDER BY number";
    tx.query_all(sql, params![], |row| row.get::<_, Text<Digest>>(0).map(|text| text.0)).await
}
