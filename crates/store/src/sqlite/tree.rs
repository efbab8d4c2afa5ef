//! The stored nodes of the log's tree.

use orbit_core::digest::Digest;
use orbit_core::record::proof::Nodes;
use orbit_core::record::tree::leaf_hash;
use rusqlite::{Connection, OptionalExtension, params};

use super::columns::Length;
use super::fault::{Attempt, Fault};

/// The tree as it is stored, for proofs over it and for its right edge.
pub(super) struct Tree<'a>(pub(super) &'a Connection);

impl Nodes for Tree<'_> {
    type Error = Fault;

    fn leaf(&self, position: u64) -> Attempt<Digest> {
        let sql = "SELECT header FROM log_records WHERE position = ?1";
        let header: Option<String> =
            self.0.prepare_cached(sql)?.query_row([Length(position)], |row| row.get(0)).optional()?;
        header
            .map(|header| leaf_hash(header.as_bytes()))
            .ok_or_else(|| Fault::contradiction(format!("the record at position {position} is gone")))
    }

    fn kept(&self, level: u8, index: u64) -> Attempt<Digest> {
        find(self.0, level, index)?.ok_or_else(|| {
            Fault::contradiction(format!("the node {index} of level {level} of the log is gone"))
        })
    }
}

/// The stored hash of a subtree.
pub(super) fn find(connection: &Connection, level: u8, index: u64) -> Attempt<Option<Digest>> {
    let sql = "SELECT hash FROM log_nodes WHERE level = ?1 AND idx = ?2";
    let parameters = params![level, Length(index)];
    Ok(connection.prepare_cached(sql)?.query_row(parameters, |row| row.get(0).map(Digest)).optional()?)
}

/// Stores the hashes of subtrees: level, index within the level, hash.
pub(super) fn keep(connection: &Connection, nodes: &[(u8, u64, Digest)]) -> Attempt<()> {
    let mut insert =
        connection.prepare_cached("INSERT INTO log_nodes (level, idx, hash) VALUES (?1, ?2, ?3)")?;
    for (level, index, hash) in nodes {
        insert.execute(params![level, Length(*index), hash.0.as_slice()])?;
    }
    Ok(())
}

/// How many nodes of a level are stored.
pub(super) fn count(connection: &Connection, level: u8) -> Attempt<u64> {
    let sql = "SELECT max(idx) FROM log_nodes WHERE level = ?1";
    let last = connection.prepare_cached(sql)?.query_row([level], |row| row.get::<_, Option<Length>>(0))?;
    Ok(last.map_or(0, |last| last.0 + 1))
}
