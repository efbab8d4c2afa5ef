//! A tree of the kind that a store keeps, made of the public functions only.

use std::collections::BTreeMap;

use orbit_core::digest::Digest;
use orbit_core::record::Frontier;
use orbit_core::record::proof::Nodes;
use orbit_core::record::tree::{NODE_LEVELS, leaf_hash};

/// Every leaf, and the nodes of every fourth level.
#[derive(Default)]
pub(crate) struct Tree {
    pub(crate) leaves: Vec<String>,
    hashes: Vec<Digest>,
    nodes: BTreeMap<(u8, u64), Digest>,
}

impl Tree {
    /// Leaves that are all different.
    pub(crate) fn of(size: u64) -> Self {
        let mut tree = Self::default();
        let mut frontier = Frontier::new();
        for position in 0..size {
            let leaf = format!(r#"{{"kind":"kind of \u20ac","number":{position}}}"#);
            frontier.push(leaf_hash(leaf.as_bytes()), |level, index, hash| {
                if level == 0 {
                    tree.hashes.push(*hash);
                } else if level.is_multiple_of(NODE_LEVELS) {
                    tree.nodes.insert((level, index), *hash);
                }
            });
            tree.leaves.push(leaf);
        }
        tree
    }
}

impl Nodes for Tree {
    type Error = String;

    fn leaf(&self, position: u64) -> Result<Digest, String> {
        let position = usize::try_from(position).unwrap();
        self.hashes.get(position).copied().ok_or_else(|| format!("no leaf {position}"))
    }

    fn kept(&self, level: u8, index: u64) -> Result<Digest, String> {
        assert!(level > 0 && level.is_multiple_of(NODE_LEVELS), "level {level} is not kept");
        self.nodes.get(&(level, index)).copied().ok_or_else(|| format!("no node {level}/{index}"))
    }
}
