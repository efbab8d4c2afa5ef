//! The home's lock: one process opens the stores.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use orbit_engine::layout::Layout;

/// Held until dropped, or until the process ends in whatever way.
#[derive(Debug)]
pub struct HomeLock {
    file: File,
}

/// Why the lock is not ours.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it.
    #[error("another process (pid {pid}) holds this home")]
    Held {
        /// Its id, as it wrote it.
        pid: String,
    },
    /// The lock file cannot be made.
    #[error("cannot lock the home: `{}`: {source}", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl HomeLock {
    /// The file, which is locked.
    pub const fn file(&self) -> &File {
        &self.file
    }

    /// Takes the lock without waiting.
    pub fn take(layout: &Layout) -> Result<Self, LockError> {
        let path = layout.lock();
        let io = |source| LockError::Io { path: path.clone(), source };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(layout.run()).map_err(io)?;
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                file.read_to_string(&mut pid).map_err(io)?;
                return Err(LockError::Held { pid: pid.trim().to_owned() });
            }
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        file.set_len(0).map_err(io)?;
        write!(file, "{}", std::process::id()).map_err(io)?;
        Ok(Self { file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_has_one_holder() {
        let home = tempfile::tempdir().unwrap();
        let layout = Layout::new(home.path());
        let held = HomeLock::take(&layout).unwrap();
        let refused = HomeLock::take(&layout).unwrap_err().to_string();
        assert_eq!(refused, format!("another process (pid {}) holds this home", std::process::id()));
        drop(held);
        HomeLock::take(&layout).unwrap();
    }
}
