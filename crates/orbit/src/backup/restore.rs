//! Makes a home of a backup: halted, and with logs that go on under new names.
//!
//! Everything is gathered in a folder within the home, and gets its place when it is whole. While that folder is there, the home is none.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use orbit_core::config::NamespaceName;
use orbit_engine::layout::Layout;
use orbit_store::sqlite::backup;
use orbit_store::sqlite::inspect::{Contents, Owed};
use serde::Serialize;

use super::error::at;
use super::make::copy_payloads;
use super::{BackupError, Checked, NamespaceEntry, Progress, check, files};
use crate::render::units::instant;

/// The folder within a home that is being restored.
pub const PARTIAL: &str = ".restore-partial";

/// A home that was restored.
#[derive(Clone, Debug, Serialize)]
pub struct Restored {
    /// The home.
    pub home: PathBuf,
    /// When the backup was begun.
    pub made_at: Timestamp,
    /// The bucket that holds its larger payloads, if they are not files of the home.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bucket: Option<String>,
    /// Why the home is halted.
    pub halt: String,
    /// What is in it.
    pub namespaces: Vec<RestoredNamespace>,
}

/// A namespace of it.
#[derive(Clone, Debug, Serialize)]
pub struct RestoredNamespace {
    /// What the backup says of it.
    #[serde(flatten)]
    pub entry: NamespaceEntry,
    /// What was owed when the backup was begun, and may have been sent since.
    pub owed: Owed,
}

/// The home, which must not exist or be empty, holds what the backup holds. Everything is checked first.
pub fn restore(
    folder: &Path,
    home: &Path,
    now: Timestamp,
    progress: Progress<'_>,
) -> Result<Restored, BackupError> {
    if !files::is_free(home)? {
        return Err(is_taken(home));
    }
    let checked = check(folder, progress)?;
    files::make_folder(home)?;
    let partial = home.join(PARTIAL);
    // Whoever makes this folder is the only one that restores here.
    DirBuilder::new().mode(0o700).create(&partial).map_err(at(&partial))?;
    let halt = format!("restored from backup of {}", instant(checked.manifest.made_at));
    let filled = fill(folder, &partial, &checked, progress)
        .and_then(|()| mark(&partial, &checked, now, &halt))
        .and_then(|()| files::sync_all_below(&partial));
    if let Err(error) = filled {
        _ = fs::remove_dir_all(&partial);
        return Err(error);
    }
    settle(home, &partial)?;
    let bucket = checked.manifest.bucket;
    let namespaces = checked.manifest.namespaces.into_iter().map(|entry| {
        let owed = checked.contents.get(&entry.namespace).map(|held| held.owed.clone());
        RestoredNamespace { entry, owed: owed.unwrap_or_default() }
    });
    let namespaces = namespaces.collect();
    Ok(Restored { home: home.to_owned(), made_at: checked.manifest.made_at, bucket, halt, namespaces })
}

fn is_taken(home: &Path) -> BackupError {
    let shown = home.display();
    if home.join(PARTIAL).exists() {
        return BackupError::Folder {
            message: format!("`{shown}` holds a restore that was never finished"),
            hint: "remove what is in it and restore again".to_owned(),
        };
    }
    BackupError::Folder {
        message: format!("`{shown}` exists and is not empty"),
        hint: "name a new folder with `--home`".to_owned(),
    }
}

fn fill(folder: &Path, partial: &Path, checked: &Checked, progress: Progress<'_>) -> Result<(), BackupError> {
    let entries = &checked.manifest.files;
    // Links last, so that no file is written through one.
    let (links, plain): (Vec<_>, Vec<_>) = entries.iter().partition(|entry| entry.link.is_some());
    for (index, entry) in plain.into_iter().chain(links).enumerate() {
        let copied = files::copy(folder, partial, &entry.path)?;
        if (copied.digest, copied.bytes) != (entry.digest, entry.bytes) {
            let fault = format!("{}: it changed while it was restored", entry.path);
            return Err(BackupError::Damaged { faults: vec![fault] });
        }
        if entry.link.is_none() {
            files::set_mode(&partial.join(&entry.path), entry.mode)?;
        }
        if progress("files", index as u64 + 1, entries.len() as u64).is_break() {
            return Err(BackupError::Ended);
        }
    }
    // Those in a bucket are not in the backup: the home goes on with the same bucket.
    let contents = checked.contents.iter().filter(|_| checked.manifest.bucket.is_none());
    for (name, Contents { files, .. }) in contents {
        copy_payloads((&Layout::new(folder), &Layout::new(partial)), name, files, progress)?;
    }
    Ok(())
}

fn mark(partial: &Path, checked: &Checked, now: Timestamp, halt: &str) -> Result<(), BackupError> {
    for name in checked.contents.keys() {
        // The halt of the whole node is that of the namespace `system`.
        let halt = (*name == NamespaceName::system()).then_some(halt);
        backup::mark_restored(&Layout::new(partial).database(name), now, halt)?;
    }
    Ok(())
}

/// Everything gets its place, durably; then it is a home.
fn settle(home: &Path, partial: &Path) -> Result<(), BackupError> {
    for entry in fs::read_dir(partial).map_err(at(partial))? {
        let name = entry.map_err(at(partial))?.file_name();
        let target = home.join(&name);
        fs::rename(partial.join(&name), &target).map_err(at(&target))?;
    }
    files::sync_folder(home)?;
    fs::remove_dir(partial).map_err(at(partial))?;
    files::sync_folder(home)
}
