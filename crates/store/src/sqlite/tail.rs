//! The end of the log as its only writer knows it: the next position, and the right edge of the tree.

use orbit_core::digest::Digest;
use orbit_core::record::Sealed;
use orbit_core::record::tree::{Frontier, NODE_LEVELS, leaf_hash, node_hash};
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, params};

use super::fault::{Attempt, Fault};
use super::record;

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
        let whole = size - size % (1 << NODE_LEVELS);
        if nodes(connection, NODE_LEVELS)? != whole >> NODE_LEVELS {
            let transaction = connection.unchecked_transaction()?;
            make_nodes(&transaction, size)?;
            transaction.commit()?;
        }
        let edge = (NODE_LEVELS..64).rev().filter(|level| size >> level & 1 == 1);
        let subtrees = edge.map(|level| subtree(connection, level, (size >> (level + 1)) << 1));
        let frontier = Frontier::from_subtrees(whole, subtrees.collect::<Attempt<_>>()?);
        let frontier =
            frontier.ok_or_else(|| Fault::contradiction("the edge of the tree has another shape"))?;
        let mut tail = Self { frontier };
        for header in headers(connection, whole, size)? {
            tail.frontier.push(leaf_hash(header.as_bytes()), |_, _, _| ());
        }
        Ok(tail)
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
            let position = whole_number(self.size())?;
            let leaf = leaf_hash(header.as_bytes());
            insert_record.execute(params![position, header, leaf.0.as_slice()])?;
            insert_body.execute(params![position, body, salt.as_ref().map(<[u8; 16]>::as_slice)])?;
            self.frontier.push(leaf, |level, index, hash| {
                if is_kept(level) {
                    completed.push((level, index, *hash));
                }
            });
        }
        keep(connection, &completed)
    }
}

/// Whether the hashes of subtrees of this level are stored.
const fn is_kept(level: u8) -> bool {
    level > 0 && level.is_multiple_of(NODE_LEVELS)
}

fn keep(connection: &Connection, nodes: &[(u8, u64, Digest)]) -> Attempt<()> {
    let mut insert =
        connection.prepare_cached("INSERT INTO log_nodes (level, idx, hash) VALUES (?1, ?2, ?3)")?;
    for (level, index, hash) in nodes {
        insert.execute(params![level, whole_number(*index)?, hash.0.as_slice()])?;
    }
    Ok(())
}

/// Stores the nodes of the whole tree that are not there yet.
fn make_nodes(connection: &Connection, size: u64) -> Attempt<()> {
    let mut frontier = Frontier::new();
    let mut there = [0; 64];
    for level in (NODE_LEVELS..64).step_by(usize::from(NODE_LEVELS)) {
        there[usize::from(level)] = nodes(connection, level)?;
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
        keep(connection, &completed)?;
    }
    Ok(())
}

/// How many nodes of a level are stored.
fn nodes(connection: &Connection, level: u8) -> Attempt<u64> {
    let sql = "SELECT max(idx) FROM log_nodes WHERE level = ?1";
    let last: Option<i64> = connection.prepare_cached(sql)?.query_row([level], |row| row.get(0))?;
    Ok(last.map_or(0, |last| u64::try_from(last).unwrap_or(0) + 1))
}

/// The hash of a complete subtree of a level that is kept or above it.
fn subtree(connection: &Connection, level: u8, index: u64) -> Attempt<Digest> {
    if !is_kept(level) {
        let left = subtree(connection, level - 1, index * 2)?;
        return Ok(node_hash(&left, &subtree(connection, level - 1, index * 2 + 1)?));
    }
    node(connection, level, index)
}

/// The hash of a complete subtree of a level that is kept.
pub(super) fn node(connection: &Connection, level: u8, index: u64) -> Attempt<Digest> {
    let sql = "SELECT hash FROM log_nodes WHERE level = ?1 AND idx = ?2";
    let hash = connection
        .prepare_cached(sql)?
        .query_row(params![level, whole_number(index)?], |row| row.get::<_, [u8; 32]>(0))
        .optional()?;
    hash.map(Digest)
        .ok_or_else(|| Fault::contradiction(format!("the node {index} of level {level} of the log is gone")))
}

/// The headers from one position up to another.
fn headers(connection: &Connection, first: u64, end: u64) -> Attempt<Vec<String>> {
    let sql = "SELECT header FROM log_records WHERE position >= ?1 AND position < ?2 ORDER BY position";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([whole_number(first)?, whole_number(end)?], |row| row.get(0))?;
    let found = rows.collect::<Result<Vec<_>, _>>()?;
    if u64::try_from(found.len()).ok() != Some(end - first) {
        return Err(Fault::contradiction(format!("the log has gaps between position {first} and {end}")));
    }
    Ok(found)
}

fn whole_number(number: u64) -> Attempt<i64> {
    i64::try_from(number)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, Type::Integer, Box::new(error)).into())
}
