//! The rows of cycles and of what they are about, held against their records: a cycle is held until it is finished, then compared and forgotten. One that
//! goes on after that, or was put aside, is folded anew from its own records.

use std::collections::HashMap;

use jiff::Timestamp;
use orbit_core::record::audit::{Fault, Header, Row as Record};
use orbit_core::run::Outcome;
use rusqlite::Connection;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use uuid::Uuid;

use super::Report;
use super::cells::{Cell, Row, Table};
use super::open_rows::OpenRows;
use super::owed::{Made, instant};
use crate::rows::Contradiction;
use crate::rows::cycle::{Finished, Fired, Selected, Told, unclaimed};
use crate::sqlite::fault::Attempt;

/// Cycles that are held in memory.
const HELD_MAX: usize = 20_000;

pub(super) const CYCLES: Table = Table {
    name: "cycles",
    columns: &[
        "cycle_id",
        "run_profile_id",
        "run_profile",
        "trigger",
        "nominal",
        "snapshot",
        "queued",
        "state",
        "outcome",
        "reason",
        "fired_at",
        "finished_at",
        "preset",
    ],
    sql: "SELECT cycle_id, run_profile_id, run_profile, trigger, nominal, snapshot, queued, state, outcome, reason, fired_at, finished_at,
        preset FROM cycles WHERE cycle_id = ?1",
};
pub(super) const INITIATIONS: Table = Table {
    name: "initiations",
    columns: &[
        "initiation_id",
        "cycle_id",
        "label",
        "weight",
        "metadata",
        "hash",
        "scope",
        "release_on",
        "selected_at",
        "released_at",
    ],
    sql: "SELECT initiation_id, cycle_id, label, weight, metadata, hash, scope, release_on, selected_at, released_at
        FROM initiations WHERE cycle_id = ?1",
};
const OPEN: OpenRows = OpenRows {
    table: "cycles",
    called: "cycle",
    sql: "SELECT ordinal, cycle_id FROM cycles WHERE (?3 OR state <> 'finished') AND ordinal > ?1 ORDER BY ordinal LIMIT ?2",
    missing: "SELECT DISTINCT cycle_id FROM log_records l WHERE cycle_id > ?1
        AND NOT EXISTS (SELECT 1 FROM cycles t WHERE t.cycle_id = l.cycle_id) ORDER BY cycle_id LIMIT ?2",
    told: "SELECT 1 FROM log_records WHERE cycle_id = ?1",
};
/// Where the state stands among the columns of [`CYCLES`].
const STATE: usize = 7;
/// The facts of a cycle before a position.
const FACTS: &str = "SELECT header, body FROM log_records JOIN log_bodies USING (position)
    WHERE cycle_id = ?1 AND position < ?2 ORDER BY position";

/// A cycle as its records have it.
struct Cycle {
    fired: Fired,
    snapshot: String,
    fired_at: Timestamp,
    state: &'static str,
    end: Option<(Outcome, Option<String>, Timestamp)>,
    about: Option<Initiation>,
}

struct Initiation {
    selected: Selected,
    selected_at: Timestamp,
    released_at: Option<Timestamp>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Cycles {
    held: HashMap<Uuid, Cycle>,
    /// Whether any was put aside before it was over.
    put_aside: bool,
}

/// Whether a record of this kind tells something of a cycle.
pub(super) fn is_told_by(kind: &str) -> bool {
    Told::is_told_by(kind) || matches!(kind, "run_admitted" | "redriven")
}

impl Cycles {
    /// Takes in a record; a cycle that is finished after it is compared with its rows at once.
    pub(super) fn take(
        &mut self,
        connection: &Connection,
        (row, header): (&Record<'_>, &Header<'_>),
        made: &mut Made,
        report: &mut Report,
    ) -> Attempt<()> {
        let (Some(body), "fact", true) = (row.body, header.body_class, is_told_by(header.kind)) else {
            return Ok(());
        };
        // Of notices, which belong to no cycle.
        if header.kind == "redriven" && header.cycle_id.is_none() {
            return Ok(());
        }
        let cannot = |told: String| {
            Fault::at(
                "log_records",
                row.position,
                format!("`{}` cannot follow the records before it: {told}", header.kind),
            )
        };
        let Some(cycle_id) = header.cycle_id.and_then(|id| id.parse::<Uuid>().ok()) else {
            report.faults.add(cannot("its header names no cycle".to_owned()));
            return Ok(());
        };
        let mut cycle = match self.held.remove(&cycle_id) {
            None if header.kind != "cycle_fired" => fold(connection, cycle_id, row.position)?,
            held => held,
        };
        if let Err(Contradiction(told)) = follow(&mut cycle, header, body, made) {
            report.faults.add(cannot(told));
        }
        let Some(cycle) = cycle else { return Ok(()) };
        if cycle.is_over() {
            if !differences(connection, cycle_id, &cycle)?.is_empty() {
                // It may have gone on since, by records that are still to come.
                report.faults.extend(compare_now(connection, cycle_id)?);
            }
            return Ok(());
        }
        if self.held.len() >= HELD_MAX {
            self.held.clear();
            self.put_aside = true;
        }
        self.held.insert(cycle_id, cycle);
        Ok(())
    }

    /// Compares the cycles that are not over, and looks at rows that say they are not.
    pub(super) fn end(&self, connection: &Connection, report: &mut Report) -> Attempt<()> {
        for (cycle_id, cycle) in &self.held {
            report.faults.extend(differences(connection, *cycle_id, cycle)?);
        }
        OPEN.each(connection, self.put_aside, &mut report.faults, |cycle_id| {
            if self.held.contains_key(&cycle_id) { Ok(Vec::new()) } else { compare_now(connection, cycle_id) }
        })
    }
}

/// What a record makes of a cycle; an error if it cannot follow those before it.
fn follow(
    cycle: &mut Option<Cycle>,
    header: &Header<'_>,
    body: &str,
    made: &mut Made,
) -> Result<(), Contradiction> {
    let at = instant(header)?;
    let deserializer = || serde_json::Deserializer::from_str(body);
    let told = Told::read(header.kind, &mut deserializer())?;
    if let Some(Told::Fired(fired)) = told {
        made.cycles += 1;
        let snapshot =
            header.snapshot.ok_or_else(|| Contradiction::new("its header names no `snapshot`"))?.to_owned();
        let state = unclaimed(fired.queued);
        let new = Cycle { fired, snapshot, fired_at: at, state, end: None, about: None };
        return match cycle.replace(new) {
            None => Ok(()),
            Some(_) => Err(Contradiction::new("the cycle is fired a second time")),
        };
    }
    if matches!(told, Some(Told::Selected(_))) {
        made.initiations += 1;
    }
    let cycle = cycle.as_mut().ok_or_else(|| Contradiction::new("the cycle was not fired before"))?;
    match told {
        Some(Told::Selected(selected)) => {
            let about = Initiation { selected, selected_at: at, released_at: None };
            if cycle.about.replace(about).is_some() {
                return Err(Contradiction::new("the cycle has its initiation already"));
            }
        }
        Some(Told::Finished(Finished { outcome, reason })) => {
            (cycle.state, cycle.end) = ("finished", Some((outcome, reason, at)));
        }
        Some(Told::Released(released)) => match &mut cycle.about {
            Some(about) if about.selected.initiation.id == released.initiation_id => {
                about.released_at = Some(at);
            }
            _ => return Err(Contradiction::new("the cycle has another initiation, or none")),
        },
        None if header.kind == "run_admitted" => {
            if cycle.end.is_none() {
                cycle.state = "running";
            }
        }
        // One of its runs goes on.
        None if happens(&mut deserializer())? && cycle.end.is_some() => {
            (cycle.state, cycle.end) = ("running", None);
        }
        Some(Told::Fired(_)) | None => {}
    }
    Ok(())
}

/// Whether the record tells of an event of a run.
fn happens<'de>(
    body: &mut serde_json::Deserializer<impl serde_json::de::Read<'de>>,
) -> Result<bool, Contradiction> {
    #[derive(Deserialize)]
    struct Body {
        event: Option<IgnoredAny>,
    }
    Ok(Body::deserialize(body).map_err(Contradiction::unreadable)?.event.is_some())
}

impl Cycle {
    /// Whether nothing more is told of it, but for a redrive.
    fn is_over(&self) -> bool {
        let Some((outcome, ..)) = &self.end else { return false };
        let is_freed = |about: &Initiation| {
            about.released_at.is_none()
                && about.selected.release_on.iter().flatten().any(|word| word == outcome.name())
        };
        !self.about.as_ref().is_some_and(is_freed)
    }

    fn row(&self, cycle_id: Uuid) -> Row {
        let Fired { run_profile_id, run_profile, trigger, nominal, queued, preset } = &self.fired;
        let end = self.end.as_ref();
        vec![
            Cell::text(cycle_id),
            Cell::text(run_profile_id),
            Cell::text(run_profile),
            Cell::text(trigger),
            Cell::at(Some(*nominal)),
            Cell::text(&self.snapshot),
            Cell::number(*queued),
            Cell::text(self.state),
            Cell::text_or_null(end.map(|(outcome, ..)| outcome.name())),
            Cell::text_or_null(end.and_then(|(_, reason, _)| reason.as_ref())),
            Cell::at(Some(self.fired_at)),
            Cell::at(end.map(|(.., at)| *at)),
            preset.as_ref().map_or(Cell::Untold, Cell::json),
        ]
    }
}

impl Initiation {
    fn row(&self, cycle_id: Uuid) -> Row {
        let Selected { initiation, scope, release_on } = &self.selected;
        vec![
            Cell::text(initiation.id),
            Cell::text(cycle_id),
            Cell::text(&initiation.label),
            Cell::Real(initiation.weight),
            Cell::json(&initiation.metadata),
            Cell::text(initiation.hash),
            Cell::text(scope),
            release_on.as_ref().map_or(Cell::Untold, Cell::json),
            Cell::at(Some(self.selected_at)),
            Cell::at(self.released_at),
        ]
    }
}

/// How the rows of the store differ from those of a cycle.
fn differences(connection: &Connection, cycle_id: Uuid, cycle: &Cycle) -> Attempt<Vec<Fault>> {
    let found = CYCLES.rows(connection, cycle_id)?;
    let mut expected = cycle.row(cycle_id);
    let is_claimed = found.first().and_then(|row| row.get(STATE)) == Some(&Cell::text("selecting"));
    // Who has claimed a cycle no record tells.
    if let (true, "queued" | "waiting", Some(state)) = (is_claimed, cycle.state, expected.get_mut(STATE)) {
        *state = Cell::Untold;
    }
    let mut faults = CYCLES.compare(vec![expected], found, |_| format!("cycle {cycle_id}"));
    let about = cycle.about.iter().map(|about| about.row(cycle_id)).collect();
    let named = |id: &Cell| format!("initiation {id} of cycle {cycle_id}");
    faults.extend(INITIATIONS.compare(about, INITIATIONS.rows(connection, cycle_id)?, named));
    Ok(faults)
}

/// Compares a cycle's rows with the fold of all its records, read in one transaction.
fn compare_now(connection: &Connection, cycle_id: Uuid) -> Attempt<Vec<Fault>> {
    let is_open = !connection.is_autocommit();
    let transaction = if is_open { None } else { Some(connection.unchecked_transaction()?) };
    let faults = match fold(connection, cycle_id, u64::MAX)? {
        Some(cycle) => differences(connection, cycle_id, &cycle)?,
        None => OPEN.underivable(connection, cycle_id)?.into_iter().collect(),
    };
    if let Some(transaction) = transaction {
        transaction.finish()?;
    }
    Ok(faults)
}

/// A cycle as its records before a position give it; none if they do not fire it or do not follow from each other.
fn fold(connection: &Connection, cycle_id: Uuid, before: u64) -> Attempt<Option<Cycle>> {
    let mut cycle = None;
    let mut follows = true;
    each_fact(connection, (&cycle_id.to_string(), before), |header, body| {
        follows = follow(&mut cycle, header, body, &mut Made::default()).is_ok();
        follows
    })?;
    Ok(cycle.filter(|_| follows))
}

/// Does this with every fact of a cycle before a position that tells something of it, until it answers that it is enough.
fn each_fact(
    connection: &Connection,
    (cycle_id, before): (&str, u64),
    mut act: impl FnMut(&Header<'_>, &str) -> bool,
) -> Attempt<()> {
    let mut statement = connection.prepare_cached(FACTS)?;
    let mut rows = statement.query((cycle_id, i64::try_from(before).unwrap_or(i64::MAX)))?;
    while let Some(row) = rows.next()? {
        let (header, body): (String, String) = (row.get(0)?, row.get(1)?);
        let Ok(header) = Header::read(&header) else { continue };
        if header.body_class == "fact" && is_told_by(header.kind) && !act(&header, &body) {
            break;
        }
    }
    Ok(())
}

/// What a cycle is about, by its records.
pub(super) fn label(connection: &Connection, cycle_id: &str) -> Attempt<Option<String>> {
    let mut label = None;
    each_fact(connection, (cycle_id, u64::MAX), |header, body| {
        let told = Told::read(header.kind, &mut serde_json::Deserializer::from_str(body));
        if let Ok(Some(Told::Selected(selected))) = told {
            label = Some(selected.initiation.label);
        }
        // Runs are admitted after it.
        label.is_none() && header.kind != "run_admitted"
    })?;
    Ok(label)
}

/// The run profile of a cycle, by its records.
pub(super) fn run_profile(connection: &Connection, cycle_id: &str) -> Attempt<String> {
    let mut run_profile = String::new();
    each_fact(connection, (cycle_id, u64::MAX), |_, body| {
        let body = serde_json::from_str::<Value>(body).unwrap_or_default();
        run_profile.push_str(body["run_profile_id"].as_str().unwrap_or_default());
        false
    })?;
    Ok(run_profile)
}
