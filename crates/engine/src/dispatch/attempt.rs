//! One attempt at one delivery, from the claim to the commit of its receipt.
//!
//! The claim's record is durable before this begins. Whatever happens here, a panic included, ends in exactly one commit, which a lost claim
//! turns into nothing. Nothing is read but the request, the pinned snapshot and the secrets as they are now.

use std::sync::Arc;

use http::header::{CONTENT_TYPE, HeaderMap};
use jiff::Timestamp;
use orbit_core::config::{DeliveryRetry, Endpoint, Snapshot};
use orbit_core::digest::Digest;
use orbit_core::dispatch::breaker::{Rule, Signal};
use orbit_core::dispatch::outcome::{AttemptFailure, HttpFailure, classify, judge};
use orbit_core::dispatch::retry::{Next, next};
use orbit_core::governance::Door;
use orbit_core::synthesis::ExecutionRequest;
use orbit_store::blobs::BlobError;
use orbit_store::contract::dispatch::{AttemptCommit, ClaimedDelivery, Settle};
use orbit_store::contract::{Claim, Evidence};
use orbit_store::payloads::Content;
use serde::Deserialize as _;
use tokio_util::sync::CancellationToken;

use super::compose::{Composed, Parts, add_signatures};
use super::envelope::{Envelope, enclose};
use super::receipt::Ended;
use super::sign::{Signing, verify_and_sign, verify_and_sign_held};
use crate::clock::{random_number, salt};
use crate::http::{Body, Request, method};
use crate::namespace::Namespace;
use crate::patience::{Reader, Unread};
use crate::persist::persist;
use crate::running::{Act, Cut};
use crate::service::panic_message;

/// An attempt that ended, and the retry settings of its endpoint as far as they could be read.
pub(super) struct Attempted {
    /// How it ended.
    pub(super) ended: Ended,
    /// What the endpoint's document says of further ones.
    pub(super) retry: DeliveryRetry,
}

/// Which attempt it is, whatever it carries.
#[derive(Clone, Debug)]
pub(super) struct Which {
    /// The claim; its id is the delivery's.
    pub(super) claim: Claim,
    /// The endpoint.
    pub(super) endpoint: String,
    /// Attempts since the delivery was made or last redriven, this one included.
    pub(super) attempt_in_round: u32,
}

/// Makes the attempt at what a run owes and commits what came of it.
pub async fn deliver(namespace: &Arc<Namespace>, delivery: ClaimedDelivery) {
    let which = Which {
        claim: delivery.claim,
        endpoint: delivery.endpoint.clone(),
        attempt_in_round: delivery.attempt_in_round,
    };
    let open = || door(namespace, &delivery);
    let (worker, work) = (Arc::clone(namespace), delivery.clone());
    let act = |token: CancellationToken| async move { attempt(&worker, &work, &token).await };
    conclude(namespace, &which, open, act).await;
}

/// Makes an attempt, unless its door is closed, and commits what came of it.
pub(super) async fn conclude<F>(
    namespace: &Namespace,
    which: &Which,
    open: impl FnOnce() -> Result<(), String>,
    make: impl FnOnce(CancellationToken) -> F,
) where
    F: Future<Output = Attempted> + Send + 'static,
{
    let act = namespace.running.begin(which.claim.id);
    let attempted = if let Err(closed) = open() {
        // Closed since the claim, perhaps by a halt that did not see this act yet.
        Attempted::unsent(AttemptFailure::Cut { by: closed })
    } else {
        // A task of its own, so that a panic ends the attempt and not the commit.
        match tokio::spawn(make(act.token.clone())).await {
            Ok(attempted) => attempted,
            Err(error) => Attempted::unsent(AttemptFailure::Panicked { message: panic_message(error) }),
        }
    };
    let commit = decide(namespace, which, attempted, act.cut());
    let disables = commit.disable_endpoint.is_some();
    commit_receipt(namespace, which.claim, commit, &act).await;
    drop(act);
    // A settled delivery may have finished its run, its cycle, and what waited for the cycle.
    let nudges = &namespace.nudges;
    for nudge in [&nudges.selection, &nudges.schedule] {
        nudge.notify_one();
    }
    if disables || namespace.claims.is_in_doubt() {
        // What else waits for the endpoint is given up, and a claim whose answer was lost is free again.
        nudges.keeper.notify_one();
    }
}

fn door(namespace: &Namespace, delivery: &ClaimedDelivery) -> Result<(), String> {
    let door = if delivery.attempt_in_round > 1 { Door::Retry } else { Door::Dispatch };
    namespace.ask(door, &[]).map_err(|closed| closed.to_string())
}

async fn attempt(namespace: &Namespace, delivery: &ClaimedDelivery, cut: &CancellationToken) -> Attempted {
    let request: ExecutionRequest = match ExecutionRequest::deserialize(&delivery.request) {
        Ok(request) => request,
        Err(error) => return Attempted::unsendable(format!("the execution request cannot be read: {error}")),
    };
    let snapshot = match snapshot(namespace, delivery.snapshot, cut).await {
        Ok(snapshot) => snapshot,
        Err(nothing) => return nothing,
    };
    let endpoint = match request.endpoint(&delivery.endpoint, &snapshot) {
        Ok(endpoint) => endpoint,
        Err(error) => return Attempted::unsendable(error.to_string()),
    };
    let parts = Parts {
        delivery,
        request: &request,
        endpoint,
        namespace: &namespace.name,
        secrets: &*namespace.shared.secrets,
    };
    let composed = parts.compose();
    let ended = send(namespace, &parts, composed, cut).await;
    Attempted { ended, retry: endpoint.retry.clone() }
}

/// The snapshot that a delivery is pinned to, or the attempt that comes to nothing without it.
pub(super) async fn snapshot(
    namespace: &Namespace,
    digest: Digest,
    cut: &CancellationToken,
) -> Result<Arc<Snapshot>, Attempted> {
    match (Reader { namespace, service: "dispatch", cancel: cut }).snapshot(digest).await {
        Ok(Some(snapshot)) => Ok(snapshot),
        Ok(None) => Err(Attempted::unsendable(format!("the snapshot {digest} is not stored"))),
        Err(Unread::Cut) => Err(Attempted::unsent(cut_while_reading())),
        Err(Unread::Failed(error)) => {
            Err(Attempted::unsent(AttemptFailure::Local { message: error.to_string() }))
        }
    }
}

fn cut_while_reading() -> AttemptFailure {
    AttemptFailure::Cut { by: "while it waited to read".to_owned() }
}

/// One pass over the body for its digest and the signatures, one to the wire.
pub(super) async fn send(
    namespace: &Namespace,
    parts: &Parts<'_>,
    composed: Result<Composed, AttemptFailure>,
    cut: &CancellationToken,
) -> Ended {
    let Composed { mut headers, keys, confidential } = match composed {
        Ok(composed) => composed,
        Err(failure) => return Ended::unsent(failure),
    };
    let Parts { delivery, endpoint, request, .. } = parts;
    let clock = &*namespace.shared.clock;
    let signing =
        Signing { id: delivery.claim.id.to_string(), timestamp_seconds: clock.now().as_second(), keys };
    let body = async {
        let content = content(namespace, delivery.artifact.digest, cut).await?;
        let held = match &content {
            Content::Memory(held) => Some(held.clone()),
            Content::File(_) => None,
        };
        let Envelope { body, media_type } = enclose(endpoint.body, delivery, request, content)?;
        headers.insert(CONTENT_TYPE, media_type);
        let (signing, signed) = if let Some(held) = held {
            // So little is hashed faster than a thread takes it over.
            let signed = verify_and_sign_held(&body, (&delivery.artifact, &held), &signing, cut)?;
            (signing, signed)
        } else {
            let (body, artifact, token) = (body.clone(), delivery.artifact.clone(), cut.clone());
            let pass = move || {
                let signed = verify_and_sign(&body, &artifact, &signing, &token)?;
                Ok((signing, signed))
            };
            blocking(pass).await?
        };
        add_signatures(&mut headers, &signing, &signed)?;
        Ok(body)
    };
    let body = match body.await {
        Ok(body) => body,
        Err(failure) => return Ended { result: Err(failure), exchange: None, confidential },
    };
    exchange(namespace, endpoint, Outgoing { url: delivery.url.clone(), headers, body, confidential }, cut)
        .await
}

/// Where the bytes of the artifact are. While that cannot be read here, the attempt waits: it is no fault of the endpoint.
async fn content(
    namespace: &Namespace,
    digest: Digest,
    cut: &CancellationToken,
) -> Result<Content, AttemptFailure> {
    if let Some(held) = namespace.payloads.recent(digest) {
        return Ok(Content::Memory(held));
    }
    let reader = Reader { namespace, service: "dispatch", cancel: cut };
    let opened = reader.payload(move |payloads| payloads.open(digest)).await;
    opened.map_err(|unread| match unread {
        Unread::Cut => cut_while_reading(),
        Unread::Failed(BlobError::Missing { digest }) => AttemptFailure::MissingArtifact { digest },
        Unread::Failed(BlobError::Corrupt { digest }) => AttemptFailure::CorruptArtifact { digest },
        Unread::Failed(
            error @ (BlobError::Dropped { .. }
            | BlobError::Full { .. }
            | BlobError::Io { .. }
            | BlobError::Bucket { .. }),
        ) => AttemptFailure::Local { message: format!("the artifact cannot be read: {error}") },
    })
}

/// Does what may block on a thread that may.
async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, AttemptFailure> + Send + 'static,
) -> Result<T, AttemptFailure> {
    let done = tokio::task::spawn_blocking(act).await;
    done.unwrap_or_else(|error| Err(AttemptFailure::Panicked { message: panic_message(error) }))
}

/// Everything that leaves, and what of it must not be written down.
pub(super) struct Outgoing {
    /// Where it goes.
    pub(super) url: String,
    /// All headers but those of the connection.
    pub(super) headers: HeaderMap,
    /// The body.
    pub(super) body: Body,
    /// See [`Composed`].
    pub(super) confidential: Vec<String>,
}

/// Sends it and judges the answer.
pub(super) async fn exchange(
    namespace: &Namespace,
    endpoint: &Endpoint,
    outgoing: Outgoing,
    cut: &CancellationToken,
) -> Ended {
    let Outgoing { url, headers, body, confidential } = outgoing;
    let request = Request {
        method: method(endpoint.method),
        url,
        headers,
        body,
        timeout: endpoint.timeout.to_duration(),
        allow: endpoint.addresses.allow.clone(),
    };
    let exchange = namespace.shared.client.send(request, cut).await;
    let result = match &exchange.result {
        Ok(answer) => {
            let retry_after =
                answer.headers.get(http::header::RETRY_AFTER).and_then(|value| value.to_str().ok());
            judge(answer.status, retry_after, namespace.shared.clock.now())
        }
        Err(HttpFailure::Cut { phase }) => Err(AttemptFailure::Cut { by: format!("while {phase}") }),
        Err(failure) => Err(failure.clone().into()),
    };
    Ended { result, exchange: Some(exchange), confidential }
}

/// What is committed: the receipt, and what follows for the delivery.
fn decide(namespace: &Namespace, which: &Which, attempted: Attempted, cut: Option<Cut>) -> AttemptCommit {
    let clock = &*namespace.shared.clock;
    let now = clock.now();
    let Attempted { ended, retry } = attempted;
    let follows = if let Err(AttemptFailure::Cut { .. }) = &ended.result {
        // An interrupted attempt says nothing about the endpoint, so it is made again without a wait and is never the last one.
        after_cut(cut, now)
    } else {
        next(classify(&ended.result), &retry, which.attempt_in_round, random_number(clock), now)
    };
    let receipt = ended.receipt(&follows);
    let evidence = ended.evidence().map(|value| Evidence { salt: salt(clock), value });
    let (settle, disable_endpoint) = match follows {
        Next::Accepted => (Settle::Accepted, None),
        Next::Retry { until } => (Settle::Retry { until }, None),
        Next::Dead { reason } => (Settle::Dead { reason }, None),
        Next::Disable { reason } => (Settle::Dead { reason: reason.clone() }, Some(reason)),
    };
    let signal = Signal::of(&ended.result);
    AttemptCommit {
        receipt,
        evidence,
        settle,
        disable_endpoint,
        signal,
        rule: rule(namespace, &which.endpoint),
    }
}

/// How the endpoint is judged: as the active configuration has it, because that is about the endpoint and not about this delivery.
fn rule(namespace: &Namespace, endpoint: &str) -> Rule {
    let active = namespace.active();
    let document = active.as_ref().and_then(|snapshot| snapshot.endpoints.get(endpoint));
    document.map(Rule::from).unwrap_or_default()
}

fn after_cut(cut: Option<Cut>, now: Timestamp) -> Next {
    match cut {
        // The row of a cancelled run says so already; this only keeps a commit that comes before it from asking for more.
        Some(Cut::Cancelled) => Next::Dead { reason: "the run was cancelled".to_owned() },
        Some(Cut::Halt | Cut::Stop | Cut::Lapsed) | None => Next::Retry { until: now },
    }
}

async fn commit_receipt(namespace: &Namespace, claim: Claim, commit: AttemptCommit, act: &Act) {
    let what = format!("the receipt of delivery {}", claim.id);
    // Whoever cuts acts short to stop the node waits for this.
    let gives_up = || act.cut() == Some(Cut::Stop);
    let call = || namespace.store.commit_attempt(claim, commit.clone(), namespace.shared.clock.now());
    match persist(&namespace.name, &what, gives_up, call).await {
        Ok(true) => {}
        Ok(false) => {
            tracing::info!(delivery = %claim.id, "the delivery was cancelled or claimed anew meanwhile");
        }
        Err(error) => {
            namespace.record_failure("dispatch", &format!("{what} could not be kept: {error}")).await;
        }
    }
}

impl Attempted {
    /// Nothing left.
    pub(super) fn unsent(failure: AttemptFailure) -> Self {
        Self { ended: Ended::unsent(failure), retry: DeliveryRetry::default() }
    }

    /// Nothing can leave.
    pub(super) fn unsendable(message: String) -> Self {
        Self::unsent(AttemptFailure::Request { message })
    }
}
