//! Does the steps of a run, one after the other, for as long as the store gives the next one to the same worker.

use std::sync::Arc;

use jiff::Timestamp;
use orbit_core::governance::Door;
use orbit_core::run::{Interruption, RunEvent, RunState, Then};
use orbit_core::synthesis::named_processor;
use orbit_core::tiers::{FailedAttempt, Failure, after_failure};
use orbit_store::contract::dispatch::ClaimedDelivery;
use orbit_store::contract::tiers::{ClaimedStep, StepCommit, StepCommitted};
use orbit_store::contract::{Claim, Evidence};
use serde_json::{Value, json};

use super::attempt::{self, Finished};
use crate::claims::Hold;
use crate::clock;
use crate::dispatch::SendPermits;
use crate::namespace::Namespace;
use crate::normalize;
use crate::permits::Permit;
use crate::persist::persist;
use crate::running::{Act, Cut};
use crate::service::panic_message;

/// Does the claimed step, for which this permit of its processor is held, and those that follow it. Every end is committed, but that of a
/// cancelled run, whose row says so already.
pub async fn run(namespace: &Arc<Namespace>, first: ClaimedStep, processor: Permit) {
    let run_id = first.claim.id;
    let act = namespace.running.begin(run_id);
    let mut next = Some((first, processor));
    while let Some((claimed, processor)) = next {
        next = one(namespace, &act, claimed, processor).await;
    }
    drop(act);
    namespace.requests.forget(run_id);
}

/// Wakes whoever has something to do, now that a run stands so.
fn wake(namespace: &Namespace, state: &RunState, waits_for_batch: bool, is_sent: bool) {
    let nudges = &namespace.nudges;
    match state {
        RunState::Working { .. } => {}
        RunState::Ready { .. } if waits_for_batch => nudges.normalize.notify_one(),
        // Another worker may take it, or has to know when.
        RunState::Ready { .. } | RunState::Waiting { .. } => nudges.tiers.notify_one(),
        // Its cycle may be over, or counts no longer, and another one wait for that.
        RunState::Dispatching { .. } | RunState::Finished { .. } => {
            if !is_sent {
                nudges.dispatch.notify_one();
            }
            nudges.selection.notify_one();
            nudges.schedule.notify_one();
        }
    }
}

async fn one(
    namespace: &Arc<Namespace>,
    act: &Act,
    claimed: ClaimedStep,
    processor: Permit,
) -> Option<(ClaimedStep, Permit)> {
    let began = namespace.shared.clock.now();
    // What came between the claim and the registration of this act, such as a halt, has cut nothing.
    let closed = namespace.ask(Door::Step, &[]).err().as_ref().and_then(Cut::by);
    let finished = if closed.is_some() {
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
    drop(processor);
    end(namespace, (act, closed), claimed, finished, began).await
}

/// Commits the end of an attempt that `began` then; the next step if the store gives it to the same worker. What cuts it may have come before the act.
pub(crate) async fn end(
    namespace: &Arc<Namespace>,
    (act, closed): (&Act, Option<Cut>),
    claimed: ClaimedStep,
    finished: Finished,
    began: Timestamp,
) -> Option<(ClaimedStep, Permit)> {
    let cut = act.cut().or(closed);
    if cut == Some(Cut::Cancelled) {
        namespace.wake();
        return None;
    }
    let now = namespace.shared.clock.now();
    let event = event(namespace, &claimed, &finished, cut, now);
    // A run goes on at once after a success, if nobody cut it, the gate lets a new step start and the node is not about to stop.
    let goes_on =
        cut.is_none() && !namespace.shared.stopping.is_cancelled() && namespace.ask(Door::Step, &[]).is_ok();
    let processor = if goes_on { reserve(namespace, &claimed, &finished).await } else { None };
    let owed = finished.result.as_ref().map_or(&[][..], |made| &made.deliveries);
    let permits = SendPermits::new(namespace, owed);
    let commit_of = StepCommit {
        event,
        send: permits.as_ref().map(|permits| permits.free.clone()),
        detail: detail(&claimed, &finished, began, now),
        evidence: evidence(namespace, &claimed, &finished),
        batch: finished
            .result
            .as_ref()
            .ok()
            .and_then(|made| normalize::place(namespace, &claimed, made.then, now)),
        work: finished.result.as_ref().ok().and_then(|made| made.work),
        claim_next: processor.is_some().then(|| Arc::clone(&claimed.request)),
        artifact: finished.result.as_ref().ok().map(|made| made.artifact.clone()),
        content: finished.result.as_ref().ok().and_then(|made| made.content.clone()),
        deliveries: finished.result.map(|made| made.deliveries).unwrap_or_default(),
    };
    let waits_for_batch = commit_of.batch.is_some();
    let count = commit_of.deliveries.len();
    let (committed, sending) = commit(namespace, act, claimed.claim, commit_of).await.unzip();
    let sending = sending.unwrap_or_default();
    // Whose they are does not matter: as many wait as without them.
    let is_sent = sending.len() >= count;
    if let Some(permits) = permits {
        permits.send(namespace, sending);
    }
    match committed {
        Some(StepCommitted::Done { state, next, .. }) => {
            wake(namespace, &state, waits_for_batch, is_sent);
            next.map(|next| *next).zip(processor)
        }
        Some(StepCommitted::Lost) | None => {
            // A commit that was made again after an error may have claimed the next step the first time.
            namespace.claims.doubt();
            namespace.wake();
            None
        }
    }
}

/// The permit for the run's next step, if it may go on to it at once: its processor is free, and no other namespace waits for the permit of
/// the node. Else the run is ready again, and starts in the order of priority and age.
async fn reserve(namespace: &Namespace, claimed: &ClaimedStep, finished: &Finished) -> Option<Permit> {
    let Then::Step { step } = finished.result.as_ref().ok()?.then else { return None };
    let processor = named_processor(&claimed.request, step).filter(|name| !name.is_empty())?;
    let admission = namespace.permits.admit().await;
    if namespace.permits.may_go_on() { admission.processor(processor) } else { None }
}

/// Commits. None if it could not be: then the claim stays until the next start, which counts the attempt as interrupted.
async fn commit(
    namespace: &Namespace,
    act: &Act,
    claim: Claim,
    commit: StepCommit,
) -> Option<(StepCommitted, Vec<(ClaimedDelivery, Hold)>)> {
    let what = format!("the end of a step of run {}", claim.id);
    // Whoever cuts acts short to stop the node waits for this.
    let gives_up = || act.cut() == Some(Cut::Stop);
    let call = || async {
        let committed =
            namespace.store.commit_step(claim, commit.clone(), namespace.shared.clock.now()).await?;
        Ok(match committed {
            StepCommitted::Done { state, next, sending } => {
                let claimed = sending.into_iter().map(|one| (one.claim.id, one)).collect();
                (StepCommitted::Done { state, next, sending: Vec::new() }, claimed)
            }
            StepCommitted::Lost => (StepCommitted::Lost, Vec::new()),
        })
    };
    let call = || namespace.claims.claim_with(call());
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
    for (name, fact) in &finished.facts {
        put(name, fact.clone());
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

/// What a program wrote to standard error, or what a service answered in the place of an output.
fn evidence(namespace: &Namespace, claimed: &ClaimedStep, finished: &Finished) -> Option<Evidence> {
    let (name, said) = match &finished.answer {
        Some(answer) => ("answer", answer.clone()),
        None if finished.words.is_empty() => return None,
        None => ("stderr", json!(String::from_utf8_lossy(&finished.words))),
    };
    let value = json!({ "step": claimed.step, "attempt": claimed.attempt, name: said });
    Some(Evidence { salt: clock::salt(&*namespace.shared.clock), value })
}
