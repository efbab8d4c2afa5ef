//! Where the larger payloads of a namespace live: in a folder, or in a bucket with the folder as its cache.
//!
//! Whoever needs a payload needs a file: programs read files, and requests are sent from them. So the folder is there in both cases. Without a bucket
//! it is all there is. With one, what is put lies in both before it is acknowledged, what is missing or damaged in the folder is fetched, and the
//! folder is kept within [`CACHE_BYTES_MAX`].

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use orbit_core::digest::Digest;

use super::bucket::{Bucket, Page, Trashed, left};
use super::{Blob, BlobError, FolderBlobs, at, open_regular};

/// Bytes of the cache. What was used within the last hour stays, even above it.
pub const CACHE_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;
/// After so many new bytes the cache is looked at.
const LOOKED_AT_EVERY: u64 = CACHE_BYTES_MAX / 16;
/// A file that was used within this is not taken from the cache: whoever asked for it may be about to open it.
const USED_WITHIN: Duration = Duration::from_hours(1);
/// Uploads of a process before this one that one call aborts at most.
const ABORTED_AT_ONCE: usize = 16;

/// See the module. Functions block.
#[derive(Debug)]
pub struct Blobs {
    folder: FolderBlobs,
    behind: Option<Behind>,
}

/// What is behind a folder that is a cache.
#[derive(Debug)]
struct Behind {
    bucket: Bucket,
    /// Bytes that came into the cache since it was looked at.
    added: AtomicU64,
    /// Notes of uploads that a process before this one left.
    left: Mutex<Vec<PathBuf>>,
}

impl From<FolderBlobs> for Blobs {
    fn from(folder: FolderBlobs) -> Self {
        Self { folder, behind: None }
    }
}

impl Blobs {
    /// The bucket, with the folder as its cache.
    pub fn in_bucket(bucket: Bucket, cache: FolderBlobs) -> Self {
        let left = Mutex::new(left(&cache.folder));
        // What is there already is looked at soon.
        let behind = Behind { bucket, added: AtomicU64::new(LOOKED_AT_EVERY), left };
        Self { folder: cache, behind: Some(behind) }
    }

    /// Whether they lie in a bucket, which other nodes use as well, and which cannot be reached at times.
    pub const fn is_shared(&self) -> bool {
        self.behind.is_some()
    }

    /// A copy of the file's bytes is durable. The file must be a regular one: a link is not followed, and a pipe is not waited for.
    pub fn put_file(&self, path: &Path) -> Result<Blob, BlobError> {
        self.put(&mut open_regular(path)?, path)
    }

    /// The bytes are durable.
    pub fn put_bytes(&self, mut bytes: &[u8]) -> Result<Blob, BlobError> {
        self.put(&mut bytes, &self.folder.folder)
    }

    pub(crate) fn put(&self, source: &mut dyn Read, from: &Path) -> Result<Blob, BlobError> {
        let blob = self.folder.put(source, from)?;
        if let Some(behind) = &self.behind {
            behind.bucket.put(blob, &self.folder.path(blob.digest), &self.folder.folder)?;
            self.added(behind, blob.bytes);
        }
        Ok(blob)
    }

    /// Where the file of a payload lies, if it is here. It is read-only and must not be given to a program.
    pub fn path(&self, digest: Digest) -> PathBuf {
        self.folder.path(digest)
    }

    /// Whether the payload is stored; its bytes are not looked at.
    pub fn contains(&self, digest: Digest) -> Result<bool, BlobError> {
        match &self.behind {
            Some(behind) => behind.bucket.contains(digest),
            None => Ok(self.folder.contains(digest)),
        }
    }

    /// The file of a payload, which is fetched if it is not here; its bytes were not compared with the digest now.
    pub fn file(&self, digest: Digest) -> Result<PathBuf, BlobError> {
        self.with(digest, |folder| {
            if folder.contains(digest) { Ok(folder.path(digest)) } else { Err(BlobError::Missing { digest }) }
        })
    }

    /// All bytes of a payload, compared with the digest.
    pub fn read(&self, digest: Digest) -> Result<Bytes, BlobError> {
        self.with(digest, |folder| {
            let mut content = Vec::new();
            folder.source(digest)?.read_to_end(&mut content).map_err(at(&folder.path(digest)))?;
            if Digest::of(&content) == digest {
                Ok(Bytes::from(content))
            } else {
                Err(BlobError::Corrupt { digest })
            }
        })
    }

    /// See [`FolderBlobs::copy_to`].
    pub fn copy_to(&self, digest: Digest, target: &Path) -> Result<u64, BlobError> {
        self.with(digest, |folder| folder.copy_to(digest, target))
    }

    /// Reads the whole payload where it is stored, not in a cache, and compares it with the digest; its length.
    pub fn verify(&self, digest: Digest) -> Result<u64, BlobError> {
        match &self.behind {
            Some(behind) => behind.bucket.verify(digest),
            None => self.folder.verify(digest),
        }
    }

    /// Does it in the folder, and once more after fetching what is not there or is damaged.
    fn with<T>(
        &self,
        digest: Digest,
        act: impl Fn(&FolderBlobs) -> Result<T, BlobError>,
    ) -> Result<T, BlobError> {
        let answer = act(&self.folder);
        let Some(behind) = &self.behind else { return answer };
        match answer {
            Err(BlobError::Missing { .. } | BlobError::Corrupt { .. }) => {
                behind.bucket.fetch(digest, &self.folder)?;
                let answer = act(&self.folder);
                self.added(behind, std::fs::metadata(self.folder.path(digest)).map_or(0, |file| file.len()));
                answer
            }
            answer => {
                self.folder.used(digest);
                answer
            }
        }
    }

    fn added(&self, behind: &Behind, bytes: u64) {
        if behind.added.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) >= LOOKED_AT_EVERY {
            behind.added.store(0, Ordering::Relaxed);
            if let Err(error) = self.folder.shrink(CACHE_BYTES_MAX, USED_WITHIN) {
                tracing::warn!(%error, "the cache of payloads could not be looked at");
            }
        }
    }

    /// The names in one of the shards, of which there are 256, page by page; the first page has those of the cache as well.
    pub fn page(&self, shard: u8, after: Option<String>) -> Result<Page, BlobError> {
        let Some(behind) = &self.behind else {
            return Ok(Page { digests: self.folder.shard(shard)?, next: None });
        };
        let cached = if after.is_none() { self.folder.shard(shard)? } else { Vec::new() };
        let mut page = behind.bucket.page(shard, after)?;
        page.digests.extend(cached);
        page.digests.sort_unstable();
        page.digests.dedup();
        Ok(page)
    }

    /// The payload is gone if it was made so long ago; its length, or none if it stays. In a bucket it is moved to the trash.
    pub fn remove_older(&self, digest: Digest, age: Duration) -> Result<Option<u64>, BlobError> {
        let Some(behind) = &self.behind else { return self.folder.remove_older(digest, age) };
        let removed = behind.bucket.remove_older(digest, age)?;
        if removed.is_some() || !behind.bucket.has(digest)? {
            self.folder.remove_older(digest, age)?;
        }
        Ok(removed)
    }

    /// What has lain in a shard's part of the trash for so long, page by page. A folder has no trash.
    pub fn trashed(
        &self,
        shard: u8,
        age: Duration,
        after: Option<String>,
    ) -> Result<(Vec<Trashed>, Option<String>), BlobError> {
        match &self.behind {
            Some(behind) => behind.bucket.trashed(shard, age, after),
            None => Ok((Vec::new(), None)),
        }
    }

    /// The copy leaves the trash: for its place if somebody names its payload, else for good.
    pub fn judge(&self, trashed: &Trashed, is_named: bool) -> Result<(), BlobError> {
        match &self.behind {
            Some(behind) if is_named => behind.bucket.put_back(trashed),
            Some(behind) => behind.bucket.discard(trashed),
            None => Ok(()),
        }
    }

    /// Uploads that a process before this one left are aborted, a few at once.
    pub fn abort_left(&self) -> Result<(), BlobError> {
        let Some(behind) = &self.behind else { return Ok(()) };
        for _ in 0..ABORTED_AT_ONCE {
            let Some(note) = behind.left.lock().unwrap_or_else(PoisonError::into_inner).pop() else {
                return Ok(());
            };
            if let Err(error) = behind.bucket.abort_left(&note) {
                behind.left.lock().unwrap_or_else(PoisonError::into_inner).push(note);
                return Err(error);
            }
        }
        Ok(())
    }
}
