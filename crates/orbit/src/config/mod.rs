//! From the files of a home to snapshots: every document read, every problem found, at once and in place.
//!
//! Owns text, files and places. What the documents mean is `orbit_core::config`'s. Reading changes nothing.

mod assets;
mod diagnostic;
mod document;
mod files;
mod place;
mod scalar;
mod shape;
mod tree;
pub mod watch;
mod words;

#[cfg(test)]
mod tests;

use std::path::Path;

use orbit_core::config::check::Document;
use orbit_core::config::{Asset, Known, NamespaceConfig, NamespaceName, NodeConfig, Snapshot};
use orbit_core::limits::PROBLEMS_MAX;

use crate::environment::{Environment, EnvironmentError};
pub use assets::LoadedAsset;
pub use diagnostic::{Diagnostic, Severity};
use document::Written;
pub(crate) use words::suggestion;

/// What a home says.
#[derive(Debug)]
pub struct Loaded {
    /// `orbit.yaml`; its defaults where it is missing or wrong.
    pub node: NodeConfig,
    /// The namespaces without an error, by name.
    pub namespaces: Vec<LoadedNamespace>,
    /// Everything that is wrong, by file, line and column; at most a bounded number.
    pub problems: Vec<Diagnostic>,
}

/// A namespace without an error.
#[derive(Clone, Debug)]
pub struct LoadedNamespace {
    /// Its name.
    pub name: NamespaceName,
    /// What its documents say.
    pub snapshot: Snapshot,
    /// The files whose content the snapshot pins.
    pub assets: Vec<LoadedAsset>,
}

/// What `orbit.yaml` says; its defaults where it is missing or wrong.
pub fn node(home: &Path) -> NodeConfig {
    let mut problems = Vec::new();
    let files = files::read(home, &mut problems);
    document::read_node(files.node.as_ref(), &mut problems)
}

/// Reads the home in this folder. Only a load without an error may be used.
pub fn load(home: &Path) -> Loaded {
    let mut problems = Vec::new();
    let files = files::read(home, &mut problems);
    let node = document::read_node(files.node.as_ref(), &mut problems);
    problems.extend(environment(home, &node));
    let mut namespaces = Vec::new();
    for found in &files.namespaces {
        let mut own = Vec::new();
        let written = document::read_namespace(found, &mut own);
        let assets = assets::read(&found.folder, &written, &mut own);
        let prefix = format!("namespaces/{}", found.name);
        let is_own = |problem: &&Diagnostic| Path::new(&problem.path).starts_with(&prefix);
        let is_wrong = own.iter().chain(problems.iter().filter(is_own)).any(Diagnostic::is_error);
        problems.append(&mut own);
        if !is_wrong {
            let snapshot = snapshot(found.name.clone(), written, &assets);
            namespaces.push(LoadedNamespace { name: found.name.clone(), snapshot, assets });
        }
    }
    problems.sort();
    problems.dedup();
    if problems.len() > PROBLEMS_MAX {
        // An error must not be cut off behind warnings: a home with one is not used.
        problems.sort_by_key(|problem| problem.severity);
        problems.truncate(PROBLEMS_MAX);
        problems.sort();
    }
    Loaded { node, namespaces, problems }
}

/// Reads `orbit.yaml` alone, and what is wrong with it.
pub fn load_node(home: &Path) -> (NodeConfig, Vec<Diagnostic>) {
    let mut problems = Vec::new();
    let file = files::read_node(home, &mut problems);
    let node = document::read_node(file.as_ref(), &mut problems);
    (node, problems)
}

/// What is wrong with `.env` and the flags, so that one command names every problem.
fn environment(home: &Path, node: &NodeConfig) -> Vec<Diagnostic> {
    let wrong = |error: EnvironmentError| {
        let problem = Diagnostic::of_file(".env", Severity::Error, error.to_string());
        error.hint().map_or(problem.clone(), |hint| problem.hint(hint))
    };
    match Environment::load(home) {
        Ok((environment, mut warnings)) => {
            warnings.extend(environment.paused().err().map(wrong));
            warnings.extend(environment.seeds().err().map(wrong));
            if node.artifacts.place().is_some()
                && let Err(missing) = environment.bucket_keys()
            {
                let message = format!("`artifacts` names a bucket, but `{missing}` is not set");
                let problem = Diagnostic::of_file(".env", Severity::Error, message);
                warnings.push(problem.hint("a key that may read, write, list and delete in the bucket"));
            }
            warnings
        }
        Err(error) => vec![wrong(error)],
    }
}

fn snapshot(namespace: NamespaceName, written: Vec<Written>, assets: &[LoadedAsset]) -> Snapshot {
    let pinned =
        |asset: &LoadedAsset| (asset.name.clone(), Asset { digest: asset.digest, bytes: asset.bytes });
    let mut snapshot = Snapshot {
        namespace,
        config: NamespaceConfig::default(),
        sources: [].into(),
        processors: [].into(),
        endpoints: [].into(),
        profiles: [].into(),
        run_profiles: [].into(),
        assets: assets.iter().map(pinned).collect(),
        known: Known::default(),
    };
    for written in written {
        match written.document {
            Document::Namespace(config) => snapshot.config = config,
            Document::Source(source) => _ = snapshot.sources.insert(source.name().clone(), source),
            Document::Processor(processor) => {
                _ = snapshot.processors.insert(processor.name().clone(), processor);
            }
            Document::Endpoint(endpoint) => _ = snapshot.endpoints.insert(endpoint.name.clone(), endpoint),
            Document::Profile(profile) => _ = snapshot.profiles.insert(profile.label.clone(), profile),
            Document::RunProfile(run_profile) => {
                _ = snapshot.run_profiles.insert(run_profile.label.clone(), run_profile);
            }
        }
    }
    snapshot
}
