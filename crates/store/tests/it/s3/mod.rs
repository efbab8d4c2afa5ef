//! Payloads in a bucket of a real server, and on a network that fails.

mod faults;
mod owner;
mod pages;
mod places;
mod proxy;
pub(crate) mod server;
mod trash;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use orbit_core::config::NamespaceName;
use orbit_store::blobs::bucket::{Bucket, BucketClient, BucketSettings, PAGE, Waits};
use orbit_store::blobs::{Blobs, FolderBlobs};

/// What passes is waited for as long as elsewhere, so that a slow machine is no fault; what stays is given up soon.
fn soon() -> Waits {
    Waits { retried_within: Duration::from_millis(500), ..Waits::default() }
}

fn settings(server: SocketAddr, bucket: &str) -> BucketSettings {
    BucketSettings {
        bucket: bucket.to_owned(),
        endpoint: format!("http://{server}"),
        region: "us-east-1".to_owned(),
        prefix: "some/where".to_owned(),
        allow_http: true,
        access_key_id: "canary-id".to_owned(),
        secret_access_key: "canary-secret".to_owned(),
        waits: Waits::default(),
        listed_at_once: PAGE,
    }
}

/// The payloads of a namespace in the bucket, behind this address, with this folder as the cache.
fn blobs(server: SocketAddr, bucket: &str, cache: &Path, waits: Waits) -> Blobs {
    let client = BucketClient::new(BucketSettings { waits, ..settings(server, bucket) }).unwrap();
    let bucket = Bucket::new(Arc::new(client), &NamespaceName::parse("lab").unwrap());
    Blobs::in_bucket(bucket, FolderBlobs::open(cache).unwrap())
}

/// The path of a payload's object on the server.
fn object(bucket: &str, digest: orbit_core::digest::Digest) -> String {
    let hex = digest.hex();
    format!("/{bucket}/some/where/lab/{}/{}", &hex[..2], &hex[2..])
}

/// Uploads that are neither complete nor aborted.
fn unfinished(bucket: &str) -> usize {
    let (status, body) = server::request("GET", &format!("/{bucket}?uploads"), b"");
    assert_eq!(status, 200);
    String::from_utf8(body).unwrap().matches("<UploadId>").count()
}
