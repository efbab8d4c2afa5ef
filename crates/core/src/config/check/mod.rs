//! What is wrong with documents that have the right form: references, duplicates, and values that no schema can judge.
//!
//! Pure. A problem names a document and a path within it; only the loader knows files and lines. Forms, types and ranges
//! are the schema's and were checked before.

mod artifacts;
mod deep;
mod endpoint;
mod http;
mod log;
mod names;
mod normalize;
mod notify;
mod processor;
mod profile;
mod references;
mod retention;
mod run_profile;
mod source;
mod text;

use std::collections::BTreeSet;

use super::{
    ArtifactBackend, Endpoint, NamespaceConfig, NodeConfig, Processor, Profile, RunProfile, Source,
    StorageBackend,
};

/// The kinds of document that a namespace holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `namespace.yaml`.
    Namespace,
    /// `sources/`.
    Source,
    /// `processors/`.
    Processor,
    /// `endpoints/`.
    Endpoint,
    /// `profiles/`.
    Profile,
    /// `run-profiles/`.
    RunProfile,
}

/// A document of a namespace.
#[derive(Clone, Debug, PartialEq)]
pub enum Document {
    /// `namespace.yaml`.
    Namespace(NamespaceConfig),
    /// A source.
    Source(Source),
    /// A processor.
    Processor(Processor),
    /// An endpoint.
    Endpoint(Endpoint),
    /// A profile.
    Profile(Profile),
    /// A run profile.
    RunProfile(RunProfile),
}

/// Which of the documents that were given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocumentRef(pub usize);

/// One step into a document.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathPart {
    /// The value of this key.
    Key(String),
    /// The item at this index, from 0. One value where a list may stand counts as its item 0.
    Index(usize),
    /// The key itself; always the last part.
    Name(String),
}

/// Whether the documents can be used nevertheless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// They cannot.
    Error,
    /// They can, but somebody should look.
    Warning,
}

/// Something that is wrong with a document. No secret position's text is ever part of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// The document.
    pub document: DocumentRef,
    /// Where in it; a place that was left out stands for the innermost one that was written.
    pub path: Vec<PathPart>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Another place that belongs to it: of a duplicate, the first.
    pub first: Option<(DocumentRef, Vec<PathPart>)>,
    /// Whether the documents can be used nevertheless.
    pub severity: Severity,
}

/// What exists but cannot be read, so that nobody is told that it is missing.
#[derive(Clone, Debug, Default)]
pub struct Unread {
    /// Names, labels and ids of documents whose form is wrong.
    pub names: BTreeSet<(Kind, String)>,
    /// Kinds of which some file cannot be read at all: its names are unknown.
    pub kinds: BTreeSet<Kind>,
}

/// Everything that is wrong with the documents of one namespace.
pub fn check(documents: &[Document], unread: &Unread) -> Vec<Problem> {
    let mut found = names::check(documents);
    for (index, document) in documents.iter().enumerate() {
        let mut report = Report { document: DocumentRef(index), found: &mut found };
        match document {
            Document::Namespace(config) => {
                notify::check(config, documents, &mut report);
                log::check(&config.log, &mut report);
                retention::check(config, &mut report);
            }
            Document::Source(source) => source::check(source, &mut report),
            Document::Processor(processor) => processor::check(processor, &mut report),
            Document::Endpoint(endpoint) => endpoint::check(endpoint, &mut report),
            Document::Profile(profile) => profile::check(profile, &mut report),
            Document::RunProfile(run_profile) => run_profile::check(run_profile, &mut report),
        }
    }
    references::check(documents, unread, &mut found);
    found
}

/// Everything that is wrong with `orbit.yaml`; the document is number 0.
pub fn check_node(node: &NodeConfig) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut report = Report { document: DocumentRef(0), found: &mut found };
    if node.listen.address.parse::<core::net::SocketAddr>().is_err() {
        report
            .error(path(&["listen", "address"]), "expected an IP address and a port")
            .hint("as in `127.0.0.1:7878` or `[::1]:7878`; port 0 takes a free one");
    }
    let name = &node.node.name;
    if name.is_empty() || name.len() > 64 || name.chars().any(char::is_control) {
        report.error(path(&["node", "name"]), "expected a name of 1 to 64 bytes");
    }
    if let Some(heartbeat) = &node.heartbeat {
        notify::check_heartbeat(heartbeat, &mut report);
    }
    log::check(&node.log, &mut report);
    // The rows are everybody's then, and the payloads are not.
    if (node.storage.backend, node.artifacts.backend) == (StorageBackend::Postgres, ArtifactBackend::Folder) {
        report
            .warning(
                path(&["storage", "backend"]),
                "payloads lie in a folder of this home, which no other node sees",
            )
            .hint("nothing is wrong while this is the only node of the database");
    }
    artifacts::check(&node.artifacts, &mut report);
    found
}

/// Collects the problems of one document.
struct Report<'a> {
    document: DocumentRef,
    found: &'a mut Vec<Problem>,
}

/// The problem that was just reported, to be completed.
struct Reported<'a>(&'a mut Problem);

impl Report<'_> {
    fn error(&mut self, path: Vec<PathPart>, message: impl Into<String>) -> Reported<'_> {
        self.add(Severity::Error, path, message.into())
    }

    fn warning(&mut self, path: Vec<PathPart>, message: impl Into<String>) -> Reported<'_> {
        self.add(Severity::Warning, path, message.into())
    }

    fn add(&mut self, severity: Severity, path: Vec<PathPart>, message: String) -> Reported<'_> {
        let problem = Problem { document: self.document, path, message, hint: None, first: None, severity };
        Reported(self.found.push_mut(problem))
    }

    /// Reports an error at this path if there is one.
    fn result(&mut self, path: Vec<PathPart>, result: Result<(), String>) {
        if let Err(message) = result {
            self.error(path, message);
        }
    }
}

impl Reported<'_> {
    fn hint(self, hint: impl Into<String>) {
        self.0.hint = Some(hint.into());
    }

    fn first(self, document: DocumentRef, path: Vec<PathPart>) {
        self.0.first = Some((document, path));
    }
}

/// A path of keys.
fn path(keys: &[&str]) -> Vec<PathPart> {
    keys.iter().map(|key| PathPart::Key((*key).to_owned())).collect()
}

/// A path with further parts.
fn below(mut path: Vec<PathPart>, parts: impl IntoIterator<Item = PathPart>) -> Vec<PathPart> {
    path.extend(parts);
    path
}

fn key(key: &str) -> PathPart {
    PathPart::Key(key.to_owned())
}

fn name(key: &str) -> PathPart {
    PathPart::Name(key.to_owned())
}
