//! Removing as a move: what nobody names goes to the trash of the bucket, and is judged again before it is gone. The module above says why.

use std::time::{Duration, Instant};

use object_store::path::Path as Key;
use orbit_core::digest::Digest;
use uuid::Uuid;

use super::{BlobError, Bucket, BucketFault, limits};

/// What the keys of the trash begin with, below the namespace.
const TRASH: &str = "trash";

/// A copy in the trash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trashed {
    /// The payload.
    pub digest: Digest,
    /// Its length.
    pub bytes: u64,
    key: Key,
}

impl Bucket {
    /// The object is in the trash instead if it is so old; its length, or none if it stays or is not there.
    pub(in crate::blobs) fn remove_older(
        &self,
        digest: Digest,
        age: Duration,
    ) -> Result<Option<u64>, BlobError> {
        self.client.claim()?;
        let key = self.key(digest);
        let Some(found) = self.head(&key)? else { return Ok(None) };
        if self.age(&found)? < age {
            return Ok(None);
        }
        if found.size > limits::COPY_BYTES_MAX {
            let message = format!("{digest} is larger than what can be moved within it: it stays");
            let (bucket, fault) = (self.client.bucket.clone(), BucketFault::Refused);
            return Err(BlobError::Bucket { bucket, fault, message });
        }
        let begun = Instant::now();
        match self.copy(key.clone(), self.new_copy(digest), found.size) {
            Ok(()) => {}
            // Another node was faster.
            Err(error) if error.is_missing() => return Ok(None),
            Err(error) => return Err(self.fault(error)),
        }
        if begun.elapsed() >= limits::REMOVED_WITHIN {
            // It stays, and the copy is judged like every other.
            return Ok(None);
        }
        self.delete(&key)?;
        Ok(Some(found.size))
    }

    /// What has lain in a shard's part of the trash for so long, and where the next page begins.
    pub(in crate::blobs) fn trashed(
        &self,
        shard: u8,
        age: Duration,
        after: Option<String>,
    ) -> Result<(Vec<Trashed>, Option<String>), BlobError> {
        let (objects, next) = self.list(&format!("{TRASH}/{shard:02x}/"), after)?;
        let mut found = Vec::new();
        for object in objects {
            let Some(digest) = digest_of_copy(&object.location) else { continue };
            if self.age(&object)? >= age {
                found.push(Trashed { digest, bytes: object.size, key: object.location });
            }
        }
        Ok((found, next))
    }

    /// The copy is gone. Nobody named its payload since it was made.
    pub(in crate::blobs) fn discard(&self, trashed: &Trashed) -> Result<(), BlobError> {
        self.client.claim()?;
        self.delete(&trashed.key)
    }

    /// The object is there, and the copy is gone.
    pub(in crate::blobs) fn put_back(&self, trashed: &Trashed) -> Result<(), BlobError> {
        let key = self.key(trashed.digest);
        if self.head(&key)?.is_none() {
            self.copy(trashed.key.clone(), key, trashed.bytes).map_err(|error| self.fault(error))?;
        }
        self.delete(&trashed.key)
    }

    /// Whether the object is there again because the trash had a copy, which stays.
    pub(super) fn restore(&self, digest: Digest) -> Result<bool, BlobError> {
        let hex = digest.hex();
        let (shard, rest) = hex.split_at(2);
        let (copies, _) = self.list(&format!("{TRASH}/{shard}/{rest}/"), None)?;
        let Some(copy) = copies.into_iter().next() else { return Ok(false) };
        match self.copy(copy.location, self.key(digest), copy.size) {
            Ok(()) => Ok(true),
            // Put back by another node, or judged a moment ago.
            Err(error) if error.is_missing() => Ok(self.head(&self.key(digest))?.is_some()),
            Err(error) => Err(self.fault(error)),
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a name that nobody else gives; nothing depends on its value"
    )]
    fn new_copy(&self, digest: Digest) -> Key {
        let hex = digest.hex();
        let (shard, rest) = hex.split_at(2);
        self.client.key(&format!("{}/{TRASH}/{shard}/{rest}/{}", self.namespace, Uuid::now_v7()))
    }
}

fn digest_of_copy(key: &Key) -> Option<Digest> {
    let mut parts = key.as_ref().rsplit('/');
    let (_, rest, shard) = (parts.next()?, parts.next()?, parts.next()?);
    format!("sha256:{shard}{rest}").parse().ok()
}
