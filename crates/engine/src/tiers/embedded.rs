//! The processor that lives in this process: bytes in memory go in, bytes in memory come out, and no folder is made.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use orbit_core::config::Processor as Document;
use orbit_core::digest::Digest;
use orbit_core::id;
use orbit_core::tiers::Failure;
use orbit_store::contract::tiers::ClaimedStep;
use orbit_store::payloads::{Kept, Payloads};
use tokio_util::sync::CancellationToken;

use super::attempt::{Made, Plan, offered, unread_payload};
use super::output;
use super::processor::{Attempted, Job, Processed, Processor};
use crate::namespace::Namespace;
use crate::patience::Reader;
use crate::supervisor;

/// One attempt of a step, from the input to the kept output. The outer failure is one in which the processor was not asked.
pub(super) async fn perform(
    namespace: &Namespace,
    claimed: &ClaimedStep,
    plan: Plan,
    (processor, wall): (&dyn Processor, Duration),
    cancel: &CancellationToken,
) -> Result<(Result<Made, Failure>, Attempted), Failure> {
    let Plan { request, document, then, deliveries, reference } = plan;
    let input = claimed.input.as_ref().map(|input| input.digest);
    let job = Job {
        input: match input {
            Some(digest) => read(namespace, digest, cancel).await?,
            None => Bytes::from(format!("{}\n", request.context_line())),
        },
        idempotency_key: id::step_key(request.run.run_id, claimed.step),
        request,
        step: claimed.step,
        attempt: claimed.attempt,
        wall,
        reference: match reference {
            Some(digest) => Some(file(namespace, digest, cancel).await?),
            None => None,
        },
    };
    let Processed { result, words, facts } = ask(processor, &job, cancel).await;
    let media_type = document.media_type().to_owned();
    let made = match result {
        Ok(content) => keep(namespace, content, (document, input), cancel).await,
        Err(failure) => Err(failure),
    };
    let made = made.map(|kept| Made::of(kept, media_type, (then, deliveries)));
    let came = made.as_ref().map(|_| ()).map_err(Clone::clone);
    Ok((made, Attempted { words, facts, ..Attempted::of(came) }))
}

/// Processors of this process are held to time and cancellation here, as programs are by their supervisor.
pub(super) async fn ask(processor: &dyn Processor, job: &Job, cancel: &CancellationToken) -> Processed {
    let given_up = async {
        cancel.cancelled().await;
        tokio::time::sleep(supervisor::CANCEL_GRACE_MAX).await;
    };
    let wall_ms = u64::try_from(job.wall.as_millis()).unwrap_or(u64::MAX);
    tokio::select! {
        biased;
        processed = processor.process(job, cancel) => processed,
        () = given_up => Processed::of(Err(Failure::Cancelled)),
        () = tokio::time::sleep(job.wall) => Processed::of(Err(Failure::TimedOut { wall_ms })),
    }
}

async fn read(namespace: &Namespace, digest: Digest, cancel: &CancellationToken) -> Result<Bytes, Failure> {
    if let Some(content) = namespace.payloads.recent(digest) {
        return Ok(content);
    }
    let reader = Reader { namespace, service: "tiers", cancel };
    reader.payload(move |payloads| payloads.read(digest)).await.map_err(|unread| unread_payload(&unread))
}

async fn file(namespace: &Namespace, digest: Digest, cancel: &CancellationToken) -> Result<PathBuf, Failure> {
    let reader = Reader { namespace, service: "tiers", cancel };
    reader.payload(move |payloads| payloads.file(digest)).await.map_err(|unread| unread_payload(&unread))
}

async fn keep(
    namespace: &Namespace,
    content: Bytes,
    (document, input): (Document, Option<Digest>),
    cancel: &CancellationToken,
) -> Result<Kept, Failure> {
    let payloads = Arc::clone(&namespace.payloads);
    // What is small is hashed faster than a thread takes it over, and meets no disk.
    let is_small = Payloads::is_small(content.len());
    let offer = move || output::keep_bytes(content.clone(), &document, input, &payloads);
    if is_small { offer() } else { offered(namespace, Arc::new(offer), cancel).await }
}
