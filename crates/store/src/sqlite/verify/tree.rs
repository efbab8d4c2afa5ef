//! The stored nodes, held against those that the records give.

use orbit_core::digest::Digest;
use orbit_core::record::audit::{Fault, Faults, Sequence};
use orbit_core::record::tree::NODE_LEVELS;
use rusqlite::{Connection, OptionalExtension};

use crate::sqlite::columns::Length;
use crate::sqlite::fault::Attempt;

/// Compares the completed subtrees that are kept with their rows.
pub(super) fn compare(
    connection: &Connection,
    completed: &[(u8, u64, Digest)],
    faults: &mut Faults,
) -> Attempt<()> {
    let kept = completed.iter().filter(|(level, ..)| *level > 0 && level.is_multiple_of(NODE_LEVELS));
    for (level, index, hash) in kept {
        let sql = "SELECT hash FROM log_nodes WHERE level = ?1 AND idx = ?2";
        let mut statement = connection.prepare_cached(sql)?;
        let found: Option<Vec<u8>> =
            statement.query_row((level, Length(*index)), |row| row.get(0)).optional()?;
        let difference = match found {
            Some(found) if found == hash.0 => continue,
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
        let is_kept = level > 0 && level < 64 && level % i64::from(NODE_LEVELS) == 0;
        let expected = if is_kept { sequence.size() >> level } else { 0 };
        if count > expected {
            let difference = format!("{count} nodes, and the records complete {expected}");
            faults.add(Fault::of("log_nodes", format!("level {level}"), difference));
        }
    }
    Ok(())
}
