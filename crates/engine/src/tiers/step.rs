//! Does the steps of a run, one after the other, for as long as the store gives the next one to the same worker.

use std::sync::Arc;

use jiff::Timestamp;
use orbit_core::governance::{Closed, Door};
use orbit_core::run::{Interruption, RunEvent, Step};
use orbit_core::tiers::{FailedAttempt, Failure, after_failure};
use orbit_store::contract::tiers::{ClaimedStep, StepCommit, StepCommitted};
use orbit_store::contract::{Claim, Evidence};
use serde_json::{Value, json};

use super::attempt::{self, Finished};
use crate::clock;
use crate::namespace::Namespace;
use crate::normalize;
use crate::persist::persist;
use crate::running::{Act, Cut};
use crate::service::panic_message;

/// Does the claimed step and those that follow it. Every end is committed, but that of a cancelled run, whose row says so already.
pub async fn run(namespace: &Arc<Namespace>, first: ClaimedStep) {
    let act = namespace.running.begin(first.claim.id);
    let mut next = Some(first);
    while let Some(claimed) = next {
        next = one(namespace, &act, claimed).await;
    }
    drop(act);
    // The run may wait for a batch or owe deliveries now, or its cycle may be over and another one wait for that.
    namespace.nudges.normalize.notify_one();
    namespace.nudges.dispatch.notify_one();
    namespace.nudges.selection.notify_one();
    namespace.nudges.schedule.notify_one();
}

async fn one(namespace: &Arc<Namespace>, act: &Act, claimed: ClaimedStep) -> Option<ClaimedStep> {
    let began = namespace.shared.clock.now();
    // A halt that came between the claim and the registration of this act has cut nothing.
    let halted = namespace.ask(Door::Step, &[]).is_err_and(|closed: Closed| closed.kills());
    let finished = if halted {
        Finished::failed(Failure::Cancelled)
    } else {
        let (namespace, claimed, token) = (Arc::clone(namespace), claimed.clone(), act.token.clone());
        let working = if normalize::is_batched(&namespace, &claimed) {
            tokio::spawn(normalize::alone(namespace, claimed, token))
        } else {
            tokio::spawn(attempt::make(namespace, claimed, token))
        };
        let panicked = |error| Finished::failed(Failure::Panicked { message: panic_message(error) });
        working.await.unwrap_or_else(panicked)
    };
    end(namespace, (act, halted), claimed, finished, began).await
}

/// Commits the end of an attempt that `began` then; the next step if the store gives it to the same worker. A halt may have come before the act.
pub(crate) async fn end(
    namespace: &Namespace,
    (act, halted): (&Act, bool),
    claimed: ClaimedStep,
    finished: Finished,
    began: Timestamp,
) -> Option<ClaimedStep> {
    let cut = act.cut().or(halted.then_some(Cut::Halt));
    if cut == Some(Cut::Cancelled) {
        return None;
    }
    let now = namespace.shared.clock.now();
    let event = event(namespace, &claimed, &finished, cut, now);
    // A run goes on at once after a success, if nobody cut it, the gate lets a new step start and the node is not about to stop.
    let goes_on = finished.result.is_ok() && cut.is_none() && !namespace.shared.stopping.is_cancelled();
    let commit_of = StepCommit {
        event,
        detail: detail(&claimed, &finished, began, now),
        evidence: evidence(namespace, claimed.step, claimed.attempt, &finished.words),
        batch: finished
            .result
            .as_ref()
            .ok()
            .and_then(|made| normalize::place(namespace, &claimed, made.then, now)),
        work: finished.result.as_ref().ok().and_then(|made| made.work),
        claim_next: goes_on && namespace.ask(Door::Step, &[]).is_ok(),
        artifact: finished.result.as_ref().ok().map(|made| made.artifact.clone()),
        deliveries: finished.result.map(|made| made.deliveries).unwrap_or_default(),
    };
    match commit(namespace, act, claimed.claim, commit_of).await {
        Some(StepCommitted::Done { next, .. }) => next.map(|next| *next),
        Some(StepCommitted::Lost) | None => None,
    }
}

/// Commits. None if it could not be: then the claim stays until the next start, which counts the attempt as interrupted.
async fn commit(namespace: &Namespace, act: &Act, claim: Claim, commit: StepCommit) -> Option<StepCommitted> {
    let what = format!("the end of a step of run {}", claim.id);
    // Whoever cuts acts short to stop the node waits for this.
    let gives_up = || act.cut() == Some(Cut::Stop);
    let call = || namespace.store.commit_step(claim, commit.clone(), namespace.shared.clock.now());
    match persist(&namespace.name, &what, gives_up, call).await {
        Ok(committed) => Some(committed),
        Err(error) => {
            namespace.record_failure("tiers", &format!("{what} could not be recorded: {error}")).await;
            None
        }
    }
}

fn event(
    namespace: &Namespace,
    claimed: &ClaimedStep,
    finished: &Finished,
    cut: Option<Cut>,
    now: Timestamp,
) -> RunEvent {
    let step = claimed.step;
    match (&finished.result, cut) {
        // What was finished stays finished, even if the order to end came meanwhile.
        (Ok(made), _) => RunEvent::StepSucceeded { step, then: made.then },
        (Err(Failure::Cancelled), Some(Cut::Halt)) => {
            RunEvent::StepInterrupted { step, cause: Interruption::Halt }
        }
        (Err(failure), _) if finished.batch_failed && *failure != Failure::Cancelled => {
            RunEvent::StepInterrupted { step, cause: Interruption::Batch }
        }
        (Err(failure), _) => {
            let attempt = FailedAttempt {
                step,
                failed_before: claimed.failed,
                retry: &finished.retry,
                now,
                deadline_at: claimed.deadline_at,
                random: clock::random_number(&*namespace.shared.clock),
            };
            after_failure(attempt, failure)
        }
    }
}

/// The facts of the attempt for its record.
fn detail(claimed: &ClaimedStep, finished: &Finished, began: Timestamp, now: Timestamp) -> Value {
    let mut facts = finished.facts.clone();
    let mut put = |name: &str, value: Value| facts.insert(name.to_owned(), value);
    put("attempt", json!(claimed.attempt));
    put("duration_ms", json!(now.duration_since(began).as_millis().max(0)));
    if let Some(input) = &claimed.input {
        put("input", json!(input.digest));
    }
    if let Some(usage) = &finished.usage {
        put("usage", json!(usage));
    }
    match &finished.result {
        Ok(made) => {
            put("digest", json!(made.artifact.digest));
            put("bytes", json!(made.artifact.bytes));
            put("media_type", json!(made.artifact.media_type));
            if let Some(reused) = &made.reused {
                put("reused", reused.clone());
            }
        }
        Err(failure) => _ = put("failure", json!(failure)),
    }
    Value::Object(facts)
}

fn evidence(namespace: &Namespace, step: Step, attempt: u32, words: &[u8]) -> Option<Evidence> {
    if words.is_empty() {
        return None;
    }
    let stderr = String::from_utf8_lossy(words);
    let value = json!({ "step": step, "attempt": attempt, "stderr": stderr });
    Some(Evidence { salt: clock::salt(&*namespace.shared.clock), value })
}
