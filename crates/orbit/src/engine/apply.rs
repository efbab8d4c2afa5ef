//! Documents become active by an operator's word: in the place of the snapshot that they come from, and of no other.
//!
//! A home remembers which snapshot its documents come from: the last one that they were equal to. If another one is active by now, somebody else has changed
//! something that these documents know nothing of, and they are refused. The operator looks at the difference, and may name the active snapshot as the base.

use std::str::FromStr as _;

use orbit_core::config::{Change, NamespaceName, Snapshot, changes};
use orbit_core::digest::Digest;
use orbit_engine::namespace::Namespace;
use orbit_engine::node::Duty;
use orbit_store::contract::config::{Activated, Base};
use serde::{Deserialize, Serialize};

use super::documents::store_assets;
use super::{Engine, OpenError, valid};
use crate::config::{LoadedNamespace, load};

/// What applying the documents of a namespace came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Applied {
    /// The namespace.
    pub namespace: NamespaceName,
    /// What it came to.
    pub outcome: Outcome,
    /// Why it failed.
    pub message: Option<String>,
    /// The snapshot that the documents are.
    pub documents: Digest,
    /// The one that they were to take the place of; none: of nothing.
    pub base: Option<Digest>,
    /// The one that is active now.
    pub active: Option<Digest>,
    /// What is different in the documents from the one that was active.
    pub changes: Vec<Change>,
    /// Assets that lie in this home alone, while other nodes work on the store.
    pub assets_unshared: usize,
}

/// See [`Applied`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The documents are active, and were not before.
    Activated,
    /// They were active already.
    Unchanged,
    /// Another snapshot than their base is active; nothing has changed.
    Conflict,
    /// They could not be activated.
    Failed,
}

/// How the documents of a namespace differ from what is active.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The namespace.
    pub namespace: NamespaceName,
    /// The active snapshot.
    pub active: Option<Digest>,
    /// The one that the documents are.
    pub documents: Digest,
    /// Document by document.
    pub changes: Vec<Change>,
}

impl Engine {
    /// The documents of each namespace, which must all be valid.
    pub fn read_documents(&self) -> Result<Vec<LoadedNamespace>, OpenError> {
        Ok(valid(load(self.layout.home()))?.namespaces)
    }

    /// How they differ from what is active.
    pub async fn difference(&self, loaded: &LoadedNamespace) -> Result<Difference, OpenError> {
        let active = match self.node.namespace(loaded.name.as_str()) {
            Some(namespace) => {
                namespace.follow().await?;
                namespace.active()
            }
            None => None,
        };
        Ok(Difference {
            namespace: loaded.name.clone(),
            active: active.as_ref().map(|active| active.digest()),
            documents: loaded.snapshot.digest(),
            changes: changes(active.as_deref(), &loaded.snapshot),
        })
    }

    /// Activates documents in the place of the snapshot that is expected to be active: the one that they come from, if nothing is said.
    pub async fn apply(&self, loaded: LoadedNamespace, expect: Option<Digest>) -> Result<Applied, OpenError> {
        let Difference { namespace, active, documents, changes } = self.difference(&loaded).await?;
        let base = expect.or_else(|| if self.documents_rule() { active } else { self.base(&namespace) });
        let mut applied = Applied {
            namespace,
            outcome: Outcome::Conflict,
            message: None,
            documents,
            base,
            active,
            changes,
            assets_unshared: 0,
        };
        if active != Some(documents) && !Base::Only(base).allows(active) {
            return Ok(applied);
        }
        match self.activate(loaded, base, &mut applied).await {
            Ok(()) => {}
            Err(error) => {
                applied.outcome = Outcome::Failed;
                applied.message = Some(error.to_string());
            }
        }
        Ok(applied)
    }

    async fn activate(
        &self,
        loaded: LoadedNamespace,
        base: Option<Digest>,
        applied: &mut Applied,
    ) -> Result<(), OpenError> {
        // It may have come since the process started, which would have noticed it in a moment.
        let is_known = self.node.namespace(loaded.name.as_str()).is_some();
        if !is_known {
            self.add(loaded.clone()).await?;
        }
        let Some(namespace) = self.node.namespace(loaded.name.as_str()) else { return Ok(()) };
        self.may_write(&namespace).await?;
        let snapshot = store_assets(&namespace, loaded).await?;
        applied.assets_unshared = self.unshared(&namespace, &snapshot).await?;
        match namespace.apply(snapshot, Base::Only(base)).await? {
            Activated::Already if is_known => applied.outcome = Outcome::Unchanged,
            Activated::New { .. } | Activated::Already => applied.outcome = Outcome::Activated,
            Activated::Conflict { active } => {
                applied.active = active;
                return Ok(());
            }
        }
        applied.active = Some(applied.documents);
        self.lock_documents().insert(namespace.name.clone(), applied.documents);
        self.comes_from(&namespace.name, applied.documents);
        Ok(())
    }

    /// Nothing is written to a log that is not signed, or to a place that is another's.
    async fn may_write(&self, namespace: &Namespace) -> Result<(), OpenError> {
        if self.duty != Duty::None {
            return match &namespace.signer {
                Some(_) => Ok(()),
                None => Err(OpenError::NotSigned),
            };
        }
        if namespace.store.signers().await?.is_empty() {
            return Err(OpenError::NotSigned);
        }
        self.claim_place().await
    }

    /// How many assets other nodes do not see.
    async fn unshared(&self, namespace: &Namespace, snapshot: &Snapshot) -> Result<usize, OpenError> {
        if self.documents_rule() || namespace.blobs.is_shared() || snapshot.assets.is_empty() {
            return Ok(0);
        }
        let nodes = namespace.store.nodes(namespace.shared.clock.now()).await?.len();
        let own = usize::from(self.duty != Duty::None);
        Ok(if nodes > own { snapshot.assets.len() } else { 0 })
    }

    /// Where its documents come from, as far as the home knows.
    fn base(&self, name: &NamespaceName) -> Option<Digest> {
        let noted = std::fs::read_to_string(self.layout.base(name)).ok()?;
        Digest::from_str(noted.trim()).ok()
    }

    /// Its documents are equal to this active snapshot. A note that cannot be written costs an operator's word, and nothing else.
    pub(super) fn comes_from(&self, name: &NamespaceName, snapshot: Digest) {
        if self.documents_rule() || self.base(name) == Some(snapshot) {
            return;
        }
        if let Err(error) = std::fs::write(self.layout.base(name), format!("{snapshot}\n")) {
            tracing::warn!(namespace = %name, %error, "where the documents come from could not be noted");
        }
    }
}
