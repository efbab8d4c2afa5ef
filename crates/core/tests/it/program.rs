//! Roots and proofs against `scripts/rfc6962.py`, which shares no code: each side checks what the other made.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use orbit_core::digest::Digest;
use orbit_core::record::proof::{consistency, inclusion, root_at, verify_consistency, verify_inclusion};
use orbit_core::record::tree::leaf_hash;
use serde_json::json;

use crate::tree::Tree;

const SIZE: u64 = 300;

/// The program with an export to read: its output, and whether it said yes.
#[expect(clippy::disallowed_methods, reason = "the oracle is a program")]
fn program(arguments: &[&str], export: &str) -> (String, bool) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/rfc6962.py");
    let mut child = Command::new("python3")
        // Without what it does not need: a start takes longer than a proof.
        .args(["-B", "-I", "-S"])
        .arg(script)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    // Dropped, so that it sees the end. A check reads nothing and may be gone.
    let _ = child.stdin.take().unwrap().write_all(export.as_bytes());
    let output = child.wait_with_output().unwrap();
    (String::from_utf8(output.stdout).unwrap(), output.status.success())
}

fn export(tree: &Tree) -> String {
    let mut lines = String::new();
    for (position, leaf) in tree.leaves.iter().enumerate() {
        lines.push_str(&json!({"position": position, "leaf": leaf, "body": {}}).to_string());
        lines.push('\n');
    }
    lines
}

fn text(digest: &Digest) -> String {
    STANDARD.encode(digest.0)
}

fn digests(lines: &str) -> Vec<Digest> {
    lines.lines().map(|line| Digest(STANDARD.decode(line).unwrap().try_into().unwrap())).collect()
}

/// The numbers and hashes of a check as the program takes them.
fn checked(check: &str, numbers: [u64; 2], hashes: &[Digest]) -> bool {
    let mut arguments = vec![check.to_owned()];
    arguments.extend(numbers.map(|number| number.to_string()));
    arguments.extend(hashes.iter().map(text));
    let (said, holds) = program(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), "");
    assert_eq!(said, if holds { "holds\n" } else { "does not hold\n" });
    holds
}

#[test]
fn roots_agree() {
    let tree = Tree::of(SIZE);
    let lines = export(&tree);
    for size in [0, 1, 16, 255, 257] {
        let expected = format!("{size}\n{}\n", text(&root_at(&tree, size).unwrap()));
        assert_eq!(program(&["root", &size.to_string()], &lines), (expected, true));
    }
    assert_eq!(program(&["root"], &lines).0, format!("{SIZE}\n{}\n", text(&root_at(&tree, SIZE).unwrap())));
}

#[test]
fn inclusion_agrees() {
    let tree = Tree::of(SIZE);
    let lines = export(&tree);
    for (position, size) in [(0, 1), (255, 256), (256, 257), (123, SIZE)] {
        let path = inclusion(&tree, position, size).unwrap();
        let (theirs, _) = program(&["inclusion", &position.to_string(), &size.to_string()], &lines);
        assert_eq!(digests(&theirs), path, "{position} of {size}");
        let leaf = leaf_hash(tree.leaves[usize::try_from(position).unwrap()].as_bytes());
        let root = root_at(&tree, size).unwrap();
        assert_eq!(verify_inclusion(&leaf, position, &digests(&theirs), size, &root), Ok(()));
        let ours = [&[leaf, root], &path[..]].concat();
        assert!(checked("check-inclusion", [position, size], &ours));
        let mut changed = ours.clone();
        changed.last_mut().unwrap().0[31] ^= 1;
        assert!(!checked("check-inclusion", [position, size], &changed));
    }
}

#[test]
fn consistency_agrees() {
    let tree = Tree::of(SIZE);
    let lines = export(&tree);
    for (old, new) in [(0, SIZE), (3, 4), (256, SIZE), (257, SIZE), (SIZE, SIZE)] {
        let path = consistency(&tree, old, new).unwrap();
        let (theirs, _) = program(&["consistency", &old.to_string(), &new.to_string()], &lines);
        assert_eq!(digests(&theirs), path, "{old} in {new}");
        let (old_root, new_root) = (root_at(&tree, old).unwrap(), root_at(&tree, new).unwrap());
        assert_eq!(verify_consistency((old, &old_root), (new, &new_root), &digests(&theirs)), Ok(()));
        let ours = [&[old_root, new_root], &path[..]].concat();
        assert!(checked("check-consistency", [old, new], &ours));
        let mut changed = ours.clone();
        changed[0].0[0] ^= 1;
        assert!(!checked("check-consistency", [old, new], &changed));
    }
}
