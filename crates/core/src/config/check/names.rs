//! Names, labels and ids: each is given once.

use std::collections::BTreeMap;

use super::{Document, DocumentRef, Kind, PathPart, Problem, Report, path};

/// Every repetition, with the place of the first.
pub(super) fn check(documents: &[Document]) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut seen: BTreeMap<(Kind, String), (DocumentRef, Vec<PathPart>)> = BTreeMap::new();
    for (index, document) in documents.iter().enumerate() {
        let here = DocumentRef(index);
        for (field, text) in names(document) {
            let what = format!("{} `{text}`", described(document.kind(), field));
            match seen.get(&(document.kind(), text.clone())) {
                None => _ = seen.insert((document.kind(), text), (here, path(&[field]))),
                Some((first, first_path)) => {
                    let mut report = Report { document: here, found: &mut found };
                    report
                        .error(path(&[field]), format!("{what} is there twice"))
                        .first(*first, first_path.clone());
                }
            }
        }
    }
    found
}

/// The fields by which others refer to a document.
fn names(document: &Document) -> Vec<(&'static str, String)> {
    match document {
        Document::Namespace(_) => Vec::new(),
        Document::Source(source) => vec![("name", source.name().to_string())],
        Document::Processor(processor) => vec![("name", processor.name().to_string())],
        Document::Endpoint(endpoint) => vec![("name", endpoint.name.to_string())],
        Document::Profile(profile) => {
            vec![("label", profile.label.to_string()), ("profile_id", profile.profile_id.to_string())]
        }
        Document::RunProfile(run_profile) => vec![
            ("label", run_profile.label.to_string()),
            ("run_profile_id", run_profile.run_profile_id.to_string()),
        ],
    }
}

fn described(kind: Kind, field: &str) -> String {
    if field.ends_with("_id") { format!("the id of a {}", kind.noun()) } else { kind.noun().to_owned() }
}

impl Document {
    /// The document's kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Namespace(_) => Kind::Namespace,
            Self::Source(_) => Kind::Source,
            Self::Processor(_) => Kind::Processor,
            Self::Endpoint(_) => Kind::Endpoint,
            Self::Profile(_) => Kind::Profile,
            Self::RunProfile(_) => Kind::RunProfile,
        }
    }
}

impl Kind {
    /// What people call it.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Namespace => "namespace",
            Self::Source => "source",
            Self::Processor => "processor",
            Self::Endpoint => "endpoint",
            Self::Profile => "profile",
            Self::RunProfile => "run profile",
        }
    }
}
