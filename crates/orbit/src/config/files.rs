//! The files of a home that hold documents: which they are, and their text.
//!
//! Owns the bounds on their number and size and the rule that a file of a namespace lies within it. What cannot be read
//! becomes a problem and hides nothing else. The order is by name, so that equal homes give equal results.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use orbit_core::config::NamespaceName;
use orbit_core::config::check::Kind;
use orbit_core::limits::{DOCUMENT_FILE_BYTES_MAX, DOCUMENT_FILES_MAX, NAMESPACES_MAX};

use super::diagnostic::{Diagnostic, Severity};
use super::words::nearest;

/// The folders of a namespace that hold documents.
pub(super) const FOLDERS: [(&str, Kind); 5] = [
    ("sources", Kind::Source),
    ("processors", Kind::Processor),
    ("endpoints", Kind::Endpoint),
    ("profiles", Kind::Profile),
    ("run-profiles", Kind::RunProfile),
];
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// A file of documents.
#[derive(Debug)]
pub(super) struct DocumentFile {
    /// Its path, relative to the home.
    pub path: String,
    /// What its documents are; nothing for `orbit.yaml`.
    pub kind: Option<Kind>,
    /// Its text.
    pub text: String,
    /// Whether it calls itself JSON.
    pub is_json: bool,
}

/// The files of a namespace.
#[derive(Debug)]
pub(super) struct NamespaceFiles {
    /// The namespace.
    pub name: NamespaceName,
    /// Its folder, absolute and without symbolic links.
    pub folder: PathBuf,
    /// The files, `namespace.yaml` first, then folder by folder.
    pub files: Vec<DocumentFile>,
    /// Kinds of which some file cannot be read.
    pub unread: BTreeSet<Kind>,
}

/// The files of a home.
#[derive(Debug, Default)]
pub(super) struct HomeFiles {
    /// `orbit.yaml`.
    pub node: Option<DocumentFile>,
    /// The namespaces by name.
    pub namespaces: Vec<NamespaceFiles>,
}

/// Finds and reads `orbit.yaml` alone.
pub(super) fn read_node(home: &Path, problems: &mut Vec<Diagnostic>) -> Option<DocumentFile> {
    Finder { home, problems }.one_of(home, "orbit", None).ok().flatten()
}

/// Finds and reads all of them.
pub(super) fn read(home: &Path, problems: &mut Vec<Diagnostic>) -> HomeFiles {
    let mut finder = Finder { home, problems };
    let mut found = HomeFiles::default();
    let namespaces = home.join("namespaces");
    let node = finder.one_of(home, "orbit", None);
    if matches!(node, Ok(None)) && !namespaces.is_dir() {
        let problem = Diagnostic::of_file("orbit.yaml", Severity::Error, "this folder is not a home");
        finder.problems.push(problem.hint("make one with `orbit init DIR`"));
        return found;
    }
    found.node = node.ok().flatten();
    for folder in finder.entries(&namespaces, NAMESPACES_MAX) {
        if folder.is_dir() {
            found.namespaces.extend(finder.namespace(&folder));
        }
    }
    found
}

/// The file cannot be read; the problem is reported.
struct Reported;

struct Finder<'a> {
    home: &'a Path,
    problems: &'a mut Vec<Diagnostic>,
}

impl Finder<'_> {
    fn relative(&self, path: &Path) -> String {
        path.strip_prefix(self.home).unwrap_or(path).display().to_string()
    }

    fn report(&mut self, path: &Path, message: impl Into<String>) -> &mut Diagnostic {
        let path = self.relative(path);
        self.problems.push_mut(Diagnostic::of_file(&path, Severity::Error, message))
    }

    /// What lies in a folder, by name, without hidden files; nothing if there is no folder.
    fn entries(&mut self, folder: &Path, most: usize) -> Vec<PathBuf> {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => {
                self.report(folder, format!("the folder cannot be read: {error}"));
                return Vec::new();
            }
        };
        let visible =
            |path: &PathBuf| !path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(visible).collect();
        paths.sort();
        if paths.len() > most {
            self.report(folder, format!("the folder holds more than {most} entries"));
            paths.truncate(most);
        }
        paths
    }

    fn namespace(&mut self, folder: &Path) -> Option<NamespaceFiles> {
        let text = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let name = match NamespaceName::parse(&text) {
            Ok(name) if name == NamespaceName::system() => {
                self.report(folder, "the namespace `system` is built in and has no documents");
                return None;
            }
            Ok(name) => name,
            Err(error) => {
                self.report(folder, error.to_string());
                return None;
            }
        };
        let canonical = match fs::canonicalize(folder) {
            Ok(canonical) => canonical,
            Err(error) => {
                self.report(folder, format!("the folder cannot be read: {error}"));
                return None;
            }
        };
        let mut found =
            NamespaceFiles { name, folder: canonical, files: Vec::new(), unread: BTreeSet::new() };
        match self.one_of(folder, "namespace", Some(Kind::Namespace)) {
            Ok(file) => found.files.extend(file),
            Err(Reported) => _ = found.unread.insert(Kind::Namespace),
        }
        for (name, kind) in FOLDERS {
            for path in self.entries(&folder.join(name), DOCUMENT_FILES_MAX) {
                if !path
                    .extension()
                    .is_some_and(|extension| EXTENSIONS.iter().any(|known| extension == *known))
                {
                    continue;
                }
                match self.file(folder, &path, Some(kind)) {
                    Ok(file) => found.files.push(file),
                    Err(Reported) => _ = found.unread.insert(kind),
                }
            }
        }
        self.unknown_folders(folder);
        Some(found)
    }

    /// A folder that nobody reads, and whose name is nearly one that somebody would.
    fn unknown_folders(&mut self, folder: &Path) {
        for path in self.entries(folder, DOCUMENT_FILES_MAX) {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if !path.is_dir() || FOLDERS.iter().any(|(known, _)| *known == name) {
                continue;
            }
            if name == "rules" && !self.entries(&path, DOCUMENT_FILES_MAX).is_empty() {
                self.report(&path, "`rules` are not supported by this version").hint =
                    Some("leave them out".to_owned());
            } else if let Some(near) = nearest(&name, FOLDERS.map(|(known, _)| known)) {
                let path = self.relative(&path);
                let problem =
                    Diagnostic::of_file(&path, Severity::Warning, "no document is read from this folder");
                self.problems.push(problem.hint(format!("did you mean `{near}`?")));
            }
        }
    }

    /// The file of this name with one of the extensions, if there is one.
    fn one_of(
        &mut self,
        folder: &Path,
        name: &str,
        kind: Option<Kind>,
    ) -> Result<Option<DocumentFile>, Reported> {
        let candidates = EXTENSIONS.map(|extension| folder.join(format!("{name}.{extension}")));
        let mut there = candidates.iter().filter(|path| fs::symlink_metadata(path).is_ok());
        let Some(path) = there.next() else { return Ok(None) };
        if let Some(second) = there.next() {
            let first = self.relative(path);
            self.report(second, format!("`{first}` is there too; expected one of them"));
            return Err(Reported);
        }
        self.file(folder, path, kind).map(Some)
    }

    /// Reads a file that lies within this folder.
    fn file(&mut self, within: &Path, path: &Path, kind: Option<Kind>) -> Result<DocumentFile, Reported> {
        let bytes = match read_within(within, path, DOCUMENT_FILE_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(message) => {
                self.report(path, message);
                return Err(Reported);
            }
        };
        match String::from_utf8(bytes) {
            Ok(text) => {
                let is_json = path.extension().is_some_and(|extension| extension == "json");
                Ok(DocumentFile { path: self.relative(path), kind, text, is_json })
            }
            Err(error) => {
                let good = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
                let good = String::from_utf8_lossy(good);
                let last = good.rsplit('\n').next().unwrap_or_default();
                let (line, column) = (good.matches('\n').count() + 1, last.chars().count() + 1);
                let problem = self.report(path, "the file is not UTF-8");
                (problem.line, problem.column) = (line, column);
                Err(Reported)
            }
        }
    }
}

/// The path without symbolic links, if it is a regular file that lies within this folder.
pub(super) fn resolve_within(within: &Path, path: &Path) -> Result<PathBuf, String> {
    let unreadable = |error: std::io::Error| format!("the file cannot be read: {error}");
    let folder = fs::canonicalize(within).map_err(unreadable)?;
    let canonical = fs::canonicalize(path).map_err(unreadable)?;
    if !canonical.starts_with(&folder) {
        return Err("the file is a symbolic link that leaves its folder".to_owned());
    }
    if !fs::metadata(&canonical).map_err(unreadable)?.is_file() {
        return Err("expected a regular file".to_owned());
    }
    Ok(canonical)
}

fn read_within(within: &Path, path: &Path, most: u64) -> Result<Vec<u8>, String> {
    let canonical = resolve_within(within, path)?;
    let unreadable = |error: std::io::Error| format!("the file cannot be read: {error}");
    let mut bytes = Vec::new();
    let file = fs::File::open(canonical).map_err(unreadable)?;
    file.take(most + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > most {
        return Err(format!("the file is larger than {}", orbit_core::config::ByteSize(most)));
    }
    Ok(bytes)
}
