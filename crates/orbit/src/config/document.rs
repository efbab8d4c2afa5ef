//! From the text of a file to typed documents, each with the tree that knows its places.

use orbit_core::config::NodeConfig;
use orbit_core::config::check::{self, Document, Kind, Problem, Unread};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::diagnostic::{Diagnostic, Severity};
use super::files::{DocumentFile, NamespaceFiles};
use super::tree::{self, Content, Node};
use super::{place, shape};
use crate::schema::schema;

/// A document and where it was written.
#[derive(Debug)]
pub(super) struct Written {
    /// Its file, relative to the home.
    pub path: String,
    /// Its tree.
    pub node: Node,
    /// What it says.
    pub document: Document,
}

/// Reads every document of a namespace and checks them together.
pub(super) fn read_namespace(files: &NamespaceFiles, problems: &mut Vec<Diagnostic>) -> Vec<Written> {
    let mut written = Vec::new();
    let mut unread = Unread { kinds: files.unread.clone(), ..Unread::default() };
    for file in &files.files {
        let Some(kind) = file.kind else { continue };
        let schema = schema(Some(schema_name(kind))).unwrap_or_default();
        let nodes = nodes(file, problems, || _ = unread.kinds.insert(kind));
        if kind == Kind::Namespace {
            _ = only_one(&nodes, file, problems);
        }
        for node in nodes {
            match typed(&schema, kind, &node, file, problems) {
                Some(document) => written.push(Written { path: file.path.clone(), node, document }),
                None => unread.names.extend(names(kind, &node)),
            }
        }
    }
    let documents: Vec<_> = written.iter().map(|written| written.document.clone()).collect();
    for problem in check::check(&documents, &unread) {
        problems.extend(placed(&problem, &written));
    }
    written
}

/// Reads `orbit.yaml`; without one, or with one that is wrong, every default holds.
pub(super) fn read_node(file: Option<&DocumentFile>, problems: &mut Vec<Diagnostic>) -> NodeConfig {
    let Some(file) = file else { return NodeConfig::default() };
    let schema = schema(Some("node")).unwrap_or_default();
    let nodes = nodes(file, problems, || ());
    let Some(node) = only_one(&nodes, file, problems) else { return NodeConfig::default() };
    let Some(config) = from_shape::<NodeConfig>(&schema, node, file, problems) else {
        return NodeConfig::default();
    };
    for problem in check::check_node(&config) {
        let finding = tree::Finding {
            place: place::find(node, &problem.path),
            message: problem.message,
            hint: problem.hint,
        };
        problems.push(Diagnostic::at(&file.path, severity(problem.severity), finding));
    }
    config
}

/// The trees of a file's documents; a list at the top holds a document each.
fn nodes(file: &DocumentFile, problems: &mut Vec<Diagnostic>, mut unreadable: impl FnMut()) -> Vec<Node> {
    let forest = tree::read(&file.text, file.is_json);
    if file.text.trim().is_empty() && needs_a_document(file.kind) {
        problems.push(Diagnostic::of_file(&file.path, Severity::Warning, "the file holds no document"));
    }
    for finding in forest.findings {
        unreadable();
        problems.push(Diagnostic::at(&file.path, Severity::Error, finding));
    }
    let each = forest.documents.into_iter().flat_map(|node| match node.content {
        Content::List(items) => items,
        Content::Map(_) | Content::Scalar { .. } => vec![node],
    });
    each.collect()
}

fn needs_a_document(kind: Option<Kind>) -> bool {
    !matches!(kind, None | Some(Kind::Namespace))
}

fn only_one<'a>(nodes: &'a [Node], file: &DocumentFile, problems: &mut Vec<Diagnostic>) -> Option<&'a Node> {
    if let Some(second) = nodes.get(1) {
        let message = "expected one document in this file".to_owned();
        let finding = tree::Finding { place: second.place, message, hint: None };
        problems.push(Diagnostic::at(&file.path, Severity::Error, finding));
    }
    nodes.first()
}

fn typed(
    schema: &Value,
    kind: Kind,
    node: &Node,
    file: &DocumentFile,
    problems: &mut Vec<Diagnostic>,
) -> Option<Document> {
    match kind {
        Kind::Namespace => from_shape(schema, node, file, problems).map(Document::Namespace),
        Kind::Source => from_shape(schema, node, file, problems).map(Document::Source),
        Kind::Processor => from_shape(schema, node, file, problems).map(Document::Processor),
        Kind::Endpoint => from_shape(schema, node, file, problems).map(Document::Endpoint),
        Kind::Profile => from_shape(schema, node, file, problems).map(Document::Profile),
        Kind::RunProfile => from_shape(schema, node, file, problems).map(Document::RunProfile),
    }
}

fn from_shape<T: DeserializeOwned>(
    schema: &Value,
    node: &Node,
    file: &DocumentFile,
    problems: &mut Vec<Diagnostic>,
) -> Option<T> {
    let (value, findings) = shape::read(schema, node);
    if !findings.is_empty() {
        problems
            .extend(findings.into_iter().map(|finding| Diagnostic::at(&file.path, Severity::Error, finding)));
        return None;
    }
    // The error is left out on purpose: it may repeat what was written.
    serde_json::from_value(value).ok().or_else(|| {
        let message = "the document does not have the form of its kind".to_owned();
        let finding =
            tree::Finding { place: node.place, message, hint: Some("see `orbit schema`".to_owned()) };
        problems.push(Diagnostic::at(&file.path, Severity::Error, finding));
        None
    })
}

/// What a document that could not be read is called.
fn names(kind: Kind, node: &Node) -> Vec<(Kind, String)> {
    let fields = ["name", "label", "profile_id", "run_profile_id"];
    fields.iter().filter_map(|field| Some((kind, node.get(field)?.text()?.to_owned()))).collect()
}

/// A problem at its place.
pub(super) fn placed(problem: &Problem, written: &[Written]) -> Option<Diagnostic> {
    let document = written.get(problem.document.0)?;
    let first = problem.first.as_ref().and_then(|(first, path)| {
        let first = written.get(first.0)?;
        let at = place::find(&first.node, path);
        Some(format!("the first is at {}:{}:{}", first.path, at.line, at.column))
    });
    let finding = tree::Finding {
        place: place::find(&document.node, &problem.path),
        message: problem.message.clone(),
        hint: problem.hint.clone().or(first),
    };
    Some(Diagnostic::at(&document.path, severity(problem.severity), finding))
}

fn severity(severity: check::Severity) -> Severity {
    match severity {
        check::Severity::Error => Severity::Error,
        check::Severity::Warning => Severity::Warning,
    }
}

fn schema_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Namespace => "namespace",
        Kind::Source => "source",
        Kind::Processor => "processor",
        Kind::Endpoint => "endpoint",
        Kind::Profile => "profile",
        Kind::RunProfile => "run-profile",
    }
}
