//! A snapshot: one immutable, validated, content-addressed version of a namespace's configuration.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{DocName, Endpoint, NamespaceConfig, NamespaceName, Processor, Profile, RunProfile, Source};
use crate::digest::Digest;

/// Every document of a namespace with its defaults filled in, and the assets that its profiles bind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The namespace.
    pub namespace: NamespaceName,
    /// `namespace.yaml`.
    pub config: NamespaceConfig,
    /// Sources by name.
    pub sources: BTreeMap<DocName, Source>,
    /// Processors by name.
    pub processors: BTreeMap<DocName, Processor>,
    /// Endpoints by name.
    pub endpoints: BTreeMap<DocName, Endpoint>,
    /// Profiles by label.
    pub profiles: BTreeMap<DocName, Profile>,
    /// Run profiles by label.
    pub run_profiles: BTreeMap<DocName, RunProfile>,
    /// Assets by their path below the namespace's folder.
    pub assets: BTreeMap<String, Asset>,
    /// What was asked for once: every run asks, and it takes as long as the configuration is large.
    #[serde(skip)]
    pub known: Known,
}

/// Digests and places of a snapshot that nobody changes any more. A copy is one that may be changed, so it knows nothing.
#[derive(Debug, Default)]
pub struct Known {
    whole: OnceLock<Digest>,
    processors: OnceLock<BTreeMap<DocName, Digest>>,
    endpoints: OnceLock<BTreeMap<DocName, Digest>>,
    profiles: OnceLock<BTreeMap<Uuid, DocName>>,
    run_profiles: OnceLock<BTreeMap<Uuid, DocName>>,
}

impl Clone for Known {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Known {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// An asset's content at the time of the snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asset {
    /// SHA-256 of the bytes.
    pub digest: Digest,
    /// Length in bytes.
    pub bytes: u64,
}

impl Snapshot {
    /// The identity: SHA-256 of the canonical JSON of all of it. From the first call on the snapshot must not be changed; a copy may be.
    pub fn digest(&self) -> Digest {
        *self.known.whole.get_or_init(|| settings_digest(self))
    }

    /// [`settings_digest`] of a processor. From the first call on the snapshot must not be changed.
    pub fn processor_digest(&self, name: &DocName) -> Option<Digest> {
        self.known.processors.get_or_init(|| each(&self.processors)).get(name).copied()
    }

    /// As [`Self::processor_digest`], of an endpoint.
    pub fn endpoint_digest(&self, name: &DocName) -> Option<Digest> {
        self.known.endpoints.get_or_init(|| each(&self.endpoints)).get(name).copied()
    }

    /// A profile by label or id.
    pub fn profile(&self, reference: &str) -> Option<&Profile> {
        self.profiles
            .get(reference)
            .or_else(|| self.profiles.values().find(|profile| profile.profile_id.to_string() == reference))
    }

    /// A profile by id. From the first call on the snapshot must not be changed.
    pub fn profile_of(&self, id: Uuid) -> Option<&Profile> {
        let index = || self.profiles.iter().map(|(label, one)| (one.profile_id, label.clone())).collect();
        self.profiles.get(self.known.profiles.get_or_init(index).get(&id)?)
    }

    /// As [`Self::profile_of`], a run profile.
    pub fn run_profile_of(&self, id: Uuid) -> Option<&RunProfile> {
        let index =
            || self.run_profiles.iter().map(|(label, one)| (one.run_profile_id, label.clone())).collect();
        self.run_profiles.get(self.known.run_profiles.get_or_init(index).get(&id)?)
    }

    /// A run profile by label or id.
    pub fn run_profile(&self, reference: &str) -> Option<&RunProfile> {
        self.run_profiles.get(reference).or_else(|| {
            self.run_profiles.values().find(|profile| profile.run_profile_id.to_string() == reference)
        })
    }
}

fn each<T: Serialize>(documents: &BTreeMap<DocName, T>) -> BTreeMap<DocName, Digest> {
    documents.iter().map(|(name, document)| (name.clone(), settings_digest(document))).collect()
}

/// SHA-256 of a document's canonical JSON with every default filled in, so that spelling out a default changes nothing.
pub fn settings_digest<T: Serialize>(document: &T) -> Digest {
    Digest::of(crate::canonical::to_string(document).as_bytes())
}
