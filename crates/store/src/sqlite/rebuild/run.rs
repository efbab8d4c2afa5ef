//! Runs, their steps, the work that they did, and the crashes that are counted against who did it.

use orbit_core::digest::Digest;
use orbit_core::normalize::BatchPlace;
use orbit_core::run::RunEvent;
use orbit_core::run::fold::{FoldError, Folded, Told};
use rusqlite::{Connection, params};
use serde_json::Value;

use super::super::columns::{Length, Text};
use super::super::fault::{Attempt, Fault};
use super::super::normalize;
use super::super::transition::{self, Run};
use super::super::{quarantine, selection};
use super::reading::Entry;
use crate::contract::Artifact;
use crate::contract::selection::NewRun;
use crate::rows::admitted::Admitted;
use crate::rows::step::Done;

impl From<FoldError> for Fault {
    fn from(error: FoldError) -> Self {
        Self::contradiction(error.to_string())
    }
}

/// A run exists, and its cycle is running.
pub(super) fn admitted(tx: &Connection, entry: &Entry) -> Attempt<()> {
    let told = Admitted::<Value>::read(&entry.body)?;
    let run = Run {
        id: entry.run_id()?,
        cycle_id: entry.cycle_id()?,
        profile_id: entry.profile_id()?,
        snapshot: entry.snapshot()?,
        state: Folded::admit(&entry.body)?.state,
        token: 0,
        deadline_at: told.deadline_at,
        made: None,
    };
    let new = NewRun {
        run_id: run.id,
        profile_id: run.profile_id,
        profile: told.profile,
        priority: told.priority,
        deadline_at: run.deadline_at,
        request: told.request,
        rejected: None,
        retry_of: told.retry_of,
        start: told.start,
    };
    tx.prepare_cached("UPDATE cycles SET state = 'running' WHERE cycle_id = ?1 AND state <> 'finished'")?
        .execute([Text(run.cycle_id)])?;
    let initiation = selection::initiation_of(tx, run.cycle_id)?.map(|initiation| initiation.label);
    selection::insert(tx, &run, &new, initiation.as_deref(), entry.at)
}

/// An event of a run; a record without one changes no run.
pub(super) fn happened(tx: &Connection, entry: &Entry) -> Attempt<()> {
    if entry.body.get("event").is_none() {
        return Ok(());
    }
    let mut run = transition::load_known(tx, entry.run_id()?)?;
    let before = run.state.clone();
    let mut folded = Folded { state: run.state };
    let event = folded.apply(&entry.kind, Told::read(&entry.kind, &entry.body)?)?;
    run.state = folded.state;
    let Some(event) = event else { return Ok(()) };
    follow(tx, &mut run, &event, entry)?;
    transition::keep(tx, &run, &before, &event, entry.at)?;
    if let Some(place) = entry.optional::<BatchPlace>("batch_place")? {
        normalize::wait(tx, run.id, &place)?;
    }
    Ok(())
}

/// What else the record of an event tells.
fn follow(tx: &Connection, run: &mut Run, event: &RunEvent, entry: &Entry) -> Attempt<()> {
    match event {
        RunEvent::StepSucceeded { step, .. } => {
            let artifact = Artifact {
                digest: entry.field("digest")?,
                bytes: entry.field("bytes")?,
                media_type: entry.field("media_type")?,
            };
            quarantine::clear(tx, run.id, *step)?;
            if let Some(key) = entry.optional::<Digest>("work")? {
                let done = Done { key, artifact: &artifact, run_id: run.id, step: *step };
                normalize::remember(tx, &done, entry.at)?;
            }
            run.made = Some(artifact);
            Ok(())
        }
        RunEvent::StepInterrupted { .. } => crashed(tx, entry),
        RunEvent::StepStarted { .. }
        | RunEvent::StepFailed { .. }
        | RunEvent::SynthesisFailed { .. }
        | RunEvent::DeliverySettled { .. }
        | RunEvent::Redriven { .. }
        | RunEvent::Cancelled { .. }
        | RunEvent::DeadlinePassed { .. } => Ok(()),
    }
}

/// Payloads are gone, and with them what is remembered of the work that made them.
pub(super) fn forgotten(tx: &Connection, entry: &Entry) -> Attempt<()> {
    let mut forget = tx.prepare_cached("DELETE FROM work_done WHERE digest = ?1")?;
    for digest in entry.field::<Vec<Digest>>("digests")? {
        forget.execute([Text(digest)])?;
    }
    Ok(())
}

/// Each record of a crash says the new count.
fn crashed(tx: &Connection, entry: &Entry) -> Attempt<()> {
    let Some(crashes) = entry.body["crashes_in_a_row"].as_u64() else { return Ok(()) };
    let settings: Digest = entry.field("settings")?;
    let upsert = "INSERT INTO processor_crashes (processor, settings, crashes) VALUES (?1, ?2, ?3)
        ON CONFLICT (processor, settings) DO UPDATE SET crashes = excluded.crashes";
    let crashes = Length(crashes);
    tx.prepare_cached(upsert)?.execute(params![entry.text("processor")?, Text(settings), crashes])?;
    Ok(())
}
