//! Migrations: numbered SQL, each in one transaction, each remembered with its checksum. Forward only.

use orbit_core::digest::Digest;
use rusqlite::{Connection, params};

use super::columns::Text;
use super::fault::{Attempt, Fault};
use crate::StoreError;

/// Every migration in order; the first is number 1.
const MIGRATIONS: [&str; 2] = [
    include_str!("../../migrations/sqlite/0001_initial.sql"),
    include_str!("../../migrations/sqlite/0002_log.sql"),
];

/// The schema is the newest that this binary knows, or nothing has changed: a newer store is refused, and so is one whose migrations
/// were other ones.
pub(super) fn migrate(connection: &Connection, place: &str) -> Result<(), StoreError> {
    let known = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
    let found = version(connection).map_err(|fault| fault.at(place))?;
    if found > known {
        return Err(StoreError::Newer { place: place.to_owned(), found, known });
    }
    apply_missing(connection, found).map_err(|fault| fault.at(place))
}

fn version(connection: &Connection) -> Attempt<u32> {
    let exists = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'migrations')";
    if !connection.query_row(exists, (), |row| row.get(0))? {
        return Ok(0);
    }
    Ok(connection.query_row("SELECT coalesce(max(number), 0) FROM migrations", (), |row| row.get(0))?)
}

fn apply_missing(connection: &Connection, found: u32) -> Attempt<()> {
    for (number, sql) in (1..).zip(MIGRATIONS) {
        let checksum = Digest::of(sql.as_bytes());
        if number <= found {
            let applied = "SELECT checksum FROM migrations WHERE number = ?1";
            let applied = connection.query_row(applied, [number], |row| row.get::<_, Text<Digest>>(0))?.0;
            if applied != checksum {
                return Err(Fault::contradiction(format!(
                    "its migration {number} is not the one of this binary"
                )));
            }
            continue;
        }
        let transaction = connection.unchecked_transaction()?;
        transaction.execute_batch(
            "CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY, checksum TEXT NOT NULL) STRICT",
        )?;
        transaction.execute_batch(sql)?;
        transaction.execute(
            "INSERT INTO migrations (number, checksum) VALUES (?1, ?2)",
            params![number, Text(checksum)],
        )?;
        transaction.commit()?;
    }
    Ok(())
}
