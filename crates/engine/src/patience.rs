//! Reads of what lies here that fail for a while: they are made again instead of being a failure of a step, an attempt or an endpoint.
//!
//! That is bounded, because whoever waits holds permits; the first failure is recorded. What is missing, damaged or dropped is not waited for.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use orbit_core::config::Snapshot;
use orbit_core::digest::Digest;
use orbit_store::StoreError;
use orbit_store::blobs::BlobError;
use orbit_store::payloads::Payloads;
use tokio_util::sync::CancellationToken;

use crate::namespace::Namespace;
use crate::persist::passes;

/// How often something is read before the failure counts: for about five minutes.
const READ_TRIES_MAX: u32 = 64;
/// The pause after the first failure; it doubles up to [`PAUSE_MAX`].
const PAUSE_FIRST: Duration = Duration::from_millis(50);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Why something was not read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unread<E> {
    /// Whoever wanted it must end.
    Cut,
    /// It cannot be read.
    Failed(E),
}

/// Whose read it is.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    /// The namespace.
    pub(crate) namespace: &'a Namespace,
    /// The word of its service, for the record.
    pub(crate) service: &'static str,
    /// Cancelled when it must end.
    pub(crate) cancel: &'a CancellationToken,
}

impl Reader<'_> {
    /// Reads a payload on a thread that may wait.
    pub(crate) async fn payload<T: Send + 'static>(
        self,
        read: impl Fn(&Payloads) -> Result<T, BlobError> + Send + Sync + 'static,
    ) -> Result<T, Unread<BlobError>> {
        let read = Arc::new(read);
        let call = || {
            let (read, payloads) = (Arc::clone(&read), Arc::clone(&self.namespace.payloads));
            let reading = tokio::task::spawn_blocking(move || read(&payloads));
            // A panic is a defect, and nothing that passes.
            async { reading.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())) }
        };
        self.patiently("a payload", BlobError::passes, call).await
    }

    /// Reads a snapshot; none if it is not stored.
    pub(crate) async fn snapshot(self, digest: Digest) -> Result<Option<Arc<Snapshot>>, Unread<StoreError>> {
        self.patiently("a snapshot", passes, || self.namespace.snapshot(digest)).await
    }

    /// Calls until there is an answer, or an error that does not pass.
    pub(crate) async fn patiently<T, E, F>(
        self,
        what: &str,
        passes: impl Fn(&E) -> bool,
        mut call: impl FnMut() -> F,
    ) -> Result<T, Unread<E>>
    where
        E: Display,
        F: Future<Output = Result<T, E>>,
    {
        let mut pause = PAUSE_FIRST;
        for tries in 1.. {
            let error = match call().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if tries >= READ_TRIES_MAX || !passes(&error) {
                return Err(Unread::Failed(error));
            }
            if tries == 1 {
                let message = format!("{what} cannot be read for now: {error}");
                self.namespace.record_failure(self.service, &message).await;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE_MAX),
                () = self.cancel.cancelled() => return Err(Unread::Cut),
            }
        }
        Err(Unread::Cut)
    }
}
