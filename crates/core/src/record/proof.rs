//! Proofs over the Merkle tree: how they are made of what the store keeps, in a number of reads that grows with the logarithm of the size.
//!
//! RFC 6962, section 2.1.1 (inclusion) and 2.1.2 (consistency). A reader needs none of this: `verify_inclusion` and
//! `verify_consistency` take hashes only.

mod verify;

use crate::digest::Digest;

use super::tree::{Frontier, NODE_LEVELS, empty_root, node_hash};

pub use verify::{VerifyError, verify_consistency, verify_inclusion};

/// The hashes that a log keeps.
pub trait Nodes {
    /// Why one could not be read.
    type Error;

    /// The hash of the leaf at this position.
    fn leaf(&self, position: u64) -> Result<Digest, Self::Error>;

    /// The hash of the complete subtree with this index within its level, which is a positive multiple of `NODE_LEVELS`.
    fn kept(&self, level: u8, index: u64) -> Result<Digest, Self::Error>;
}

/// Why a proof cannot be made.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError<E> {
    /// There is no such leaf.
    #[error("position {position} is not in a tree of {size} leaves")]
    Outside {
        /// The leaf that was asked for.
        position: u64,
        /// Leaves in the tree.
        size: u64,
    },
    /// The tree that should be the older one has more leaves.
    #[error("a tree of {old} leaves is not the beginning of one of {new}")]
    Shrunk {
        /// Leaves in the tree that should be older.
        old: u64,
        /// Leaves in the other.
        new: u64,
    },
    /// A hash could not be read.
    #[error(transparent)]
    Read(#[from] E),
}

/// The hash of a complete subtree: one that is kept, or made of at most eight that are.
pub fn subtree<N: Nodes + ?Sized>(nodes: &N, level: u8, index: u64) -> Result<Digest, N::Error> {
    if level == 0 {
        return nodes.leaf(index);
    }
    if level.is_multiple_of(NODE_LEVELS) {
        return nodes.kept(level, index);
    }
    let left = subtree(nodes, level - 1, index * 2)?;
    let right = subtree(nodes, level - 1, index * 2 + 1)?;
    Ok(node_hash(&left, &right))
}

/// The right edge of the tree as it was when it had this many leaves.
pub fn frontier_at<N: Nodes + ?Sized>(nodes: &N, size: u64) -> Result<Frontier, N::Error> {
    let mut subtrees = Vec::new();
    for (level, index) in complete(0, size) {
        subtrees.push(subtree(nodes, level, index)?);
    }
    // There is one subtree for each bit of the size, so it is always a frontier.
    Ok(Frontier::from_subtrees(size, subtrees).unwrap_or_default())
}

/// The root of the tree as it was when it had this many leaves.
pub fn root_at<N: Nodes + ?Sized>(nodes: &N, size: u64) -> Result<Digest, N::Error> {
    range(nodes, 0, size)
}

/// The audit path of RFC 6962, section 2.1.1: that the leaf at `position` is in the tree of `size` leaves. Lowest hash first.
pub fn inclusion<N: Nodes + ?Sized>(
    nodes: &N,
    position: u64,
    size: u64,
) -> Result<Vec<Digest>, ProofError<N::Error>> {
    if position >= size {
        return Err(ProofError::Outside { position, size });
    }
    let mut path = Vec::new();
    let (mut from, mut to) = (0, size);
    while to - from > 1 {
        let middle = middle(from, to);
        if position < middle {
            path.push(range(nodes, middle, to)?);
            to = middle;
        } else {
            path.push(range(nodes, from, middle)?);
            from = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// The consistency proof of RFC 6962, section 2.1.2: that the tree of `old` leaves is the beginning of the one of `new`.
///
/// Empty when the older one is empty or both have the same size: then there is nothing to prove.
pub fn consistency<N: Nodes + ?Sized>(
    nodes: &N,
    old: u64,
    new: u64,
) -> Result<Vec<Digest>, ProofError<N::Error>> {
    if old > new {
        return Err(ProofError::Shrunk { old, new });
    }
    let mut path = Vec::new();
    if old == 0 || old == new {
        return Ok(path);
    }
    let (mut from, mut to) = (0, new);
    while to != old {
        let middle = middle(from, to);
        if old <= middle {
            path.push(range(nodes, middle, to)?);
            to = middle;
        } else {
            path.push(range(nodes, from, middle)?);
            from = middle;
        }
    }
    // A subtree that begins at 0 is the older tree itself, whose root the verifier has.
    if from != 0 {
        path.push(range(nodes, from, to)?);
    }
    path.reverse();
    Ok(path)
}

/// Where a tree over these leaves divides: after the largest power of two that is smaller than their number, which is at least 2.
const fn middle(from: u64, to: u64) -> u64 {
    from + (1 << (to - from - 1).ilog2())
}

/// The root over the leaves `from..to`, where `from` is a place at which a tree of `to` leaves divides.
fn range<N: Nodes + ?Sized>(nodes: &N, from: u64, to: u64) -> Result<Digest, N::Error> {
    let mut root = None;
    // From the right, because the smallest subtrees are the deepest.
    for (level, index) in complete(from, to).into_iter().rev() {
        let left = subtree(nodes, level, index)?;
        root = Some(root.map_or(left, |right| node_hash(&left, &right)));
    }
    Ok(root.unwrap_or_else(empty_root))
}

/// The complete subtrees of which `from..to` consists, largest first: level and index within the level.
fn complete(mut from: u64, to: u64) -> Vec<(u8, u64)> {
    let mut subtrees = Vec::new();
    for level in (0..64_u8).rev() {
        if (to - from) >> level & 1 == 1 {
            subtrees.push((level, from >> level));
            from += 1 << level;
        }
    }
    subtrees
}

#[cfg(test)]
mod tests;
