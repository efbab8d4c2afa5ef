//! Checking proofs with nothing but hashes: the algorithms of RFC 9162, sections 2.1.3.2 and 2.1.4.2, which read the
//! proofs of RFC 6962 as well.

use crate::digest::Digest;

use super::super::tree::{empty_root, node_hash};

/// What a proof fails to show.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// There is no such leaf.
    #[error("position {position} is not in a tree of {size} leaves")]
    Outside {
        /// The leaf that the proof is about.
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
    /// Hashes are missing.
    #[error("the proof has only {hashes} hashes, too few for its sizes")]
    TooShort {
        /// How many there are.
        hashes: usize,
    },
    /// Hashes are left over.
    #[error("the proof has {hashes} hashes, too many for its sizes")]
    TooLong {
        /// How many there are.
        hashes: usize,
    },
    /// The leaf and the path make another root than the tree's.
    #[error("the proof leads to root {found}, not to {expected}")]
    Root {
        /// The tree's.
        expected: Digest,
        /// What the proof makes.
        found: Digest,
    },
    /// The proof makes another older root.
    #[error("the proof leads to the older root {found}, not to {expected}")]
    OldRoot {
        /// The older tree's.
        expected: Digest,
        /// What the proof makes.
        found: Digest,
    },
    /// The proof makes the older root, but another newer one.
    #[error("the proof leads to the newer root {found}, not to {expected}")]
    NewRoot {
        /// The newer tree's.
        expected: Digest,
        /// What the proof makes.
        found: Digest,
    },
}

/// Whether the leaf with this hash is at `position` in the tree of `size` leaves with this root (RFC 9162, section 2.1.3.2).
pub fn verify_inclusion(
    leaf: &Digest,
    position: u64,
    path: &[Digest],
    size: u64,
    root: &Digest,
) -> Result<(), VerifyError> {
    if position >= size {
        return Err(VerifyError::Outside { position, size });
    }
    let hashes = path.len();
    let (mut node, mut last) = (position, size - 1);
    let mut found = *leaf;
    for sibling in path {
        if last == 0 {
            return Err(VerifyError::TooLong { hashes });
        }
        if node & 1 == 1 || node == last {
            found = node_hash(sibling, &found);
            (node, last) = skip_ragged(node, last);
        } else {
            found = node_hash(&found, sibling);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    if last != 0 {
        return Err(VerifyError::TooShort { hashes });
    }
    same(root, found).map_err(|(expected, found)| VerifyError::Root { expected, found })
}

/// Whether the tree of `old.0` leaves with root `old.1` is the beginning of the one of `new.0` leaves with root `new.1`
/// (RFC 9162, section 2.1.4.2).
///
/// The beginning of every tree is the empty one, and of equal sizes the roots must be equal: both with an empty proof.
pub fn verify_consistency(
    old: (u64, &Digest),
    new: (u64, &Digest),
    path: &[Digest],
) -> Result<(), VerifyError> {
    let ((old_size, old_root), (new_size, new_root)) = (old, new);
    let old_is =
        |found| same(old_root, found).map_err(|(expected, found)| VerifyError::OldRoot { expected, found });
    let new_is =
        |found| same(new_root, found).map_err(|(expected, found)| VerifyError::NewRoot { expected, found });
    if old_size > new_size {
        return Err(VerifyError::Shrunk { old: old_size, new: new_size });
    }
    let hashes = path.len();
    if old_size == 0 || old_size == new_size {
        if hashes > 0 {
            return Err(VerifyError::TooLong { hashes });
        }
        return if old_size == new_size { new_is(*old_root) } else { old_is(empty_root()) };
    }
    // Up to the largest subtree that ends where the older tree ends: the proof begins with its hash, unless it is the older tree.
    let level = (old_size - 1).trailing_ones();
    let (mut node, mut last) = ((old_size - 1) >> level, (new_size - 1) >> level);
    let mut siblings = path.iter();
    let first = if old_size.is_power_of_two() { Some(old_root) } else { siblings.next() };
    let (mut old_found, mut new_found) = match first {
        Some(first) => (*first, *first),
        None => return Err(VerifyError::TooShort { hashes }),
    };
    for sibling in siblings {
        if last == 0 {
            return Err(VerifyError::TooLong { hashes });
        }
        if node & 1 == 1 || node == last {
            old_found = node_hash(sibling, &old_found);
            new_found = node_hash(sibling, &new_found);
            (node, last) = skip_ragged(node, last);
        } else {
            new_found = node_hash(&new_found, sibling);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    if last != 0 {
        return Err(VerifyError::TooShort { hashes });
    }
    old_is(old_found)?;
    new_is(new_found)
}

/// Passes the levels at which the last node of a ragged right edge has no sibling.
fn skip_ragged(node: u64, last: u64) -> (u64, u64) {
    if node == 0 {
        return (0, last);
    }
    let levels = node.trailing_zeros();
    (node >> levels, last >> levels)
}

fn same(expected: &Digest, found: Digest) -> Result<(), (Digest, Digest)> {
    if *expected == found { Ok(()) } else { Err((*expected, found)) }
}
