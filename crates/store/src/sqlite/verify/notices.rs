//! Notices that are owed, and their deliveries, which belong to no run: held until they are accepted, then compared and forgotten. The row of a notice does not
//! change once it is owed, and is compared at once.

use orbit_core::record::audit::{Fault, Header, Row};
use rusqlite::Connection;
use uuid::Uuid;

use super::Report;
use super::cells::{Cell, Row as Cells, Table};
use super::owed::{self, Deliveries, Made};
use crate::rows::Contradiction;
use crate::rows::notice::Owed;
use crate::rows::told::{Created, Told};
use crate::sqlite::fault::Attempt;

/// Deliveries that are held: those that wait, and those that were given up and may be redriven.
const HELD_MAX: usize = 100_000;

pub(super) const NOTICES: Table = Table {
    name: "notices",
    columns: &[
        "notice_id",
        "endpoint",
        "event",
        "count",
        "first_at",
        "last_at",
        "examples",
        "due_at",
        "snapshot",
        "body",
    ],
    sql: "SELECT notice_id, endpoint, event, count, first_at, last_at, examples, due_at, snapshot, body FROM notices WHERE notice_id = ?1",
};

/// See the module.
#[derive(Default)]
pub(super) struct Notices {
    held: Deliveries,
    /// Whether not all could be held.
    is_partial: bool,
}

/// What a record told.
enum Followed {
    /// This notice is owed, which must have this row.
    Owed(Uuid, Cells),
    /// This delivery was accepted.
    Accepted(Uuid),
    /// Anything else.
    GoesOn,
}

/// The row of a notice that is owed by this record.
fn owed(notice_id: Uuid, header: &Header<'_>, body: &str) -> Result<Cells, Contradiction> {
    let owed = Owed::read(&mut serde_json::Deserializer::from_str(body))?;
    Ok(vec![
        Cell::text(notice_id),
        Cell::text(&owed.endpoint),
        Cell::text_or_null(owed.event),
        owed.count.map_or(Cell::Null, Cell::number),
        Cell::at(Some(owed.first_at)),
        Cell::at(Some(owed.last_at)),
        Cell::Json(owed.examples),
        owed.due_at.map_or(Cell::Untold, |due_at| Cell::at(Some(due_at))),
        Cell::text_or_null(header.snapshot),
        Cell::Text(owed.body),
    ])
}

impl Notices {
    /// Takes in a record; a delivery that it says was accepted is compared with its row at once.
    pub(super) fn take(
        &mut self,
        connection: &Connection,
        (row, header): (&Row<'_>, &Header<'_>),
        made: &mut Made,
        report: &mut Report,
    ) -> Attempt<()> {
        let (None, Some(body), "fact", true) =
            (header.run_id, row.body, header.body_class, Told::is_told_by(header.kind))
        else {
            return Ok(());
        };
        match self.follow(header, body, made, report) {
            Ok(Followed::Accepted(accepted)) => self.accepted(connection, accepted),
            Ok(Followed::Owed(notice_id, row)) => {
                made.notices += 1;
                let found = NOTICES.rows(connection, notice_id)?;
                report.faults.extend(NOTICES.compare(vec![row], found, |id| format!("notice {id}")));
                Ok(())
            }
            Ok(Followed::GoesOn) => Ok(()),
            Err(Contradiction(told)) => {
                let difference = format!("`{}` cannot follow the records before it: {told}", header.kind);
                report.faults.add(Fault::at("log_records", row.position, difference));
                Ok(())
            }
        }
    }

    fn follow(
        &mut self,
        header: &Header<'_>,
        text: &str,
        made: &mut Made,
        report: &mut Report,
    ) -> Result<Followed, Contradiction> {
        let body = &mut serde_json::Deserializer::from_str(text);
        let Some(told) = Told::read(header.kind, body)? else { return Ok(Followed::GoesOn) };
        let followed = match &told {
            Told::Settled { delivery_id, dead: None } => Followed::Accepted(*delivery_id),
            Told::Created(Created { notice_id: Some(notice_id), .. }) => {
                Followed::Owed(*notice_id, owed(*notice_id, header, text)?)
            }
            Told::Created(_)
            | Told::Started(_)
            | Told::Received(_)
            | Told::Settled { .. }
            | Told::Redriven(_) => Followed::GoesOn,
        };
        if matches!(told, Told::Created(_)) && self.held.len() >= HELD_MAX {
            (made.deliveries, report.unfollowed) = (made.deliveries + 1, report.unfollowed + 1);
            self.is_partial = true;
            return Ok(followed);
        }
        match owed::follow(&mut self.held, told, owed::instant(header)?, made) {
            // It may be of one that could not be held.
            Err(_) if self.is_partial => Ok(Followed::GoesOn),
            done => done.map(|()| followed),
        }
    }

    /// What differs now may not later, by records that are still to come.
    fn accepted(&mut self, connection: &Connection, id: Uuid) -> Attempt<()> {
        let Some(delivery) = self.held.get(&id) else { return Ok(()) };
        if owed::compare(connection, [delivery].into_iter(), owed::BY_ID.rows(connection, id)?)?.is_empty() {
            self.held.remove(&id);
        }
        Ok(())
    }

    /// Compares those that are still held.
    pub(super) fn end(&self, connection: &Connection, report: &mut Report) -> Attempt<()> {
        for (id, delivery) in &self.held {
            let rows = owed::BY_ID.rows(connection, id)?;
            report.faults.extend(owed::compare(connection, [delivery].into_iter(), rows)?);
        }
        Ok(())
    }
}
