//! Files of documents: copied with their permissions, hashed on the way; and folders that are walked.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use orbit_core::digest::{Digest, Hasher};

use super::error::at;
use super::{BackupError, FileEntry};

/// Bytes that are read and hashed at once.
const PIECE_BYTES: usize = 256 * 1024;
/// Permissions that a copy keeps.
const MODE_KEPT: u32 = 0o777;

/// Every file and symbolic link below a folder, by path, relative to `root`; links are not followed. What is neither, such as a socket, is left out.
pub(super) fn walk(root: &Path, below: &str) -> Result<Vec<String>, BackupError> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(below)];
    while let Some(folder) = folders.pop() {
        let full = root.join(&folder);
        for entry in fs::read_dir(&full).map_err(at(&full))? {
            let entry = entry.map_err(at(&full))?;
            let path = folder.join(entry.file_name());
            let kind = entry.file_type().map_err(at(&full))?;
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() || kind.is_symlink() {
                let text = path.to_str().ok_or_else(|| BackupError::Folder {
                    message: format!("the name of `{}` is not UTF-8", root.join(&path).display()),
                    hint: "rename it".to_owned(),
                })?;
                found.push(text.to_owned());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The file below one folder is also below the other, where it must not exist yet; what it is.
pub(super) fn copy(from: &Path, to: &Path, path: &str) -> Result<FileEntry, BackupError> {
    let (source, target) = (from.join(path), to.join(path));
    make_folder(target.parent().unwrap_or(to))?;
    let found = fs::symlink_metadata(&source).map_err(at(&source))?;
    if found.is_symlink() {
        let leads = fs::read_link(&source).map_err(at(&source))?;
        std::os::unix::fs::symlink(&leads, &target).map_err(at(&target))?;
        return describe(from, path);
    }
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(&target).map_err(at(&target))?;
    let (bytes, digest) = transfer(&source, &mut file)?;
    let mode = found.permissions().mode() & MODE_KEPT;
    file.set_permissions(Permissions::from_mode(mode)).map_err(at(&target))?;
    Ok(FileEntry { path: path.to_owned(), bytes, digest, mode, link: None })
}

/// What a file is now.
pub(super) fn describe(root: &Path, path: &str) -> Result<FileEntry, BackupError> {
    let full = root.join(path);
    let found = fs::symlink_metadata(&full).map_err(at(&full))?;
    let mode = found.permissions().mode() & MODE_KEPT;
    if found.is_symlink() {
        let leads = fs::read_link(&full).map_err(at(&full))?.to_string_lossy().into_owned();
        let (bytes, digest) = (leads.len() as u64, Digest::of(leads.as_bytes()));
        return Ok(FileEntry { path: path.to_owned(), bytes, digest, mode, link: Some(leads) });
    }
    let (bytes, digest) = transfer(&full, &mut io::sink())?;
    Ok(FileEntry { path: path.to_owned(), bytes, digest, mode, link: None })
}

fn transfer(source: &Path, target: &mut dyn Write) -> Result<(u64, Digest), BackupError> {
    let mut file = File::open(source).map_err(at(source))?;
    let mut hasher = Hasher::default();
    let mut piece = vec![0; PIECE_BYTES];
    let mut bytes = 0;
    loop {
        let read = match file.read(&mut piece) {
            Ok(0) => return Ok((bytes, hasher.finish())),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(at(source)(error)),
        };
        hasher.update(&piece[..read]);
        target.write_all(&piece[..read]).map_err(at(source))?;
        bytes += read as u64;
    }
}

/// The folder exists, owner-only where it is made.
pub(super) fn make_folder(path: &Path) -> Result<(), BackupError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(at(path))
}

/// Everything that was written where the folder lies is durable.
pub(super) fn sync_all_below(folder: &Path) -> Result<(), BackupError> {
    let opened = File::open(folder).map_err(at(folder))?;
    nix::unistd::syncfs(&opened).map_err(|error| at(folder)(error.into()))
}

/// The folder's entries are durable.
pub(super) fn sync_folder(folder: &Path) -> Result<(), BackupError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(at(folder))
}

/// Whether there is nothing in the folder, or no such folder.
pub(super) fn is_free(folder: &Path) -> Result<bool, BackupError> {
    match fs::read_dir(folder) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(at(folder)(error)),
    }
}

/// The file has these permissions.
pub(super) fn set_mode(path: &Path, mode: u32) -> Result<(), BackupError> {
    fs::set_permissions(path, Permissions::from_mode(mode & MODE_KEPT)).map_err(at(path))
}
