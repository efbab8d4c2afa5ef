//! Migrations: numbered SQL with the numbers of SQLite's, each in one transaction, each remembered with its checksum. Forward only.
//!
//! The owner of the tables makes them, before a node starts; a node, whose role may not, refuses a schema that is not the one it knows. While nodes are at
//! work nothing is migrated (see `occupied`).

use orbit_core::digest::Digest;
use tokio_postgres::Client;

use super::address::Address;
use super::columns::{Text, params};
use super::fault::{Attempt, Fault};
use super::occupied::{AtWork, at_work, is_free};
use super::tx::Connection;
use crate::StoreError;

/// Every migration in order; the first is number 1.
pub(super) const MIGRATIONS: [&str; 2] = [
    include_str!("../../migrations/postgres/0001_initial.sql"),
    include_str!("../../migrations/postgres/0002_log.sql"),
];
/// What holds for every table, those of the newest migration too.
const ISOLATION: &str = include_str!("../../migrations/postgres/isolation.sql");
/// The schema of a store that this binary can serve.
pub const SCHEMA: u32 = 2;
/// Whether anything was ever migrated, and what.
const MADE: &str = "SELECT to_regclass('migrations') IS NOT NULL";
/// The newest migration that was made.
const NEWEST: &str = "SELECT coalesce(max(number), 0) FROM migrations";
const CHECKSUMS: &str = "SELECT checksum FROM migrations ORDER BY number";
/// The advisory lock under which one process at a time migrates a database.
const LOCK: i64 = 0x006f_7262_6974;

/// What a migration found and did, or would do.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Migrated {
    /// The database, for people: no user and no password.
    pub database: String,
    /// Its schema before; 0 if it had none.
    pub before: u32,
    /// The schema that this binary serves.
    pub schema: u32,
    /// The migrations that were needed.
    pub migrations: Vec<u32>,
    /// Whether the role `orbit_runtime` was missing on the server.
    pub role_made: bool,
    /// Whether that role could not use the tables that were there.
    pub grants_made: bool,
    /// Nodes in whose way a migration would be: it is refused while there are any.
    pub nodes: Vec<AtWork>,
}

impl Migrated {
    /// Whether there was something to do.
    pub fn is_change(&self) -> bool {
        !self.migrations.is_empty() || self.role_made || self.grants_made
    }
}

/// The schema of the database is the newest that this binary knows, and the role `orbit_runtime` may serve stores in it. `url` is a URL or key=value
/// list of a role that owns the tables and may create roles. A newer database is refused, one whose migrations were other ones, and one on which nodes are at work
/// that know the schema as it is.
pub async fn migrate(url: &str) -> Result<Migrated, StoreError> {
    as_owner(url, true).await
}

/// What [`migrate`] would do. Nothing is changed.
pub async fn pending(url: &str) -> Result<Migrated, StoreError> {
    as_owner(url, false).await
}

async fn as_owner(url: &str, changes: bool) -> Result<Migrated, StoreError> {
    let address = Address::parse(url)?;
    let place = &address.place;
    let connected = address.config.connect(address.tls.clone()).await;
    let (mut client, connection) = connected.map_err(|error| Fault::from(error).at(place))?;
    let connection = tokio::spawn(connection);
    let done = async {
        let needed = needed(&mut client, place).await?;
        if changes && needed.is_change() {
            for (number, sql) in (1..).zip(MIGRATIONS) {
                let found = apply(&mut client, number, sql).await.map_err(|fault| fault.at(place))?;
                is_known(found, place)?;
            }
            if needed.migrations.is_empty() {
                client.batch_execute(ISOLATION).await.map_err(|error| Fault::from(error).at(place))?;
            }
        }
        Ok(needed)
    }
    .await;
    drop(client);
    // It ends with its client; how is of no interest once the answer is there.
    let _ = connection.await;
    done
}

/// What is missing, found without changing anything.
async fn needed(client: &mut Client, place: &str) -> Result<Migrated, StoreError> {
    let found = checksums(client).await.map_err(|fault| fault.at(place))?;
    let before = u32::try_from(found.len()).unwrap_or(u32::MAX);
    is_known(before, place)?;
    are_ours(&found).map_err(|fault| fault.at(place))?;
    let role = "SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'orbit_runtime')";
    let granted = "SELECT has_table_privilege('orbit_runtime', 'store', 'INSERT')";
    let asked = async {
        let has_role: bool = client.query_one(role, &[]).await?.try_get(0)?;
        let is_granted = !has_role || before == 0 || client.query_one(granted, &[]).await?.try_get(0)?;
        let is_changed = before != 0 && before < SCHEMA;
        let nodes = if is_changed { at_work(&client.transaction().await?).await? } else { Vec::new() };
        Attempt::Ok((has_role, is_granted, nodes))
    };
    let (has_role, is_granted, nodes) = asked.await.map_err(|fault| fault.at(place))?;
    Ok(Migrated {
        database: place.to_owned(),
        before,
        schema: SCHEMA,
        migrations: (before + 1..=SCHEMA).collect(),
        role_made: !has_role,
        grants_made: !is_granted,
        nodes,
    })
}

async fn checksums(client: &Client) -> Attempt<Vec<Digest>> {
    if !client.query_one(MADE, &[]).await?.try_get::<_, bool>(0)? {
        return Ok(Vec::new());
    }
    let rows = client.query(CHECKSUMS, &[]).await?;
    rows.iter().map(|row| row.try_get::<_, String>(0)?.parse().map_err(Fault::unreadable)).collect()
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
    let found: i64 = transaction.query_one(NEWEST, &[]).await?.try_get(0)?;
    let found = u32::try_from(found).map_err(Fault::unreadable)?;
    let checksum = Digest::of(sql.as_bytes()).to_string();
    if found >= number {
        let select = "SELECT checksum FROM migrations WHERE number = $1";
        let applied: String = transaction.query_one(select, &[&i64::from(number)]).await?.try_get(0)?;
        return if applied == checksum { Ok(found) } else { Err(another(number)) };
    }
    if found > 0 {
        is_free(&at_work(&transaction).await?, found)?;
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
        return Err(StoreError::Older { place: place.to_owned(), found: newest, needed: SCHEMA });
    }
    are_ours(&found).map_err(|fault| fault.at(place))
}

/// Nobody has migrated the database beyond what this binary knows, since it was looked at first.
pub(super) async fn is_known_still(tx: &Connection) -> Attempt<()> {
    let found: i64 = tx.query_row(NEWEST, params![], |row| row.get(0)).await?;
    let found = u32::try_from(found).map_err(Fault::unreadable)?;
    if found > SCHEMA { Err(Fault::Newer(found)) } else { Ok(()) }
}

/// The migrations that were made are those of this binary.
fn are_ours(found: &[Digest]) -> Attempt<()> {
    let mut known = (1..).zip(MIGRATIONS).zip(found);
    match known.find(|((_, sql), checksum)| **checksum != Digest::of(sql.as_bytes())) {
        Some(((number, _), _)) => Err(another(number)),
        None => Ok(()),
    }
}

/// The checksums of the migrations that were made, in order.
async fn applied(tx: &Connection) -> Attempt<Vec<Digest>> {
    if !tx.query_row(MADE, params![], |row| row.get::<_, bool>(0)).await? {
        return Ok(Vec::new());
    }
    tx.query_all(CHECKSUMS, params![], |row| row.get::<_, Text<Digest>>(0).map(|text| text.0)).await
}
