//! Why a backup could not be made or restored.

use std::path::Path;

use orbit_store::StoreError;
use orbit_store::blobs::BlobError;

/// See the module. Nothing that looks like a backup or a home is left behind.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The folder cannot be used.
    #[error("{message}")]
    Folder {
        /// What is wrong with it.
        message: String,
        /// What to do about it.
        hint: String,
    },
    /// A database cannot be copied or read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A payload cannot be copied: it is missing or damaged, or the disk is full.
    #[error("a payload of `{namespace}` cannot be copied: {error}")]
    Payload {
        /// Whose it is.
        namespace: String,
        /// What is wrong.
        error: BlobError,
    },
    /// A file or folder cannot be read or written.
    #[error("`{path}`: {message}")]
    Io {
        /// Which.
        path: String,
        /// What the system said.
        message: String,
    },
    /// The backup is not what it should be.
    #[error("the backup is damaged\n{}", faults.join("\n"))]
    Damaged {
        /// Everything that is wrong with it.
        faults: Vec<String>,
    },
    /// It was ended before it was done.
    #[error("it was ended before it was done")]
    Ended,
}

impl BackupError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Folder { hint, .. } => hint.clone(),
            Self::Store(_) => "see `orbit doctor`".to_owned(),
            Self::Payload { .. } => {
                "nothing was kept of this backup; take the payload from an earlier one".to_owned()
            }
            Self::Io { .. } => {
                "the folder needs room, and must be readable and writable by the user of the home".to_owned()
            }
            Self::Damaged { .. } => "use another backup; what is named here is what to look at".to_owned(),
            Self::Ended => "the process that serves the home was stopped; start it again".to_owned(),
        }
    }
}

/// An error of the system about this file or folder.
pub(super) fn at(path: &Path) -> impl Fn(std::io::Error) -> BackupError {
    let path = path.display().to_string();
    move |error| BackupError::Io { path: path.clone(), message: error.to_string() }
}
