//! The rows of runs and of what they leave, held against the fold of their records.

use orbit_core::record::audit::{Fault, Folds, Header, Row};
use orbit_core::run::RunState;
use rusqlite::{Connection, OptionalExtension};
use uuid::Uuid;

use super::Report;
use super::follow::{Rows, follow};
use super::owed::Made;
use crate::rows::Contradiction;
use crate::sqlite::columns::{Json, Length, Text};
use crate::sqlite::fault::Attempt;

/// Runs that are not over and were put aside are looked at again at the end, so many ids at once.
const OPEN_PAGE: i64 = 1000;

/// See the module.
#[derive(Default)]
pub(super) struct Runs {
    folds: Folds<Rows>,
    /// Whether a run has no row.
    missing: bool,
}

/// A run as its records have it.
type Folded = (RunState, Rows);

impl Runs {
    /// Takes in a record; a run that is over after it is compared with its rows at once.
    pub(super) fn take(
        &mut self,
        connection: &Connection,
        (row, header): (&Row<'_>, &Header<'_>),
        made: &mut Made,
        report: &mut Report,
    ) -> Attempt<()> {
        let (Some(_), Some(body)) = (header.run_id, row.body) else { return Ok(()) };
        let mut failed = None;
        let before = |run_id| {
            fold(connection, run_id, row.position).unwrap_or_else(|fault| {
                failed = Some(fault);
                None
            })
        };
        let taken = self.folds.take(header, Some(body), before).map_err(|fault| fault.to_string());
        let over = taken.and_then(|taken| {
            let Some(taken) = taken else { return Ok(None) };
            let over = taken.state.ending().map(|_| taken.run_id);
            match follow(taken, header, body, made) {
                Ok(()) => Ok(over),
                Err(Contradiction(told)) => {
                    Err(format!("`{}` cannot follow the records before it: {told}", header.kind))
                }
            }
        });
        if let Some(fault) = failed {
            return Err(fault);
        }
        match over {
            Ok(Some(run_id)) => self.over(connection, run_id, report),
            Ok(None) => Ok(()),
            Err(difference) => {
                report.faults.add(Fault::at("log_records", row.position, difference));
                Ok(())
            }
        }
    }

    /// The run need not be held any longer.
    fn over(&mut self, connection: &Connection, run_id: Uuid, report: &mut Report) -> Attempt<()> {
        let Some((state, rows)) = self.folds.forget(run_id) else { return Ok(()) };
        if !agrees(connection, run_id, (&state, &rows))? {
            // It may have gone on since, by records that are still to come.
            self.missing |= !compare_now(connection, run_id, report)?;
        }
        Ok(())
    }

    /// Compares the runs that are not over, and looks for rows that no record tells of.
    pub(super) fn end(&mut self, connection: &Connection, report: &mut Report) -> Attempt<()> {
        report.runs = self.folds.admitted;
        for (run_id, state, rows) in self.folds.held() {
            if !agrees(connection, *run_id, (state, rows))? {
                self.missing |= !compare_now(connection, *run_id, report)?;
            }
        }
        let held: std::collections::HashSet<_> = self.folds.held().map(|(run_id, ..)| *run_id).collect();
        // Where none was put aside, those that are over by their records were compared when they ended.
        let sql = "SELECT ordinal, run_id FROM runs WHERE (?3 OR state <> 'finished') AND ordinal > ?1 ORDER BY ordinal LIMIT ?2";
        let mut after = i64::MIN;
        loop {
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map((after, OPEN_PAGE, self.folds.put_aside), |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, Text<Uuid>>(1)?.0))
            })?;
            let rows = rows.collect::<Result<Vec<_>, _>>()?;
            let Some((last, _)) = rows.last() else { break };
            after = *last;
            for (_, run_id) in rows.iter().filter(|(_, run_id)| !held.contains(run_id)) {
                self.missing |= !compare_now(connection, *run_id, report)?;
            }
        }
        let count = "SELECT count(*) FROM runs";
        let count = connection.query_row(count, (), |row| row.get::<_, Length>(0))?.0;
        // Where every run has its row and there are as many, none is a stranger's.
        if self.missing || count != report.runs {
            strangers(connection, report)?;
        }
        Ok(())
    }
}

/// Names rows of runs that no record tells of.
fn strangers(connection: &Connection, report: &mut Report) -> Attempt<()> {
    let sql = "SELECT run_id FROM runs r WHERE NOT EXISTS (SELECT 1 FROM log_records l WHERE l.run_id = r.run_id) LIMIT 100";
    let mut statement = connection.prepare(sql)?;
    for run_id in statement.query_map((), |row| row.get::<_, String>(0))? {
        let row = format!("run {}", run_id?);
        report.faults.add(Fault::of("runs", row, "no record tells of it"));
    }
    Ok(())
}

/// Whether the rows of a run are these.
fn agrees(connection: &Connection, run_id: Uuid, (state, rows): (&RunState, &Rows)) -> Attempt<bool> {
    Ok(stored(connection, run_id)?.as_ref() == Some(state) && rows.compare(connection, run_id)?.is_empty())
}

/// Compares a run's rows with the fold of all its records, read in one transaction; whether there is a row of the run itself.
fn compare_now(connection: &Connection, run_id: Uuid, report: &mut Report) -> Attempt<bool> {
    let is_open = !connection.is_autocommit();
    let transaction = if is_open { None } else { Some(connection.unchecked_transaction()?) };
    let folded = fold(connection, run_id, u64::MAX)?;
    let found = stored(connection, run_id)?;
    let has_row = found.is_some();
    let difference = match (folded.as_ref().map(|(state, _)| state), found) {
        (Some(folded), Some(found)) if *folded == found => None,
        (Some(folded), Some(found)) => {
            let text = |state: &RunState| serde_json::to_string(state).unwrap_or_default();
            Some(format!("the row says {}, and its records come to {}", text(&found), text(folded)))
        }
        (Some(_), None) => Some("its records are there, and the row is missing".to_owned()),
        (None, Some(_)) => Some("no record tells of it, or they cannot be folded".to_owned()),
        (None, None) => None,
    };
    if let Some(difference) = difference {
        report.faults.add(Fault::of("runs", format!("run {run_id}"), difference));
    }
    if let Some((_, rows)) = folded {
        report.faults.extend(rows.compare(connection, run_id)?);
    }
    if let Some(transaction) = transaction {
        transaction.finish()?;
    }
    Ok(has_row)
}

/// The state in a run's row. A row that cannot be read is none that agrees.
fn stored(connection: &Connection, run_id: Uuid) -> Attempt<Option<RunState>> {
    let sql = "SELECT state, state_json FROM runs WHERE run_id = ?1";
    let read = |row: &rusqlite::Row<'_>| {
        let word: String = row.get(0)?;
        let state = row.get::<_, Json<RunState>>(1).ok().map(|json| json.0);
        Ok(state.filter(|state| state.name() == word))
    };
    Ok(connection.prepare_cached(sql)?.query_row([Text(run_id)], read).optional()?.flatten())
}

/// A run as its records before a position give it; none if they do not admit it or do not follow from each other.
fn fold(connection: &Connection, run_id: Uuid, before: u64) -> Attempt<Option<Folded>> {
    let sql = "SELECT header, body FROM log_records JOIN log_bodies USING (position)
        WHERE run_id = ?1 AND position < ?2 ORDER BY position";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query((Text(run_id), i64::try_from(before).unwrap_or(i64::MAX)))?;
    let mut folds = Folds::<Rows>::default();
    while let Some(row) = rows.next()? {
        let (header, body): (String, String) = (row.get(0)?, row.get(1)?);
        let Ok(header) = Header::read(&header) else { return Ok(None) };
        let Ok(taken) = folds.take(&header, Some(&body), |_| None) else { return Ok(None) };
        let Some(taken) = taken else { continue };
        if follow(taken, &header, &body, &mut Made::default()).is_err() {
            return Ok(None);
        }
    }
    Ok(folds.forget(run_id))
}
