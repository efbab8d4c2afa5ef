//! Work that was done before: a processor with `reuse: true` is not asked twice for the same.
//!
//! Only programs are: what lives in this process is not described by its document.

use std::sync::Arc;

use jiff::SignedDuration;
use orbit_core::config::{ExecProcessor, InputMode, Processor as Document};
use orbit_core::digest::Digest;
use orbit_core::template;
use orbit_core::tiers::{Failure, Work};
use orbit_store::StoreError;
use orbit_store::contract::normalize::DoneBefore;
use orbit_store::contract::payload::NewPayload;
use orbit_store::contract::tiers::ClaimedStep;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::attempt::{self, Made, Plan};
use super::exec;
use crate::namespace::Namespace;
use crate::patience::Reader;
use crate::persist::passes;

/// Younger work is certainly kept: half of the shortest retention.
const SURELY_KEPT: SignedDuration = SignedDuration::from_hours(12);

/// What is known of the work of a step.
pub(super) struct Asked {
    /// Its name.
    pub key: Digest,
    /// Its output, if it was done before and its bytes are there.
    pub done_before: Option<DoneBefore>,
}

/// Looks the work up. None if it is to be done in any case.
pub(super) async fn ask(
    namespace: &Namespace,
    claimed: &ClaimedStep,
    (plan, cancel): (&Plan, &CancellationToken),
) -> Result<Option<Asked>, Failure> {
    let document = match &plan.document {
        Document::Exec(document) if document.reuse => document,
        Document::Exec(_) | Document::Http(_) => return Ok(None),
    };
    if namespace.shared.embedded.contains_key(&document.name) {
        return Ok(None);
    }
    let key = key(claimed, plan, document)?;
    let reader = Reader { namespace, service: "tiers", cancel };
    let found = reader.patiently("what was done before", passes, || namespace.store.done_before(key)).await;
    let found = found.map_err(|unread| attempt::unread_row(&unread))?;
    let Some(found) = found else { return Ok(Some(Asked { key, done_before: None })) };
    let (payloads, digest) = (Arc::clone(&namespace.payloads), found.artifact.digest);
    // What may be dropped as too old at any moment is made anew, unless it counts as young first.
    let age = namespace.shared.clock.now().duration_since(found.made_at);
    if age >= SURELY_KEPT && !keep_alive(namespace, &found).await? {
        return Ok(Some(Asked { key, done_before: None }));
    }
    // A payload that is gone or damaged is made anew.
    let is_whole = attempt::blocking(move || Ok(payloads.verify(digest).is_ok())).await?;
    Ok(Some(Asked { key, done_before: is_whole.then_some(found) }))
}

/// The output counts as made now. False if it is gone, or if who drops payloads, or keeps them from being dropped, is at work.
async fn keep_alive(namespace: &Namespace, found: &DoneBefore) -> Result<bool, Failure> {
    let storage = |error: StoreError| Failure::Storage { message: error.to_string() };
    let Ok(_dropping) = namespace.dropping.try_lock() else { return Ok(false) };
    let (digest, bytes) = (found.artifact.digest, found.artifact.bytes);
    // Where that cannot be told it is made anew, which waits for what passes.
    if !namespace.payloads.contains(digest).await.unwrap_or(false) {
        return Ok(false);
    }
    let payload = NewPayload { digest, bytes, content: None };
    let now = namespace.shared.clock.now();
    namespace.store.keep_payload(payload, now).await.map_err(storage)?;
    Ok(true)
}

/// The same output again.
pub(super) fn made(plan: Plan, done: DoneBefore) -> Made {
    let reused = json!({ "run_id": done.run_id, "step": done.step, "made_at": done.made_at });
    let Plan { then, deliveries, .. } = plan;
    Made { artifact: done.artifact, content: None, then, deliveries, work: None, reused: Some(reused) }
}

fn key(claimed: &ClaimedStep, plan: &Plan, document: &ExecProcessor) -> Result<Digest, Failure> {
    let told = |path: exec::PathName| format!("{{{{ {} }}}}", path.name());
    let argv = exec::render(&document.argv, &exec::values(document, (&plan.request, claimed.step), told))?;
    let refused =
        || Failure::RequestRefused { message: format!("there is no step `{}`", claimed.step.name()) };
    let settings = plan.request.step(claimed.step).ok_or_else(refused)?.processor.settings;
    let context = sees_context(document, claimed).then(|| Digest::of(plan.request.context_line().as_bytes()));
    let work = Work {
        settings,
        input: claimed.input.as_ref().map(|input| input.digest),
        reference: plan.reference,
        argv: &argv,
        context,
    };
    Ok(work.key())
}

/// The context line is a file of its own, and the input of the first step.
fn sees_context(document: &ExecProcessor, claimed: &ClaimedStep) -> bool {
    let is_input = claimed.input.is_none() && document.input != InputMode::None;
    is_input || document.argv.iter().any(|argument| template::names(argument).contains("context"))
}
