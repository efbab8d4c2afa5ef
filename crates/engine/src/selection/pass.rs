//! One reading of a run profile's source, on a thread that may wait, so that no other task does.

use std::panic::resume_unwind;
use std::sync::Arc;

use jiff::Timestamp;
use orbit_core::config::{RunProfile, Snapshot, Source};
use orbit_core::digest::Digest;
use orbit_core::id::initiation_id;
use orbit_core::selection::{Chosen, Pass, release_words, scope_text, taken_since};
use orbit_store::contract::selection::{Choice, Initiation, TakeRule};
use serde_json::{Value, json};
use tokio::sync::SemaphorePermit;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::admission::AdmissionError;
use super::listing::Listing;
use super::sources::{self, Input, SourceError};
use super::{program, remote};
use crate::namespace::Namespace;

/// Whom a reading is for.
pub(super) struct Reading<'a> {
    /// The snapshot that the source is a part of.
    pub(super) snapshot: &'a Snapshot,
    /// The run profile that says which source and how to choose.
    pub(super) run_profile: &'a RunProfile,
    /// The cycle; its id seeds a weighted choice.
    pub(super) cycle_id: Uuid,
    /// The id of the act; a program's listing is kept under it.
    pub(super) act_id: Uuid,
    /// Ends the reading.
    pub(super) cancel: &'a CancellationToken,
}

/// Reads the source once. The candidates of the answer were new when they were seen.
pub(super) async fn read(namespace: &Namespace, reading: &Reading<'_>) -> Result<Choice, AdmissionError> {
    let selection = &reading.run_profile.execution_policy.selection;
    let source = reading
        .snapshot
        .sources
        .get(&selection.source)
        .ok_or_else(|| AdmissionError::NoSource { name: selection.source.clone() })?;
    let failed = |error| AdmissionError::from_source(&selection.source, error);
    let _turn = outside(namespace, source, reading.cancel).await?;
    // The listing is removed when it is dropped, after the reading.
    let (input, described, _listing) = input(namespace, source, reading).await.map_err(failed)?;
    let rule = rule(reading.run_profile, namespace.shared.clock.now());
    let mut pass = Pass::new(selection.choose, reading.cycle_id, &selection.dedupe.fields);
    let (store, asked, cancel) = (Arc::clone(&namespace.store), rule.clone(), reading.cancel.clone());
    let work = move || -> Result<_, SourceError> {
        // A cut is noticed at every question, too.
        let taken = |hashes: &[Digest]| {
            if cancel.is_cancelled() { Err(SourceError::Cut) } else { Ok(store.taken(&asked, hashes)?) }
        };
        let content = sources::feed(&input, &mut pass, &cancel, &taken)?;
        Ok((pass.finish(taken)?, content))
    };
    let (selected, content) = match tokio::task::spawn_blocking(work).await {
        Ok(read) => read.map_err(failed)?,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            Err(_) => return Err(AdmissionError::Cut),
        },
    };
    let mut report = selected.report;
    report["source"] = described;
    report["content"] = content;
    report["compared"] = json!(selection.dedupe.fields);
    let id = initiation_id(reading.cycle_id);
    let candidates = selected.candidates.into_iter().map(|chosen| initiation(id, chosen)).collect();
    Ok(Choice { candidates, rule, report })
}

/// What is to be true of an initiation of this run profile that is taken now.
pub(super) fn rule(run_profile: &RunProfile, now: Timestamp) -> TakeRule {
    let selection = &run_profile.execution_policy.selection;
    let dedupe = &selection.dedupe;
    TakeRule {
        scope: scope_text(dedupe.scope, run_profile.run_profile_id, &selection.source),
        taken_since: taken_since(dedupe.window, now),
        release_on: release_words(dedupe),
    }
}

/// A chosen candidate as the initiation it may become.
pub(super) fn initiation(id: Uuid, chosen: Chosen) -> Initiation {
    let (label, weight, metadata) = chosen.candidate.into_parts();
    Initiation { id, label, weight, metadata, hash: chosen.hash }
}

/// What is read from outside of the process is read by a few at once.
async fn outside<'a>(
    namespace: &'a Namespace,
    source: &Source,
    cancel: &CancellationToken,
) -> Result<Option<SemaphorePermit<'a>>, AdmissionError> {
    match source {
        Source::Inline(_) => Ok(None),
        Source::File(_) | Source::Exec(_) | Source::Http(_) => tokio::select! {
            permit = namespace.readings.acquire() => permit.map(Some).map_err(|_| AdmissionError::Cut),
            () = cancel.cancelled() => Err(AdmissionError::Cut),
        },
    }
}

async fn input(
    namespace: &Namespace,
    source: &Source,
    reading: &Reading<'_>,
) -> Result<(Input, Value, Option<Listing>), SourceError> {
    match source {
        Source::Inline(inline) => {
            let described = json!({ "name": inline.name, "kind": "inline" });
            Ok((Input::Items(inline.items.clone()), described, None))
        }
        Source::File(file) => {
            let described = json!({ "name": file.name, "kind": "file", "path": file.path });
            Ok((Input::File { path: namespace.folder().join(&file.path) }, described, None))
        }
        Source::Exec(exec) => {
            let listing = program::list(namespace, exec, reading.act_id, reading.cancel).await?;
            let described = json!({ "name": exec.name, "kind": "exec", "usage": listing.told });
            Ok((Input::File { path: listing.path() }, described, Some(listing)))
        }
        Source::Http(http) => {
            let listing = remote::list(namespace, http, reading.act_id, reading.cancel).await?;
            let described = json!({ "name": http.name, "kind": "http", "http": listing.told });
            Ok((Input::File { path: listing.path() }, described, Some(listing)))
        }
    }
}
