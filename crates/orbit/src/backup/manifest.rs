//! `backup.json`: what belongs to a backup. Written last, and sealed with a digest of itself.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path};

use jiff::Timestamp;
use orbit_core::canonical;
use orbit_core::config::NamespaceName;
use orbit_core::digest::Digest;
use serde::{Deserialize, Serialize};

use super::BackupError;
use super::error::at;

/// The name of the file.
pub const MANIFEST: &str = "backup.json";
/// The form that this binary writes, and the newest that it reads.
const FORMAT: u32 = 1;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The form of this file and of the folder.
    pub format: u32,
    /// When the backup was begun: what is later is not in it.
    pub made_at: Timestamp,
    /// The version that made it.
    pub version: String,
    /// The node that it is of.
    pub node: String,
    /// Whether `.env` is in it.
    pub with_secrets: bool,
    /// The bucket that holds the larger payloads, which are not in the backup then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket: Option<String>,
    /// The stores, by name.
    pub namespaces: Vec<NamespaceEntry>,
    /// Every file but payloads and this one, by path.
    pub files: Vec<FileEntry>,
}

/// What there is of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamespaceEntry {
    /// Its name.
    pub namespace: NamespaceName,
    /// The schema of its database.
    pub schema: u32,
    /// Records in its log.
    pub log_size: u64,
    /// The root of its log's tree.
    pub log_root: Digest,
    /// Payloads that are files.
    pub payloads: u64,
    /// Their lengths together.
    pub payload_bytes: u64,
}

/// A file by its path below the folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Its path, with `/`.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of its bytes; of a symbolic link, of its target.
    pub digest: Digest,
    /// Its permissions.
    pub mode: u32,
    /// Where it leads, if it is a symbolic link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    backup: Manifest,
    digest: Digest,
}

impl Manifest {
    /// A manifest of the form that is written now, without anything in it.
    pub fn new(made_at: Timestamp, node: String, with_secrets: bool) -> Self {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let (namespaces, files) = (Vec::new(), Vec::new());
        Self { format: FORMAT, made_at, version, node, with_secrets, bucket: None, namespaces, files }
    }

    /// Writes it into the folder, durably.
    pub fn write(&self, folder: &Path) -> Result<(), BackupError> {
        let path = folder.join(MANIFEST);
        let digest = Digest::of(canonical::to_string(self).as_bytes());
        let text = serde_json::to_string_pretty(&Sealed { backup: self.clone(), digest })
            .map_err(|error| at(&path)(error.into()))?;
        let mut options = OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(0o600).open(&path).map_err(at(&path))?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(at(&path))
    }

    /// Reads it and compares it with its seal.
    pub fn read(folder: &Path) -> Result<Self, BackupError> {
        let path = folder.join(MANIFEST);
        let damaged = |fault: String| BackupError::Damaged { faults: vec![format!("{MANIFEST}: {fault}")] };
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(BackupError::Folder {
                    message: format!("`{}` is no backup: it has no `{MANIFEST}`", folder.display()),
                    hint: "name the folder that `orbit backup` made".to_owned(),
                });
            }
            Err(error) => return Err(at(&path)(error)),
        };
        let sealed: Sealed =
            serde_json::from_slice(&text).map_err(|error| damaged(format!("it cannot be read: {error}")))?;
        let backup = sealed.backup;
        if backup.format > FORMAT {
            return Err(damaged(format!(
                "it has form {}, and this binary knows up to {FORMAT}",
                backup.format
            )));
        }
        if Digest::of(canonical::to_string(&backup).as_bytes()) != sealed.digest {
            return Err(damaged("it is not what its digest says".to_owned()));
        }
        match backup.files.iter().find(|file| !is_below(&file.path)) {
            Some(file) => Err(damaged(format!("`{}` leads out of the folder", file.path))),
            None => Ok(backup),
        }
    }
}

/// Whether a path stays below the folder that it is joined to.
fn is_below(path: &str) -> bool {
    !path.is_empty() && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(path: &str) -> Manifest {
        let mut manifest = Manifest::new(Timestamp::UNIX_EPOCH, "node".to_owned(), false);
        let (path, digest) = (path.to_owned(), Digest::of(b""));
        manifest.files.push(FileEntry { path, bytes: 0, digest, mode: 0o600, link: None });
        manifest
    }

    #[test]
    fn written_and_read() {
        let folder = tempfile::tempdir().unwrap();
        let written = manifest("namespaces/lab/a.yaml");
        written.write(folder.path()).unwrap();
        assert_eq!(Manifest::read(folder.path()).unwrap(), written);
        let path = folder.path().join(MANIFEST);
        let text = fs::read_to_string(&path).unwrap();
        let check = |changed: String, expected: &str| {
            assert_ne!(changed, text);
            fs::write(&path, changed).unwrap();
            let error = Manifest::read(folder.path()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(text.replace("\"node\": \"node\"", "\"node\": \"nodf\""), "not what its digest says");
        check(text[..text.len() / 2].to_owned(), "cannot be read");
        check(text.replace("\"format\": 1", "\"format\": 2"), "knows up to 1");
        check(text.replace("\"node\":", "\"nod\":"), "unknown field");
        fs::remove_file(&path).unwrap();
        assert!(Manifest::read(folder.path()).unwrap_err().to_string().contains("is no backup"));
    }

    #[test]
    fn a_path_stays_below() {
        for path in ["../x", "/etc/passwd", "a/../../b", "", "./a"] {
            let folder = tempfile::tempdir().unwrap();
            manifest(path).write(folder.path()).unwrap();
            let error = Manifest::read(folder.path()).unwrap_err().to_string();
            assert!(error.contains("leads out of the folder"), "{path}: {error}");
        }
    }
}
