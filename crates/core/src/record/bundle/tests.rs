//! Proof texts with each of their fields changed.

use super::*;
use crate::record::key::tests::signer;
use crate::record::tree::Frontier;

const ORIGIN: &str = "orbit/studio/0123456789abcdef";

/// Three leaves, and the proof of the second.
fn bundle() -> Bundle {
    let leaves: Vec<_> = [&b"a"[..], b"b", b"c"].into_iter().map(leaf_hash).collect();
    let mut frontier = Frontier::new();
    for leaf in &leaves {
        frontier.push(*leaf, |_, _, _| ());
    }
    let checkpoint = Checkpoint::new(ORIGIN, 3, frontier.root()).sign(&signer(7, ORIGIN)).unwrap();
    Bundle { extra: Some(b"b".to_vec()), index: 1, path: vec![leaves[0], leaves[2]], checkpoint }
}

fn proven(text: &str) -> Result<Proven, BundleError> {
    verify(text, signer(7, ORIGIN).verifier(), &leaf_hash(b"b"))
}

#[test]
fn written_and_read() {
    let text = bundle().to_string();
    let read = Bundle::parse(&text).unwrap();
    assert_eq!(read, bundle());
    assert_eq!(read.leaf(), Some(leaf_hash(b"b")));
    let proven = proven(&text).unwrap();
    assert_eq!((proven.position, proven.checkpoint.size, &*proven.checkpoint.origin), (1, 3, ORIGIN));
    let bare = Bundle { extra: None, ..bundle() };
    assert_eq!(Bundle::parse(&bare.to_string()), Ok(bare));
}

#[test]
fn a_log_of_one_leaf_needs_no_hashes() {
    let root = leaf_hash(b"b");
    let checkpoint = Checkpoint::new(ORIGIN, 1, root).sign(&signer(7, ORIGIN)).unwrap();
    let text = Bundle { extra: None, index: 0, path: vec![], checkpoint }.to_string();
    assert!(text.starts_with("c2sp.org/tlog-proof@v1\nindex 0\n\norbit/"), "{text}");
    assert_eq!(proven(&text).unwrap().position, 0);
}

#[test]
fn no_bit_but_those_of_the_extra_can_be_changed() {
    let text = bundle().to_string();
    let extra = text.find("extra ").unwrap()..text.find("index ").unwrap();
    let mut bytes = text.into_bytes();
    for at in (0..bytes.len()).filter(|at| !extra.contains(at)) {
        for bit in 0..8 {
            bytes[at] ^= 1 << bit;
            let holds = std::str::from_utf8(&bytes).is_ok_and(|text| proven(text).is_ok());
            assert!(!holds, "bit {bit} of byte {at}");
            bytes[at] ^= 1 << bit;
        }
    }
}

#[test]
fn each_changed_field_has_its_error() {
    let text = bundle().to_string();
    let check = |from: &str, to: &str, expected: &str| {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text);
        let error = proven(&changed).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}\nexpected: {expected}");
    };
    let base64 = |digest: &Digest| lines::base64(&digest.0);
    let (first, second) = (base64(&bundle().path[0]), base64(&bundle().path[1]));
    let other = base64(&leaf_hash(b"x"));
    check("@v1", "@v2", "line 1: expected `c2sp.org/tlog-proof@v1`, found `c2sp.org/tlog-proof@v2`");
    check("extra ", "extra  ", "line 2: expected `extra` and bytes in base64, found `extra  Yg==`");
    check("extra ", "more ", "line 2: expected `index` and a decimal, found `more Yg==`");
    check("index 1", "index 01", "line 3: expected `index` and a decimal, found `index 01`");
    check("index 1", "index", "line 3: expected `index` and a decimal, found `index`");
    check("index 1", "index 0", "the proof leads to root sha256:");
    check("index 1", "index 2", "the proof has 2 hashes, too many for its sizes");
    check("index 1", "index 3", "position 3 is not in a tree of 3 leaves");
    check(&first, &other, "the proof leads to root sha256:");
    check(&second, &other, "the proof leads to root sha256:");
    check(&format!("{second}\n"), "", "the proof has only 1 hashes, too few for its sizes");
    check(
        &format!("{second}\n"),
        &format!("{second}\n{second}\n"),
        "the proof has 3 hashes, too many for its sizes",
    );
    check(&first, &first[4..], "line 4: expected a hash of 32 bytes in base64, or an empty line, found `");
    check(
        &second,
        &second.replace('=', ""),
        "line 5: expected a hash of 32 bytes in base64, or an empty line, found `",
    );
    check(
        "\n\n",
        "\n",
        "line 6: expected a hash of 32 bytes in base64, or an empty line, found `orbit/studio/",
    );
    check("\n3\n", "\n03\n", "line 8: expected the size of the tree in decimal, found `03`");
    check("\n3\n", "\n4\n", "the signature of `orbit/studio/0123456789abcdef` with key id `");
    check(
        "studio",
        "studia",
        "the checkpoint is of the log `orbit/studia/0123456789abcdef`, not of `orbit/studio/",
    );
    check(
        "\u{2014} ",
        "- ",
        "line 11: expected `\u{2014} name base64` with an id and a signature, found `- orbit/studio",
    );
    let (upto, _) = text.split_once('\u{2014}').unwrap();
    let cut = proven(upto).unwrap_err().to_string();
    assert_eq!(
        cut,
        "line 11: expected `\u{2014} name base64` with an id and a signature and a newline, found the end"
    );
}

#[test]
fn another_leaf_or_key_is_not_proven() {
    let text = bundle().to_string();
    let wrong_leaf = verify(&text, signer(7, ORIGIN).verifier(), &leaf_hash(b"a"));
    assert!(matches!(wrong_leaf, Err(BundleError::Path(VerifyError::Root { .. }))), "{wrong_leaf:?}");
    let wrong_key = verify(&text, signer(8, ORIGIN).verifier(), &leaf_hash(b"b"));
    let unsigned = |error: &BundleError| {
        matches!(error, BundleError::Checkpoint(CheckpointError::Note(NoteError::Unsigned { .. })))
    };
    assert!(wrong_key.as_ref().is_err_and(unsigned), "{wrong_key:?}");
}

#[test]
fn a_proof_has_bounds() {
    let path = vec![leaf_hash(b""); PROOF_HASHES_MAX];
    let longest = Bundle { path: path.clone(), ..bundle() };
    assert_eq!(Bundle::parse(&longest.to_string()), Ok(longest));
    let longer = Bundle { path: [path, vec![leaf_hash(b"")]].concat(), ..bundle() }.to_string();
    let error = Bundle::parse(&longer).unwrap_err().to_string();
    assert!(error.starts_with("line 68: expected an empty line after 64 hashes, found `"), "{error}");
    let bytes = PROOF_BYTES_MAX + 1;
    assert_eq!(Bundle::parse(&"x".repeat(bytes)), Err(BundleError::TooLong { bytes }));
}
