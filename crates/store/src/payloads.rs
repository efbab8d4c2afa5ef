//! The payloads of a namespace, wherever their bytes are: small ones in the store, larger ones among its [`Blobs`].
//!
//! A small payload is not made durable here: its bytes go along with the transaction that names it, which costs no fsync of its own. What was
//! kept last is also held in memory for whoever reads it next. Functions block unless they say that they do not.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use jiff::Timestamp;
use orbit_core::digest::Digest;

use crate::blobs::{Blob, BlobError, Blobs, at, open_regular};
use crate::contract::payload::{NewPayload, StoredPayload};
use crate::{Store, StoreError};

/// Payloads up to this length live in the store. Sixteen kept at once took, against files that cost two fsyncs of their own, 0.4 of the time with
/// 4 KiB each, 0.6 with 16 KiB, and 2.5 with 64 KiB, because what lies in the store is written twice (`orbit-bench threshold`).
pub const INLINE_BYTES_MAX: u64 = 32 * 1024;
/// Bytes of payloads that were kept last and are held in memory.
const RECENT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// See the module.
pub struct Payloads {
    store: Arc<dyn Store>,
    blobs: Arc<Blobs>,
    recent: Mutex<Recent>,
}

/// A payload that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// Its length.
    pub bytes: u64,
    /// Its bytes, if it is small: they are kept once they are committed with what names them. None if it is a durable file.
    pub content: Option<Bytes>,
}

/// Where the bytes of a payload can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// They are these, and were compared with the digest.
    Memory(Bytes),
    /// They are this file, which must not be changed; they were not compared with the digest.
    File(PathBuf),
}

impl Kept {
    /// Digest and length.
    pub const fn blob(&self) -> Blob {
        Blob { digest: self.digest, bytes: self.bytes }
    }
}

impl From<Kept> for NewPayload {
    fn from(kept: Kept) -> Self {
        let Kept { digest, bytes, content } = kept;
        Self { digest, bytes, content }
    }
}

impl Payloads {
    /// The payloads of this store and these blobs.
    pub fn new(store: Arc<dyn Store>, blobs: Arc<Blobs>) -> Self {
        Self { store, blobs, recent: Mutex::default() }
    }

    /// Keeps a copy of a file, which must be a regular one: a link is not followed, and a pipe is not waited for.
    pub fn keep_file(&self, path: &Path) -> Result<Kept, BlobError> {
        let mut source = open_regular(path)?;
        let mut head = Vec::new();
        (&mut source).take(INLINE_BYTES_MAX + 1).read_to_end(&mut head).map_err(at(path))?;
        if head.len() as u64 <= INLINE_BYTES_MAX {
            return Ok(self.keep_inline(Bytes::from(head)));
        }
        let Blob { digest, bytes } = self.blobs.put(&mut head.as_slice().chain(source), path)?;
        Ok(Kept { digest, bytes, content: None })
    }

    /// Keeps bytes.
    pub fn keep_bytes(&self, content: Bytes) -> Result<Kept, BlobError> {
        if Self::is_small(content.len()) {
            return Ok(self.keep_inline(content));
        }
        let Blob { digest, bytes } = self.blobs.put_bytes(&content)?;
        Ok(Kept { digest, bytes, content: None })
    }

    /// Whether a payload of this length lives in the store, so that keeping it blocks for no file.
    pub const fn is_small(bytes: usize) -> bool {
        bytes as u64 <= INLINE_BYTES_MAX
    }

    fn keep_inline(&self, content: Bytes) -> Kept {
        let digest = Digest::of(&content);
        self.lock().put(digest, &content);
        Kept { digest, bytes: content.len() as u64, content: Some(content) }
    }

    /// The bytes of a small payload that was kept a short while ago, if they are still held. Does not block.
    pub fn recent(&self, digest: Digest) -> Option<Bytes> {
        self.lock().found.get(&digest).cloned()
    }

    /// The payload is no longer held in memory: its bytes were dropped. Does not block.
    pub fn forget(&self, digest: Digest) {
        self.lock().forget(digest);
    }

    /// Where the bytes of a payload are.
    pub fn open(&self, digest: Digest) -> Result<Content, BlobError> {
        if let Some(content) = self.recent(digest) {
            return Ok(Content::Memory(content));
        }
        if let Some(content) = self.inline(digest)? {
            return if Digest::of(&content) == digest {
                Ok(Content::Memory(content))
            } else {
                Err(BlobError::Corrupt { digest })
            };
        }
        self.blobs.file(digest).map(Content::File)
    }

    /// The file of a payload that is never small, such as an asset. It must not be changed, and was not compared with the digest.
    pub fn file(&self, digest: Digest) -> Result<PathBuf, BlobError> {
        self.blobs.file(digest)
    }

    /// All bytes of a payload, compared with the digest.
    pub fn read(&self, digest: Digest) -> Result<Bytes, BlobError> {
        match self.open(digest)? {
            Content::Memory(content) => Ok(content),
            Content::File(_) => self.blobs.read(digest),
        }
    }

    /// The file holds a copy of the payload, which was compared with the digest on the way; its length. A damaged copy is removed again.
    pub fn copy_to(&self, digest: Digest, target: &Path) -> Result<u64, BlobError> {
        let content = match self.open(digest)? {
            Content::Memory(content) => content,
            Content::File(_) => return self.blobs.copy_to(digest, target),
        };
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let written = options.open(target).and_then(|mut file| file.write_all(&content));
        match written {
            Ok(()) => Ok(content.len() as u64),
            Err(error) => {
                _ = fs::remove_file(target);
                Err(at(target)(error))
            }
        }
    }

    /// Reads the whole payload where it is stored and compares it with the digest; its length.
    pub fn verify(&self, digest: Digest) -> Result<u64, BlobError> {
        match self.inline(digest)? {
            Some(content) if Digest::of(&content) == digest => Ok(content.len() as u64),
            Some(_) => Err(BlobError::Corrupt { digest }),
            None => self.blobs.verify(digest),
        }
    }

    /// Whether the payload is stored; its bytes are not looked at. Does not block.
    pub async fn contains(self: &Arc<Self>, digest: Digest) -> Result<bool, StoreError> {
        let found = self.look(digest).await?;
        let blobs = Arc::clone(&self.blobs);
        let of_blobs =
            |error: BlobError| StoreError::Io { place: "payloads".to_owned(), message: error.to_string() };
        let is_inline = found.is_some_and(|found| found.content.is_some());
        Ok(is_inline || blocking(digest, move || blobs.contains(digest).map_err(of_blobs)).await?)
    }

    /// When the payload was dropped, if it was. Does not block.
    pub async fn dropped_at(self: &Arc<Self>, digest: Digest) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.look(digest).await?.and_then(|found| found.dropped_at))
    }

    async fn look(self: &Arc<Self>, digest: Digest) -> Result<Option<StoredPayload>, StoreError> {
        let store = Arc::clone(&self.store);
        blocking(digest, move || store.payload(digest)).await
    }

    fn inline(&self, digest: Digest) -> Result<Option<Bytes>, BlobError> {
        let found = self.store.payload(digest).map_err(|error| of_store(&error))?;
        match found {
            // The same bytes may have come back as an asset, or be about to be named by a step.
            Some(StoredPayload { dropped_at: Some(at), .. }) if !self.blobs.contains(digest)? => {
                Err(BlobError::Dropped { digest, at })
            }
            found => Ok(found.and_then(|found| found.content)),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Recent> {
        // Whole after any panic: what a panic could leave out is an entry, which is then read from the store.
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks on a thread that may wait.
async fn blocking<T: Send + 'static>(
    digest: Digest,
    look: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(look).await.map_err(|error| StoreError::Corrupt {
        place: "payloads".to_owned(),
        message: format!("a look for {digest} failed: {error}"),
    })?
}

fn of_store(error: &StoreError) -> BlobError {
    match error {
        StoreError::Full { place } => BlobError::Full { path: place.clone() },
        StoreError::Io { place, .. }
        | StoreError::NoRoom { place, .. }
        | StoreError::Newer { place, .. }
        | StoreError::Corrupt { place, .. }
        | StoreError::Unknown { place, .. }
        | StoreError::Refused { place, .. }
        | StoreError::Rewound { place, .. }
        | StoreError::NotJoined { place }
        | StoreError::Older { place, .. }
        | StoreError::Closed { place } => BlobError::Io { path: place.clone(), message: error.to_string() },
    }
}

/// The newest payloads, oldest first.
#[derive(Default)]
struct Recent {
    found: HashMap<Digest, Bytes>,
    order: VecDeque<Digest>,
    bytes: usize,
}

impl Recent {
    fn put(&mut self, digest: Digest, content: &Bytes) {
        if self.found.insert(digest, content.clone()).is_some() {
            return;
        }
        self.order.push_back(digest);
        self.bytes += content.len();
        while self.bytes > RECENT_BYTES_MAX {
            let Some(oldest) = self.order.pop_front() else { return };
            self.forget(oldest);
        }
    }

    fn forget(&mut self, digest: Digest) {
        // Its place in the order stays until it comes to its turn.
        if let Some(content) = self.found.remove(&digest) {
            self.bytes -= content.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blobs::FolderBlobs;
    use crate::contract::payload::PayloadStore as _;
    use crate::sqlite::SqliteStore;
    use jiff::Timestamp;
    use orbit_core::config::NamespaceName;

    struct World {
        folder: tempfile::TempDir,
        store: Arc<SqliteStore>,
        payloads: Arc<Payloads>,
    }

    fn world() -> World {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteStore::in_memory(&NamespaceName::parse("lab").unwrap()).unwrap());
        let payloads = again(&folder, &store);
        World { folder, store, payloads }
    }

    /// The same payloads, of which nothing is held in memory.
    fn again(folder: &tempfile::TempDir, store: &Arc<SqliteStore>) -> Arc<Payloads> {
        let blobs = FolderBlobs::open(&folder.path().join("blobs")).unwrap();
        Arc::new(Payloads::new(Arc::<SqliteStore>::clone(store), Arc::new(blobs.into())))
    }

    fn sizes() -> [usize; 4] {
        let most = usize::try_from(INLINE_BYTES_MAX).unwrap();
        [0, 16 * 1024, most, most + 1]
    }

    #[tokio::test]
    async fn a_payload_is_read_back_wherever_it_is() {
        let World { folder, store, payloads } = world();
        for bytes in sizes() {
            let content: Vec<u8> = (0..=255).cycle().take(bytes).collect();
            let source = folder.path().join("source");
            fs::write(&source, &content).unwrap();
            let kept = payloads.keep_file(&source).unwrap();
            assert_eq!(payloads.keep_bytes(content.clone().into()).unwrap(), kept);
            assert_eq!((kept.digest, kept.bytes), (Digest::of(&content), bytes as u64));
            let is_small = bytes as u64 <= INLINE_BYTES_MAX;
            assert_eq!(kept.content.is_some(), is_small, "{bytes}");
            assert_eq!(
                again(&folder, &store).contains(kept.digest).await.unwrap(),
                !is_small,
                "not committed"
            );
            let digest = kept.digest;
            store.keep_payload(kept.into(), Timestamp::UNIX_EPOCH).await.unwrap();
            let again = again(&folder, &store);
            assert_eq!(again.recent(digest), None);
            for payloads in [&payloads, &again] {
                assert!(payloads.contains(digest).await.unwrap());
                assert_eq!(payloads.read(digest).unwrap(), content);
                assert_eq!(payloads.verify(digest), Ok(bytes as u64));
                let copy = folder.path().join("copy");
                assert_eq!(payloads.copy_to(digest, &copy), Ok(bytes as u64));
                assert_eq!(fs::read(&copy).unwrap(), content);
                let expected = if is_small {
                    Content::Memory(content.clone().into())
                } else {
                    Content::File(payloads.blobs.path(digest))
                };
                assert_eq!(payloads.open(digest), Ok(expected));
            }
        }
    }

    #[tokio::test]
    async fn what_is_damaged_or_missing_is_named() {
        let World { folder, store, payloads } = world();
        let digest = Digest::of(b"another");
        let missing = BlobError::Missing { digest };
        assert_eq!(payloads.open(digest), Err(missing.clone()));
        assert_eq!(payloads.verify(digest), Err(missing));
        let damaged = NewPayload { digest, bytes: 4, content: Some(Bytes::from_static(b"made")) };
        store.keep_payload(damaged, Timestamp::UNIX_EPOCH).await.unwrap();
        let corrupt = BlobError::Corrupt { digest };
        assert_eq!(payloads.read(digest), Err(corrupt.clone()));
        assert_eq!(payloads.verify(digest), Err(corrupt.clone()));
        let copy = folder.path().join("copy");
        assert_eq!(payloads.copy_to(digest, &copy), Err(corrupt));
        assert!(!copy.exists());
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path(), &link).unwrap();
        assert!(payloads.keep_file(&link).unwrap_err().to_string().contains("not a regular file"));
    }

    #[test]
    fn what_is_held_in_memory_is_bounded_and_can_be_forgotten() {
        let World { payloads, .. } = world();
        let size = usize::try_from(INLINE_BYTES_MAX).unwrap();
        let keep = |n: usize| {
            payloads.keep_bytes(vec![u8::try_from(n % 251).unwrap(); size - n].into()).unwrap().digest
        };
        let digests: Vec<_> = (0..400).map(keep).collect();
        assert_eq!(payloads.recent(digests[0]), None);
        assert!(payloads.recent(digests[399]).is_some());
        assert!(payloads.lock().bytes <= RECENT_BYTES_MAX);
        let held: usize = payloads.lock().found.values().map(Bytes::len).sum();
        assert_eq!(held, payloads.lock().bytes);
        payloads.forget(digests[399]);
        assert_eq!(payloads.recent(digests[399]), None);
    }
}
