//! Deliveries of notices, which belong to no run: held until they are accepted, then compared and forgotten.

use orbit_core::record::audit::{Fault, Header, Row};
use rusqlite::Connection;
use uuid::Uuid;

use super::Report;
use super::owed::{self, Deliveries, Made};
use crate::rows::Contradiction;
use crate::rows::told::Told;
use crate::sqlite::fault::Attempt;

/// Deliveries that are held: those that wait, and those that were given up and may be redriven.
const HELD_MAX: usize = 100_000;

/// See the module.
#[derive(Default)]
pub(super) struct Notices {
    held: Deliveries,
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
            Ok(Some(accepted)) => self.accepted(connection, accepted),
            Ok(None) => Ok(()),
            Err(Contradiction(told)) => {
                let difference = format!("`{}` cannot follow the records before it: {told}", header.kind);
                report.faults.add(Fault::at("log_records", row.position, difference));
                Ok(())
            }
        }
    }

    /// Which delivery was accepted, if one was.
    fn follow(
        &mut self,
        header: &Header<'_>,
        body: &str,
        made: &mut Made,
        report: &mut Report,
    ) -> Result<Option<Uuid>, Contradiction> {
        let body = &mut serde_json::Deserializer::from_str(body);
        let Some(told) = Told::read(header.kind, body)? else { return Ok(None) };
        let accepted = match &told {
            Told::Settled { delivery_id, dead: None } => Some(*delivery_id),
            Told::Created(_) if self.held.len() >= HELD_MAX => {
                (made.deliveries, report.unfollowed) = (made.deliveries + 1, report.unfollowed + 1);
                return Ok(None);
            }
            Told::Created(_)
            | Told::Started(_)
            | Told::Received(_)
            | Told::Settled { .. }
            | Told::Redriven(_) => None,
        };
        match owed::follow(&mut self.held, told, owed::instant(header)?, made) {
            // It may be of one that could not be held.
            Err(_) if report.unfollowed > 0 => Ok(None),
            followed => followed.map(|()| accepted),
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
