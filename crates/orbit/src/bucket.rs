//! From `artifacts` of `orbit.yaml` and the keys of the environment to the place where larger payloads lie.

use std::sync::Arc;

use orbit_core::config::{Artifacts, NamespaceName};
use orbit_engine::layout::Layout;
use orbit_store::blobs::bucket::{Bucket, BucketClient, BucketSettings, Waits};
use orbit_store::blobs::{BlobError, Blobs, FolderBlobs};

use crate::environment::{BucketKeys, Environment};

/// The place of the larger payloads of all namespaces.
#[derive(Clone, Debug)]
pub enum Place {
    /// A folder each.
    Folder,
    /// A bucket, with the folder as its cache.
    Bucket(Arc<BucketClient>),
}

/// Why a bucket cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The keys are not set.
    #[error("`artifacts` names a bucket, but `{missing}` is not set")]
    Keys {
        /// The variable.
        missing: &'static str,
    },
    /// The client cannot be made of what is said.
    #[error(transparent)]
    Blobs(#[from] BlobError),
}

impl PlaceError {
    /// What to do about it.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Keys { .. } => {
                "write it into `.env`: a key that may read, write, list and delete in the bucket"
            }
            Self::Blobs(_) => "look at `artifacts` in `orbit.yaml`",
        }
    }
}

impl Place {
    /// The place that the configuration names. Nothing is asked of it yet.
    pub fn new(artifacts: &Artifacts, environment: &Environment) -> Result<Self, PlaceError> {
        let Some(place) = artifacts.place() else { return Ok(Self::Folder) };
        let BucketKeys { id, secret } =
            environment.bucket_keys().map_err(|missing| PlaceError::Keys { missing })?;
        let client = BucketClient::new(BucketSettings {
            bucket: place.bucket.to_owned(),
            endpoint: place.endpoint.to_owned(),
            region: place.region.to_owned(),
            prefix: place.prefix.to_owned(),
            allow_http: place.is_plain,
            access_key_id: id.expose().to_owned(),
            secret_access_key: secret.expose().to_owned(),
            waits: Waits::default(),
        })?;
        Ok(Self::Bucket(Arc::new(client)))
    }

    /// The payloads of a namespace. The folder is made, and what a crash left half-written in it is removed.
    pub fn open(&self, layout: &Layout, name: &NamespaceName) -> Result<Blobs, BlobError> {
        FolderBlobs::open(&layout.blobs(name)).map(|folder| self.over(folder, name))
    }

    /// The same to read only: nothing is removed, and what is fetched may stay.
    pub fn reading(&self, layout: &Layout, name: &NamespaceName) -> Blobs {
        self.over(FolderBlobs::reading(&layout.blobs(name)), name)
    }

    fn over(&self, folder: FolderBlobs, name: &NamespaceName) -> Blobs {
        match self {
            Self::Folder => folder.into(),
            Self::Bucket(client) => Blobs::in_bucket(Bucket::new(Arc::clone(client), name), folder),
        }
    }

    /// What people call the bucket, if payloads lie in one: its name and the prefix.
    pub fn bucket(&self) -> Option<String> {
        match self {
            Self::Folder => None,
            Self::Bucket(client) => Some(client.name()),
        }
    }
}
