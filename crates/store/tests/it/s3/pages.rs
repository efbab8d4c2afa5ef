//! Listings of more than one page.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use orbit_core::config::NamespaceName;
use orbit_core::digest::Digest;
use orbit_store::blobs::bucket::{Bucket, BucketClient, BucketSettings};
use orbit_store::blobs::{Blobs, FolderBlobs};

use super::{server, settings};

/// Payloads of one shard: two pages, and one more.
const PAYLOADS: usize = 5;
const A_PAGE: usize = 2;

/// Different bytes whose digests begin alike.
fn of_a_shard(shard: u8) -> Vec<Vec<u8>> {
    let all = (0_u32..).map(|number| number.to_string().into_bytes());
    all.filter(|bytes| Digest::of(bytes).0[0] == shard).take(PAYLOADS).collect()
}

/// Everything, and how many pages it took.
fn all<T>(page: impl Fn(Option<String>) -> (Vec<T>, Option<String>)) -> (Vec<T>, usize) {
    let (mut found, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let (more, next) = page(after);
        pages += 1;
        assert!(more.len() <= A_PAGE && pages <= PAYLOADS);
        found.extend(more);
        if next.is_none() {
            return (found, pages);
        }
        after = next;
    }
}

#[test]
fn every_name_is_on_one_page() {
    let bucket = server::bucket();
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    // What is in the cache of a node is among its first page: whoever looks is another one.
    let [writer, blobs] = folders.each_ref().map(|folder| {
        let settings = BucketSettings { listed_at_once: A_PAGE, ..settings(server::address(), &bucket) };
        let client = Arc::new(BucketClient::new(settings).unwrap());
        let lab = Bucket::new(client, &NamespaceName::parse("lab").unwrap());
        Blobs::in_bucket(lab, FolderBlobs::open(folder.path()).unwrap())
    });
    let put = |bytes: &Vec<u8>| writer.put_bytes(bytes).unwrap().digest;
    let mine: BTreeSet<_> = of_a_shard(7).iter().map(put).collect();
    of_a_shard(8).iter().take(1).for_each(|bytes| _ = put(bytes));
    let (found, pages) = all(|after| {
        let page = blobs.page(7, after).unwrap();
        (page.digests, page.next)
    });
    assert_eq!((found.len(), pages), (PAYLOADS, PAYLOADS.div_ceil(A_PAGE)));
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), mine);
    for digest in &mine {
        assert!(blobs.remove_older(*digest, Duration::ZERO).unwrap().is_some());
    }
    let (trashed, pages) = all(|after| blobs.trashed(7, Duration::ZERO, after).unwrap());
    assert_eq!((trashed.len(), pages), (PAYLOADS, PAYLOADS.div_ceil(A_PAGE)));
    assert_eq!(trashed.into_iter().map(|one| one.digest).collect::<BTreeSet<_>>(), mine);
    assert_eq!(blobs.page(7, None).unwrap().digests, []);
}
