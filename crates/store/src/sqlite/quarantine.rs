//! Crashes are counted against the processors whose steps were under way, until a step of theirs is done.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use orbit_core::digest::Digest;
use orbit_core::limits::PROCESSOR_CRASHES_MAX;
use orbit_core::record::{Kind, Subject};
use orbit_core::run::Step;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::json;
use uuid::Uuid;

use super::SqliteStore;
use super::columns::{self, Micros, Text};
use super::fault::Attempt;
use super::record::{Facts, fact, facts};
use super::tx::Tx;
use crate::StoreError;
use crate::contract::quarantine::{Quarantine, QuarantineStore};

#[async_trait]
impl QuarantineStore for SqliteStore {
    async fn quarantined(&self) -> Result<Vec<Quarantine>, StoreError> {
        self.read(|tx| {
            let sql =
                "SELECT * FROM processor_crashes WHERE quarantined_at IS NOT NULL ORDER BY processor, settings";
            Ok(tx.prepare_cached(sql)?.query_map((), read)?.collect::<Result<_, _>>()?)
        })
        .await
    }

    async fn release_processor(
        &self,
        processor: &str,
        now: Timestamp,
    ) -> Result<Vec<Quarantine>, StoreError> {
        let processor = processor.to_owned();
        self.write(move |tx| release(tx, &processor, now)).await
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<Quarantine> {
    Ok(Quarantine {
        processor: row.get("processor")?,
        settings: columns::digest(row, "settings")?,
        crashes: row.get("crashes")?,
        since: columns::instant(row, "quarantined_at")?,
    })
}

/// A processor by its name and by what its document said.
type Suspect = (String, Digest);

/// Who does this step of the run, as its execution request says.
fn suspect(tx: &Connection, run_id: Uuid, step: Step) -> Attempt<Option<Suspect>> {
    let sql = "SELECT value ->> '$.processor.name' AS name, value ->> '$.processor.settings' AS settings
        FROM run_requests, json_each(request, '$.steps') WHERE run_id = ?1 AND value ->> '$.step' = ?2";
    let read = |row: &Row<'_>| Ok((row.get("name")?, columns::digest(row, "settings")?));
    Ok(tx.prepare_cached(sql)?.query_row(params![Text(run_id), step.name()], read).optional()?)
}

/// Whether anything is counted against anybody: mostly nothing is, and then no request has to be read.
fn is_anybody_suspect(tx: &Connection) -> Attempt<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM processor_crashes)";
    Ok(tx.prepare_cached(sql)?.query_row((), |row| row.get(0))?)
}

/// One crash: it counts once against each processor, however many of its steps were under way.
#[derive(Default)]
pub(super) struct Crash {
    counted: BTreeMap<Suspect, u32>,
}

impl Crash {
    /// A step was under way; what its record says of the processor.
    pub(super) fn count(&mut self, tx: &Connection, run_id: Uuid, step: Step) -> Attempt<Facts> {
        let Some(suspect) = suspect(tx, run_id, step)? else { return Ok(Facts::new()) };
        let (processor, settings) = suspect.clone();
        let crashes = if let Some(crashes) = self.counted.get(&suspect) {
            *crashes
        } else {
            let upsert = "INSERT INTO processor_crashes (processor, settings, crashes) VALUES (?1, ?2, 1)
                ON CONFLICT (processor, settings) DO UPDATE SET crashes = crashes + 1 RETURNING crashes";
            let parameters = params![processor, Text(settings)];
            tx.prepare_cached(upsert)?.query_row(parameters, |row| row.get(0))?
        };
        self.counted.insert(suspect, crashes);
        Ok(facts(json!({ "processor": processor, "settings": settings, "crashes_in_a_row": crashes })))
    }

    /// Whoever has too many is quarantined from now on.
    pub(super) fn judge(self, tx: &Tx<'_>, now: Timestamp) -> Attempt<()> {
        for ((processor, settings), crashes) in self.counted {
            let update = "UPDATE processor_crashes SET quarantined_at = ?3
                WHERE processor = ?1 AND settings = ?2 AND crashes >= ?4 AND quarantined_at IS NULL";
            let parameters = params![processor, Text(settings), Micros(now), PROCESSOR_CRASHES_MAX];
            if tx.prepare_cached(update)?.execute(parameters)? == 1 {
                let body =
                    json!({ "processor": processor, "settings": settings, "crashes_in_a_row": crashes });
                fact(tx, now, Kind::ProcessorQuarantined, Subject::default(), facts(body))?;
            }
        }
        Ok(())
    }
}

/// A step of the run is done: whoever did it does not take the machine down.
pub(super) fn clear(tx: &Connection, run_id: Uuid, step: Step) -> Attempt<()> {
    if !is_anybody_suspect(tx)? {
        return Ok(());
    }
    if let Some((processor, settings)) = suspect(tx, run_id, step)? {
        tx.prepare_cached("DELETE FROM processor_crashes WHERE processor = ?1 AND settings = ?2")?
            .execute(params![processor, Text(settings)])?;
    }
    Ok(())
}

/// Why the step of the run must not be done, if so.
pub(super) fn of_step(tx: &Connection, run_id: Uuid, step: Step) -> Attempt<Option<Quarantine>> {
    if !is_anybody_suspect(tx)? {
        return Ok(None);
    }
    let Some((processor, settings)) = suspect(tx, run_id, step)? else { return Ok(None) };
    let sql = "SELECT * FROM processor_crashes
        WHERE processor = ?1 AND settings = ?2 AND quarantined_at IS NOT NULL";
    Ok(tx.prepare_cached(sql)?.query_row(params![processor, Text(settings)], read).optional()?)
}

fn release(tx: &Tx<'_>, processor: &str, now: Timestamp) -> Attempt<Vec<Quarantine>> {
    let delete =
        "DELETE FROM processor_crashes WHERE processor = ?1 AND quarantined_at IS NOT NULL RETURNING *";
    let released = tx.prepare_cached(delete)?.query_map([processor], read)?.collect::<Result<Vec<_>, _>>()?;
    for Quarantine { processor, settings, crashes, since } in &released {
        let body = json!({ "processor": processor, "settings": settings, "crashes_in_a_row": crashes, "since": since });
        fact(tx, now, Kind::ProcessorReleased, Subject::default(), facts(body))?;
    }
    Ok(released)
}
