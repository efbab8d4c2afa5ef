//! Roots and proofs against the crate `ct-merkle`: each side verifies what the other made, and both refuse what was changed.

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use ct_merkle::{ConsistencyProof, InclusionProof, RootHash};
use orbit_core::digest::Digest;
use orbit_core::record::proof::{consistency, inclusion, root_at, verify_consistency, verify_inclusion};
use orbit_core::record::tree::leaf_hash;
use proptest::prelude::*;
use proptest::sample::Index;
use sha2::Sha256;

use crate::tree::Tree;

type Peer = MemoryBackedTree<Sha256, String>;

/// Leaves of the largest tree.
const SIZE_MAX: u64 = 3000;

fn peer_of(tree: &Tree, size: u64) -> Peer {
    let mut peer = Peer::new();
    for leaf in &tree.leaves[..usize::try_from(size).unwrap()] {
        peer.push(leaf.clone());
    }
    peer
}

fn digests(bytes: &[u8]) -> Vec<Digest> {
    bytes.chunks_exact(32).map(|hash| Digest(hash.try_into().unwrap())).collect()
}

fn bytes(path: &[Digest]) -> Vec<u8> {
    path.iter().flat_map(|hash| hash.0).collect()
}

fn root_of(peer: &RootHash<Sha256>) -> Digest {
    digests(peer.as_bytes())[0]
}

/// The path with one bit of one hash changed, if it has any.
fn changed(path: &[Digest], at: Index) -> Option<Vec<Digest>> {
    let mut path = path.to_vec();
    let bit = at.index((path.len() * 256).max(1));
    path.get_mut(bit / 256)?.0[bit % 256 / 8] ^= 1 << (bit % 8);
    Some(path)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn inclusion_agrees(size in 1..=SIZE_MAX, position: Index, at: Index) {
        let tree = Tree::of(size);
        let peer = peer_of(&tree, size);
        let root = root_at(&tree, size).unwrap();
        prop_assert_eq!(root, root_of(&peer.root()));

        let place = position.index(usize::try_from(size).unwrap());
        let (position, leaf) = (place as u64, &tree.leaves[place]);
        let path = inclusion(&tree, position, size).unwrap();
        let theirs = peer.prove_inclusion(place);
        prop_assert_eq!(&path, &digests(theirs.as_bytes()));
        let hash = leaf_hash(leaf.as_bytes());
        prop_assert_eq!(verify_inclusion(&hash, position, &digests(theirs.as_bytes()), size, &root), Ok(()));
        let ours = |path: &[Digest]| InclusionProof::<Sha256>::from_bytes(bytes(path));
        prop_assert!(peer.root().verify_inclusion(leaf, position, &ours(&path)).is_ok());

        if let Some(changed) = changed(&path, at) {
            prop_assert!(verify_inclusion(&hash, position, &changed, size, &root).is_err());
            prop_assert!(peer.root().verify_inclusion(leaf, position, &ours(&changed)).is_err());
        }
        // Wherever else it is claimed to be, both say the same.
        let elsewhere = at.index(usize::try_from(size).unwrap()) as u64;
        prop_assert_eq!(
            verify_inclusion(&hash, elsewhere, &path, size, &root).is_ok(),
            peer.root().verify_inclusion(leaf, elsewhere, &ours(&path)).is_ok()
        );
    }

    #[test]
    fn consistency_agrees(new in 1..=SIZE_MAX, old: Index, at: Index) {
        let tree = Tree::of(new);
        let old = old.index(usize::try_from(new).unwrap()) as u64 + 1;
        let (old_peer, new_peer) = (peer_of(&tree, old), peer_of(&tree, new));
        let (old_root, new_root) = (root_at(&tree, old).unwrap(), root_at(&tree, new).unwrap());
        prop_assert_eq!(old_root, root_of(&old_peer.root()));

        let path = consistency(&tree, old, new).unwrap();
        let theirs = new_peer.prove_consistency(usize::try_from(new - old).unwrap());
        prop_assert_eq!(&path, &digests(theirs.as_bytes()));
        let holds = |path: &[Digest]| verify_consistency((old, &old_root), (new, &new_root), path);
        prop_assert_eq!(holds(&digests(theirs.as_bytes())), Ok(()));
        let theirs_holds = |path: &[Digest]| {
            ConsistencyProof::<Sha256>::try_from_bytes(bytes(path))
                .and_then(|path| new_peer.root().verify_consistency(&old_peer.root(), &path))
        };
        prop_assert!(theirs_holds(&path).is_ok());

        if let Some(changed) = changed(&path, at) {
            prop_assert!(holds(&changed).is_err());
            prop_assert!(theirs_holds(&changed).is_err());
        }
        prop_assert!(verify_consistency((old, &new_root), (new, &new_root), &path).is_ok() == (old == new));
    }
}
