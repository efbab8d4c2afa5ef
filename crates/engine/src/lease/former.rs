//! What a home remembers of the incarnation that it was last, so that one that was killed and comes back at once need not wait for its own lease to end.
//!
//! It may end that lease only if the process that had it is dead for certain. Three things together prove that. This process holds the lock of the home, which
//! the kernel gives to one at a time and takes from a process when that is gone. The note was written by a process that held the very same lock file (its device and inode),
//! so that a copy of the home, whose original may be alive, proves nothing. And the same kernel was running (its boot id), because a lock says nothing
//! of the processes of another machine. Whatever is missing, the lease is waited for.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Changes with every start of a kernel.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A lock file that a process holds, on the kernel that gave it the lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    boot: String,
    device: u64,
    inode: u64,
}

impl Mark {
    /// Of a lock file that this process holds.
    pub fn of(held: &File) -> io::Result<Self> {
        let file = held.metadata()?;
        let boot = std::fs::read_to_string(BOOT_ID)?.trim().to_owned();
        Ok(Self { boot, device: file.dev(), inode: file.ino() })
    }
}

/// See the module.
#[derive(Debug)]
pub struct Former {
    path: PathBuf,
    mark: Mark,
}

#[derive(Serialize, Deserialize)]
struct Note {
    epoch: i64,
    #[serde(flatten)]
    mark: Mark,
}

impl Former {
    /// What the file remembers, read by a process with this mark.
    pub const fn new(path: PathBuf, mark: Mark) -> Self {
        Self { path, mark }
    }

    /// The incarnation that this home was last, if whoever was it is dead for certain.
    pub fn dead(&self) -> Option<i64> {
        let note: Note = serde_json::from_slice(&std::fs::read(&self.path).ok()?).ok()?;
        (note.mark == self.mark).then_some(note.epoch)
    }

    /// From now on it is this one. A note that cannot be written costs the wait for a lease after a crash, and nothing else.
    pub fn note(&self, epoch: i64) {
        let written = serde_json::to_vec(&Note { epoch, mark: self.mark.clone() }).map_err(io::Error::from);
        let unfinished = self.path.with_extension("unfinished");
        let kept = written
            .and_then(|note| std::fs::write(&unfinished, note))
            .and_then(|()| std::fs::rename(&unfinished, &self.path));
        if let Err(error) = kept {
            tracing::debug!(path = %self.path.display(), %error, "the incarnation could not be noted");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_lock_on_the_same_kernel_proves_a_death() {
        let folder = tempfile::tempdir().unwrap();
        let lock = |name: &str| File::create(folder.path().join(name)).unwrap();
        let (one, copy) = (lock("one"), lock("copy"));
        let path = folder.path().join("incarnation.json");
        let mark = Mark::of(&one).unwrap();
        let read_by = |mark: Mark| Former::new(path.clone(), mark).dead();
        assert_eq!(read_by(mark.clone()), None, "nothing is noted");
        Former::new(path.clone(), mark.clone()).note(7);
        assert_eq!(read_by(Mark::of(&one).unwrap()), Some(7));
        assert_eq!(read_by(Mark::of(&copy).unwrap()), None);
        assert_eq!(read_by(Mark { boot: "another".to_owned(), ..mark.clone() }), None);
        assert_eq!(read_by(Mark { device: mark.device + 1, ..mark.clone() }), None);
        Former::new(path.clone(), mark.clone()).note(8);
        assert_eq!(read_by(mark.clone()), Some(8));
        std::fs::write(&path, "{").unwrap();
        assert_eq!(read_by(mark), None);
    }
}
