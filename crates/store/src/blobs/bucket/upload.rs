//! Putting: one conditional request, or a multipart upload whose id is written down while it is under way.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use object_store::multipart::{MultipartStore as _, PartId};
use object_store::path::Path as Key;
use object_store::{ObjectStore as _, PutMode, PutOptions, PutPayload};
use orbit_core::digest::{Digest, Hasher};

use super::{Blob, BlobError, Bucket, Unanswered, at, limits};

/// Where ids of uploads lie, below the folder of the cache.
const UPLOADS: &str = "uploads";

impl Bucket {
    /// The bytes of the file, which have this digest, are a durable object. The folder is that of the cache.
    pub(in crate::blobs) fn put(&self, blob: Blob, path: &Path, folder: &Path) -> Result<(), BlobError> {
        self.client.claim()?;
        let key = self.key(blob.digest);
        let mode = match self.head(&key)? {
            Some(found) if found.size == blob.bytes => return Ok(()),
            Some(found) => {
                tracing::warn!(digest = %blob.digest, bytes = found.size, "an object of another length is replaced");
                PutMode::Overwrite
            }
            None => PutMode::Create,
        };
        let mut source = File::open(path).map_err(at(path))?;
        if blob.bytes > limits::PART_BYTES {
            return self.put_parts((&key, blob), (&mut source, path), folder);
        }
        let mut content = Vec::new();
        source.read_to_end(&mut content).map_err(at(path))?;
        if Digest::of(&content) != blob.digest {
            return Err(BlobError::Corrupt { digest: blob.digest });
        }
        let (store, at) = (self.client.store.clone(), key.clone());
        let payload = PutPayload::from(Bytes::from(content));
        let put = async move { store.put_opts(&at, payload, PutOptions::from(mode)).await };
        match self.client.wait(self.client.waits.within(blob.bytes), put) {
            Ok(_) => Ok(()),
            // Another node was faster, or this one was, and its answer was lost.
            Err(error) if error.is_there() => self.is_put(&key, blob, error),
            Err(error) => Err(self.fault(error)),
        }
    }

    /// It is there with the right length, or the error stays one.
    fn is_put(&self, key: &Key, blob: Blob, error: Unanswered) -> Result<(), BlobError> {
        match self.head(key)? {
            Some(found) if found.size == blob.bytes => Ok(()),
            Some(_) | None => Err(self.fault(error)),
        }
    }

    fn put_parts(
        &self,
        (key, blob): (&Key, Blob),
        (source, path): (&mut File, &Path),
        folder: &Path,
    ) -> Result<(), BlobError> {
        let (store, to) = (self.client.store.clone(), key.clone());
        let begun = self
            .client
            .wait(self.client.waits.asked_within, async move { store.create_multipart(&to).await });
        let id = begun.map_err(|error| self.fault(error))?;
        let note = match write_note(folder, blob.digest, &id) {
            Ok(note) => note,
            Err(error) => {
                _ = self.abort(key, &id);
                return Err(error);
            }
        };
        let done = self.send_parts((key, &id), blob, (source, path)).and_then(|parts| {
            let (store, to, of) = (self.client.store.clone(), key.clone(), id.clone());
            let complete = async move { store.complete_multipart(&to, &of, parts).await };
            match self.client.wait(self.client.waits.within(blob.bytes), complete) {
                Ok(_) => Ok(()),
                // Completed by a try whose answer was lost, then there is no such upload any more.
                Err(error) => self.is_put(key, blob, error),
            }
        });
        // An upload that cannot be aborted now keeps its note: the next start finds it.
        if done.is_ok() || self.abort(key, &id).is_ok() {
            _ = fs::remove_file(note);
        }
        done
    }

    fn send_parts(
        &self,
        (key, id): (&Key, &String),
        blob: Blob,
        (source, path): (&mut File, &Path),
    ) -> Result<Vec<PartId>, BlobError> {
        let length = limits::part_bytes(blob.bytes);
        let (mut hasher, mut parts, mut sent) = (Hasher::default(), Vec::new(), 0);
        while sent < blob.bytes {
            let mut part = Vec::new();
            (&mut *source).take(length).read_to_end(&mut part).map_err(at(path))?;
            if part.is_empty() {
                break;
            }
            hasher.update(&part);
            let bytes = part.len() as u64;
            sent += bytes;
            let (store, to, of) = (self.client.store.clone(), key.clone(), id.clone());
            let (number, payload) = (parts.len(), PutPayload::from(Bytes::from(part)));
            let put = async move { store.put_part(&to, &of, number, payload).await };
            parts.push(
                self.client.wait(self.client.waits.within(bytes), put).map_err(|error| self.fault(error))?,
            );
        }
        let digest = blob.digest;
        if hasher.finish() == digest { Ok(parts) } else { Err(BlobError::Corrupt { digest }) }
    }

    fn abort(&self, key: &Key, id: &str) -> Result<(), BlobError> {
        let (store, key, id) = (self.client.store.clone(), key.clone(), id.to_owned());
        let abort = async move { store.abort_multipart(&key, &id).await };
        match self.client.wait(self.client.waits.asked_within, abort) {
            Err(error) if !error.is_missing() => Err(self.fault(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Aborts an upload that a process before this one left, and forgets it.
    pub(in crate::blobs) fn abort_left(&self, note: &Path) -> Result<(), BlobError> {
        let name = note.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let hex = name.split_once('.').map_or(name, |(hex, _)| hex);
        if let Ok(digest) = format!("sha256:{hex}").parse::<Digest>() {
            let id = fs::read_to_string(note).map_err(at(note))?;
            if !id.is_empty() {
                self.abort(&self.key(digest), &id)?;
            }
        }
        fs::remove_file(note).map_err(at(note))
    }
}

/// The uploads that a process before this one left.
pub(in crate::blobs) fn left(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.join(UPLOADS)).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

fn write_note(folder: &Path, digest: Digest, id: &str) -> Result<PathBuf, BlobError> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let folder = folder.join(UPLOADS);
    DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(at(&folder))?;
    let path = folder.join(format!("{}.{}-{number}", digest.hex(), std::process::id()));
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(at(&path))?;
    file.write_all(id.as_bytes()).and_then(|()| file.sync_all()).map_err(at(&path))?;
    Ok(path)
}
