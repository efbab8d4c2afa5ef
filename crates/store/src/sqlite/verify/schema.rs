//! The schema, held against the one that the migrations make: a trigger that is gone protects nothing, and a column that is made another
//! way may say anything.

use std::collections::BTreeMap;

use orbit_core::record::audit::{Fault, Faults};
use rusqlite::Connection;

use crate::sqlite::fault::Attempt;
use crate::sqlite::migrate;

type Objects = BTreeMap<(String, String), String>;

/// The first schema whose log can be verified.
const FIRST: u32 = 2;

/// Compares with what its own version's migrations make. False if the log is from before it could be verified.
pub(super) fn compare(connection: &Connection, version: u32, faults: &mut Faults) -> Attempt<bool> {
    if version < FIRST {
        let difference = format!(
            "schema {version} is from before a log could be verified: `orbit status` brings it up to date"
        );
        faults.add(Fault::of("migrations", "all rows", difference));
        return Ok(false);
    }
    let (expected, found) = (objects(&migrate::made_by(version)?)?, objects(connection)?);
    let mut is_readable = true;
    for ((kind, name), sql) in &expected {
        let difference = match found.get(&(kind.clone(), name.clone())) {
            Some(found) if found == sql => continue,
            Some(_) => "is not the one that the migrations make",
            None => "is missing",
        };
        is_readable &= kind != "table" || difference != "is missing";
        faults.add(Fault::of("sqlite_schema", format!("{kind} `{name}`"), difference));
    }
    for (kind, name) in found.keys().filter(|key| !expected.contains_key(*key)) {
        faults.add(Fault::of("sqlite_schema", format!("{kind} `{name}`"), "was added"));
    }
    Ok(is_readable)
}

fn objects(connection: &Connection) -> Attempt<Objects> {
    let sql = "SELECT type, name, coalesce(sql, '') FROM sqlite_schema WHERE name NOT LIKE 'sqlite_stat%'";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map((), |row| Ok(((row.get(0)?, row.get(1)?), row.get(2)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
