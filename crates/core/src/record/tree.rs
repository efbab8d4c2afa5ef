//! The Merkle tree of RFC 6962, section 2.1, over SHA-256: hashes of leaves and nodes, and the right edge of a tree that grows.

use crate::digest::{Digest, Hasher};

/// Stored are the hashes of complete subtrees whose level is a positive multiple of this; whatever lies between is made of them.
pub const NODE_LEVELS: u8 = 4;

/// The hash of a leaf.
pub fn leaf_hash(leaf: &[u8]) -> Digest {
    let mut hasher = Hasher::default();
    hasher.update(&[0]);
    hasher.update(leaf);
    hasher.finish()
}

/// The hash of a node with these children.
pub fn node_hash(left: &Digest, right: &Digest) -> Digest {
    let mut hasher = Hasher::default();
    hasher.update(&[1]);
    hasher.update(&left.0);
    hasher.update(&right.0);
    hasher.finish()
}

/// The root of a tree without leaves.
pub fn empty_root() -> Digest {
    Digest::of(b"")
}

/// What is needed of a tree to let it grow: the complete subtrees of which it consists, largest first, one for each bit of its size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    subtrees: Vec<Digest>,
}

impl Frontier {
    /// Of a tree without leaves.
    pub const fn new() -> Self {
        Self { size: 0, subtrees: Vec::new() }
    }

    /// Of a tree of this size. None if it has another number of subtrees.
    pub fn from_subtrees(size: u64, subtrees: Vec<Digest>) -> Option<Self> {
        (usize::try_from(size.count_ones()) == Ok(subtrees.len())).then_some(Self { size, subtrees })
    }

    /// Leaves in the tree.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The subtrees, largest first.
    pub fn subtrees(&self) -> &[Digest] {
        &self.subtrees
    }

    /// Adds a leaf by its hash, and tells of every subtree that it completes, itself included: level, index within the level, hash.
    pub fn push(&mut self, leaf: Digest, mut completed: impl FnMut(u8, u64, &Digest)) {
        let (mut hash, mut level) = (leaf, 0_u8);
        completed(0, self.size, &hash);
        // Every trailing 1 of the size is a subtree that the new one makes a pair with.
        while self.size >> level & 1 == 1 {
            let Some(left) = self.subtrees.pop() else { break };
            hash = node_hash(&left, &hash);
            level += 1;
            completed(level, self.size >> level, &hash);
        }
        self.subtrees.push(hash);
        self.size += 1;
    }

    /// The root of the tree.
    pub fn root(&self) -> Digest {
        let mut subtrees = self.subtrees.iter().rev();
        let Some(&smallest) = subtrees.next() else { return empty_root() };
        subtrees.fold(smallest, |right, left| node_hash(left, &right))
    }
}
