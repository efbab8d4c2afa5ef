//! Removing is a move to the trash: whoever names a payload while it is removed finds it.

use std::fs;
use std::time::Duration;

use orbit_core::digest::Digest;
use orbit_store::blobs::bucket::{Trashed, Waits};
use orbit_store::blobs::{BlobError, Blobs};

use super::{blobs, object, server};

struct World {
    folder: tempfile::TempDir,
    bucket: String,
}

fn world() -> World {
    World { folder: tempfile::tempdir().unwrap(), bucket: server::bucket() }
}

impl World {
    /// A node with a cache of its own, which is empty.
    fn node(&self, name: &str) -> Blobs {
        let cache = self.folder.path().join(name);
        _ = fs::remove_dir_all(&cache);
        blobs(server::address(), &self.bucket, &cache, Waits::default())
    }
}

fn trash(node: &Blobs, digest: Digest, age: Duration) -> Vec<Trashed> {
    let shard = u8::from_str_radix(&digest.hex()[..2], 16).unwrap();
    let (found, next) = node.trashed(shard, age, None).unwrap();
    assert_eq!(next, None);
    found
}

#[test]
fn who_named_it_meanwhile_finds_it() {
    let world = world();
    let (one, two) = (world.node("one"), world.node("two"));
    let digest = one.put_bytes(b"payload").unwrap().digest;
    // Another node has found it, and is about to name it.
    assert_eq!(two.put_bytes(b"payload").unwrap().digest, digest);
    assert_eq!(one.remove_older(digest, Duration::ZERO), Ok(Some(7)));
    assert_eq!(server::request("HEAD", &object(&world.bucket, digest), b"").0, 404);
    assert_eq!(world.node("three").read(digest).unwrap(), "payload", "who misses it puts it back");
    assert_eq!(server::request("HEAD", &object(&world.bucket, digest), b"").0, 200);
    assert_eq!(one.remove_older(digest, Duration::ZERO), Ok(Some(7)));
    assert_eq!(world.node("four").contains(digest), Ok(true), "also who only asks");
}

#[test]
fn a_copy_is_judged_once_it_is_old_and_goes_back_if_somebody_names_it() {
    let world = world();
    let node = world.node("one");
    let digest = node.put_bytes(b"payload").unwrap().digest;
    assert_eq!(node.remove_older(digest, Duration::ZERO), Ok(Some(7)));
    assert_eq!(trash(&node, digest, Duration::from_hours(1)), [], "not before it is old");
    let copies = trash(&node, digest, Duration::ZERO);
    assert_eq!((copies.len(), copies[0].digest, copies[0].bytes), (1, digest, 7));
    node.judge(&copies[0], true).unwrap();
    assert_eq!(trash(&node, digest, Duration::ZERO), []);
    assert_eq!(server::request("HEAD", &object(&world.bucket, digest), b"").0, 200);
    assert_eq!(world.node("two").verify(digest), Ok(7));
    assert_eq!(node.remove_older(digest, Duration::ZERO), Ok(Some(7)));
    for copy in trash(&node, digest, Duration::ZERO) {
        node.judge(&copy, false).unwrap();
        node.judge(&copy, false).unwrap();
    }
    assert_eq!(world.node("two").verify(digest), Err(BlobError::Missing { digest }));
}

#[test]
fn a_late_removal_by_another_node_takes_no_new_payload() {
    let world = world();
    let (one, two) = (world.node("one"), world.node("two"));
    let digest = one.put_bytes(b"payload").unwrap().digest;
    one.remove_older(digest, Duration::ZERO).unwrap();
    let judged = trash(&one, digest, Duration::ZERO);
    two.put_bytes(b"payload").unwrap();
    // Both remove it at once, and the first one's copy is judged meanwhile: each removal has a copy of its own.
    two.remove_older(digest, Duration::ZERO).unwrap();
    one.judge(&judged[0], false).unwrap();
    assert_eq!(world.node("three").read(digest).unwrap(), "payload");
}
