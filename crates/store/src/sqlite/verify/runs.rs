//! The rows of runs and of what they leave, held against the fold of their records: a run is held until it is over, then compared and forgotten.

use std::collections::HashSet;

use orbit_core::record::audit::{Fault, Folds, Header, Row};
use orbit_core::run::RunState;
use rusqlite::Connection;
use uuid::Uuid;

use super::Report;
use super::follow::{Rows, follow};
use super::open_rows::OpenRows;
use super::owed::Made;
use crate::rows::Contradiction;
use crate::sqlite::columns::Text;
use crate::sqlite::fault::Attempt;

const OPEN: OpenRows = OpenRows {
    table: "runs",
    called: "run",
    sql: "SELECT ordinal, run_id FROM runs WHERE (?3 OR state <> 'finished') AND ordinal > ?1 ORDER BY ordinal LIMIT ?2",
    missing: "SELECT DISTINCT run_id FROM log_records l WHERE run_id > ?1
        AND NOT EXISTS (SELECT 1 FROM runs t WHERE t.run_id = l.run_id) ORDER BY run_id LIMIT ?2",
    told: "SELECT 1 FROM log_records WHERE run_id = ?1",
};

/// See the module.
#[derive(Default)]
pub(super) struct Runs {
    folds: Folds<Rows>,
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
        if !rows.compare(connection, run_id, &state)?.is_empty() {
            // It may have gone on since, by records that are still to come.
            report.faults.extend(compare_now(connection, run_id)?);
        }
        Ok(())
    }

    /// Compares the runs that are not over, and looks for rows that no record tells of.
    pub(super) fn end(&mut self, connection: &Connection, report: &mut Report) -> Attempt<()> {
        report.runs = self.folds.admitted;
        let mut held = HashSet::new();
        for (run_id, state, rows) in self.folds.held() {
            held.insert(*run_id);
            report.faults.extend(rows.compare(connection, *run_id, state)?);
        }
        // Where none was put aside, those that are over by their records were compared when they ended.
        OPEN.each(connection, self.folds.put_aside, &mut report.faults, |run_id| {
            if held.contains(&run_id) { Ok(Vec::new()) } else { compare_now(connection, run_id) }
        })
    }
}

/// Compares a run's rows with the fold of all its records, read in one transaction.
fn compare_now(connection: &Connection, run_id: Uuid) -> Attempt<Vec<Fault>> {
    let is_open = !connection.is_autocommit();
    let transaction = if is_open { None } else { Some(connection.unchecked_transaction()?) };
    let faults = match fold(connection, run_id, u64::MAX)? {
        Some((state, rows)) => rows.compare(connection, run_id, &state)?,
        None => OPEN.underivable(connection, run_id)?.into_iter().collect(),
    };
    if let Some(transaction) = transaction {
        transaction.finish()?;
    }
    Ok(faults)
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
