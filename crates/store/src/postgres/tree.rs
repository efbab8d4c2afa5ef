//! The stored nodes of the log's tree.
//!
//! Which hashes a proof needs depends on positions and sizes alone. So it is made twice: over hashes that are not known, to see which ones
//! are asked for, and again over these, which one statement of each kind has fetched.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use orbit_core::digest::Digest;
use orbit_core::record::proof::{Nodes, ProofError};
use orbit_core::record::tree::leaf_hash;

use super::columns::{Length, Parameter, Row};
use super::fault::{Attempt, Fault};
use super::tx::Connection;

/// A node by level and index within the level; leaves have level 0.
type Place = (u8, u64);

/// Notes which hashes are asked for.
#[derive(Default)]
struct Wanted(RefCell<BTreeSet<Place>>);

impl Nodes for Wanted {
    type Error = Infallible;

    fn leaf(&self, position: u64) -> Result<Digest, Infallible> {
        self.kept(0, position)
    }

    fn kept(&self, level: u8, index: u64) -> Result<Digest, Infallible> {
        self.0.borrow_mut().insert((level, index));
        Ok(Digest([0; 32]))
    }
}

/// The tree as it is stored, as far as somebody wants it.
pub(super) struct Tree(BTreeMap<Place, Digest>);

impl Nodes for Tree {
    type Error = Fault;

    fn leaf(&self, position: u64) -> Attempt<Digest> {
        let found = self.0.get(&(0, position));
        found
            .copied()
            .ok_or_else(|| Fault::contradiction(format!("the record at position {position} is gone")))
    }

    fn kept(&self, level: u8, index: u64) -> Attempt<Digest> {
        self.0.get(&(level, index)).copied().ok_or_else(|| {
            Fault::contradiction(format!("the node {index} of level {level} of the log is gone"))
        })
    }
}

/// What a walk over the tree needs, fetched.
async fn fetch(tx: &Connection, wanted: Wanted) -> Attempt<Tree> {
    let mut leaves = Vec::new();
    let (mut levels, mut indexes) = (Vec::new(), Vec::new());
    for (level, index) in wanted.0.into_inner() {
        let index = i64::try_from(index).map_err(Fault::unreadable)?;
        if level == 0 {
            leaves.push(index);
        } else {
            levels.push(i64::from(level));
            indexes.push(index);
        }
    }
    let mut found = BTreeMap::new();
    if !leaves.is_empty() {
        let sql = "SELECT position, header FROM log_records WHERE position = ANY ($1)";
        let read = |row: &Row| {
            let header: String = row.get("header")?;
            Ok(((0, row.get::<_, Length>("position")?.0), leaf_hash(header.as_bytes())))
        };
        found.extend(tx.query_all(sql, Ok(vec![Parameter::Integers(leaves)]), read).await?);
    }
    if !levels.is_empty() {
        let sql = "SELECT level, idx, hash FROM log_nodes JOIN unnest($1::bigint[], $2::bigint[]) AS wanted (level, idx)
            USING (level, idx)";
        let read = |row: &Row| {
            let level = u8::try_from(row.get::<_, i64>("level")?).map_err(Fault::unreadable)?;
            Ok(((level, row.get::<_, Length>("idx")?.0), Digest(row.get("hash")?)))
        };
        let parameters = Ok(vec![Parameter::Integers(levels), Parameter::Integers(indexes)]);
        found.extend(tx.query_all(sql, parameters, read).await?);
    }
    Ok(Tree(found))
}

/// The tree as far as this walk needs it, which is called with a tree that knows nothing.
pub(super) async fn for_walk<T, E>(
    tx: &Connection,
    walk: impl FnOnce(&dyn Nodes<Error = Infallible>) -> Result<T, E>,
) -> Attempt<Tree> {
    let wanted = Wanted::default();
    // A walk that fails here fails with the real tree too, and says why.
    drop(walk(&wanted));
    fetch(tx, wanted).await
}

/// None where the tree has not grown so far.
pub(super) fn proven(path: Result<Vec<Digest>, ProofError<Fault>>) -> Attempt<Option<Vec<Digest>>> {
    match path {
        Ok(path) => Ok(Some(path)),
        Err(ProofError::Outside { .. } | ProofError::Shrunk { .. }) => Ok(None),
        Err(ProofError::Read(fault)) => Err(fault),
    }
}

/// Stores the hashes of subtrees: level, index within the level, hash.
pub(super) async fn keep(tx: &Connection, nodes: &[(u8, u64, Digest)]) -> Attempt<()> {
    if nodes.is_empty() {
        return Ok(());
    }
    let sql = "INSERT INTO log_nodes (level, idx, hash) SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bytea[])";
    let (mut levels, mut indexes, mut hashes) = (Vec::new(), Vec::new(), Vec::new());
    for (level, index, hash) in nodes {
        levels.push(i64::from(*level));
        indexes.push(i64::try_from(*index).map_err(Fault::unreadable)?);
        hashes.push(Some(hash.0.to_vec()));
    }
    let parameters =
        Ok(vec![Parameter::Integers(levels), Parameter::Integers(indexes), Parameter::ByteStrings(hashes)]);
    tx.send(sql, parameters).await?;
    Ok(())
}
