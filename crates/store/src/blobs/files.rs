//! What keeping a payload asks of the file system, so that a test can let any of it fail.

use std::fmt::Debug;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// The acts whose failure must not lose a payload. What is given here is the system itself.
pub trait Files: Debug + Send + Sync {
    /// Writes all of it.
    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    /// The file's bytes are durable. After a failure nobody can tell what is, and a second success says nothing about what the first one lost.
    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    /// The file has another name; whatever had that name is replaced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    /// The names in the folder are durable.
    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }
}

/// The system.
#[derive(Clone, Copy, Debug)]
pub struct System;

impl Files for System {}
