//! One prefix belongs to one store: another one puts and removes nothing there.

use std::sync::Arc;
use std::time::Duration;

use orbit_core::config::NamespaceName;
use orbit_store::blobs::bucket::{Bucket, BucketClient};
use orbit_store::blobs::{BlobError, Blobs, BucketFault, FolderBlobs};

use super::proxy::{Fault, Proxy, Rule};
use super::{server, settings};

/// A node of a store, with a cache of its own.
struct Node {
    client: Arc<BucketClient>,
    blobs: Blobs,
    _folder: tempfile::TempDir,
}

fn node(address: std::net::SocketAddr, bucket: &str, prefix: &str, store: &str) -> Node {
    let mut settings = settings(address, bucket);
    prefix.clone_into(&mut settings.prefix);
    let client = Arc::new(BucketClient::new(settings).unwrap());
    client.works_for(store);
    let folder = tempfile::tempdir().unwrap();
    let bucket = Bucket::new(Arc::clone(&client), &NamespaceName::parse("lab").unwrap());
    let blobs = Blobs::in_bucket(bucket, FolderBlobs::open(&folder.path().join("blobs")).unwrap());
    Node { client, blobs, _folder: folder }
}

fn is_taken<T: std::fmt::Debug>(answer: Result<T, BlobError>) {
    let error = answer.unwrap_err();
    let BlobError::Bucket { fault: BucketFault::Taken, message, .. } = &error else { panic!("{error:?}") };
    assert!(message.contains("belongs to the store `one`, and this is `two`"), "{message}");
}

#[test]
fn whoever_comes_first_has_the_prefix_and_shares_it_with_nodes_of_the_same_store() {
    let bucket = server::bucket();
    let [first, sibling] = [(); 2].map(|()| node(server::address(), &bucket, "home", "one"));
    let digest = first.blobs.put_bytes(b"payload").unwrap().digest;
    sibling.blobs.put_bytes(b"of another node").unwrap();
    let stranger = node(server::address(), &bucket, "home", "two");
    is_taken(stranger.client.claim());
    is_taken(stranger.blobs.put_bytes(b"stranger"));
    is_taken(stranger.blobs.remove_older(digest, Duration::ZERO));
    let (_, listed) = server::request("GET", &format!("/{bucket}?list-type=2"), b"");
    assert_eq!(String::from_utf8(listed).unwrap().matches("<Key>home/lab/").count(), 2);
    assert_eq!(first.blobs.verify(digest), Ok(7));
    let elsewhere = node(server::address(), &bucket, "another", "two");
    elsewhere.blobs.put_bytes(b"stranger").unwrap();
    // Given up by whoever had it, it is free again.
    assert_eq!(server::request("DELETE", &format!("/{bucket}/home/_owner"), b"").0, 204);
    stranger.client.claim().unwrap();
    stranger.blobs.put_bytes(b"stranger").unwrap();
}

#[test]
fn an_answer_that_is_lost_makes_nobody_a_stranger_and_a_bucket_that_is_away_no_owner() {
    let bucket = server::bucket();
    let proxy = Proxy::start(server::address());
    proxy.set(Some(Rule { from: 0, times: 1, line: "PUT", fault: Fault::CutAfter }));
    let first = node(proxy.address, &bucket, "home", "one");
    first.blobs.put_bytes(b"payload").unwrap();
    let stranger = node(proxy.address, &bucket, "home", "two");
    proxy.set(Some(Rule { from: 0, times: usize::MAX, line: "", fault: Fault::Answer(403, "AccessDenied") }));
    let refused = stranger.client.claim().unwrap_err();
    assert!(matches!(refused, BlobError::Bucket { fault: BucketFault::Refused, .. }), "{refused:?}");
    proxy.set(None);
    is_taken(stranger.client.claim());
}
