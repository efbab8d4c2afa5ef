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

/// What is pending between these two numbers becomes records of the log, at the positions from the third on and with these leaves, 32 bytes each; the numbers are answered. No list of numbers is compared with
/// rows: the server believes that next to nothing is pending, and would do it row by row.
const MOVE: &str = "WITH gone AS (
        DELETE FROM log_pending WHERE seq BETWEEN $1 AND $2 RETURNING seq, header, body, salt
    ), placed AS (
        SELECT (row_number() OVER (ORDER BY seq))::bigint - 1 AS n, seq, header, body, salt FROM gone
    ), records AS (
        INSERT INTO log_records (position, header, leaf)
        SELECT $3 + n, header, substring($4::bytea FROM (32 * n + 1)::int FOR 32) FROM placed ORDER BY n
    ), bodies AS (
        INSERT INTO log_bodies (position, body, salt) SELECT $3 + n, body, salt FROM placed ORDER BY n
    ) SELECT seq FROM placed ORDER BY n";

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
        let start = i64::try_from(self.size()).map_err(Fault::unreadable)?;
        let (mut leaves, mut completed) = (Vec::new(), Vec::new());
        for Pending { header, .. } in records {
            let leaf = leaf_hash(header.as_bytes());
            leaves.extend(leaf.0);
            self.frontier.push(leaf, |level, index, hash| {
                if is_kept(level) {
                    completed.push((level, index, *hash));
                }
            });
        }
        tree::keep(tx, &completed).await?;
        let [first, last, start] = [first.seq, last.seq, start].map(Parameter::Integer);
        let parameters = vec![first, last, start, Parameter::Bytes(leaves)];
        let moved = tx.query_all(MOVE, Ok(parameters), |row| row.get::<_, i64>("seq")).await?;
        // Somebody else has moved them, or there are others between them now: what was to be true is not, and the next try sees what is.
        if !moved.iter().eq(records.iter().map(|pending| &pending.seq)) {
            return Err(Fault::Undone);
        }
        Ok(())
    }
}
