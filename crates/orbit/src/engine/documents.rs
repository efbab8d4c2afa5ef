//! The documents of a home that is held: read, compared with what is active, and activated where that is theirs to decide.
//!
//! **With files** documents rule: nobody else has the store, so a valid change is active as soon as it is noticed. **In a database**, which nodes share, the
//! store's active snapshot rules: documents are activated by themselves only where nothing is active yet, and else by an operator's word
//! ([`Engine::apply`]). Nodes whose documents differ would undo each other otherwise.

use std::sync::Arc;

use orbit_core::config::{NamespaceName, Snapshot, StorageBackend};
use orbit_core::digest::Digest;
use orbit_core::record::{Kind, Subject};
use orbit_engine::namespace::Namespace;
use orbit_store::blobs::Blobs;
use orbit_store::contract::config::{Activated, Base};
use serde_json::json;

use super::{Engine, OpenError, Preview, valid};
use crate::config::{Diagnostic, LoadedAsset, LoadedNamespace, load};

impl Engine {
    /// Whether documents become active by being there.
    pub const fn documents_rule(&self) -> bool {
        match self.stores.backend() {
            StorageBackend::Sqlite => true,
            StorageBackend::Postgres => false,
        }
    }

    /// Reads the documents, which must be valid, for questions about what they would do. Nothing is activated or recorded, and nothing is fired
    /// under them.
    pub fn preview(&self) -> Result<(), OpenError> {
        let loaded = valid(load(self.layout.home()))?;
        let snapshots = loaded.namespaces.into_iter().map(|one| (one.name, Arc::new(one.snapshot)));
        self.preview.set(Some(Arc::new(Preview { node: loaded.node, snapshots: snapshots.collect() })));
        Ok(())
    }

    /// The configuration that questions are about: what is active while somebody serves.
    pub fn snapshot(&self, namespace: &Namespace) -> Option<Arc<Snapshot>> {
        let previewed =
            self.preview.get().and_then(|preview| preview.snapshots.get(&namespace.name).cloned());
        if self.documents_rule() {
            previewed.or_else(|| namespace.active())
        } else {
            namespace.active().or(previewed)
        }
    }

    /// The node's name: the documents' if they were previewed.
    pub fn node_name(&self) -> String {
        let previewed = self.preview.get().map(|preview| preview.node.node.name.clone());
        previewed.unwrap_or_else(|| self.node.shared.node.clone())
    }

    /// What the documents of a namespace came to when they were last read; none if they were not, or were not valid.
    pub fn documents(&self, name: &NamespaceName) -> Option<Digest> {
        self.lock_documents().get(name).copied()
    }

    /// Reads `.env` and the documents again. Where documents rule, valid ones are activated, and invalid ones change nothing but a record.
    pub async fn reload(&self) {
        self.reload_environment().await;
        let loaded = match valid(load(self.layout.home())) {
            Ok(loaded) => loaded,
            Err(OpenError::Config { problems }) => return self.refuse(&problems).await,
            Err(_) => return,
        };
        for namespace in loaded.namespaces {
            let name = namespace.name.clone();
            if let Err(error) = self.reloaded(namespace).await {
                self.report(&name, &error.to_string()).await;
            }
        }
    }

    async fn refuse(&self, problems: &[Diagnostic]) {
        tracing::warn!(problems = problems.len(), "the changed configuration is invalid and not used");
        if self.documents_rule() {
            self.record(Kind::ConfigRefused, json!({ "problems": problems })).await;
            self.tell_refused(problems).await;
        } else {
            // Nobody has asked for them to be used.
            self.lock_documents().clear();
        }
    }

    /// The namespaces whose documents are wrong have it in their logs, all of them where it is about the whole home.
    async fn tell_refused(&self, problems: &[Diagnostic]) {
        let owner = |problem: &Diagnostic| {
            let below = problem.path.strip_prefix("namespaces/")?;
            below.split('/').next().map(str::to_owned)
        };
        for namespace in self.node.namespaces() {
            let concerns = |problem: &&Diagnostic| match owner(problem) {
                Some(owner) => owner == namespace.name.as_str(),
                None => true,
            };
            let own: Vec<_> = problems.iter().filter(concerns).collect();
            if own.iter().any(|problem| problem.is_error()) {
                namespace.record(Kind::ConfigRefused, Subject::default(), json!({ "problems": own })).await;
            }
        }
    }

    async fn reloaded(&self, loaded: LoadedNamespace) -> Result<(), OpenError> {
        match self.node.namespace(loaded.name.as_str()) {
            // Its log cannot be signed: nothing is written to it before the next start.
            Some(namespace) if namespace.signer.is_none() => Ok(()),
            Some(namespace) => self.settle(&namespace, loaded).await,
            None => self.add(loaded).await,
        }
    }

    /// A snapshot is active afterwards: the documents' where they rule or nothing else is active, and else the store's.
    pub(super) async fn settle(
        &self,
        namespace: &Namespace,
        loaded: LoadedNamespace,
    ) -> Result<(), OpenError> {
        let documents = loaded.snapshot.digest();
        let read_before = self.lock_documents().insert(loaded.name.clone(), documents);
        let base = if self.documents_rule() {
            Base::Any
        } else {
            namespace.follow().await?;
            let active = namespace.active().map(|active| active.digest());
            if let Some(active) = active.filter(|active| *active != documents) {
                if read_before != Some(documents) {
                    tracing::warn!(namespace = %namespace.name, %active, %documents,
                        "the documents of this home are not what is active: `orbit config diff` shows what differs, `orbit config apply` activates them");
                }
                return Ok(());
            }
            Base::Only(active)
        };
        let snapshot = store_assets(namespace, loaded).await?;
        match namespace.apply(snapshot, base).await? {
            Activated::New { .. } => {
                tracing::info!(namespace = %namespace.name, snapshot = %documents, "the configuration is active");
                self.comes_from(&namespace.name, documents);
            }
            Activated::Already => self.comes_from(&namespace.name, documents),
            // Another node was faster.
            Activated::Conflict { .. } => _ = namespace.follow().await?,
        }
        Ok(())
    }
}

/// Copies every asset to the blobs, where the snapshot finds it by its digest.
pub(super) async fn store_assets(
    namespace: &Namespace,
    loaded: LoadedNamespace,
) -> Result<Snapshot, OpenError> {
    let LoadedNamespace { snapshot, assets, .. } = loaded;
    let is_known = namespace.active().is_some_and(|active| active.digest() == snapshot.digest());
    if is_known && namespace.blobs.is_shared() {
        // They were put before it was activated, and what a snapshot names is never removed. So a start needs no bucket.
        return Ok(snapshot);
    }
    let blobs = Arc::clone(&namespace.blobs);
    let storing = tokio::task::spawn_blocking(move || put_assets(&blobs, &assets));
    // A panic is a defect, and nothing that passes.
    storing.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
    Ok(snapshot)
}

fn put_assets(blobs: &Blobs, assets: &[LoadedAsset]) -> Result<(), OpenError> {
    for asset in assets {
        let unusable = |message| OpenError::Io { path: asset.path.display().to_string(), message };
        let blob = blobs.put_file(&asset.path).map_err(|error| unusable(error.to_string()))?;
        if (blob.digest, blob.bytes) != (asset.digest, asset.bytes) {
            // Otherwise the snapshot would name bytes that nobody has.
            return Err(unusable(
                "the asset changed while the configuration was read; nothing is activated".to_owned(),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use orbit_store::blobs::FolderBlobs;

    #[test]
    fn an_asset_that_changed_since_it_was_read_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let write = |below: &str, text: &str| {
            let path = home.path().join(below);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("orbit.yaml", "");
        write("namespaces/lab/namespace.yaml", "label: Lab\n");
        write("namespaces/lab/sources/words.yaml", "name: words\nkind: inline\nitems: [{ label: a }]\n");
        write("namespaces/lab/processors/cat.yaml", "name: cat\nkind: exec\nargv: [cat]\n");
        write("namespaces/lab/asset.bin", "as it was");
        let tiers = "[{ processor: cat }, { processor: cat }, { processor: cat }]";
        let id = "00000000-0000-4000-8000-000000000001";
        write(
            "namespaces/lab/profiles/p.yaml",
            &format!(
                "profile_id: {id}\nlabel: p\nasset_bindings: {{ a: asset.bin }}\nexecution_rules:\n  tiers: {tiers}\n"
            ),
        );
        let loaded = valid(load(home.path())).map_err(|error| error.to_string()).unwrap();
        let loaded = &loaded.namespaces[0];
        assert_eq!(loaded.assets.len(), 1);
        let blobs = Blobs::from(FolderBlobs::open(&home.path().join("blobs")).unwrap());
        put_assets(&blobs, &loaded.assets).unwrap();
        assert_eq!(blobs.contains(loaded.assets[0].digest), Ok(true));
        write("namespaces/lab/asset.bin", "as it is now");
        let refused = put_assets(&blobs, &loaded.assets).unwrap_err().to_string();
        assert!(refused.contains("asset.bin") && refused.contains("changed while"), "{refused}");
    }
}
