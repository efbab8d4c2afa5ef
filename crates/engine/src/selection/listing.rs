//! What a program or a service listed: a file that is read once and then removed.

use std::fs::{DirBuilder, remove_dir_all};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use orbit_core::config::SourceFormat;
use serde_json::Value;

/// See the module. The folder is removed when this is dropped.
pub(super) struct Listing {
    folder: PathBuf,
    format: SourceFormat,
    /// What it took, for the record.
    pub(super) told: Value,
}

impl Listing {
    /// An empty folder that only this user can enter.
    pub(super) fn prepare(folder: PathBuf, format: SourceFormat) -> io::Result<Self> {
        match remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        Ok(Self { folder, format, told: Value::Null })
    }

    /// The file.
    pub(super) fn path(&self) -> PathBuf {
        self.folder.join("listing").with_extension(self.format.extension())
    }
}

impl Drop for Listing {
    fn drop(&mut self) {
        // What cannot be removed now is removed before the next listing of the same cycle.
        let _ = remove_dir_all(&self.folder);
    }
}
