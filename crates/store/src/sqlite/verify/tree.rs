//! The stored nodes, held against those that the records give.

use std::collections::{BTreeMap, HashMap};

use orbit_core::digest::Digest;
use orbit_core::record::audit::{Fault, Faults, Sequence};
use orbit_core::record::tree::is_kept;
use rusqlite::{Connection, params};

use crate::sqlite::columns::Length;
use crate::sqlite::fault::Attempt;

/// Completed subtrees whose rows were not looked at yet: index and hash, by level.
#[derive(Default)]
pub(super) struct Nodes(BTreeMap<u8, Vec<(u64, Digest)>>);

impl Nodes {
    /// Takes in one that the records complete.
    pub(super) fn completed(&mut self, level: u8, index: u64, hash: &Digest) {
        if is_kept(level) {
            self.0.entry(level).or_default().push((index, *hash));
        }
    }

    /// Compares those that are kept with their rows, a range of each level at once, and forgets them.
    pub(super) fn compare(&mut self, connection: &Connection, faults: &mut Faults) -> Attempt<()> {
        for (level, nodes) in &mut self.0 {
            let (Some((first, _)), Some((last, _))) = (nodes.first(), nodes.last()) else { continue };
            let stored = stored(connection, *level, (*first, *last))?;
            for (index, hash) in nodes.drain(..) {
                let difference = match stored.get(&index) {
                    Some(found) if *found == hash.0 => continue,
                    Some(_) => "is not the hash of the records below it",
                    None => "is missing",
                };
                let (first, last) = (index << *level, ((index + 1) << *level) - 1);
                let row = format!("level {level}, index {index} (positions {first} to {last})");
                faults.add(Fault::of("log_nodes", row, difference));
            }
        }
        Ok(())
    }
}

/// The hashes of a level from one index to another.
fn stored(connection: &Connection, level: u8, (first, last): (u64, u64)) -> Attempt<HashMap<u64, Vec<u8>>> {
    let sql = "SELECT idx, hash FROM log_nodes WHERE level = ?1 AND idx BETWEEN ?2 AND ?3";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params![level, Length(first), Length(last)], |row| {
        Ok((row.get::<_, Length>(0)?.0, row.get(1)?))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
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
