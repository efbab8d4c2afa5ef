//! Cycles, what they are about, and up to where firings are decided.

use jiff::Timestamp;
use rusqlite::{Connection, params};
use serde_json::Value;
use uuid::Uuid;

use super::super::columns::{Micros, Text};
use super::super::fault::Attempt;
use super::super::{cycle, selection};
use super::adopt::UNTOLD;
use super::reading::Entry;
use crate::contract::schedule::NewCycle;
use crate::contract::selection::TakeRule;
use crate::rows::cycle::{Finished, Fired, Released, Selected, Told};

/// The trigger of a cycle that a schedule fired.
const BY_SCHEDULE: &str = "schedule";

/// See [`super::fold`].
pub(super) fn fold(tx: &Connection, entry: &Entry) -> Attempt<()> {
    if entry.kind == "schedule_decided" {
        return decided_through(tx, entry.field("run_profile_id")?, entry.field("to")?);
    }
    match Told::read(&entry.kind, &entry.body)? {
        Some(Told::Fired(told)) => fired(tx, told, entry),
        Some(Told::Finished(Finished { outcome, reason })) => {
            cycle::end(tx, entry.cycle_id()?, (outcome, reason.as_deref()), entry.at)
        }
        Some(Told::Selected(told)) => selected(tx, told, entry),
        Some(Told::Released(Released { initiation_id, hash, scope })) => {
            cycle::free(tx, initiation_id, (&scope, &hash.to_string()), entry.at)
        }
        None => Ok(()),
    }
}

fn fired(tx: &Connection, told: Fired, entry: &Entry) -> Attempt<()> {
    let Fired { run_profile_id, run_profile, trigger, nominal, queued, preset } = told;
    let cycle = NewCycle {
        cycle_id: entry.cycle_id()?,
        run_profile_id,
        run_profile,
        trigger,
        nominal,
        snapshot: entry.snapshot()?,
        queued,
        preset: preset.unwrap_or_else(|| UNTOLD.into()),
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

fn selected(tx: &Connection, told: Selected, entry: &Entry) -> Attempt<()> {
    let Selected { initiation, scope, release_on } = told;
    let rule = TakeRule {
        scope,
        // It was taken, so that no older holder counted.
        taken_since: Some(Timestamp::MAX),
        release_on: release_on.unwrap_or_else(|| vec![UNTOLD.to_owned()]),
    };
    selection::hold(tx, &initiation, &rule, entry.at)?;
    selection::keep(tx, entry.cycle_id()?, &initiation, &rule, entry.at)
}
