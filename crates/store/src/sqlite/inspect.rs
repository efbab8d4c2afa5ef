//! What a copy of a database holds, found out without writing to it: its log verified, the payloads that it names, what it still owes.

use std::collections::BTreeMap;
use std::path::Path;

use orbit_core::config::NamespaceName;
use orbit_core::digest::Digest;
use rusqlite::{Connection, OpenFlags};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::columns::{Length, Text};
use super::fault::{Attempt, Fault};
use super::migrate;
use super::verify::{Request, verify};
use crate::StoreError;

/// Deliveries that are named; there may be more.
const DELIVERIES_MAX: u32 = 20;
/// The payloads whose bytes are files. What a step made before the table of payloads was kept is named by the step alone.
const FILES: &str = "
    SELECT digest, bytes FROM payloads WHERE dropped_at IS NULL AND content IS NULL
    UNION SELECT digest, bytes FROM steps WHERE digest IS NOT NULL AND digest NOT IN (SELECT digest FROM payloads)
    UNION SELECT digest, bytes FROM work_done WHERE digest NOT IN (SELECT digest FROM payloads)
    UNION SELECT artifact_digest, artifact_bytes FROM runs
        WHERE artifact_digest IS NOT NULL AND artifact_digest NOT IN (SELECT digest FROM payloads)
    UNION SELECT asset.value ->> '$.digest', asset.value ->> '$.bytes'
        FROM snapshots, json_each(snapshots.document, '$.assets') AS asset
        WHERE asset.value ->> '$.digest' NOT IN (SELECT digest FROM payloads WHERE dropped_at IS NOT NULL)";

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// Whose store it is.
    pub namespace: NamespaceName,
    /// The number of its newest migration.
    pub schema: u32,
    /// Records in its log.
    pub log_size: u64,
    /// The root of its log's tree.
    pub log_root: Digest,
    /// The payloads that it names and that are files, with their lengths.
    pub files: BTreeMap<Digest, u64>,
    /// What is owed and not settled.
    pub owed: Owed,
}

/// Deliveries that wait or are under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owed {
    /// How many there are.
    pub count: u64,
    /// The first of them.
    pub deliveries: Vec<OwedDelivery>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwedDelivery {
    /// Its id, which is its idempotency key.
    pub delivery_id: Uuid,
    /// To whom.
    pub endpoint: String,
    /// `waiting` or `sending`.
    pub state: String,
}

/// Reads all of a database that nobody writes to, and nothing is written. An error names what is wrong with it.
pub fn inspect(database: &Path) -> Result<Contents, StoreError> {
    let place = database.display().to_string();
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection =
        Connection::open_with_flags(database, flags).map_err(|error| Fault::from(error).at(&place))?;
    is_sound(&connection).map_err(|fault| fault.at(&place))?;
    let schema = migrate::known_version(&connection, &place)?;
    let log = log(database)?;
    contents(&connection, schema, log).map_err(|fault| fault.at(&place))
}

/// The database is one by its own account.
pub(super) fn is_sound(connection: &Connection) -> Attempt<()> {
    let found: String = connection.query_row("PRAGMA integrity_check(1)", (), |row| row.get(0))?;
    if found == "ok" { Ok(()) } else { Err(Fault::contradiction(format!("integrity_check: {found}"))) }
}

fn contents(connection: &Connection, schema: u32, (log_size, log_root): (u64, Digest)) -> Attempt<Contents> {
    let namespace: String = connection.query_row("SELECT namespace FROM store", (), |row| row.get(0))?;
    let namespace =
        NamespaceName::parse(&namespace).map_err(|error| Fault::contradiction(error.to_string()))?;
    let mut statement = connection.prepare(FILES)?;
    let file = |row: &rusqlite::Row<'_>| Ok((row.get::<_, Text<Digest>>(0)?.0, row.get::<_, Length>(1)?.0));
    let files = statement.query_map((), file)?.collect::<Result<_, _>>()?;
    Ok(Contents { namespace, schema, log_size, log_root, files, owed: owed(connection)? })
}

fn owed(connection: &Connection) -> Attempt<Owed> {
    let open = "FROM deliveries WHERE state IN ('waiting', 'sending')";
    let count =
        connection.query_row(&format!("SELECT count(*) {open}"), (), |row| row.get::<_, Length>(0))?.0;
    let mut statement = connection
        .prepare(&format!("SELECT delivery_id, endpoint, state {open} ORDER BY state, ordinal LIMIT ?1"))?;
    let delivery = |row: &rusqlite::Row<'_>| {
        Ok(OwedDelivery {
            delivery_id: row.get::<_, Text<Uuid>>(0)?.0,
            endpoint: row.get(1)?,
            state: row.get(2)?,
        })
    };
    let deliveries = statement.query_map([DELIVERIES_MAX], delivery)?.collect::<Result<_, _>>()?;
    Ok(Owed { count, deliveries })
}

/// Everything that a verification of the log checks is as it should be; its size and root.
fn log(database: &Path) -> Result<(u64, Digest), StoreError> {
    let place = database.display().to_string();
    let request = Request { database, blobs: None, against: None, key: None, positioned: None };
    let report = verify(&request, &mut |_| ())?;
    match (report.faults.kept.first(), report.root) {
        (None, Some(root)) => Ok((report.size, root)),
        (Some(fault), _) => {
            let message = format!("{}, {}: {}", fault.table, fault.row, fault.difference);
            Err(Fault::contradiction(message).at(&place))
        }
        (None, None) => Err(Fault::contradiction("its log has no root").at(&place)),
    }
}
