//! Proofs of small trees against the published ones, and the number of reads of a large one.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::convert::Infallible;

use super::*;
use crate::record::tree::{leaf_hash, tests::LEAVES};

/// What a store would keep.
#[derive(Default)]
struct Kept {
    leaves: Vec<Digest>,
    nodes: BTreeMap<(u8, u64), Digest>,
}

impl Kept {
    fn of<'a>(leaves: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut kept = Self::default();
        let mut frontier = Frontier::new();
        for leaf in leaves {
            frontier.push(leaf_hash(leaf), |level, index, hash| {
                if level == 0 {
                    kept.leaves.push(*hash);
                } else if level.is_multiple_of(NODE_LEVELS) {
                    kept.nodes.insert((level, index), *hash);
                }
            });
        }
        kept
    }
}

impl Nodes for Kept {
    type Error = String;

    fn leaf(&self, position: u64) -> Result<Digest, String> {
        let position = usize::try_from(position).unwrap();
        self.leaves.get(position).copied().ok_or_else(|| format!("no leaf {position}"))
    }

    fn kept(&self, level: u8, index: u64) -> Result<Digest, String> {
        self.nodes.get(&(level, index)).copied().ok_or_else(|| format!("no node {level}/{index}"))
    }
}

/// Counts what is asked for, of a tree that is too large to make.
#[derive(Default)]
struct Counted(Cell<u32>);

impl Nodes for Counted {
    type Error = Infallible;

    fn leaf(&self, _: u64) -> Result<Digest, Infallible> {
        self.0.set(self.0.get() + 1);
        Ok(Digest([0; 32]))
    }

    fn kept(&self, level: u8, index: u64) -> Result<Digest, Infallible> {
        assert!(level > 0 && level.is_multiple_of(NODE_LEVELS), "level {level} is not kept");
        assert!((index + 1) << level <= LARGE, "node {level}/{index} is not complete");
        self.0.set(self.0.get() + 1);
        Ok(Digest([0; 32]))
    }
}

const LARGE: u64 = 10_000_000;

#[test]
fn proofs_are_the_published_ones() {
    let kept = Kept::of(LEAVES);
    let hashes = |path: Vec<Digest>| path.iter().map(Digest::hex).collect::<Vec<_>>();
    // Of the Certificate Transparency project, for the leaves that it publishes.
    let check = |position, size, expected: &[&str]| {
        assert_eq!(hashes(inclusion(&kept, position, size).unwrap()), expected, "{position} of {size}");
    };
    check(0, 1, &[]);
    check(
        0,
        8,
        &[
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    );
    check(
        5,
        8,
        &[
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    );
    check(2, 3, &["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]);
    let check = |old, new, expected: &[&str]| {
        assert_eq!(hashes(consistency(&kept, old, new).unwrap()), expected, "{old} in {new}");
    };
    check(1, 1, &[]);
    check(0, 8, &[]);
    check(
        1,
        8,
        &[
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    );
    check(
        6,
        8,
        &[
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    );
    check(
        2,
        5,
        &[
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    );
}

#[test]
fn a_tree_is_known_at_each_of_its_sizes() {
    const SIZE: u64 = 600;
    let leaves: Vec<_> = (0..SIZE).map(u64::to_be_bytes).collect();
    let kept = Kept::of(leaves.iter().map(|leaf| &leaf[..]));
    let mut frontier = Frontier::new();
    for size in 0..=SIZE {
        assert_eq!(frontier_at(&kept, size).unwrap(), frontier);
        assert_eq!(root_at(&kept, size).unwrap(), frontier.root());
        if size < SIZE {
            frontier.push(leaf_hash(&size.to_be_bytes()), |_, _, _| ());
        }
    }
    assert_eq!(root_at(&kept, SIZE + 1), Err("no leaf 600".to_owned()));
}

#[test]
fn what_is_not_there_is_not_proven() {
    let kept = Kept::of(LEAVES);
    assert_eq!(inclusion(&kept, 8, 8), Err(ProofError::Outside { position: 8, size: 8 }));
    assert_eq!(inclusion(&kept, 0, 0), Err(ProofError::Outside { position: 0, size: 0 }));
    assert_eq!(consistency(&kept, 3, 2), Err(ProofError::Shrunk { old: 3, new: 2 }));
    assert_eq!(inclusion(&kept, 0, 9), Err(ProofError::Read("no leaf 8".to_owned())));
}

/// 10 million leaves are 24 levels, of which every fourth is kept: a path costs at most 15 reads for each group of four levels
/// that it passes, and as many again for the right edge of the tree, which is the sibling of one node on the path.
#[test]
fn reads_grow_with_the_height_only() {
    let reads = |act: &dyn Fn(&Counted)| {
        let counted = Counted::default();
        act(&counted);
        counted.0.get()
    };
    let worst = |positions: &mut dyn Iterator<Item = u64>, act: &dyn Fn(&Counted, u64)| {
        positions.map(|position| reads(&|counted| act(counted, position))).max().unwrap()
    };
    // Leaves of one complete subtree cost the same, so one of each will do.
    let mut positions = complete(0, LARGE).into_iter().map(|(level, index)| index << level);
    let inclusions = worst(&mut positions, &|counted, position| {
        assert!(inclusion(counted, position, LARGE).unwrap().len() <= 24);
    });
    let consistencies = worst(&mut (1..LARGE).step_by(997), &|counted, old| {
        assert!(consistency(counted, old, LARGE).unwrap().len() <= 25);
    });
    let roots = worst(&mut (0..=LARGE).step_by(97), &|counted, size| {
        root_at(counted, size).unwrap();
    });
    assert_eq!((inclusions, consistencies, roots), (114, 115, 79));
}
