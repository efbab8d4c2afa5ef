//! Backups: a folder that holds everything a home needs to go on elsewhere, made while runs are in flight; checked; restored.
//!
//! A backup lies as the home does, with `backup.json` beside it, which says what belongs to it. It gets its name when it is whole, and is never
//! used as a home. Payloads are not listed: each has its digest as its name, and the databases, which are listed, say which there must be.

mod check;
mod desk;
mod error;
mod files;
mod make;
mod manifest;
mod restore;

use std::ops::ControlFlow;

pub use check::{Checked, check};
pub use desk::{Desk, Stage};
pub use error::BackupError;
pub use make::{Job, Made};
pub use manifest::{FileEntry, MANIFEST, Manifest, NamespaceEntry};
pub use restore::{PARTIAL, Restored, RestoredNamespace, restore};

/// Told what is done, how much of it, and how much there is; may end the work.
pub type Progress<'a> = &'a mut dyn FnMut(&str, u64, u64) -> ControlFlow<()>;
