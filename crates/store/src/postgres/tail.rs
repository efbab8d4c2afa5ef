//! The end of the log as the holder of the sequencer's lock knows it: the next position, and the right edge of the tree.

use orbit_core::digest::Digest;
use orbit_core::record::proof::frontier_at;
use orbit_core::record::tree::{Frontier, is_kept, leaf_hash};

use super::columns::Parameter;
use super::fault::{Attempt, Fault};
use super::tx::Connection;
use super::witness::shrunk;
use super::{record, tree};

/// See the module.
#[derive(Clone, Default)]
pub(super) struct Tail {
    frontier: Frontier,
}

/// A record that has no position yet: its place in `log_pending`, and its header.
pub(super) struct Pending {
    /// See the module `sequencer`.
    pub(super) seq: i64,
    /// The leaf.
    pub(super) header: String,
}

/// Pending records become records of the log, with these positions and leaves. The first and the last number are said as well: the server believes that nothing is pending, and would
/// otherwise go through all that ever was, as far as it is not cleaned up.
const MOVE: &str = "WITH gone AS (
        DELETE FROM log_pending p USING unnest($1::bigint[], $2::bigint[], $3::bytea[]) AS given (seq, position, leaf)
        WHERE p.seq = given.seq AND p.seq BETWEEN $4 AND $5 RETURNING position, header, leaf, body, salt
    ), records AS (
        INSERT INTO log_records (position, header, leaf) SELECT position, header, leaf FROM gone ORDER BY position
    ) INSERT INTO log_bodies (position, body, salt) SELECT position, body, salt FROM gone ORDER BY position";

impl Tail {
    /// Reads where the log ends. What is known already serves if the log has not grown since.
    pub(super) async fn load(tx: &Connection, known: Self) -> Attempt<Self> {
        let size = record::count(tx).await?;
        if known.size() == size {
            return Ok(known);
        }
        if known.size() > size {
            return Err(shrunk(size, known.size()));
        }
        let tree = tree::for_walk(tx, |nodes| frontier_at(nodes, size)).await?;
        Ok(Self { frontier: frontier_at(&tree, size)? })
    }

    /// How many records there are, which is the next position.
    pub(super) const fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// The root of the tree.
    pub(super) fn root(&self) -> Digest {
        self.frontier.root()
    }

    /// These, in order of their `seq`, get the next positions and are in the log with the nodes that they complete, and pending no more. Bodies do not travel.
    pub(super) async fn take(&mut self, tx: &Connection, records: &[Pending]) -> Attempt<()> {
        let (Some(first), Some(last)) = (records.first(), records.last()) else { return Ok(()) };
        let (mut seqs, mut positions, mut leaves) = (Vec::new(), Vec::new(), Vec::new());
        let mut completed = Vec::new();
        for Pending { seq, header } in records {
            let leaf = leaf_hash(header.as_bytes());
            seqs.push(*seq);
            positions.push(i64::try_from(self.size()).map_err(Fault::unreadable)?);
            leaves.push(Some(leaf.0.to_vec()));
            self.frontier.push(leaf, |level, index, hash| {
                if is_kept(level) {
                    completed.push((level, index, *hash));
                }
            });
        }
        tree::keep(tx, &completed).await?;
        let parameters = vec![
            Parameter::Integers(seqs),
            Parameter::Integers(positions),
            Parameter::ByteStrings(leaves),
            Parameter::Integer(first.seq),
            Parameter::Integer(last.seq),
        ];
        let moved = tx.execute(MOVE, Ok(parameters)).await?;
        if usize::try_from(moved) != Ok(records.len()) {
            return Err(Fault::contradiction("records that waited for their positions are gone"));
        }
        Ok(())
    }
}
