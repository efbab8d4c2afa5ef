//! One suite for both places: a folder, and a bucket with a folder as its cache.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use orbit_core::digest::Digest;
use orbit_store::blobs::bucket::Waits;
use orbit_store::blobs::{Blob, BlobError, Blobs, FolderBlobs};

use super::{blobs, object, server, unfinished};

/// More than a part of an upload, and no multiple of one.
const PARTS: usize = 9 * 1024 * 1024 + 1;

/// A place, and what is behind it.
struct Place {
    folder: tempfile::TempDir,
    bucket: Option<String>,
    blobs: Arc<Blobs>,
}

impl Place {
    /// Where the durable bytes of a payload are changed behind everybody's back.
    fn damage(&self, digest: Digest, bytes: &[u8]) {
        let path = self.blobs.path(digest);
        if let Some(bucket) = &self.bucket {
            assert_eq!(server::request("PUT", &object(bucket, digest), bytes).0, 200);
            fs::remove_file(path).unwrap();
        } else {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            fs::write(&path, bytes).unwrap();
        }
    }

    /// The same place as another process finds it, which has nothing in a cache.
    fn again(&self) -> Arc<Blobs> {
        Arc::new(match &self.bucket {
            Some(bucket) => {
                let cache = self.folder.path().join("another");
                _ = fs::remove_dir_all(&cache);
                blobs(server::address(), bucket, &cache, Waits::default())
            }
            None => FolderBlobs::open(&self.folder.path().join("blobs")).unwrap().into(),
        })
    }

    fn files(&self, below: &str) -> usize {
        fs::read_dir(self.folder.path().join("blobs").join(below)).map_or(0, Iterator::count)
    }
}

fn places() -> [Place; 2] {
    let in_folder = tempfile::tempdir().unwrap();
    let folder = FolderBlobs::open(&in_folder.path().join("blobs")).unwrap();
    let in_bucket = tempfile::tempdir().unwrap();
    let bucket = server::bucket();
    let cached = blobs(server::address(), &bucket, &in_bucket.path().join("blobs"), Waits::default());
    [
        Place { folder: in_folder, bucket: None, blobs: Arc::new(folder.into()) },
        Place { folder: in_bucket, bucket: Some(bucket), blobs: Arc::new(cached) },
    ]
}

fn bytes(count: usize) -> Vec<u8> {
    (0..=250).cycle().take(count).collect()
}

#[test]
fn what_is_put_is_read_back_whole_by_anybody() {
    for place in places() {
        for count in [0, 1, 70_000, PARTS] {
            let content = bytes(count);
            let source = place.folder.path().join("source");
            fs::write(&source, &content).unwrap();
            let blob = place.blobs.put_file(&source).unwrap();
            assert_eq!(blob, Blob { digest: Digest::of(&content), bytes: count as u64 });
            assert_eq!(place.blobs.put_bytes(&content), Ok(blob), "again");
            for blobs in [Arc::clone(&place.blobs), place.again()] {
                assert_eq!(blobs.contains(blob.digest), Ok(true));
                assert_eq!(blobs.verify(blob.digest), Ok(blob.bytes));
                assert_eq!(blobs.read(blob.digest).unwrap(), content);
                assert_eq!(fs::read(blobs.file(blob.digest).unwrap()).unwrap(), content);
                let copy = place.folder.path().join("copy");
                assert_eq!(blobs.copy_to(blob.digest, &copy), Ok(blob.bytes));
                assert_eq!(fs::read(&copy).unwrap(), content);
            }
        }
        assert_eq!((place.files("incoming"), place.files("uploads")), (0, 0));
        assert_eq!(place.bucket.as_deref().map_or(0, unfinished), 0);
    }
}

#[test]
fn what_is_missing_is_named_and_leaves_nothing() {
    for place in places() {
        let digest = Digest::of(b"nowhere");
        let copy = place.folder.path().join("copy");
        let missing = BlobError::Missing { digest };
        assert_eq!(place.blobs.contains(digest), Ok(false));
        assert_eq!(place.blobs.verify(digest), Err(missing.clone()));
        assert_eq!(place.blobs.read(digest), Err(missing.clone()));
        assert_eq!(place.blobs.file(digest), Err(missing.clone()));
        assert_eq!(place.blobs.copy_to(digest, &copy), Err(missing));
        assert!(!copy.exists());
        assert_eq!(place.files("incoming"), 0);
        let not_a_file = place.blobs.put_file(place.folder.path()).unwrap_err().to_string();
        assert!(not_a_file.contains("not a regular file"), "{not_a_file}");
    }
}

#[test]
fn damage_is_named_nothing_damaged_is_handed_out_and_another_length_is_healed() {
    for place in places() {
        let digest = place.blobs.put_bytes(b"whole").unwrap().digest;
        place.damage(digest, b"whOle");
        let corrupt = BlobError::Corrupt { digest };
        let copy = place.folder.path().join("copy");
        assert_eq!(place.blobs.verify(digest), Err(corrupt.clone()));
        assert_eq!(place.blobs.read(digest), Err(corrupt.clone()));
        assert_eq!(place.blobs.copy_to(digest, &copy), Err(corrupt));
        assert!(!copy.exists());
        let digest = place.blobs.put_bytes(b"another").unwrap().digest;
        place.damage(digest, b"short");
        place.blobs.put_bytes(b"another").unwrap();
        assert_eq!(place.again().verify(digest), Ok(7));
        assert_eq!(place.files("incoming"), 0);
    }
}

#[test]
fn a_damaged_file_of_the_cache_is_fetched_again() {
    let [_, place] = places();
    let digest = place.blobs.put_bytes(b"whole").unwrap().digest;
    let path = place.blobs.path(digest);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&path, b"whOle").unwrap();
    assert_eq!(place.blobs.read(digest).unwrap(), "whole");
    assert_eq!(fs::read(path).unwrap(), b"whole");
}

#[test]
fn the_same_put_by_many_at_once_is_one_payload() {
    for place in places() {
        for count in [70_000, PARTS] {
            let content = bytes(count);
            let others = [Arc::clone(&place.blobs), Arc::clone(&place.blobs), place.again()];
            let put: Vec<_> = std::thread::scope(|scope| {
                let content = &content;
                let all: Vec<_> = others.iter().map(|one| scope.spawn(|| one.put_bytes(content))).collect();
                all.into_iter().map(|one| one.join().unwrap().unwrap()).collect()
            });
            assert!(put.iter().all(|one| *one == put[0]));
            assert_eq!(place.again().read(put[0].digest).unwrap(), content);
        }
        assert_eq!((place.files("incoming"), place.files("uploads")), (0, 0));
        assert_eq!(place.bucket.as_deref().map_or(0, unfinished), 0);
    }
}

fn shard(digest: &Digest) -> u8 {
    u8::from_str_radix(&digest.hex()[..2], 16).unwrap()
}

#[test]
fn what_nobody_needs_is_found_page_by_page_and_removed_once_it_is_old() {
    for place in places() {
        let mut put: Vec<_> =
            (0..24_u32).map(|n| place.blobs.put_bytes(&n.to_le_bytes()).unwrap().digest).collect();
        // All shards there are, and one more; each is a request or two.
        let shards: BTreeSet<u8> = put.iter().map(shard).chain([0]).collect();
        let list = || {
            let mut found = Vec::new();
            for shard in shards.iter().copied() {
                let mut after = None;
                loop {
                    let page = place.blobs.page(shard, after).unwrap();
                    found.extend(page.digests);
                    after = page.next;
                    if after.is_none() {
                        break;
                    }
                }
            }
            found.sort_unstable();
            found
        };
        put.sort_unstable();
        assert_eq!(list(), put);
        let (gone, kept) = (put[0], put[1]);
        assert_eq!(place.blobs.remove_older(gone, Duration::from_hours(1)), Ok(None), "too young");
        assert_eq!(place.blobs.remove_older(gone, Duration::ZERO), Ok(Some(4)));
        assert_eq!(place.blobs.remove_older(gone, Duration::ZERO), Ok(None));
        assert_eq!(list(), put[1..]);
        assert_eq!(place.again().verify(kept), Ok(4));
    }
}

/// The largest number of bytes that this process had in memory, ever.
fn resident_max() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// The other tests of this process take memory of their own: this one is played alone, in a process that a test starts.
#[test]
fn a_large_payload_passes_in_constant_memory() {
    const ALONE: &str = "s3::places::a_large_payload_alone";
    let address = server::address().to_string();
    #[expect(clippy::disallowed_methods, reason = "a process of the tests, not the engine's")]
    let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
    let played = alone
        .args(["--exact", ALONE, "--ignored", "--nocapture"])
        .env("S3_SERVER", address)
        .env("S3_BUCKET", server::bucket())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&played.stdout).into_owned();
    assert!(
        played.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&played.stderr)
    );
}

#[test]
#[ignore = "played by the test above, in a process of its own"]
#[expect(clippy::disallowed_methods, reason = "told by the test that starts this process")]
fn a_large_payload_alone() {
    const BYTES: usize = 48 * 1024 * 1024;
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    write_large(&source, BYTES);
    let address = std::env::var("S3_SERVER").unwrap().parse().unwrap();
    let bucket = std::env::var("S3_BUCKET").unwrap();
    let open = |name: &str| blobs(address, &bucket, &folder.path().join(name), Waits::default());
    // What the first requests take once is not counted.
    let warm = open("one").put_bytes(&bytes(9 * 1024 * 1024)).unwrap();
    open("two").copy_to(warm.digest, &folder.path().join("copy")).unwrap();
    let before = resident_max();
    let blob = open("one").put_file(&source).unwrap();
    assert_eq!(blob.bytes, BYTES as u64);
    assert_eq!(open("three").copy_to(blob.digest, &folder.path().join("copy")), Ok(blob.bytes));
    assert_eq!(open("three").verify(blob.digest), Ok(blob.bytes));
    let grown = resident_max() - before;
    assert!(grown < 24 * 1024 * 1024, "{grown} bytes more");
}

fn write_large(path: &Path, count: usize) {
    use std::io::Write as _;
    let mut file = fs::File::create(path).unwrap();
    let piece = bytes(251 * 1024);
    let mut left = count;
    while left > 0 {
        let now = piece.len().min(left);
        file.write_all(&piece[..now]).unwrap();
        left -= now;
    }
}
