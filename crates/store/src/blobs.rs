//! Payloads: content-addressed, durable before they are named, never changed.
//!
//! A blob lies in `ab/cdef…`, the hex digits of its SHA-256. It is written under another name in `incoming`, made durable, and only then
//! renamed, so that a name that exists is whole. Every function blocks; callers use a thread that may.

pub mod bucket;
mod cache;
mod files;
mod place;

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use nix::libc::{ELOOP, ENXIO, O_NOFOLLOW, O_NONBLOCK};
use orbit_core::digest::{Digest, Hasher};

pub use bucket::BucketFault;
pub use files::{Files, System};
pub use place::{Blobs, CACHE_BYTES_MAX};

/// Bytes that are read, hashed and written at once.
const CHUNK_BYTES: usize = 256 * 1024;
/// Where blobs are written before they have a name.
const INCOMING: &str = "incoming";

/// A stored payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blob {
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// Its length.
    pub bytes: u64,
}

/// Why a blob could not be written or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// The bytes are not what the name says.
    #[error("the blob {digest} is damaged: its bytes have another digest")]
    Corrupt {
        /// The name.
        digest: Digest,
    },
    /// There is no such blob.
    #[error("there is no blob {digest}")]
    Missing {
        /// The name.
        digest: Digest,
    },
    /// It was too old and nothing needed it.
    #[error("the payload {digest} was dropped at {at}, by `retention.artifacts` of its namespace")]
    Dropped {
        /// The name.
        digest: Digest,
        /// When.
        at: jiff::Timestamp,
    },
    /// The disk is full; nothing half-written has a name.
    #[error("the disk that holds `{path}` is full")]
    Full {
        /// What was written.
        path: String,
    },
    /// A file cannot be read or written.
    #[error("`{path}`: {message}")]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        message: String,
    },
    /// The bucket does not do what it is asked.
    #[error("the bucket `{bucket}` {fault}: {message}")]
    Bucket {
        /// Its name.
        bucket: String,
        /// What is wrong.
        fault: BucketFault,
        /// What it said.
        message: String,
    },
}

impl BlobError {
    /// Whether the same may succeed later, without anybody making the payload anew.
    pub const fn passes(&self) -> bool {
        match self {
            Self::Full { .. } | Self::Io { .. } | Self::Bucket { .. } => true,
            Self::Corrupt { .. } | Self::Missing { .. } | Self::Dropped { .. } => false,
        }
    }
}

/// The payloads of a namespace in a folder. One process at a time opens it.
#[derive(Debug)]
pub struct FolderBlobs {
    folder: PathBuf,
    files: Arc<dyn Files>,
    /// Folders of blobs whose own names are durable.
    shards: Mutex<BTreeSet<PathBuf>>,
    /// Held while a name is given or taken away.
    naming: Mutex<()>,
}

impl FolderBlobs {
    /// Opens the folder, or makes it owner-only. What a crash left half-written is removed.
    pub fn open(folder: &Path) -> Result<Self, BlobError> {
        Self::open_over(folder, Arc::new(System))
    }

    /// The same over files that may fail, for tests.
    pub fn open_over(folder: &Path, files: Arc<dyn Files>) -> Result<Self, BlobError> {
        let incoming = folder.join(INCOMING);
        make_folder(&incoming).map_err(at(&incoming))?;
        for entry in fs::read_dir(&incoming).map_err(at(&incoming))? {
            let path = entry.map_err(at(&incoming))?.path();
            fs::remove_file(&path).map_err(at(&path))?;
        }
        files.sync_folder(folder).map_err(at(folder))?;
        Ok(Self::over(folder, files))
    }

    /// A folder that is only read, such as one in a backup. Nothing is made or removed.
    pub fn reading(folder: &Path) -> Self {
        Self::over(folder, Arc::new(System))
    }

    fn over(folder: &Path, files: Arc<dyn Files>) -> Self {
        Self { folder: folder.to_owned(), files, shards: Mutex::default(), naming: Mutex::default() }
    }

    /// A copy of the file's bytes is a durable blob. The file must be a regular one: a link is not followed, and a pipe is not waited for.
    pub fn put_file(&self, path: &Path) -> Result<Blob, BlobError> {
        self.put(&mut open_regular(path)?, path)
    }

    /// The bytes are a durable blob.
    pub fn put_bytes(&self, mut bytes: &[u8]) -> Result<Blob, BlobError> {
        self.put(&mut bytes, &self.folder)
    }

    /// Where a blob lies. The file is read-only and must not be given to a program; see [`Self::copy_to`].
    pub fn path(&self, digest: Digest) -> PathBuf {
        let hex = digest.hex();
        let (shard, rest) = hex.split_at(2);
        self.folder.join(shard).join(rest)
    }

    /// Whether there is such a blob; its bytes are not looked at.
    pub fn contains(&self, digest: Digest) -> bool {
        self.path(digest).is_file()
    }

    /// The file holds a copy of the blob, which was compared with its name on the way; its length. A damaged copy is removed again.
    pub fn copy_to(&self, digest: Digest, target: &Path) -> Result<u64, BlobError> {
        let mut source = self.source(digest)?;
        let mut options = OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(0o600).open(target).map_err(at(target))?;
        let mut sink = |chunk: &[u8]| file.write_all(chunk);
        let copied = transfer(&mut source, &mut sink, (&self.path(digest), target));
        let answer = copied.and_then(|copy| same(digest, copy));
        if answer.is_err() {
            let _ = fs::remove_file(target);
        }
        answer
    }

    /// Reads the whole blob and compares it with its name; its length.
    pub fn verify(&self, digest: Digest) -> Result<u64, BlobError> {
        let path = self.path(digest);
        transfer(&mut self.source(digest)?, &mut |_| Ok(()), (&path, &path))
            .and_then(|blob| same(digest, blob))
    }

    /// The blob, open for reading; its bytes are not compared with its name.
    fn source(&self, digest: Digest) -> Result<File, BlobError> {
        let path = self.path(digest);
        File::open(&path).map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                BlobError::Missing { digest }
            } else {
                at(&path)(error)
            }
        })
    }

    /// Everything that the source gives is a durable blob.
    pub(crate) fn put(&self, source: &mut dyn Read, from: &Path) -> Result<Blob, BlobError> {
        self.put_if(source, from, |_| Ok(()))
    }

    /// The same, if it has this name; else nothing is kept.
    fn put_as(&self, digest: Digest, source: &mut dyn Read, from: &Path) -> Result<Blob, BlobError> {
        self.put_if(source, from, |blob| same(digest, blob).map(drop))
    }

    fn put_if(
        &self,
        source: &mut dyn Read,
        from: &Path,
        judge: impl Fn(Blob) -> Result<(), BlobError>,
    ) -> Result<Blob, BlobError> {
        let (path, mut file) = self.incoming()?;
        let copied = transfer(source, &mut |chunk| self.files.write(&mut file, chunk), (from, &path));
        let put = copied.and_then(|blob| {
            judge(blob)?;
            file.set_permissions(Permissions::from_mode(0o400)).map_err(at(&path))?;
            self.files.sync(&file).map_err(at(&path))?;
            self.name(&path, blob).map_err(at(&path))?;
            Ok(blob)
        });
        // The kernel tells of a failed sync once. So it is not tried again: whoever puts the bytes again writes another file.
        if put.is_err() {
            let _ = fs::remove_file(&path);
        }
        put
    }

    /// The names in one of the shards, of which there are 256.
    pub fn shard(&self, number: u8) -> Result<Vec<Digest>, BlobError> {
        let first = format!("{number:02x}");
        let shard = self.folder.join(&first);
        let entries = match fs::read_dir(&shard) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(at(&shard))?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let name = entry.map_err(at(&shard))?.file_name();
            found.extend(format!("sha256:{first}{}", name.to_string_lossy()).parse::<Digest>().ok());
        }
        Ok(found)
    }

    /// The blob is gone if it was made so long ago by the clock of the file system, which is the machine's; its length, or none if it stays. One that was made again meanwhile is young.
    #[expect(clippy::disallowed_methods, reason = "compared with the time that the system gave the file")]
    pub fn remove_older(&self, digest: Digest, age: Duration) -> Result<Option<u64>, BlobError> {
        let path = self.path(digest);
        let _naming = self.naming.lock().unwrap_or_else(PoisonError::into_inner);
        let found = match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            found => found.map_err(at(&path))?,
        };
        let made = found.modified().map_err(at(&path))?;
        if SystemTime::now().duration_since(made).is_ok_and(|past| past >= age) {
            fs::remove_file(&path).map_err(at(&path))?;
            return Ok(Some(found.len()));
        }
        Ok(None)
    }

    /// A new file that has no name yet.
    fn incoming(&self) -> Result<(PathBuf, File), BlobError> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.join(INCOMING).join(format!("{}-{number}", std::process::id()));
        let file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(at(&path))?;
        Ok((path, file))
    }

    /// Gives the durable file its name, durably. It takes the place of one that is there already, so that whoever judges a blob by its age sees
    /// when it was made last, damage is healed, and a name of which nobody knows whether it is durable counts for nothing.
    fn name(&self, path: &Path, blob: Blob) -> io::Result<()> {
        let target = self.path(blob.digest);
        let shard = target.parent().unwrap_or(&self.folder);
        self.make_shard(shard)?;
        let naming = self.naming.lock().unwrap_or_else(PoisonError::into_inner);
        self.files.rename(path, &target)?;
        drop(naming);
        self.files.sync_folder(shard)
    }

    /// The folder is there and its name is durable. Nobody uses one that another is still making, which a power loss might take away.
    fn make_shard(&self, shard: &Path) -> io::Result<()> {
        // The set is whole after any panic: every change to it is a single call.
        let mut durable = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        if durable.contains(shard) && shard.is_dir() {
            return Ok(());
        }
        make_folder(shard)?;
        if let Err(error) = self.files.sync_folder(&self.folder) {
            // Made anew next time, because a second sync would say nothing about this one. One that has blobs stays: it is from before.
            let _ = fs::remove_dir(shard);
            return Err(error);
        }
        durable.insert(shard.to_owned());
        Ok(())
    }
}

/// Opens a regular file for reading: a link is not followed, and a pipe is not waited for.
pub(crate) fn open_regular(path: &Path) -> Result<File, BlobError> {
    let not_regular =
        || BlobError::Io { path: path.display().to_string(), message: "not a regular file".to_owned() };
    let opened = OpenOptions::new().read(true).custom_flags(O_NOFOLLOW | O_NONBLOCK).open(path);
    let source = opened.map_err(|error| match error.raw_os_error() {
        Some(ELOOP | ENXIO) => not_regular(),
        Some(_) | None => at(path)(error),
    })?;
    // Asked of what was opened: by its name it might be another file by now.
    if source.metadata().map_err(at(path))?.is_file() { Ok(source) } else { Err(not_regular()) }
}

fn same(digest: Digest, found: Blob) -> Result<u64, BlobError> {
    if found.digest == digest { Ok(found.bytes) } else { Err(BlobError::Corrupt { digest }) }
}

/// Gives everything to the target in chunks, hashing on the way.
fn transfer(
    source: &mut dyn Read,
    target: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    (from, to): (&Path, &Path),
) -> Result<Blob, BlobError> {
    let mut hasher = Hasher::default();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut bytes = 0;
    loop {
        let read = match source.read(&mut chunk) {
            Ok(0) => return Ok(Blob { digest: hasher.finish(), bytes }),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(at(from)(error)),
        };
        hasher.update(&chunk[..read]);
        target(&chunk[..read]).map_err(at(to))?;
        bytes += read as u64;
    }
}

fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

pub(crate) fn at(path: &Path) -> impl Fn(io::Error) -> BlobError {
    let path = path.display().to_string();
    move |error| {
        let path = path.clone();
        if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            BlobError::Full { path }
        } else {
            BlobError::Io { path, message: error.to_string() }
        }
    }
}

#[cfg(test)]
#[path = "blobs/tests_faults.rs"]
mod tests_faults;

#[cfg(test)]
mod tests {
    use super::*;

    fn blobs() -> (tempfile::TempDir, FolderBlobs) {
        let folder = tempfile::tempdir().unwrap();
        let blobs = FolderBlobs::open(&folder.path().join("blobs")).unwrap();
        (folder, blobs)
    }

    fn incoming(blobs: &FolderBlobs) -> usize {
        fs::read_dir(blobs.folder.join(INCOMING)).unwrap().count()
    }

    #[test]
    fn put_again_and_read_back() {
        let (folder, blobs) = blobs();
        let check = |bytes: &[u8]| {
            let source = folder.path().join("source");
            fs::write(&source, bytes).unwrap();
            let blob = blobs.put_file(&source).unwrap();
            assert_eq!(blob, Blob { digest: Digest::of(bytes), bytes: bytes.len() as u64 });
            assert_eq!(blobs.put_bytes(bytes).unwrap(), blob);
            let path = blobs.path(blob.digest);
            assert!(path.ends_with(format!("{}/{}", &blob.digest.hex()[..2], &blob.digest.hex()[2..])));
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o400);
            assert!(blobs.contains(blob.digest));
            assert_eq!(blobs.verify(blob.digest), Ok(blob.bytes));
            let copy = folder.path().join("copy");
            assert_eq!(blobs.copy_to(blob.digest, &copy), Ok(blob.bytes));
            assert_eq!(fs::read(&copy).unwrap(), bytes);
            assert_eq!(incoming(&blobs), 0);
        };
        check(b"");
        check(b"abc");
        check(&vec![7; CHUNK_BYTES * 2 + 1]);
    }

    #[test]
    fn damage_is_noticed_and_nothing_damaged_is_handed_out() {
        let (folder, blobs) = blobs();
        let digest = blobs.put_bytes(b"whole").unwrap().digest;
        let path = blobs.path(digest);
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, b"whOle").unwrap();
        let copy = folder.path().join("copy");
        assert_eq!(blobs.copy_to(digest, &copy), Err(BlobError::Corrupt { digest }));
        assert!(!copy.exists());
        assert_eq!(blobs.verify(digest), Err(BlobError::Corrupt { digest }));
        fs::write(&path, b"wh").unwrap();
        blobs.put_bytes(b"whole").unwrap();
        assert_eq!(blobs.verify(digest), Ok(5));
    }

    #[test]
    fn what_is_not_there_or_not_a_file_is_named() {
        let (folder, blobs) = blobs();
        let digest = Digest::of(b"nothing");
        assert_eq!(blobs.verify(digest), Err(BlobError::Missing { digest }));
        assert_eq!(blobs.copy_to(digest, &folder.path().join("x")), Err(BlobError::Missing { digest }));
        assert!(!blobs.contains(digest));
        let check = |path: &Path, expected: &str| {
            let error = blobs.put_file(path).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains(&*path.to_string_lossy()), "{error}");
        };
        check(folder.path(), "not a regular file");
        check(&folder.path().join("nowhere"), "No such file");
        let link = folder.path().join("link");
        fs::write(folder.path().join("file"), "outside").unwrap();
        std::os::unix::fs::symlink(folder.path().join("file"), &link).unwrap();
        check(&link, "not a regular file");
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        check(&pipe, "not a regular file");
        assert_eq!(incoming(&blobs), 0);
    }

    #[test]
    fn what_a_crash_left_is_removed_and_blobs_stay() {
        let (_folder, blobs) = blobs();
        let digest = blobs.put_bytes(b"stays").unwrap().digest;
        fs::write(blobs.folder.join(INCOMING).join("1-1"), b"half").unwrap();
        let again = FolderBlobs::open(&blobs.folder).unwrap();
        assert_eq!(incoming(&again), 0);
        assert_eq!(again.verify(digest), Ok(5));
        assert_eq!(fs::metadata(&again.folder).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_full_disk_has_a_word_of_its_own() {
        let error = at(Path::new("/x"))(io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(error, BlobError::Full { path: "/x".to_owned() });
    }
}
