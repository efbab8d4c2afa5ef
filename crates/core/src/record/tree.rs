//! The Merkle tree of RFC 6962, section 2.1, over SHA-256: hashes of leaves and nodes, and the right edge of a tree that grows.

use crate::digest::Digest;

/// Stored are the hashes of complete subtrees whose level is a positive multiple of this; whatever lies between is made of them.
pub const NODE_LEVELS: u8 = 4;

/// Whether the hashes of subtrees of this level are stored.
pub const fn is_kept(level: u8) -> bool {
    level > 0 && level.is_multiple_of(NODE_LEVELS)
}

/// The hash of a leaf.
pub fn leaf_hash(leaf: &[u8]) -> Digest {
    Digest::of_parts(&[&[0], leaf])
}

/// The hash of a node with these children.
pub fn node_hash(left: &Digest, right: &Digest) -> Digest {
    Digest::of_parts(&[&[1], &left.0, &right.0])
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The leaves and roots that the Certificate Transparency project publishes for implementations of RFC 6962.
    pub(crate) const LEAVES: [&[u8]; 8] = [
        b"",
        b"\x00",
        b"\x10",
        b"\x20\x21",
        b"\x30\x31",
        b"\x40\x41\x42\x43",
        b"\x50\x51\x52\x53\x54\x55\x56\x57",
        b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
    ];
    const ROOTS: [&str; 9] = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    #[test]
    fn roots_are_the_published_ones() {
        let mut frontier = Frontier::new();
        assert_eq!(frontier.root(), empty_root());
        assert_eq!(frontier.root().hex(), ROOTS[0]);
        for (leaf, root) in LEAVES.iter().zip(&ROOTS[1..]) {
            frontier.push(leaf_hash(leaf), |_, _, _| ());
            assert_eq!(frontier.root().hex(), *root, "{} leaves", frontier.size());
        }
    }

    #[test]
    fn every_complete_subtree_is_told_of_once() {
        const LEAVES: u64 = 100;
        let mut frontier = Frontier::new();
        let mut told = Vec::new();
        for leaf in 0..LEAVES {
            frontier.push(leaf_hash(&leaf.to_be_bytes()), |level, index, _| told.push((level, index)));
        }
        told.sort_unstable();
        let expected: Vec<_> =
            (0..7_u8).flat_map(|level| (0..LEAVES >> level).map(move |index| (level, index))).collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn a_frontier_is_taken_up_where_it_was_left() {
        let grown = |mut frontier: Frontier, to: u64| {
            for leaf in frontier.size()..to {
                frontier.push(leaf_hash(&leaf.to_be_bytes()), |_, _, _| ());
            }
            frontier
        };
        for size in 0..40 {
            let left = grown(Frontier::new(), size);
            let taken = Frontier::from_subtrees(size, left.subtrees().to_vec()).unwrap();
            assert_eq!(grown(taken, 77), grown(Frontier::new(), 77));
            assert_eq!(Frontier::from_subtrees(size + 1, vec![leaf_hash(b""); 7]), None);
        }
    }
}
