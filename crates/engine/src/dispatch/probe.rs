//! An operator's test of an endpoint: one request as a delivery would send it, marked as a test.
//!
//! It is signed, authenticated, vetted and judged as every attempt is, and recorded before its first byte leaves and after its last. It
//! makes no delivery, is never tried again, and changes nothing that the dispatcher goes by, whatever the answer is.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use orbit_core::config::{Endpoint, Snapshot};
use orbit_core::dispatch::outcome::AttemptFailure;
use orbit_core::dispatch::retry::Next;
use orbit_core::dispatch::target_url;
use orbit_core::governance::Door;
use orbit_core::record::{Kind, Record, Subject};
use orbit_core::synthesis::{ExecutionRequest, trial_of_endpoint};
use orbit_store::StoreError;
use orbit_store::blobs::{Blob, BlobError};
use orbit_store::contract::dispatch::ClaimedDelivery;
use orbit_store::contract::{Artifact, Claim};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use uuid::{Builder, Uuid};

use super::attempt::send;
use super::compose::{Composed, Parts};
use super::receipt::Ended;
use crate::clock::salt;
use crate::namespace::Namespace;
use crate::service::panic_message;

/// The header that marks a test; no document can set it.
pub const TEST_HEADER: &str = "x-orbit-test";
/// What is sent when nothing else is given.
const SMALL: &[u8] = b"{\"test\":true}\n";
/// What that is.
const SMALL_MEDIA_TYPE: &str = "application/json";
/// What a file is said to be when nothing else is.
const FILE_MEDIA_TYPE: &str = "application/octet-stream";

/// What to send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Payload<'a> {
    /// The bytes of this file; a small JSON document if none is named.
    pub file: Option<&'a Path>,
    /// What they are said to be.
    pub media_type: Option<&'a str>,
}

/// Why a test could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// See [`StoreError`].
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The payload cannot be kept.
    #[error(transparent)]
    Payload(#[from] BlobError),
    /// A defect.
    #[error("the test panicked: {0}")]
    Panicked(String),
}

/// Sends one request to the endpoint and answers what came of it: `{test_id, endpoint, method, url, body, artifact, receipt, answer}`, of
/// which `url` is null if it cannot be rendered and `answer` if there is none. The payload is kept with the artifacts; its digest names it.
pub async fn probe(
    namespace: &Namespace,
    snapshot: &Snapshot,
    endpoint: &Endpoint,
    payload: Payload<'_>,
) -> Result<Value, ProbeError> {
    let clock = &*namespace.shared.clock;
    let id = random_id(namespace);
    let request = trial_of_endpoint(snapshot, endpoint, random_id(namespace), clock.now());
    let url = target_url(endpoint, &request.template_values());
    let artifact = keep(namespace, payload).await?;
    let mut account = json!({
        "test_id": id, "endpoint": endpoint.name, "method": endpoint.method, "url": url.as_ref().ok(),
        "body": endpoint.body,
        "artifact": { "digest": artifact.digest, "bytes": artifact.bytes, "media_type": artifact.media_type },
    });
    let subject = Subject { snapshot: Some(request.snapshot), ..Subject::default() };
    let record = |kind, body| Record::fact(clock.now(), kind, subject, body);
    namespace.store.append(vec![record(Kind::TestStarted, account.clone())]).await?;
    let ended = match url {
        Ok(url) => {
            let delivery = as_delivery(endpoint, &request, (id, url, artifact));
            let act = namespace.running.begin(id);
            match namespace.ask(Door::Dispatch, &[]) {
                Ok(()) => sent(namespace, endpoint, (&request, &delivery), &act.token).await,
                // Closed since the caller asked, perhaps by a halt that did not see this act yet.
                Err(closed) => Ended::unsent(AttemptFailure::Cut { by: closed.to_string() }),
            }
        }
        Err(error) => Ended::unsent(AttemptFailure::Request { message: error.to_string() }),
    };
    let answer = ended.evidence();
    if let Value::Object(fields) = &mut account {
        fields.insert("receipt".to_owned(), ended.receipt(&Next::Accepted));
    }
    namespace.store.append(vec![record(Kind::EndpointTested, account.clone())]).await?;
    if let Value::Object(fields) = &mut account {
        fields.insert("answer".to_owned(), json!(answer));
    }
    Ok(account)
}

async fn sent(
    namespace: &Namespace,
    endpoint: &Endpoint,
    (request, delivery): (&ExecutionRequest, &ClaimedDelivery),
    cut: &CancellationToken,
) -> Ended {
    let parts = Parts {
        delivery,
        request,
        endpoint,
        namespace: &namespace.name,
        secrets: &*namespace.shared.secrets,
    };
    let marked = parts.compose().map(|mut composed: Composed| {
        composed.headers.insert(TEST_HEADER, HeaderValue::from_static("true"));
        composed
    });
    send(namespace, &parts, marked, cut).await
}

/// What an attempt is made from. Nothing of it is stored.
fn as_delivery(
    endpoint: &Endpoint,
    request: &ExecutionRequest,
    (id, url, artifact): (Uuid, String, Artifact),
) -> ClaimedDelivery {
    ClaimedDelivery {
        claim: Claim { id, token: 0 },
        run_id: request.run.run_id,
        cycle_id: request.cycle.id,
        profile_id: request.profile.id,
        snapshot: request.snapshot,
        request: Value::Null,
        endpoint: endpoint.name.to_string(),
        url,
        attempt: 1,
        attempt_in_round: 1,
        artifact,
    }
}

/// The payload among the artifacts, so that what is sent is whole, of one digest, and can be looked at afterwards.
async fn keep(namespace: &Namespace, payload: Payload<'_>) -> Result<Artifact, ProbeError> {
    let payloads = Arc::clone(&namespace.payloads);
    let file = payload.file.map(Path::to_owned);
    let usual = if file.is_some() { FILE_MEDIA_TYPE } else { SMALL_MEDIA_TYPE };
    let put = tokio::task::spawn_blocking(move || match file {
        Some(file) => payloads.keep_file(&file),
        None => payloads.keep_bytes(Bytes::from_static(SMALL)),
    });
    let kept = put.await.map_err(|error| ProbeError::Panicked(panic_message(error)))??;
    let Blob { digest, bytes } = kept.blob();
    namespace.store.keep_payload(kept.into(), namespace.shared.clock.now()).await?;
    Ok(Artifact { digest, bytes, media_type: payload.media_type.unwrap_or(usual).to_owned() })
}

fn random_id(namespace: &Namespace) -> Uuid {
    Builder::from_random_bytes(salt(&*namespace.shared.clock)).into_uuid()
}
