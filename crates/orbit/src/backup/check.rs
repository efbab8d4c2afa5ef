//! Checks a backup without writing: every file, every database, every payload, and that there is nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;

use orbit_core::config::NamespaceName;
use orbit_engine::layout::Layout;
use orbit_store::blobs::FolderBlobs;
use orbit_store::sqlite::inspect::{Contents, inspect};

use super::{BackupError, MANIFEST, Manifest, NamespaceEntry, Progress, files};

/// Faults that are named; where there are more, more is wrong than a list can tell.
const FAULTS_MAX: usize = 100;

/// A backup that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// What it says of itself.
    pub manifest: Manifest,
    /// What its databases hold.
    pub contents: BTreeMap<NamespaceName, Contents>,
}

/// Reads all of it. Everything that is wrong is named at once.
pub fn check(folder: &Path, progress: Progress<'_>) -> Result<Checked, BackupError> {
    let manifest = Manifest::read(folder)?;
    let expected = BTreeSet::from([MANIFEST.to_owned()]);
    let with_payloads = manifest.bucket.is_none();
    let mut found = Found { folder, with_payloads, faults: Vec::new(), expected };
    found.files(&manifest, progress)?;
    let mut contents = BTreeMap::new();
    let mut all_known = true;
    for entry in &manifest.namespaces {
        match found.namespace(entry, progress)? {
            Some(held) => _ = contents.insert(entry.namespace.clone(), held),
            None => all_known = false,
        }
    }
    // Without a database nobody knows which payloads belong to it.
    found.nothing_else(all_known)?;
    if found.faults.is_empty() {
        return Ok(Checked { manifest, contents });
    }
    found.faults.truncate(FAULTS_MAX);
    Err(BackupError::Damaged { faults: found.faults })
}

struct Found<'a> {
    folder: &'a Path,
    /// Whether the larger payloads are in it.
    with_payloads: bool,
    faults: Vec<String>,
    expected: BTreeSet<String>,
}

impl Found<'_> {
    fn fault(&mut self, path: &str, what: impl std::fmt::Display) {
        self.faults.push(format!("{path}: {what}"));
    }

    fn files(&mut self, manifest: &Manifest, progress: Progress<'_>) -> Result<(), BackupError> {
        for (index, entry) in manifest.files.iter().enumerate() {
            self.expected.insert(entry.path.clone());
            if !self.folder.join(&entry.path).is_symlink() && !self.folder.join(&entry.path).is_file() {
                self.fault(&entry.path, "the file is missing");
            } else {
                match files::describe(self.folder, &entry.path) {
                    Ok(found) if found.bytes != entry.bytes => {
                        let what = format!("it has {} bytes instead of {}", found.bytes, entry.bytes);
                        self.fault(&entry.path, what);
                    }
                    Ok(found) if (found.digest, &found.link) != (entry.digest, &entry.link) => {
                        self.fault(&entry.path, "its bytes have another digest");
                    }
                    Ok(_) => {}
                    Err(error) => self.fault(&entry.path, error),
                }
            }
            if progress("files", index as u64 + 1, manifest.files.len() as u64).is_break() {
                return Err(BackupError::Ended);
            }
        }
        Ok(())
    }

    /// What the database holds, unless that cannot be told.
    fn namespace(
        &mut self,
        entry: &NamespaceEntry,
        progress: Progress<'_>,
    ) -> Result<Option<Contents>, BackupError> {
        let name = &entry.namespace;
        let path = format!("data/{name}/orbit.db");
        if !self.expected.contains(&path) {
            self.fault(MANIFEST, format!("`{path}` is not listed"));
            return Ok(None);
        }
        // One that has another digest is named already.
        if self.faults.iter().any(|fault| fault.starts_with(&format!("{path}: "))) {
            return Ok(None);
        }
        let held = match inspect(&self.folder.join(&path)) {
            Ok(held) => held,
            Err(error) => {
                self.fault(&path, error);
                return Ok(None);
            }
        };
        if held.namespace != *name {
            self.fault(&path, format!("it is the store of `{}`", held.namespace));
        }
        if (held.log_size, held.log_root) != (entry.log_size, entry.log_root) {
            let what = format!(
                "its log has {} records with the root {}, and {MANIFEST} says {} with {}",
                held.log_size, held.log_root, entry.log_size, entry.log_root
            );
            self.fault(&path, what);
        }
        if self.with_payloads {
            self.payloads(name, &held, progress)?;
        }
        Ok(Some(held))
    }

    fn payloads(
        &mut self,
        name: &NamespaceName,
        held: &Contents,
        progress: Progress<'_>,
    ) -> Result<(), BackupError> {
        let blobs = FolderBlobs::reading(&Layout::new(self.folder).blobs(name));
        let what = format!("payloads of `{name}`");
        for (index, (digest, bytes)) in held.files.iter().enumerate() {
            let path = blobs.path(*digest);
            let path = path.strip_prefix(self.folder).unwrap_or(&path).to_string_lossy().into_owned();
            match blobs.verify(*digest) {
                Ok(found) if found == *bytes => {}
                Ok(found) => self.fault(&path, format!("it has {found} bytes, and its store says {bytes}")),
                Err(error) => self.fault(&path, error),
            }
            self.expected.insert(path);
            if let ControlFlow::Break(()) = progress(&what, index as u64 + 1, held.files.len() as u64) {
                return Err(BackupError::Ended);
            }
        }
        Ok(())
    }

    fn nothing_else(&mut self, payloads_known: bool) -> Result<(), BackupError> {
        for path in files::walk(self.folder, "")? {
            let may_be_payload = !payloads_known && path.contains("/blobs/");
            if !self.expected.contains(&path) && !may_be_payload {
                self.fault(&path, "it does not belong to the backup");
            }
        }
        Ok(())
    }
}
