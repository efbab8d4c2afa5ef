//! The connection to one bucket, shared by all namespaces. It has threads of its own, so that whoever may block can wait for an answer.

use std::fmt;
use std::sync::mpsc;
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path as Key;
use object_store::{ClientOptions, ObjectStoreExt as _, PutPayload};
use tokio::runtime::Runtime;
use uuid::Uuid;

use super::fault::Unanswered;
use super::limits::{self, Waits};
use super::owner::Ownership;
use crate::blobs::{BlobError, BucketFault};

/// Where a bucket is and who asks. It has no `Debug`: the keys are secrets.
#[derive(Clone)]
pub struct BucketSettings {
    /// Its name.
    pub bucket: String,
    /// The address of the service; buckets are addressed by path.
    pub endpoint: String,
    /// The region that requests are signed for.
    pub region: String,
    /// What all keys begin with; may be empty.
    pub prefix: String,
    /// Whether the address may be one without TLS.
    pub allow_http: bool,
    /// The public part of the key.
    pub access_key_id: String,
    /// The secret part.
    pub secret_access_key: String,
    /// How long it is waited for.
    pub waits: Waits,
    /// Objects that a page of a listing names at most, by the protocol [`limits::PAGE`].
    pub listed_at_once: usize,
}

/// See the module.
pub struct BucketClient {
    pub(super) store: AmazonS3,
    pub(super) bucket: String,
    pub(super) prefix: String,
    pub(super) waits: Waits,
    pub(super) listed_at_once: usize,
    pub(super) ownership: Ownership,
    /// None only while it is dropped.
    runtime: Option<Runtime>,
}

/// What a probe does, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probed {
    /// Puts an object that was not there.
    Write,
    /// Reads it back.
    Read,
    /// Finds it in a listing.
    List,
    /// Removes it.
    Delete,
}

impl fmt::Debug for BucketClient {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("BucketClient").field("bucket", &self.bucket).finish_non_exhaustive()
    }
}

impl BucketClient {
    /// A client of the bucket. Nothing is asked of it yet.
    pub fn new(settings: BucketSettings) -> Result<Self, BlobError> {
        let bucket = settings.bucket;
        let unusable = |message: String| BlobError::Bucket {
            bucket: bucket.clone(),
            fault: BucketFault::Refused,
            message,
        };
        // The one that is there already is the same: no other is built in.
        _ = rustls::crypto::ring::default_provider().install_default();
        let options = ClientOptions::new()
            .with_allow_http(settings.allow_http)
            .with_connect_timeout(limits::CONNECT_WITHIN)
            .with_read_timeout(settings.waits.silence_max)
            .with_timeout_disabled();
        let built = AmazonS3Builder::new()
            .with_bucket_name(&bucket)
            .with_endpoint(settings.endpoint.trim_end_matches('/'))
            .with_region(settings.region)
            .with_access_key_id(settings.access_key_id)
            .with_secret_access_key(settings.secret_access_key)
            .with_virtual_hosted_style_request(false)
            .with_allow_http(settings.allow_http)
            // Not every service has the request that deletes many, and none here needs it.
            .with_disable_bulk_delete(true)
            .with_client_options(options)
            .with_retry(limits::retries(settings.waits.retried_within))
            .build();
        let store = built.map_err(|error| unusable(error.to_string()))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(limits::THREADS)
            .thread_name("bucket")
            .enable_all()
            .build()
            .map_err(|error| unusable(error.to_string()))?;
        Ok(Self {
            store,
            bucket,
            prefix: settings.prefix,
            waits: settings.waits,
            listed_at_once: settings.listed_at_once,
            ownership: Ownership::default(),
            runtime: Some(runtime),
        })
    }

    /// What people call it: the bucket's name, and the prefix of the keys.
    pub fn name(&self) -> String {
        if self.prefix.is_empty() { self.bucket.clone() } else { format!("{}/{}", self.bucket, self.prefix) }
    }

    /// Waits for an answer, for so long. Blocks, and may be called on any thread.
    pub(super) fn wait<T: Send + 'static>(
        &self,
        within: Duration,
        act: impl Future<Output = object_store::Result<T>> + Send + 'static,
    ) -> Result<T, Unanswered> {
        let Some(runtime) = &self.runtime else { return Err(Unanswered::Ended) };
        let (told, answer) = mpsc::sync_channel(1);
        runtime.spawn(async move {
            // Nobody waits any more only where the process ends.
            _ = told.send(tokio::time::timeout(within, act).await);
        });
        match answer.recv() {
            Ok(Ok(answer)) => answer.map_err(Unanswered::Store),
            Ok(Err(_)) => Err(Unanswered::Late),
            Err(mpsc::RecvError) => Err(Unanswered::Ended),
        }
    }

    /// The key of an object below the prefix.
    pub(super) fn key(&self, below: &str) -> Key {
        Key::from(if self.prefix.is_empty() { below.to_owned() } else { format!("{}/{below}", self.prefix) })
    }

    /// Writes, reads, lists and deletes an object of its own, once each. Blocks. The error says what could not be done.
    #[expect(
        clippy::disallowed_methods,
        reason = "a name that nobody else gives; nothing depends on its value"
    )]
    pub fn probe(&self) -> Result<(), (Probed, BlobError)> {
        let below = format!("probe/{}", Uuid::now_v7());
        let key = self.key(&below);
        let told = |probed| move |error: Unanswered| (probed, error.of(&self.bucket));
        let (store, at) = (self.store.clone(), key.clone());
        let put = async move { store.put(&at, PutPayload::from_static(b"probe")).await };
        self.wait(self.waits.asked_within, put).map_err(told(Probed::Write))?;
        let (store, at) = (self.store.clone(), key.clone());
        let get = async move { store.get(&at).await?.bytes().await };
        let read = self.wait(self.waits.asked_within, get).map_err(told(Probed::Read));
        let listed = self.listed(&key).map_err(told(Probed::List));
        let (store, at) = (self.store.clone(), key);
        // Whatever came of the others, the object is not left behind.
        let deleted = self.wait(self.waits.asked_within, async move { store.delete(&at).await });
        let differs = |message: &str| BlobError::Bucket {
            bucket: self.bucket.clone(),
            fault: BucketFault::Failing,
            message: message.to_owned(),
        };
        if read? != b"probe".as_slice() {
            return Err((Probed::Read, differs("what was written is not what is read")));
        }
        if !listed? {
            return Err((Probed::List, differs("what was written is not listed")));
        }
        deleted.map_err(told(Probed::Delete))
    }

    fn listed(&self, key: &Key) -> Result<bool, Unanswered> {
        use object_store::list::{PaginatedListOptions, PaginatedListStore as _};
        let (store, prefix) = (self.store.clone(), key.to_string());
        let list = async move { store.list_paginated(Some(&prefix), PaginatedListOptions::default()).await };
        let page = self.wait(self.waits.asked_within, list)?;
        Ok(page.result.objects.iter().any(|found| found.location == *key))
    }
}

impl Drop for BucketClient {
    fn drop(&mut self) {
        // The ordinary end waits for what is under way, which whoever drops this in asynchronous code may not.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
