//! What a run leaves in rows: its own, its steps and what it owes, folded beside its state from the same records.

use std::collections::BTreeMap;

use jiff::Timestamp;
use orbit_core::digest::Digest;
use orbit_core::normalize::BatchPlace;
use orbit_core::record::audit::{Beside, Fault, Header, Taken};
use orbit_core::run::{Ending, RunEvent, RunState, Step};
use rusqlite::Connection;
use serde::Deserialize;
use uuid::Uuid;

use super::cells::{Cell, Row, Table};
use super::owed::{self, Deliveries, Made};
use super::run_row::RunRow;
use crate::contract::Artifact;
use crate::rows::Contradiction;
use crate::rows::run::{StepChange, step_change, step_place};
use crate::rows::told::Told;
use crate::sqlite::fault::Attempt;

pub(super) const STEPS: Table = Table {
    name: "steps",
    columns: &["step", "place", "state", "attempts", "started_at", "finished_at", "bytes", "digest", "media_type", "failure"],
    sql: "SELECT step, place, state, attempts, started_at, finished_at, bytes, digest, media_type, failure FROM steps
        WHERE run_id = ?1 ORDER BY place",
};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// Its own, from its admission on.
    run: Option<RunRow>,
    /// By place.
    steps: BTreeMap<u8, StepRow>,
    owed: Deliveries,
}

#[derive(Debug)]
struct StepRow {
    step: Step,
    state: &'static str,
    attempts: u32,
    started_at: Timestamp,
    finished_at: Option<Timestamp>,
    made: Option<Artifact>,
    failure: Option<String>,
}

/// What is read of `step_succeeded`.
#[derive(Deserialize)]
struct Succeeded {
    digest: Digest,
    bytes: u64,
    media_type: String,
    /// Where the run waits with others for the step that follows.
    batch_place: Option<BatchPlace>,
}

impl Beside for Rows {
    fn is_told_by(kind: &str) -> bool {
        Told::is_told_by(kind)
    }
}

/// What the record of a run tells besides its state has happened to its rows.
pub(super) fn follow(
    taken: Taken<'_, Rows>,
    header: &Header<'_>,
    body: &str,
    made: &mut Made,
) -> Result<(), Contradiction> {
    let Taken { before, event, state, beside, .. } = taken;
    let Some(before) = before else {
        beside.run = Some(RunRow::admitted(header, body)?);
        return Ok(());
    };
    let at = owed::instant(header)?;
    let deserializer = || serde_json::Deserializer::from_str(body);
    if let Some(told) = Told::read(header.kind, &mut deserializer())? {
        owed::follow(&mut beside.owed, told, at, made)?;
    }
    let Some(event) = event else { return Ok(()) };
    let (output, batch) = if matches!(event, RunEvent::StepSucceeded { .. }) {
        let Succeeded { digest, bytes, media_type, batch_place } =
            Succeeded::deserialize(&mut deserializer()).map_err(Contradiction::unreadable)?;
        (Some(Artifact { digest, bytes, media_type }), batch_place)
    } else {
        (None, None)
    };
    if let Some(run) = &mut beside.run {
        run.happened(state, (output.as_ref(), batch), at);
    }
    beside.note_step(step_change(&before, &event).as_ref(), output, at, made);
    if let (None, Some(Ending::Cancelled { reason })) = (before.ending(), state.ending()) {
        beside.owed.values_mut().for_each(|delivery| delivery.cancel(reason, at));
    }
    Ok(())
}

impl Rows {
    fn note_step(
        &mut self,
        change: Option<&StepChange<'_>>,
        output: Option<Artifact>,
        at: Timestamp,
        made: &mut Made,
    ) {
        match change {
            Some(StepChange::Started { step, attempt }) => {
                let row = self.steps.entry(step_place(*step)).or_insert_with(|| {
                    made.steps += 1;
                    StepRow::started(*step, at)
                });
                (row.state, row.attempts, row.finished_at) = ("working", *attempt, None);
            }
            Some(StepChange::Over { step, state, failure }) => {
                let Some(row) = self.steps.get_mut(&step_place(*step)) else { return };
                (row.state, row.finished_at) = (state, Some(at));
                row.failure = failure.map(str::to_owned).or_else(|| row.failure.take());
                row.made = output.or_else(|| row.made.take());
            }
            None => {}
        }
    }

    /// How the rows of the store differ from these, where the run stands there.
    pub(super) fn compare(
        &self,
        connection: &Connection,
        run_id: Uuid,
        state: &RunState,
    ) -> Attempt<Vec<Fault>> {
        let run = self.run.as_ref().map(|run| run.compare(connection, run_id, state));
        let steps = self.steps.iter().map(|(place, step)| step.row(*place)).collect();
        let named = |step: &Cell| format!("step {step} of run {run_id}");
        let mut faults = run.transpose()?.unwrap_or_default();
        faults.extend(STEPS.compare(steps, STEPS.rows(connection, run_id)?, named));
        let rows = owed::OF_RUN.rows(connection, run_id)?;
        faults.extend(owed::compare(connection, self.owed.values(), rows)?);
        Ok(faults)
    }
}

impl StepRow {
    const fn started(step: Step, at: Timestamp) -> Self {
        Self {
            step,
            state: "working",
            attempts: 0,
            started_at: at,
            finished_at: None,
            made: None,
            failure: None,
        }
    }

    fn row(&self, place: u8) -> Row {
        let made = self.made.as_ref();
        vec![
            Cell::text(self.step.name()),
            Cell::number(place),
            Cell::text(self.state),
            Cell::number(self.attempts),
            Cell::at(Some(self.started_at)),
            Cell::at(self.finished_at),
            made.map_or(Cell::Null, |made| Cell::number(made.bytes)),
            Cell::text_or_null(made.map(|made| made.digest)),
            Cell::text_or_null(made.map(|made| &made.media_type)),
            Cell::text_or_null(self.failure.as_deref()),
        ]
    }
}
