//! The rows of endpoints, held against what records say of how they do. Those that do well have no row and are not held.

use std::collections::BTreeMap;

use orbit_core::dispatch::breaker::Health;
use orbit_core::record::audit::{Fault, Header, Row as Record};
use rusqlite::Connection;

use super::Report;
use super::cells::{Cell, Table};
use super::owed::instant;
use crate::rows::Contradiction;
use crate::rows::endpoint;
use crate::sqlite::fault::Attempt;

/// Endpoints that do not well and are held; what is beyond is counted as not followed.
const HELD_MAX: usize = 100_000;

pub(super) const ENDPOINTS: Table = Table {
    name: "endpoints",
    columns: &["endpoint", "state", "open_until", "health"],
    sql: "SELECT endpoint, state, open_until, health FROM endpoints WHERE endpoint = ?1",
};

/// See the module.
#[derive(Default)]
pub(super) struct Endpoints {
    held: BTreeMap<String, Health>,
    /// Whether not all could be held.
    is_partial: bool,
}

impl Endpoints {
    /// Takes in a record.
    pub(super) fn take(&mut self, (row, header): (&Record<'_>, &Header<'_>), report: &mut Report) {
        let (Some(body), "fact", true) = (row.body, header.body_class, endpoint::is_told_by(header.kind))
        else {
            return;
        };
        if let Err(Contradiction(told)) = self.follow(header, body, report) {
            let difference = format!("`{}` cannot follow the records before it: {told}", header.kind);
            report.faults.add(Fault::at("log_records", row.position, difference));
        }
    }

    fn follow(&mut self, header: &Header<'_>, body: &str, report: &mut Report) -> Result<(), Contradiction> {
        let body = &mut serde_json::Deserializer::from_str(body);
        let Some((name, event)) = endpoint::read(header.kind, body, instant(header)?)? else { return Ok(()) };
        let before = self.held.get(&name);
        let after = before.map_or_else(|| Health::default().next(&event), |before| before.next(&event));
        if after == Health::default() {
            self.held.remove(&name);
        } else if before.is_some() || self.held.len() < HELD_MAX {
            self.held.insert(name, after);
        } else {
            report.unfollowed += 1;
            self.is_partial = true;
        }
        Ok(())
    }

    /// Compares all of them.
    pub(super) fn end(&self, connection: &Connection, report: &mut Report) -> Attempt<()> {
        let named = |endpoint: &Cell| format!("endpoint {endpoint}");
        for (name, health) in &self.held {
            let (state, open_until) = endpoint::columns_of(health);
            let row = vec![Cell::text(name), Cell::text(state), Cell::at(open_until), Cell::json(health)];
            let found = ENDPOINTS.rows(connection, name)?;
            report.faults.extend(ENDPOINTS.compare(vec![row], found, named));
        }
        if self.is_partial {
            return Ok(());
        }
        let mut statement = connection.prepare("SELECT endpoint FROM endpoints")?;
        let mut rows = statement.query(())?;
        while let Some(row) = rows.next()? {
            let name: String = row.get(0)?;
            if !self.held.contains_key(&name) {
                let difference = "no record tells of it, or they come to an endpoint that does well";
                report.faults.add(Fault::of("endpoints", format!("endpoint {name}"), difference));
            }
        }
        Ok(())
    }
}
