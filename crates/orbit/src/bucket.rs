//! From `artifacts` of `orbit.yaml` and the keys of the environment to the place where larger payloads lie.

use std::sync::Arc;
use std::time::Duration;

use orbit_core::config::{Artifacts, NamespaceName};
use orbit_engine::layout::Layout;
use orbit_store::blobs::bucket::{Bucket, BucketClient, BucketSettings, PAGE, Waits};
use orbit_store::blobs::{BlobError, Blobs, BucketFault, FolderBlobs};

use crate::environment::{BucketKeys, Environment};

/// What to do where the prefix belongs to another home.
pub const TAKEN_HINT: &str = "give every home a `prefix` of its own in `artifacts` (nodes of one database share theirs); if the other home is gone for good, remove the object `_owner` below the prefix";
/// How long a start waits for the bucket to say whose the prefix is. It is asked again before anything is put there.
const CLAIMED_WITHIN: Duration = Duration::from_secs(5);

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
            Self::Blobs(BlobError::Bucket { fault: BucketFault::Taken, .. }) => TAKEN_HINT,
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
            listed_at_once: PAGE,
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

    /// Everything is put there for this store from now on. Refused if the prefix is known to belong to another one; a bucket that does not answer is no reason not to start.
    pub async fn works_for(&self, store: &str) -> Result<(), PlaceError> {
        let Self::Bucket(client) = self else { return Ok(()) };
        client.works_for(store);
        let claiming = Arc::clone(client);
        let claimed = tokio::task::spawn_blocking(move || claiming.claim());
        match tokio::time::timeout(CLAIMED_WITHIN, claimed).await {
            Ok(Ok(Err(error @ BlobError::Bucket { fault: BucketFault::Taken, .. }))) => Err(error.into()),
            Ok(Ok(Err(error))) => {
                tracing::warn!(%error, "whose the prefix is, is not known yet");
                Ok(())
            }
            Ok(Ok(Ok(())) | Err(_)) | Err(_) => Ok(()),
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
