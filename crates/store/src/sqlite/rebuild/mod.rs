//! The fold of the whole log: every derived table is made again from the records alone, compared with the rows that stand, and put in their place.
//!
//! All of it is one transaction of the writer, so that a crash in the middle leaves the old rows. The fold writes into temporary tables of the same names,
//! which SQLite finds before those of the store: what changes rows while the engine runs is what changes them here. Memory is bounded: records are streamed, and
//! what was folded so far lies in the temporary tables, which spill to disk. Only facts are read. Of what the log does not tell, `adopt` takes over what
//! stands; rows that are equal are not written.
//!
//! | table | is | why |
//! | --- | --- | --- |
//! | `log_*` | primary | the truth; `orbit log verify` checks it |
//! | `snapshots`, `payloads` | primary | their content has the digest that records name |
//! | `store.epoch`, `store.claims`, `store.restored_at` | primary | they only make tokens and names unique |
//! | `nodes` | primary | who works at the store now; `node_started` tells of everybody who ever did |
//! | `store.active_snapshot` | derived | `config_activated` |
//! | `cycles`, `initiations`, `initiation_holds` | derived | `cycle_*`, `initiation_*`; the preset of a cycle that was fired by an older version stays as it stands |
//! | `lanes`, `runs`, `run_requests`, `steps`, `work_done` | derived | `run_admitted` and every event of a run; `artifacts_dropped` |
//! | `deliveries`, `attempts`, `endpoints` | derived | `delivery_created`, `attempt_started`, `receipt_captured`, `delivery_settled`, `redriven`, `breaker_*`, `endpoint_*` |
//! | `notices` that are owed | derived | `delivery_created`; in which order they began to gather is not told and matters no more (`ordinal`) |
//! | `notices` that gather, `notify_cursor` | hint | no record tells of them, or telling would have to be told again; without a cursor the log is followed from its end on |
//! | `halts`, `processor_crashes` | derived | `halted`, `resumed`, `step_interrupted`, `processor_*`; the halt of a restore has its record from the next start on |
//! | `schedule_cursors` | hint | a turn that decides nothing moves them without a record; one that is behind the log or ahead of the clock is made from it, and then an instant may be decided again, never fired twice |
//! | `token` of any table | hint | a claim that is still out keeps its own; a row that was missing gets none, so that its claim is lost |
//! | `cycles.state` `selecting` | hint | a claim; recovery makes `waiting` or `queued` of it, and so does this for a row that was missing |

mod adopt;
mod cycle;
mod delivery;
mod governance;
mod numbers;
mod reading;
mod run;
mod tables;

use std::sync::Arc;

use jiff::Timestamp;
use orbit_core::record::{Kind, Subject};
use rusqlite::Connection;
use rusqlite::functions::FunctionFlags;
use serde_json::{Value, json};

use super::fault::{Attempt, Fault};
use super::record::{fact, facts};
use super::tx::Tx;
use super::{SqliteStore, signing};
use crate::StoreError;
use crate::contract::rebuild::{RebuildMode, Rebuilt};
use reading::Entry;

/// Called now and then with how many records were read, of how many.
pub type Progress = dyn Fn(u64, u64) + Send + Sync;

impl SqliteStore {
    /// Folds the log and compares; with [`RebuildMode::Apply`] every derived table is what the log says afterwards. Refuses, and changes nothing, where a record
    /// contradicts those before it. Nobody may have claims that are to outlive it but those that rows know.
    pub async fn rebuild(
        &self,
        mode: RebuildMode,
        now: Timestamp,
        progress: Arc<Progress>,
    ) -> Result<Rebuilt, StoreError> {
        self.write(move |tx| rebuild(tx, (mode, Numbers::Told), now, &*progress)).await
    }

    /// The same of a file that is a copy of rows in a database, which has numbered them.
    pub(crate) async fn rebuild_copy(
        &self,
        mode: RebuildMode,
        now: Timestamp,
        progress: Arc<Progress>,
    ) -> Result<Rebuilt, StoreError> {
        self.write(move |tx| rebuild(tx, (mode, Numbers::Given), now, &*progress)).await
    }
}

/// Where the numbers of rows come from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Numbers {
    /// The order in which the log tells of the rows.
    Told,
    /// A database has given them.
    Given,
}

fn rebuild(
    tx: &Tx<'_>,
    (mode, numbers): (RebuildMode, Numbers),
    now: Timestamp,
    progress: &Progress,
) -> Attempt<Rebuilt> {
    if mode == RebuildMode::Apply && signing::restored_at(tx)?.is_some() {
        return Err(Fault::contradiction(
            "it was restored and its log has no new name yet: start it once before it is rebuilt",
        ));
    }
    know_canonical(tx)?;
    tables::make_temporary(tx)?;
    if numbers == Numbers::Given {
        numbers::keep_lanes(tx)?;
    }
    let records = reading::each(tx, progress, |entry| fold(tx, entry))?;
    if numbers == Numbers::Given {
        numbers::keep(tx)?;
    }
    adopt::adopt(tx, tx.next_position(), now)?;
    let tables = tables::compare(tx)?;
    let rebuilt = Rebuilt { records, tables };
    match mode {
        RebuildMode::Compare => tables::drop_temporary(tx)?,
        RebuildMode::Apply => {
            tables::apply(tx, &rebuilt.tables)?;
            tables::drop_temporary(tx)?;
            let body = json!({ "records": rebuilt.records, "tables": rebuilt.tables });
            fact(tx, now, Kind::TablesRebuilt, Subject::default(), facts(body))?;
        }
    }
    Ok(rebuilt)
}

/// One record; those of which no row knows are passed over, among them all of a newer version's.
fn fold(tx: &Connection, entry: &Entry) -> Attempt<()> {
    match entry.kind.as_str() {
        "config_activated" | "halted" | "resumed" | "processor_quarantined" | "processor_released" => {
            governance::fold(tx, entry)
        }
        "schedule_decided"
        | "cycle_fired"
        | "cycle_finished"
        | "initiation_selected"
        | "initiation_released" => cycle::fold(tx, entry),
        "run_admitted" => run::admitted(tx, entry),
        "delivery_created"
        | "attempt_started"
        | "receipt_captured"
        | "breaker_opened"
        | "breaker_half_opened"
        | "breaker_closed"
        | "endpoint_failing"
        | "endpoint_disabled"
        | "endpoint_enabled" => delivery::fold(tx, entry),
        "artifacts_dropped" => run::forgotten(tx, entry),
        "delivery_settled" | "redriven" => {
            delivery::fold(tx, entry)?;
            run::happened(tx, entry)
        }
        "step_started" | "step_succeeded" | "step_failed" | "step_interrupted" | "synthesis_failed"
        | "cancelled" | "deadline_passed" => run::happened(tx, entry),
        _ => Ok(()),
    }
}

/// Gives SQL the function `canonical`: JSON that differs only in how a number is spelled is equal in it.
fn know_canonical(connection: &Connection) -> Attempt<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_scalar_function("canonical", 1, flags, |context| {
        let text: Option<String> = context.get(0)?;
        let Some(text) = text else { return Ok(None) };
        let value = serde_json::from_str::<Value>(&text);
        Ok(Some(value.map_or(text, |value| orbit_core::canonical::of(&value))))
    })?;
    Ok(())
}

/// The fault of a record that cannot be folded, with its position.
fn at_position(entry: &Entry, fault: Fault) -> Fault {
    let told = match fault {
        Fault::Contradiction(message) => message,
        Fault::Sqlite(error) if error.sqlite_error_code().is_none() => error.to_string(),
        Fault::Sqlite(error)
            if error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation) =>
        {
            error.to_string()
        }
        fault @ (Fault::Sqlite(_) | Fault::NotJoined) => return fault,
    };
    Fault::contradiction(format!(
        "the record at position {} (`{}`) cannot follow those before it: {told}",
        entry.position, entry.kind
    ))
}
