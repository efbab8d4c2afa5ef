//! The end of the log as its only writer knows it: the next position, and the right edge of the tree.

use orbit_core::digest::Digest;
use orbit_core::record::Sealed;
use orbit_core::record::proof::frontier_at;
use orbit_core::record::tree::{Frontier, NODE_LEVELS, is_kept, leaf_hash};
use rusqlite::{Connection, params};

use super::columns::Length;
use super::fault::{Attempt, Fault};
use super::record;
use super::tree::{self, Tree};

/// Headers that are read at once where nodes are missing.
const CATCH_UP_ROWS: u64 = 4096;

/// See the module.
#[derive(Clone)]
pub(super) struct Tail {
    frontier: Frontier,
}

impl Tail {
    /// Reads where the log ends. Nodes that are missing, as in a log from before there was a tree, are made from the headers.
    pub(super) fn load(connection: &Connection) -> Attempt<Self> {
        let size = record::count(connection)?;
        if tree::count(connection, NODE_LEVELS)? != size >> NODE_LEVELS {
            let transaction = connection.unchecked_transaction()?;
            make_nodes(&transaction, size)?;
            transaction.commit()?;
        }
        Ok(Self { frontier: frontier_at(&Tree(connection), size)? })
    }

    /// How many records there are, which is the next position.
    pub(super) const fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// The root of the tree.
    pub(super) fn root(&self) -> Digest {
        self.frontier.root()
    }

    /// The records have their positions and are in the log with the nodes that they complete, as part of the open transaction.
    pub(super) fn write(&mut self, connection: &Connection, records: &[Sealed]) -> Attempt<()> {
        let mut insert_record = connection
            .prepare_cached("INSERT INTO log_records (position, header, leaf) VALUES (?1, ?2, ?3)")?;
        let mut insert_body =
            connection.prepare_cached("INSERT INTO log_bodies (position, body, salt) VALUES (?1, ?2, ?3)")?;
        let mut completed = Vec::new();
        for Sealed { header, body, salt } in records {
            let position = Length(self.size());
            let leaf = leaf_hash(header.as_bytes());
            insert_record.execute(params![position, header, leaf.0.as_slice()])?;
            insert_body.execute(params![position, body, salt.as_ref().map(<[u8; 16]>::as_slice)])?;
            self.frontier.push(leaf, |level, index, hash| {
                if is_kept(level) {
                    completed.push((level, index, *hash));
                }
            });
        }
        tree::keep(connection, &completed)
    }
}

/// Stores the nodes of the whole tree that are not there yet.
fn make_nodes(connection: &Connection, size: u64) -> Attempt<()> {
    let mut frontier = Frontier::new();
    let mut there = [0; 64];
    for level in (NODE_LEVELS..64).step_by(usize::from(NODE_LEVELS)) {
        there[usize::from(level)] = tree::count(connection, level)?;
    }
    while frontier.size() < size {
        let first = frontier.size();
        let mut completed = Vec::new();
        for header in headers(connection, first, size.min(first + CATCH_UP_ROWS))? {
            frontier.push(leaf_hash(header.as_bytes()), |level, index, hash| {
                if is_kept(level) && index >= there[usize::from(level)] {
                    completed.push((level, index, *hash));
                }
            });
        }
        tree::keep(connection, &completed)?;
    }
    Ok(())
}

/// The headers from one position up to another.
fn headers(connection: &Connection, first: u64, end: u64) -> Attempt<Vec<String>> {
    let sql = "SELECT header FROM log_records WHERE position >= ?1 AND position < ?2 ORDER BY position";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([Length(first), Length(end)], |row| row.get(0))?;
    let found = rows.collect::<Result<Vec<_>, _>>()?;
    if u64::try_from(found.len()).ok() != Some(end - first) {
        return Err(Fault::contradiction(format!("the log has gaps between position {first} and {end}")));
    }
    Ok(found)
}
