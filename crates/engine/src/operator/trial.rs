//! Tries a processor outside of any run: one attempt as a step would make it, with a record of what came of it and nothing else.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use orbit_core::config::{DocName, Snapshot, settings_digest};
use orbit_core::governance::{Closed, Door};
use orbit_core::record::{Kind, Record, Subject};
use orbit_core::synthesis::{CycleIdentity, SynthesisError, profile_with};
use orbit_store::StoreError;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::clock::salt;
use crate::namespace::Namespace;
use crate::permits::Permit;
use crate::tiers::trial::{Tried, Try, attempt};

/// How long a trial waits for one of the processor's permits while steps hold all of them.
const PERMIT_WAIT: Duration = Duration::from_secs(30);
/// How soon a taken permit is looked at again.
const PERMIT_POLL: Duration = Duration::from_millis(50);

/// What to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// The processor.
    pub processor: String,
    /// Label or id of the profile whose step it is tried as; the first that uses it, if nothing is said.
    pub profile: Option<String>,
    /// The bytes that it is given; what tier 1 is given, if nothing is said. A file that this process can read.
    pub input: Option<PathBuf>,
    /// Whether the output stays where the answer says.
    pub keep: bool,
}

/// Why nothing was tried.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// There is no such processor.
    #[error("there is no processor `{name}`")]
    NoProcessor {
        /// What was asked for.
        name: String,
    },
    /// There is no such profile.
    #[error("there is no profile `{name}`")]
    NoProfile {
        /// What was asked for.
        name: String,
    },
    /// The request cannot be made.
    #[error(transparent)]
    Synthesis(#[from] SynthesisError),
    /// The gate is closed.
    #[error("nothing is started: {0}")]
    Closed(Closed),
    /// Steps hold every permit.
    #[error("all permits of processor `{name}` are taken by runs (`concurrency: {concurrency}`)")]
    Busy {
        /// The processor.
        name: DocName,
        /// How many there are.
        concurrency: u32,
    },
    /// The record could not be made.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Tries it. Afterwards a `processor_tested` record says what came of it; the answer has besides that the end of what the processor wrote to standard
/// error, and where the output lies if it was kept: its folder is the caller's to remove.
pub async fn trial(namespace: &Namespace, snapshot: &Snapshot, wanted: &Trial) -> Result<Value, TrialError> {
    let id = Uuid::from_bytes(salt(&*namespace.shared.clock));
    // Registered before the gate is asked, so that a halt finds either a closed gate or this act.
    let act = namespace.running.begin(id);
    // A pause starts nothing by itself, and this is by hand.
    let closed = namespace.ask(Door::Step, &[]).err().filter(|closed| !matches!(closed, Closed::Paused));
    if let Some(closed) = closed {
        return Err(TrialError::Closed(closed));
    }
    let name = &wanted.processor;
    let document = snapshot.processors.get(name.as_str());
    let document = document.ok_or_else(|| TrialError::NoProcessor { name: name.clone() })?;
    let profile = match &wanted.profile {
        Some(name) => {
            let found = snapshot.profile(name);
            Some(found.ok_or_else(|| TrialError::NoProfile { name: name.clone() })?)
        }
        None => profile_with(snapshot, document.name()),
    };
    let began = namespace.shared.clock.now();
    let cycle = CycleIdentity { id, trigger: "manual:test".to_owned(), nominal: began };
    let asked = orbit_core::synthesis::trial_of_processor(snapshot, document, profile, cycle)?;
    let step = asked.step;
    let busy = || TrialError::Busy { name: document.name().clone(), concurrency: document.concurrency() };
    let _permit = permit(namespace, document.name()).await.ok_or_else(busy)?;
    let wanted = Try { document: document.clone(), asked, input: wanted.input.clone(), keep: wanted.keep };
    // Tracked, so that a node that stops waits for it as for a delivery.
    let tried = namespace.tasks.track_future(attempt(namespace, wanted, &act.token)).await;
    let told = json!({
        "processor": name,
        "settings": settings_digest(document),
        "snapshot": snapshot.digest(),
        "profile": profile.map(|profile| &profile.label),
        "step": step,
    });
    let mut told = with_outcome(told, &tried, document.media_type(), (began, namespace.shared.clock.now()));
    let at = namespace.shared.clock.now();
    let record = Record::fact(at, Kind::ProcessorTested, Subject::default(), told.clone());
    namespace.store.append(vec![record]).await?;
    told["namespace"] = json!(namespace.name);
    told["stderr"] = json!(String::from_utf8_lossy(&tried.words));
    told["kept"] = json!(tried.kept);
    Ok(told)
}

/// One of the processor's permits, if one comes free in time. Nobody queues for permits, and so this looks again and again.
async fn permit(namespace: &Namespace, processor: &DocName) -> Option<Permit> {
    let free = async {
        loop {
            if let Some(permit) = namespace.permits.admit().await.processor(processor.as_str()) {
                return permit;
            }
            tokio::time::sleep(PERMIT_POLL).await;
        }
    };
    tokio::time::timeout(PERMIT_WAIT, free).await.ok()
}

/// The facts of the record, and what came of it.
fn with_outcome(
    mut told: Value,
    tried: &Tried,
    media_type: &str,
    (began, ended): (Timestamp, Timestamp),
) -> Value {
    told["outcome"] = json!(if tried.result.is_ok() { "succeeded" } else { "failed" });
    told["duration_ms"] = json!(ended.duration_since(began).as_millis().max(0));
    told["usage"] = json!(tried.usage);
    told["input"] =
        json!(tried.input.as_ref().map(|input| json!({ "digest": input.digest, "bytes": input.bytes })));
    let (output, failure, message) = match &tried.result {
        Ok(blob) => {
            let output = json!({ "digest": blob.digest, "bytes": blob.bytes, "media_type": media_type });
            (output, Value::Null, Value::Null)
        }
        Err(failure) => (Value::Null, json!(failure), json!(failure.to_string())),
    };
    told["output"] = output;
    told["failure"] = failure;
    told["message"] = message;
    told
}
