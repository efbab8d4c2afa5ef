//! The row of a run, folded beside its state from the same records.

use jiff::Timestamp;
use orbit_core::normalize::BatchPlace;
use orbit_core::record::audit::{Fault, Header};
use orbit_core::run::{RunState, Step};
use rusqlite::{Connection, OptionalExtension as _};
use serde_json::Value;
use uuid::Uuid;

use super::cells::{Cell, Row, Table};
use super::cycles;
use super::owed::instant;
use crate::contract::Artifact;
use crate::rows::Contradiction;
use crate::rows::admitted::{About, Admitted, label_of, waits_for};
use crate::rows::run::columns_of;
use crate::sqlite::columns::Text;
use crate::sqlite::fault::Attempt;

pub(super) const RUNS: Table = Table {
    name: "runs",
    columns: &[
        "run_id",
        "cycle_id",
        "profile_id",
        "profile",
        "initiation",
        "state",
        "state_json",
        "attempt",
        "due_at",
        "lane",
        "priority",
        "deadline_at",
        "artifact_digest",
        "artifact_bytes",
        "artifact_media_type",
        "retry_of",
        "start_step",
        "started_at",
        "finished_at",
        "batch_key",
        "batch_items_max",
        "batch_due_at",
    ],
    sql: "SELECT run_id, cycle_id, profile_id, profile, initiation, state, state_json, attempt, due_at, lane, priority, deadline_at,
        artifact_digest, artifact_bytes, artifact_media_type, retry_of, start_step, started_at, finished_at, batch_key, batch_items_max,
        batch_due_at FROM runs WHERE run_id = ?1",
};

/// What records tell of the row besides the state.
#[derive(Debug)]
pub(super) struct RunRow {
    cycle_id: String,
    profile_id: String,
    profile: String,
    /// What the request says that it is about; else it is what its cycle is about.
    label: Option<String>,
    priority: f64,
    deadline_at: Timestamp,
    artifact: Option<Artifact>,
    retry_of: Option<Uuid>,
    start_step: Option<Step>,
    started_at: Timestamp,
    finished_at: Option<Timestamp>,
    batch: Option<BatchPlace>,
    /// Nothing has happened to it yet.
    is_new: bool,
}

impl RunRow {
    /// The record admits it.
    pub(super) fn admitted(header: &Header<'_>, body: &str) -> Result<Self, Contradiction> {
        let named = |name: &str, value: Option<&str>| {
            let missing = || Contradiction::new(format!("its header names no `{name}`"));
            value.map(str::to_owned).ok_or_else(missing)
        };
        let deserializer = || serde_json::Deserializer::from_str(body);
        // A request may be anything; nearly all name what they are about, and the rest of them is passed over.
        let (told, label) = if let Ok(told) = Admitted::<About>::read(&mut deserializer()) {
            told.apart(About::label)
        } else {
            let told = Admitted::<Value>::read(&mut deserializer())?;
            told.apart(|request| label_of(&request).map(str::to_owned))
        };
        Ok(Self {
            cycle_id: named("cycle_id", header.cycle_id)?,
            profile_id: named("profile_id", header.profile_id)?,
            profile: told.profile,
            label,
            priority: told.priority,
            deadline_at: told.deadline_at,
            retry_of: told.retry_of,
            start_step: told.start.as_ref().map(|start| start.step),
            artifact: told.start.map(|start| start.input),
            started_at: instant(header)?,
            finished_at: None,
            batch: None,
            is_new: true,
        })
    }

    /// An event has led to this state; its step may have had an output, after which the run waits for a batch.
    pub(super) fn happened(
        &mut self,
        state: &RunState,
        (output, batch): (Option<&Artifact>, Option<BatchPlace>),
        at: Timestamp,
    ) {
        self.is_new = false;
        self.finished_at = state.ending().map(|_| at);
        self.artifact = output.cloned().or_else(|| self.artifact.take());
        self.batch = batch.filter(|_| matches!(state, RunState::Ready { .. }));
    }

    /// How the row of the store differs from this one.
    pub(super) fn compare(
        &self,
        connection: &Connection,
        run_id: Uuid,
        state: &RunState,
    ) -> Attempt<Vec<Fault>> {
        let named = |_: &Cell| format!("run {run_id}");
        let found = RUNS.rows(connection, run_id)?;
        let mut faults = RUNS.compare(vec![self.row(connection, run_id, state)?], found, named);
        if let (true, Some(step)) = (faults.is_empty(), columns_of(state).to_start) {
            faults.extend(self.stands_elsewhere(connection, run_id, step)?);
        }
        Ok(faults)
    }

    fn row(&self, connection: &Connection, run_id: Uuid, state: &RunState) -> Attempt<Row> {
        let columns = columns_of(state);
        let (artifact, batch) = (self.artifact.as_ref(), self.batch.as_ref());
        let label = match &self.label {
            Some(label) => label.clone(),
            None => cycles::label(connection, &self.cycle_id)?.unwrap_or_default(),
        };
        Ok(vec![
            Cell::text(run_id),
            Cell::text(&self.cycle_id),
            Cell::text(&self.profile_id),
            Cell::text(&self.profile),
            Cell::Text(label),
            Cell::text(columns.name),
            Cell::json(state),
            Cell::number(columns.attempt),
            Cell::at(columns.due_at),
            // Which lane that is says its row; see below.
            if columns.to_start.is_some() { Cell::Untold } else { Cell::Null },
            Cell::Real(self.priority),
            Cell::at(Some(self.deadline_at)),
            Cell::text_or_null(artifact.map(|artifact| artifact.digest)),
            artifact.map_or(Cell::Null, |artifact| Cell::number(artifact.bytes)),
            Cell::text_or_null(artifact.map(|artifact| &artifact.media_type)),
            Cell::text_or_null(self.retry_of),
            Cell::text_or_null(self.start_step.map(Step::name)),
            Cell::at(Some(self.started_at)),
            Cell::at(self.finished_at),
            Cell::text_or_null(batch.map(|batch| batch.key)),
            batch.map_or(Cell::Null, |batch| Cell::number(batch.items_max)),
            Cell::at(batch.map(|batch| batch.due_at)),
        ])
    }

    /// A run that waits to start a step stands in the lane of whoever does it. Lanes are numbered by the database: what the number stands for is compared.
    fn stands_elsewhere(&self, connection: &Connection, run_id: Uuid, step: Step) -> Attempt<Option<Fault>> {
        let admission = "SELECT body FROM log_records JOIN log_bodies USING (position) WHERE run_id = ?1 ORDER BY position LIMIT 1";
        let body: Option<String> =
            connection.prepare_cached(admission)?.query_row([Text(run_id)], |row| row.get(0)).optional()?;
        let request = body.and_then(|body| serde_json::from_str::<Value>(&body).ok());
        let request = request.map_or(Value::Null, |mut body| body["request"].take());
        let run_profile_id = cycles::run_profile(connection, &self.cycle_id)?;
        let lane = |processor: &str, profile_id: &str, run_profile_id: &str| {
            format!(
                "the lane of processor `{processor}` for profile {profile_id} by run profile {run_profile_id}"
            )
        };
        let expected = waits_for(&request, step, self.is_new)
            .map(|processor| lane(processor, &self.profile_id, &run_profile_id));
        let select = "SELECT r.lane, l.processor, l.profile_id, l.run_profile_id FROM runs r LEFT JOIN lanes l USING (lane) WHERE run_id = ?1";
        let found = connection.prepare_cached(select)?.query_row([Text(run_id)], |row| {
            let text = |column| row.get::<_, Option<String>>(column);
            Ok((row.get::<_, Option<i64>>(0)?, text(1)?, text(2)?, text(3)?))
        })?;
        let found = match found {
            (None, ..) => None,
            (Some(_), Some(processor), Some(profile_id), Some(run_profile_id)) => {
                Some(lane(&processor, &profile_id, &run_profile_id))
            }
            (Some(number), ..) => {
                let difference = format!("run {run_id} stands in it, and the row is missing");
                return Ok(Some(Fault::of("lanes", format!("lane {number}"), difference)));
            }
        };
        let word = |lane: Option<String>| lane.unwrap_or_else(|| "nothing".to_owned());
        Ok((found != expected).then(|| {
            let difference =
                format!("`lane` is `{}`, and its records come to `{}`", word(found), word(expected));
            Fault::of("runs", format!("run {run_id}"), difference)
        }))
    }
}
