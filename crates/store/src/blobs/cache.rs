//! A folder of payloads as a cache: what was used last stays.

use std::fs;
use std::io;
use std::time::{Duration, SystemTime};

use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use orbit_core::digest::Digest;

use super::{BlobError, FolderBlobs, at};

impl FolderBlobs {
    /// The payload counts as used now. Best effort: what is told wrongly is fetched again.
    pub(super) fn used(&self, digest: Digest) {
        let (now, follow) = (TimeSpec::UTIME_NOW, UtimensatFlags::FollowSymlink);
        _ = utimensat(AT_FDCWD, &self.path(digest), &now, &now, follow);
    }

    /// The folder has so many bytes at most, or nothing that was not used within the time. The eighth of it is free then, so that the next look is not
    /// soon. What is used longest ago goes first.
    #[expect(clippy::disallowed_methods, reason = "compared with the time that the system gave the file")]
    pub(super) fn shrink(&self, bytes_max: u64, used_within: Duration) -> Result<(), BlobError> {
        let mut found: Vec<(SystemTime, u64, Digest)> = Vec::new();
        for shard in 0..=u8::MAX {
            for digest in self.shard(shard)? {
                let Ok(file) = fs::metadata(self.path(digest)) else { continue };
                found.push((file.modified().map_err(at(&self.folder))?, file.len(), digest));
            }
        }
        let mut bytes: u64 = found.iter().map(|file| file.1).sum();
        if bytes <= bytes_max {
            return Ok(());
        }
        found.sort_unstable_by_key(|file| file.0);
        let now = SystemTime::now();
        for (used, length, digest) in found {
            let is_used = now.duration_since(used).is_ok_and(|past| past < used_within);
            if bytes <= bytes_max - bytes_max / 8 || is_used {
                return Ok(());
            }
            match fs::remove_file(self.path(digest)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(at(&self.path(digest))(error));
                }
                Ok(()) | Err(_) => bytes -= length,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_longest_ago_leaves_first_and_what_is_in_use_stays() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = FolderBlobs::open(folder.path()).unwrap();
        let put = |n: u8, hours: u64| {
            let digest = blobs.put_bytes(&[n; 100]).unwrap().digest;
            let file = fs::File::open(blobs.path(digest)).unwrap();
            let then = file.metadata().unwrap().modified().unwrap() - Duration::from_hours(hours);
            file.set_modified(then).unwrap();
            digest
        };
        let digests = [put(1, 0), put(2, 9), put(3, 2), put(4, 8)];
        let left = || digests.map(|digest| blobs.contains(digest));
        blobs.used(digests[1]);
        blobs.shrink(400, Duration::from_hours(1)).unwrap();
        assert_eq!(left(), [true; 4]);
        blobs.shrink(399, Duration::from_hours(1)).unwrap();
        assert_eq!(left(), [true, true, true, false]);
        blobs.shrink(1, Duration::from_hours(1)).unwrap();
        assert_eq!(left(), [true, true, false, false], "what was used within the hour stays");
    }
}
