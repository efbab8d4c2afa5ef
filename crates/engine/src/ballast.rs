//! The ballast: a file that holds nothing but space, given up when the disk is full, so that a halt, a change of the gate and a start can still be
//! recorded.
//!
//! It is given up for those alone. Work waits until there is space (`persist`): it would use the ballast up, and then an operator could stop
//! nothing any more. Whether there is one is asked of the file system each time, so that nothing has to be remembered.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use orbit_core::limits::{BALLAST_BYTES, BALLAST_ROOM_BYTES, START_FREE_BYTES_MIN};
use orbit_store::StoreError;

use crate::gate::Disk;
use crate::layout::Layout;

/// See the module.
#[derive(Clone, Debug)]
pub struct Ballast {
    file: PathBuf,
}

impl Ballast {
    /// The ballast of a home, whether there is one or not.
    pub fn of(layout: &Layout) -> Self {
        Self { file: layout.ballast() }
    }

    /// There is one, if there is room enough for it and beside it. True if it was made now.
    pub fn keep(&self, disk: &dyn Disk) -> io::Result<bool> {
        let folder = self.file.parent().unwrap_or(&self.file);
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let room = disk.free_bytes(folder).is_some_and(|free| free >= BALLAST_BYTES + BALLAST_ROOM_BYTES);
        if !room || self.file.exists() {
            return Ok(false);
        }
        // Under another name until it has its space: half of one would pass for one.
        let half = self.file.with_extension("half");
        let made = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&half)?;
        let length = i64::try_from(BALLAST_BYTES).unwrap_or(i64::MAX);
        let kept = nix::fcntl::posix_fallocate(&made, 0, length)
            .map_err(io::Error::from)
            .and_then(|()| fs::rename(&half, &self.file));
        if kept.is_err() {
            _ = fs::remove_file(&half);
        }
        kept.map(|()| true)
    }

    /// Its space is free. True if there was one.
    pub fn release(&self) -> bool {
        let released = fs::remove_file(&self.file).is_ok();
        if released {
            tracing::warn!(
                "the disk is full: `{}` is given up, so that what happens can be recorded",
                self.file.display()
            );
        }
        released
    }

    /// Gives it up if a store could not even be opened in what is free.
    pub fn release_to_start(&self, disk: &dyn Disk) -> bool {
        let folder = self.file.parent().unwrap_or(&self.file);
        disk.free_bytes(folder).is_some_and(|free| free < START_FREE_BYTES_MIN) && self.release()
    }

    /// Calls the store, and where the disk is full once more without the ballast.
    pub async fn relieve<T, F>(&self, mut call: impl FnMut() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        match call().await {
            Err(StoreError::Full { .. }) => {
                // Where it is gone already, another call may have given it up a moment ago.
                self.release();
                call().await
            }
            answer => answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    use super::*;

    struct Free(u64);

    impl Disk for Free {
        fn free_bytes(&self, _path: &Path) -> Option<u64> {
            Some(self.0)
        }
    }

    const ROOM: Free = Free(BALLAST_BYTES + BALLAST_ROOM_BYTES);

    #[test]
    fn it_is_there_while_there_is_room() {
        let home = tempfile::tempdir().unwrap();
        let ballast = Ballast::of(&Layout::new(home.path()));
        assert!(!ballast.keep(&Free(ROOM.0 - 1)).unwrap() && !ballast.release());
        assert!(ballast.keep(&ROOM).unwrap());
        assert!(!ballast.keep(&ROOM).unwrap(), "once");
        let made = fs::metadata(&ballast.file).unwrap();
        assert_eq!((made.len(), made.mode() & 0o777), (BALLAST_BYTES, 0o600));
        assert!(made.blocks() * 512 >= BALLAST_BYTES, "it has its space");
        assert!(!ballast.release_to_start(&Free(START_FREE_BYTES_MIN)));
        assert!(ballast.release_to_start(&Free(START_FREE_BYTES_MIN - 1)));
        assert!(!ballast.file.exists() && !ballast.release_to_start(&Free(0)));
    }

    #[tokio::test]
    async fn it_is_given_up_for_want_of_space_and_nothing_else() {
        let home = tempfile::tempdir().unwrap();
        let ballast = Ballast::of(&Layout::new(home.path()));
        ballast.keep(&ROOM).unwrap();
        let place = || "store.db".to_owned();
        let check = async |error: StoreError, failures: u32, expected: (bool, u32, bool)| {
            let calls = Cell::new(0);
            let call = || {
                calls.set(calls.get() + 1);
                std::future::ready(if calls.get() > failures { Ok(()) } else { Err(error.clone()) })
            };
            let answer = ballast.relieve(call).await;
            assert_eq!((answer.is_ok(), calls.get(), ballast.file.exists()), expected, "{error}");
        };
        check(StoreError::Closed { place: place() }, 1, (false, 1, true)).await;
        check(StoreError::Full { place: place() }, 0, (true, 1, true)).await;
        check(StoreError::Full { place: place() }, 1, (true, 2, false)).await;
        check(StoreError::Full { place: place() }, 9, (false, 2, false)).await;
    }
}
