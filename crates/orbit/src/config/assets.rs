//! The files that documents name: assets, whose content a snapshot pins, and sources and programs, which must be there.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use orbit_core::config::check::{Document, PathPart};
use orbit_core::config::{ByteSize, DocName, Processor, Source};
use orbit_core::digest::{Digest, Hasher};
use orbit_core::limits::{ASSET_BYTES_MAX, ASSETS_MAX};

use super::diagnostic::{Diagnostic, Severity};
use super::document::Written;
use super::files::resolve_within;
use super::place;
use super::tree::Finding;

/// An asset as it was when the documents were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedAsset {
    /// The path that documents use, below the namespace's folder.
    pub name: String,
    /// The file, absolute and without symbolic links.
    pub path: PathBuf,
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// Its length in bytes.
    pub bytes: u64,
}

/// Reads every asset that a profile or run profile binds, and looks for the other files that documents name.
pub(super) fn read(folder: &Path, written: &[Written], problems: &mut Vec<Diagnostic>) -> Vec<LoadedAsset> {
    let mut assets: BTreeMap<String, Option<LoadedAsset>> = BTreeMap::new();
    for document in written {
        let (field, bindings) = bindings(&document.document);
        for (asset, file) in bindings.into_iter().flatten() {
            let at = [PathPart::Key(field.to_owned()), PathPart::Key(asset.to_string())];
            if assets.contains_key(file) {
                continue;
            }
            let read = match assets.len() {
                ASSETS_MAX.. => Err(format!("a namespace has at most {ASSETS_MAX} assets")),
                _ => read_asset(folder, file),
            };
            let asset =
                read.map_err(|message| report(document, &at, Severity::Error, message, problems)).ok();
            assets.insert(file.clone(), asset);
        }
        named_files(folder, document, problems);
    }
    assets.into_values().flatten().collect()
}

fn bindings(document: &Document) -> (&'static str, Option<&BTreeMap<DocName, String>>) {
    match document {
        Document::Profile(profile) => ("asset_bindings", Some(&profile.asset_bindings)),
        Document::RunProfile(run_profile) => ("asset_bundle", Some(&run_profile.asset_bundle)),
        Document::Namespace(_) | Document::Source(_) | Document::Processor(_) | Document::Endpoint(_) => {
            ("", None)
        }
    }
}

fn report(
    document: &Written,
    at: &[PathPart],
    severity: Severity,
    message: String,
    problems: &mut Vec<Diagnostic>,
) {
    let finding = Finding { place: place::find(&document.node, at), message, hint: None };
    problems.push(Diagnostic::at(&document.path, severity, finding));
}

fn read_asset(folder: &Path, name: &str) -> Result<LoadedAsset, String> {
    let unreadable = |error: std::io::Error| format!("the file cannot be read: {error}");
    let path = resolve_within(folder, &folder.join(name))?;
    let mut file = fs::File::open(&path).map_err(unreadable)?.take(ASSET_BYTES_MAX + 1);
    let (mut hasher, mut bytes, mut buffer) = (Hasher::default(), 0, vec![0; 64 * 1024]);
    loop {
        let count = file.read(&mut buffer).map_err(unreadable)?;
        if count == 0 {
            break;
        }
        hasher.update(buffer.get(..count).unwrap_or_default());
        bytes += count as u64;
    }
    if bytes > ASSET_BYTES_MAX {
        return Err(format!("the asset is larger than {}", ByteSize(ASSET_BYTES_MAX)));
    }
    Ok(LoadedAsset { name: name.to_owned(), path, digest: hasher.finish(), bytes })
}

/// Sources and programs are not pinned: a missing one is a warning, for it may come later.
fn named_files(folder: &Path, written: &Written, problems: &mut Vec<Diagnostic>) {
    let key = |key: &str| PathPart::Key(key.to_owned());
    let program = |argv: &[String]| argv.first().filter(|program| program.contains('/')).cloned();
    let (at, named, is_program) = match &written.document {
        Document::Source(Source::File(file)) => (vec![key("path")], Some(file.path.clone()), false),
        Document::Source(Source::Exec(exec)) => {
            (vec![key("argv"), PathPart::Index(0)], program(&exec.argv), true)
        }
        Document::Processor(Processor::Exec(exec)) => {
            (vec![key("argv"), PathPart::Index(0)], program(&exec.argv), true)
        }
        Document::Source(Source::Inline(_) | Source::Http(_))
        | Document::Processor(Processor::Http(_))
        | Document::Namespace(_)
        | Document::Endpoint(_)
        | Document::Profile(_)
        | Document::RunProfile(_) => return,
    };
    let Some(named) = named.filter(|named| !named.contains("{{")) else { return };
    let path = folder.join(&named);
    let warning = match fs::metadata(&path) {
        Err(_) => Some("the file is not there"),
        Ok(found) if !found.is_file() => Some("this is not a regular file"),
        Ok(found) if is_program && found.permissions().mode() & 0o111 == 0 => {
            Some("the program is not executable")
        }
        Ok(_) => None,
    };
    if let Some(warning) = warning {
        report(written, &at, Severity::Warning, warning.to_owned(), problems);
    } else if !is_program && let Err(message) = resolve_within(folder, &path) {
        report(written, &at, Severity::Error, message, problems);
    }
}
