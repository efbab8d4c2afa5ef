//! Cycles, what they are about, and up to where firings are decided.

use jiff::Timestamp;
use orbit_core::digest::Digest;
use orbit_core::run::Outcome;
use rusqlite::{Connection, params};
use serde_json::Value;
use uuid::Uuid;

use super::super::columns::{Micros, Text};
use super::super::fault::Attempt;
use super::super::{cycle, selection};
use super::adopt::UNTOLD;
use super::reading::Entry;
use crate::contract::schedule::NewCycle;
use crate::contract::selection::{Initiation, TakeRule};

/// The trigger of a cycle that a schedule fired.
const BY_SCHEDULE: &str = "schedule";

/// See [`super::fold`].
pub(super) fn fold(tx: &Connection, entry: &Entry) -> Attempt<()> {
    match entry.kind.as_str() {
        "schedule_decided" => decided_through(tx, entry.field("run_profile_id")?, entry.field("to")?),
        "cycle_fired" => fired(tx, entry),
        "cycle_finished" => {
            let outcome: Outcome = entry.field("outcome")?;
            cycle::end(tx, entry.cycle_id()?, (outcome, entry.body["reason"].as_str()), entry.at)
        }
        "initiation_selected" => selected(tx, entry),
        "initiation_released" => {
            let (initiation_id, hash): (Uuid, Digest) = (entry.field("initiation_id")?, entry.field("hash")?);
            cycle::free(tx, initiation_id, (entry.text("scope")?, &hash.to_string()), entry.at)
        }
        _ => Ok(()),
    }
}

fn fired(tx: &Connection, entry: &Entry) -> Attempt<()> {
    let cycle = NewCycle {
        cycle_id: entry.cycle_id()?,
        run_profile_id: entry.field("run_profile_id")?,
        run_profile: entry.field("run_profile")?,
        trigger: entry.field("trigger")?,
        nominal: entry.field("nominal")?,
        snapshot: entry.snapshot()?,
        queued: entry.field("queued")?,
        preset: entry.body.get("preset").cloned().unwrap_or_else(|| UNTOLD.into()),
        detail: Value::Null,
    };
    cycle::insert(tx, &cycle, entry.at)?;
    if cycle.trigger == BY_SCHEDULE {
        decided_through(tx, cycle.run_profile_id, cycle.nominal)?;
    }
    Ok(())
}

/// The firings of the run profile are decided up to here at least. What its decisions remembered is not told; without it, what is due before
/// the next turn is decided as after a changed schedule.
fn decided_through(tx: &Connection, run_profile_id: Uuid, nominal: Timestamp) -> Attempt<()> {
    let upsert = "INSERT INTO schedule_cursors (run_profile_id, decided_through, open_decisions) VALUES (?1, ?2, '{}')
        ON CONFLICT (run_profile_id) DO UPDATE SET decided_through = max(decided_through, excluded.decided_through)";
    tx.prepare_cached(upsert)?.execute(params![Text(run_profile_id), Micros(nominal)])?;
    Ok(())
}

fn selected(tx: &Connection, entry: &Entry) -> Attempt<()> {
    let initiation: Initiation = entry.field("initiation")?;
    let rule = TakeRule {
        scope: entry.field("scope")?,
        // It was taken, so that no older holder counted.
        taken_since: Some(Timestamp::MAX),
        release_on: entry.optional("release_on")?.unwrap_or_else(|| vec![UNTOLD.to_owned()]),
    };
    selection::hold(tx, &initiation, &rule, entry.at)?;
    selection::keep(tx, entry.cycle_id()?, &initiation, &rule, entry.at)
}
