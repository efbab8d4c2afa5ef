//! What a copy of a database holds, found out without writing to it: its log recomputed, the payloads that it names, what it still owes.

use std::collections::BTreeMap;
use std::path::Path;

use orbit_core::config::NamespaceName;
use orbit_core::digest::Digest;
use orbit_core::record::tree::{Frontier, NODE_LEVELS, leaf_hash};
use rusqlite::{Connection, OpenFlags, params};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::columns::{Length, Text};
use super::fault::{Attempt, Fault};
use super::migrate;
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
    contents(&connection, schema).map_err(|fault| fault.at(&place))
}

fn is_sound(connection: &Connection) -> Attempt<()> {
    let found: String = connection.query_row("PRAGMA integrity_check(1)", (), |row| row.get(0))?;
    if found == "ok" { Ok(()) } else { Err(Fault::contradiction(format!("integrity_check: {found}"))) }
}

fn contents(connection: &Connection, schema: u32) -> Attempt<Contents> {
    let namespace: String = connection.query_row("SELECT namespace FROM store", (), |row| row.get(0))?;
    let namespace =
        NamespaceName::parse(&namespace).map_err(|error| Fault::contradiction(error.to_string()))?;
    let tree = log(connection)?;
    let mut statement = connection.prepare(FILES)?;
    let file = |row: &rusqlite::Row<'_>| Ok((row.get::<_, Text<Digest>>(0)?.0, row.get::<_, Length>(1)?.0));
    let files = statement.query_map((), file)?.collect::<Result<_, _>>()?;
    Ok(Contents {
        namespace,
        schema,
        log_size: tree.size(),
        log_root: tree.root(),
        files,
        owed: owed(connection)?,
    })
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

/// The tree over every header, compared with the leaves and nodes that are stored.
fn log(connection: &Connection) -> Attempt<Frontier> {
    let mut tree = Frontier::new();
    let mut nodes = connection.prepare("SELECT hash FROM log_nodes WHERE level = ?1 AND idx = ?2")?;
    let mut records =
        connection.prepare("SELECT position, header, leaf FROM log_records ORDER BY position")?;
    let mut rows = records.query(())?;
    let mut kept = 0;
    while let Some(row) = rows.next()? {
        let position = row.get::<_, Length>(0)?.0;
        if position != tree.size() {
            return Err(Fault::contradiction(format!("the log has no position {}", tree.size())));
        }
        let leaf = leaf_hash(row.get_ref(1)?.as_bytes().map_err(rusqlite::Error::from)?);
        if row.get::<_, Option<[u8; 32]>>(2)?.is_some_and(|stored| stored != leaf.0) {
            return Err(Fault::contradiction(format!(
                "the header at position {position} of the log is another"
            )));
        }
        let mut completed = Vec::new();
        tree.push(leaf, |level, index, hash| {
            if level > 0 && level.is_multiple_of(NODE_LEVELS) {
                completed.push((level, index, *hash));
            }
        });
        for (level, index, hash) in completed {
            let stored: [u8; 32] = nodes.query_row(params![level, Length(index)], |row| row.get(0))?;
            if stored != hash.0 {
                let message = format!("the node {index} of level {level} of the log is another");
                return Err(Fault::contradiction(message));
            }
            kept += 1;
        }
    }
    let stored = connection.query_row("SELECT count(*) FROM log_nodes", (), |row| row.get::<_, Length>(0))?.0;
    if stored != kept {
        return Err(Fault::contradiction(format!("its log has {stored} nodes instead of {kept}")));
    }
    Ok(tree)
}
