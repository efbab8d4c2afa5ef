//! What an operator orders: to end a run, to do it again, to try a processor, to lift its quarantine; and the ids that they type.

use orbit_core::config::{DocName, Snapshot};
use orbit_engine::namespace::Namespace;
use orbit_engine::operator::{self, Retry, RetryError, Trial, TrialError};
use orbit_store::contract::view::Identified;
use serde_json::{Value, json};
use uuid::Uuid;

use super::execute::{refused, value};
use super::{Fired, Order, Refusal, Thing};
use crate::config::suggestion;
use crate::engine::Engine;

/// Ids that are shown of those that begin alike.
const CANDIDATES_MAX: u32 = 8;

/// Does what is ordered.
pub(super) async fn operate(engine: &Engine, namespace: &Namespace, order: Order) -> Result<Value, Refusal> {
    match order {
        Order::Retry { run_id, from, key, pinned } => {
            retry(namespace, &Retry { run_id, from, key, pinned }).await
        }
        Order::TestProcessor { name, profile, input, keep } => {
            let snapshot = engine.snapshot(namespace).ok_or_else(|| unconfigured(namespace))?;
            let wanted = Trial { processor: name, profile, input, keep };
            let tried = operator::trial(namespace, &snapshot, &wanted).await;
            tried.map_err(|error| of_trial(namespace, &snapshot, error))
        }
        Order::ReleaseProcessor { name } => {
            let released = namespace.store.release_processor(&name, namespace.shared.clock.now()).await?;
            let snapshot = engine.snapshot(namespace);
            let known = |snapshot: &Snapshot| snapshot.processors.contains_key(name.as_str());
            match snapshot {
                Some(snapshot) if released.is_empty() && !known(&snapshot) => {
                    Err(no_processor(&snapshot, &name))
                }
                Some(_) | None => Ok(json!({ "processor": name, "released": released })),
            }
        }
    }
}

/// Whole ids that begin so.
pub(super) async fn find(namespace: &Namespace, thing: Thing, beginning: &str) -> Result<Value, Refusal> {
    let of = match thing {
        Thing::Cycle => Identified::Cycle,
        Thing::Run => Identified::Run,
        Thing::Delivery => Identified::Delivery,
    };
    let ids = namespace.store.ids_that_begin(of, beginning, CANDIDATES_MAX).await?;
    Ok(json!({ "items": ids }))
}

/// Ends a run.
pub(super) async fn cancel(namespace: &Namespace, run_id: Uuid, reason: &str) -> Result<Value, Refusal> {
    match operator::cancel(namespace, run_id, reason).await? {
        Some(before) => Ok(json!({ "run_id": run_id, "was": before.name() })),
        None => Err(Refusal::usage(
            format!("run `{run_id}` is finished or does not exist"),
            "`orbit runs list` shows the runs of this namespace",
        )),
    }
}

async fn retry(namespace: &Namespace, wanted: &Retry) -> Result<Value, Refusal> {
    let retried = operator::retry(namespace, wanted).await.map_err(|error| of_retry(namespace, error))?;
    value(&Fired {
        namespace: namespace.name.to_string(),
        cycle_id: retried.cycle_id,
        snapshot: retried.snapshot,
        new: retried.new,
    })
}

fn of_retry(namespace: &Namespace, error: RetryError) -> Refusal {
    let message = error.to_string();
    match error {
        RetryError::NoRun { .. } | RetryError::NoInitiation { .. } => {
            Refusal::usage(message, "`orbit runs list` shows the runs of this namespace")
        }
        RetryError::Unfinished { run_id, .. } => {
            Refusal::usage(message, format!("wait for it, or end it first with `orbit runs cancel {run_id}`"))
        }
        RetryError::NoSnapshot => unconfigured(namespace),
        RetryError::Gone { .. } => {
            Refusal::usage(message, "`--pinned` runs it under the configuration of the old run")
        }
        RetryError::NoStep { .. } => Refusal::usage(message, "name an earlier step with `--from`"),
        RetryError::NoOutput { before, .. } | RetryError::OutputGone { before, .. } => {
            Refusal::usage(message, format!("begin earlier, with `--from {}`", before.name()))
        }
        RetryError::Closed(closed) => refused(namespace, &closed),
        RetryError::Synthesis(_) => {
            Refusal { hint: Some("mend the profile's document".to_owned()), ..Refusal::failure(message) }
        }
        RetryError::Store(error) => error.into(),
    }
}

fn of_trial(namespace: &Namespace, snapshot: &Snapshot, error: TrialError) -> Refusal {
    let message = error.to_string();
    match error {
        TrialError::NoProcessor { name } => no_processor(snapshot, &name),
        TrialError::NoProfile { name } => {
            let labels: Vec<_> = snapshot.profiles.keys().map(DocName::as_str).collect();
            Refusal::usage(message, suggestion(&name, &labels))
        }
        TrialError::Synthesis(_) => {
            Refusal { hint: Some("mend the profile's document".to_owned()), ..Refusal::failure(message) }
        }
        TrialError::Closed(closed) => refused(namespace, &closed),
        TrialError::Busy { .. } => Refusal {
            hint: Some("try again when a run is done; `orbit status` shows them".to_owned()),
            ..Refusal::failure(message)
        },
        TrialError::Store(error) => error.into(),
    }
}

fn no_processor(snapshot: &Snapshot, name: &str) -> Refusal {
    let names: Vec<_> = snapshot.processors.keys().map(DocName::as_str).collect();
    Refusal::usage(format!("there is no processor `{name}`"), suggestion(name, &names))
}

fn unconfigured(namespace: &Namespace) -> Refusal {
    Refusal::usage(format!("namespace `{}` has no configuration yet", namespace.name), "see `orbit check`")
}
