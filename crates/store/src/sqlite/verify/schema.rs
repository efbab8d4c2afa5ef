//! The schema, held against the one that the migrations make: a trigger that is gone protects nothing, and a column that is made another
//! way may say anything.

use std::collections::BTreeMap;

use orbit_core::record::audit::{Fault, Faults};
use rusqlite::Connection;

use crate::sqlite::fault::{Attempt, Fault as StoreFault};
use crate::sqlite::migrate;

type Objects = BTreeMap<(String, String), String>;

/// Compares. False if there is no log to read.
pub(super) fn compare(connection: &Connection, faults: &mut Faults) -> Attempt<bool> {
    let mine = Connection::open_in_memory()?;
    migrate::migrate(&mine, "memory").map_err(|error| StoreFault::contradiction(error.to_string()))?;
    let (expected, found) = (objects(&mine)?, objects(connection)?);
    for ((kind, name), sql) in &expected {
        let difference = match found.get(&(kind.clone(), name.clone())) {
            Some(found) if found == sql => continue,
            Some(_) => "is not the one that the migrations make",
            None => "is missing",
        };
        faults.add(Fault::of("sqlite_schema", format!("{kind} `{name}`"), difference));
    }
    for (kind, name) in found.keys().filter(|key| !expected.contains_key(*key)) {
        faults.add(Fault::of("sqlite_schema", format!("{kind} `{name}`"), "was added"));
    }
    Ok([
        "log_records",
        "log_bodies",
        "log_nodes",
        "log_checkpoints",
        "log_signers",
        "log_tombstones",
        "runs",
        "payloads",
    ]
    .iter()
    .all(|table| found.contains_key(&("table".to_owned(), (*table).to_owned()))))
}

fn objects(connection: &Connection) -> Attempt<Objects> {
    let sql = "SELECT type, name, coalesce(sql, '') FROM sqlite_schema WHERE name NOT LIKE 'sqlite_stat%'";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map((), |row| Ok(((row.get(0)?, row.get(1)?), row.get(2)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
