//! The payloads of a namespace in an S3-compatible bucket: content-addressed, durable before they are named, never changed.
//!
//! An object has the key `PREFIX/NAMESPACE/ab/cdef…`, the hex digits of its SHA-256. What is put lies in a file of the local cache first: so the
//! digest, and with it the key, is known before the first byte leaves, nothing is ever uploaded under another key or copied to its own, and a
//! failed upload is made again from the start. A file up to a part's length is one conditional request (`If-None-Match`); a larger one is a
//! multipart upload that holds one part in memory. The bytes are hashed again on the way out. An object that is there already with the right length
//! is a success; the protocol shows an object only when all of it is durable.
//!
//! **An upload that is not finished** is aborted where it fails. Its id stands in a file beside the cache while it is under way, so that the next
//! start of a process that was killed aborts it. Of a machine that never comes back, the bucket's own lifecycle rule must remove it.
//!
//! **Reading.** The digest is compared on the way; what ends early is an error that passes, what is whole and differs is read once more before it
//! is called damaged.
//!
//! # Why removing loses nothing
//!
//! The protocol cannot remove "if it is still so", and between a look and a removal another node may have found the object and be about to name it in
//! a commit. So an object is never simply removed. Whoever collects:
//!
//! 1. looks whether the store names the digest, and whether the object is older than 24 hours;
//! 2. copies it, within the bucket, to `PREFIX/NAMESPACE/trash/ab/cdef…/ID`, where the id is one that nobody else gives;
//! 3. removes the object itself, unless ten minutes have passed since step 2 began;
//! 4. 24 hours later looks again whether the store names the digest: if so, the copy goes back, else the copy is removed.
//!
//! A commit follows its put within much less than those 24 hours ([`crate::blobs`] counts on the same for files): a put that found the object at any
//! time before step 3 is therefore named by step 4, and the copy goes back. Until then a reader that misses the object finds the copy and puts it back
//! itself. A put after step 3 writes the object anew; a removal by another node that is late takes that one away too, but that node made a copy of
//! its own before, which is judged 24 hours after its own step. No copy is ever written twice or removed by age alone, so any number of nodes
//! may collect at once, be stopped between any two steps and go on. What is left are copies, which a later pass judges. (A process that is frozen for a day
//! between the look at the ten minutes and the request that follows it, and then goes on, is the one case that is left.)
//!
//! All of that is between nodes of one store, see `owner`: a prefix that belongs to another one is neither written to nor cleaned.
//!
//! Ages are counted by the bucket's own clock, see `Bucket::age`, so that a node whose clock is wrong removes nothing early.

mod client;
mod fault;
mod limits;
mod owner;
mod trash;
mod upload;

use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use object_store::list::{PaginatedListOptions, PaginatedListStore as _};
use object_store::path::Path as Key;
use object_store::{ObjectMeta, ObjectStoreExt as _, PutPayload};
use orbit_core::config::NamespaceName;
use orbit_core::digest::Digest;

use super::{Blob, BlobError, FolderBlobs, at, same, transfer};
pub use client::{BucketClient, BucketSettings, Probed};
pub use fault::BucketFault;
use fault::Unanswered;
pub use limits::{PAGE, Waits};
pub use trash::Trashed;
pub(super) use upload::left;

/// Seconds since 1970 by the clock of the bucket.
type Seconds = i64;

/// See the module.
#[derive(Debug)]
pub struct Bucket {
    client: Arc<BucketClient>,
    /// What the keys of this namespace begin with, below the bucket's prefix.
    namespace: String,
    clock: Mutex<Option<(Instant, Seconds)>>,
}

/// Names of payloads, and where the next page begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The names.
    pub digests: Vec<Digest>,
    /// Given to the next call; none after the last page.
    pub next: Option<String>,
}

impl Bucket {
    /// The payloads of a namespace in the bucket.
    pub fn new(client: Arc<BucketClient>, namespace: &NamespaceName) -> Self {
        Self { client, namespace: namespace.to_string(), clock: Mutex::default() }
    }

    /// Whether the payload is stored; its bytes are not looked at. One that is only in the trash is put back.
    pub(super) fn contains(&self, digest: Digest) -> Result<bool, BlobError> {
        Ok(self.has(digest)? || self.restore(digest)?)
    }

    /// Whether there is such an object.
    pub(super) fn has(&self, digest: Digest) -> Result<bool, BlobError> {
        Ok(self.head(&self.key(digest))?.is_some())
    }

    /// The folder holds the payload, which was compared with its name on the way.
    pub(super) fn fetch(&self, digest: Digest, folder: &FolderBlobs) -> Result<(), BlobError> {
        self.reading(digest, |body| folder.put_as(digest, body, Path::new("the bucket")).map(drop))
    }

    /// Reads the whole object and compares it with its name; its length.
    pub(super) fn verify(&self, digest: Digest) -> Result<u64, BlobError> {
        let (from, to) = (Path::new("the bucket"), Path::new(""));
        self.reading(digest, |body| {
            transfer(body, &mut |_| Ok(()), (from, to)).and_then(|found| same(digest, found))
        })
    }

    /// Reads as often as it takes to tell damage from what happened on the way.
    fn reading<T>(
        &self,
        digest: Digest,
        act: impl Fn(&mut dyn Read) -> Result<T, BlobError>,
    ) -> Result<T, BlobError> {
        let mut tries = 1;
        loop {
            let mut body = self.body(digest)?;
            let answer = act(&mut body);
            // What the reader was told says less than what the body met.
            let answer = match body.failed {
                Some(failed) => answer.map_err(|_| failed),
                None => answer,
            };
            if !matches!(answer, Err(BlobError::Corrupt { .. })) || tries >= limits::READS_MAX {
                return answer;
            }
            tries += 1;
        }
    }

    fn body(&self, digest: Digest) -> Result<Body<'_>, BlobError> {
        let open = || {
            let (store, key) = (self.client.store.clone(), self.key(digest));
            self.client.wait(self.client.waits.asked_within, async move { store.get(&key).await })
        };
        let mut opened = open();
        if opened.as_ref().is_err_and(Unanswered::is_missing) {
            if !self.restore(digest)? {
                return Err(BlobError::Missing { digest });
            }
            opened = open();
        }
        let found = opened.map_err(|error| self.fault(error))?;
        let bytes = found.meta.size;
        let ends = Instant::now() + self.client.waits.within(bytes);
        Ok(Body {
            bucket: self,
            left: bytes,
            ends,
            stream: Some(found.into_stream()),
            chunk: Bytes::new(),
            failed: None,
        })
    }

    /// The names in one of the shards, of which there are 256, page by page. A page may hold none and have a next one.
    pub(super) fn page(&self, shard: u8, after: Option<String>) -> Result<Page, BlobError> {
        let (objects, next) = self.list(&format!("{shard:02x}/"), after)?;
        let digests = objects.iter().filter_map(|found| self.digest(&found.location)).collect();
        Ok(Page { digests, next })
    }

    fn list(
        &self,
        below: &str,
        after: Option<String>,
    ) -> Result<(Vec<ObjectMeta>, Option<String>), BlobError> {
        let (store, most) = (self.client.store.clone(), self.client.listed_at_once);
        let prefix = format!("{}/{below}", self.client.key(&self.namespace));
        let list = async move {
            let options = PaginatedListOptions {
                offset: after,
                max_keys: Some(most),
                ..PaginatedListOptions::default()
            };
            store.list_paginated(Some(&prefix), options).await
        };
        let page =
            self.client.wait(self.client.waits.asked_within, list).map_err(|error| self.fault(error))?;
        let objects = page.result.objects;
        let end = objects.last().map(|found| found.location.to_string());
        Ok((objects, page.page_token.and(end)))
    }

    fn head(&self, key: &Key) -> Result<Option<ObjectMeta>, BlobError> {
        let (store, key) = (self.client.store.clone(), key.clone());
        match self.client.wait(self.client.waits.asked_within, async move { store.head(&key).await }) {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(self.fault(error)),
        }
    }

    fn delete(&self, key: &Key) -> Result<(), BlobError> {
        let (store, key) = (self.client.store.clone(), key.clone());
        match self.client.wait(self.client.waits.asked_within, async move { store.delete(&key).await }) {
            Err(error) if !error.is_missing() => Err(self.fault(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn copy(&self, from: Key, to: Key, bytes: u64) -> Result<(), Unanswered> {
        let store = self.client.store.clone();
        self.client.wait(self.client.waits.within(bytes), async move { store.copy(&from, &to).await })
    }

    /// How old an object is by the clock of the bucket: an object is written for that at most once an hour, and what the bucket says of it is its time.
    fn age(&self, found: &ObjectMeta) -> Result<Duration, BlobError> {
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        let (read, seconds) = match *clock {
            Some(known) if known.0.elapsed() < limits::CLOCK_KEPT => known,
            Some(_) | None => {
                let key = self.client.key(&format!("{}/clock", self.namespace));
                let (store, at) = (self.client.store.clone(), key.clone());
                let put = async move { store.put(&at, PutPayload::new()).await };
                // Taken before, so that the extrapolated clock is late, and objects are rather too young.
                let read = Instant::now();
                self.client.wait(self.client.waits.asked_within, put).map_err(|error| self.fault(error))?;
                let Some(found) = self.head(&key)? else { return Ok(Duration::ZERO) };
                *clock.insert((read, found.last_modified.timestamp()))
            }
        };
        let now = seconds.saturating_add_unsigned(read.elapsed().as_secs());
        Ok(Duration::from_secs(u64::try_from(now - found.last_modified.timestamp()).unwrap_or(0)))
    }

    fn key(&self, digest: Digest) -> Key {
        let hex = digest.hex();
        let (shard, rest) = hex.split_at(2);
        self.client.key(&format!("{}/{shard}/{rest}", self.namespace))
    }

    /// The payload that a key names.
    fn digest(&self, key: &Key) -> Option<Digest> {
        let key = key.as_ref();
        let below = key.strip_prefix(self.client.key(&self.namespace).as_ref())?.strip_prefix('/')?;
        let (shard, rest) = below.split_once('/')?;
        format!("sha256:{shard}{rest}").parse().ok()
    }

    fn fault(&self, error: Unanswered) -> BlobError {
        error.of(&self.client.bucket)
    }
}

/// The bytes of an object as they come.
struct Body<'a> {
    bucket: &'a Bucket,
    stream: Option<BoxStream<'static, object_store::Result<Bytes>>>,
    chunk: Bytes,
    /// Bytes that are still to come.
    left: u64,
    ends: Instant,
    /// Why it ended early.
    failed: Option<BlobError>,
}

impl Read for Body<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            let Some(mut stream) = self.stream.take() else { return Ok(0) };
            let within = self.ends.saturating_duration_since(Instant::now());
            let next = async move { Ok((stream.next().await.transpose()?, stream)) };
            match self.bucket.client.wait(within, next) {
                Ok((Some(chunk), stream)) => {
                    self.left = self.left.saturating_sub(chunk.len() as u64);
                    (self.chunk, self.stream) = (chunk, Some(stream));
                }
                Ok((None, _)) if self.left == 0 => return Ok(0),
                Ok((None, _)) => {
                    let message = format!("the answer ended {} bytes early", self.left);
                    let bucket = self.bucket.client.bucket.clone();
                    let fault = BucketFault::Unreachable;
                    return Err(self.fail(BlobError::Bucket { bucket, fault, message }));
                }
                Err(error) => return Err(self.fail(self.bucket.fault(error))),
            }
        }
        let count = self.chunk.len().min(into.len());
        into[..count].copy_from_slice(&self.chunk.split_to(count));
        Ok(count)
    }
}

impl Body<'_> {
    fn fail(&mut self, why: BlobError) -> io::Error {
        let error = io::Error::other(why.to_string());
        self.failed = Some(why);
        error
    }
}
