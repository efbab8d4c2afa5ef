//! The stored nodes, held against those that the records give.

use orbit_core::digest::Digest;
use orbit_core::record::audit::{Fault, Faults, Sequence};
use orbit_core::record::tree::is_kept;
use rusqlite::Connection;

use crate::sqlite::columns::Length;
use crate::sqlite::fault::Attempt;
use crate::sqlite::tree;

/// Compares the completed subtrees that are kept with their rows.
pub(super) fn compare(
    connection: &Connection,
    completed: &[(u8, u64, Digest)],
    faults: &mut Faults,
) -> Attempt<()> {
    for (level, index, hash) in completed.iter().filter(|(level, ..)| is_kept(*level)) {
        let difference = match tree::find(connection, *level, *index)? {
            Some(found) if found == *hash => continue,
            Some(_) => "is not the hash of the records below it",
            None => "is missing",
        };
        let (first, last) = (index << level, ((index + 1) << level) - 1);
        let row = format!("level {level}, index {index} (positions {first} to {last})");
        faults.add(Fault::of("log_nodes", row, difference));
    }
    Ok(())
}

/// There are no more nodes than the records complete.
pub(super) fn ends(connection: &Connection, sequence: &Sequence, faults: &mut Faults) -> Attempt<()> {
    let mut statement = connection.prepare("SELECT level, count(*) FROM log_nodes GROUP BY level")?;
    let levels = statement.query_map((), |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Length>(1)?.0)))?;
    for level in levels {
        let (level, count) = level?;
        let is_kept = u8::try_from(level).is_ok_and(is_kept) && level < 64;
        let expected = if is_kept { sequence.size() >> level } else { 0 };
        if count > expected {
            let difference = format!("{count} nodes, and the records complete {expected}");
            faults.add(Fault::of("log_nodes", format!("level {level}"), difference));
        }
    }
    Ok(())
}
