//! Crashes are counted against the processors whose steps were under way, until a step of theirs is done.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use orbit_core::digest::Digest;
use orbit_core::limits::PROCESSOR_CRASHES_MAX;
use orbit_core::record::{Kind, Subject};
use orbit_core::run::Step;
use serde_json::json;
use uuid::Uuid;

use super::PostgresStore;
use super::columns::{self, Micros, Row, Text, params};
use super::fault::Attempt;
use super::record::{Facts, fact, facts};
use super::tx::{Connection, Tx, reading, writing};
use crate::StoreError;
use crate::contract::quarantine::{Quarantine, QuarantineStore};

#[async_trait]
impl QuarantineStore for PostgresStore {
    async fn quarantined(&self) -> Result<Vec<Quarantine>, StoreError> {
        reading!(self, |tx| {
            let sql = "SELECT * FROM processor_crashes WHERE quarantined_at IS NOT NULL ORDER BY processor, settings";
            tx.query_all(sql, params![], read).await
        })
    }

    async fn release_processor(
        &self,
        processor: &str,
        now: Timestamp,
    ) -> Result<Vec<Quarantine>, StoreError> {
        let processor = processor.to_owned();
        writing!(self, |tx| release(tx, &processor, now).await)
    }
}

fn read(row: &Row) -> Attempt<Quarantine> {
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
async fn suspect(tx: &Connection, run_id: Uuid, step: Step) -> Attempt<Option<Suspect>> {
    let sql = "SELECT step -> 'processor' ->> 'name' AS name, step -> 'processor' ->> 'settings' AS settings
        FROM run_requests, json_array_elements(CASE json_typeof(request::json -> 'steps') WHEN 'array' THEN request::json -> 'steps' END)
            AS steps (step)
        WHERE run_id = $1 AND step ->> 'step' = $2";
    let read = |row: &Row| Ok((row.get("name")?, columns::digest(row, "settings")?));
    tx.query_optional(sql, params![Text(run_id), step.name()], read).await
}

/// Whether anything is counted against anybody: mostly nothing is, and then no request has to be read.
pub(super) async fn is_anybody_suspect(tx: &Tx) -> Attempt<bool> {
    if tx.has_no_suspect() {
        return Ok(false);
    }
    let sql = "SELECT EXISTS (SELECT 1 FROM processor_crashes)";
    let any = tx.query_row(sql, params![], |row| row.get(0)).await?;
    tx.knows_suspects(any);
    Ok(any)
}

/// One crash: it counts once against each processor, however many of its steps were under way.
#[derive(Default)]
pub(super) struct Crash {
    counted: BTreeMap<Suspect, u32>,
}

impl Crash {
    /// A step was under way; what its record says of the processor.
    pub(super) async fn count(&mut self, tx: &Tx, run_id: Uuid, step: Step) -> Attempt<Facts> {
        let Some(suspect) = suspect(tx, run_id, step).await? else { return Ok(Facts::new()) };
        tx.knows_suspects(true);
        let (processor, settings) = suspect.clone();
        let crashes = if let Some(crashes) = self.counted.get(&suspect) {
            *crashes
        } else {
            let upsert = "INSERT INTO processor_crashes (processor, settings, crashes) VALUES ($1, $2, 1)
                ON CONFLICT (namespace, processor, settings) DO UPDATE SET crashes = processor_crashes.crashes + 1 RETURNING crashes";
            let parameters = params![processor, Text(settings)];
            tx.query_row(upsert, parameters, |row| row.get(0)).await?
        };
        self.counted.insert(suspect, crashes);
        Ok(facts(json!({ "processor": processor, "settings": settings, "crashes_in_a_row": crashes })))
    }

    /// Whoever has too many is quarantined from now on.
    pub(super) async fn judge(self, tx: &Tx, now: Timestamp) -> Attempt<()> {
        for ((processor, settings), crashes) in self.counted {
            let update = "UPDATE processor_crashes SET quarantined_at = $3
                WHERE processor = $1 AND settings = $2 AND crashes >= $4 AND quarantined_at IS NULL";
            let parameters = params![processor, Text(settings), Micros(now), PROCESSOR_CRASHES_MAX];
            if tx.execute(update, parameters).await? == 1 {
                let body =
                    json!({ "processor": processor, "settings": settings, "crashes_in_a_row": crashes });
                fact(tx, now, Kind::ProcessorQuarantined, Subject::default(), facts(body))?;
            }
        }
        Ok(())
    }
}

/// A step of the run is done: whoever did it does not take the machine down.
pub(super) async fn clear(tx: &Tx, run_id: Uuid, step: Step) -> Attempt<()> {
    if !is_anybody_suspect(tx).await? {
        return Ok(());
    }
    if let Some((processor, settings)) = suspect(tx, run_id, step).await? {
        tx.send(
            "DELETE FROM processor_crashes WHERE processor = $1 AND settings = $2",
            params![processor, Text(settings)],
        )
        .await?;
    }
    Ok(())
}

/// Why the step of the run must not be done, if so.
pub(super) async fn of_step(tx: &Tx, run_id: Uuid, step: Step) -> Attempt<Option<Quarantine>> {
    if !is_anybody_suspect(tx).await? {
        return Ok(None);
    }
    let Some((processor, settings)) = suspect(tx, run_id, step).await? else { return Ok(None) };
    let sql = "SELECT * FROM processor_crashes
        WHERE processor = $1 AND settings = $2 AND quarantined_at IS NOT NULL";
    tx.query_optional(sql, params![processor, Text(settings)], read).await
}

async fn release(tx: &Tx, processor: &str, now: Timestamp) -> Attempt<Vec<Quarantine>> {
    let delete =
        "DELETE FROM processor_crashes WHERE processor = $1 AND quarantined_at IS NOT NULL RETURNING *";
    let released = tx.query_all(delete, params![processor], read).await?;
    for Quarantine { processor, settings, crashes, since } in &released {
        let body = json!({ "processor": processor, "settings": settings, "crashes_in_a_row": crashes, "since": since });
        fact(tx, now, Kind::ProcessorReleased, Subject::default(), facts(body))?;
    }
    Ok(released)
}
