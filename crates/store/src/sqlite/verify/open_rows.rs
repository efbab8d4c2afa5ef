//! What the database holds as unfinished: walked through in pages, to be held against what records say of it.

use orbit_core::record::audit::{Fault, Faults};
use rusqlite::Connection;
use uuid::Uuid;

use crate::sqlite::fault::Attempt;

/// Ids that are read at once.
const PAGE: i64 = 1000;

/// A table of things that begin and are over.
pub(super) struct OpenRows {
    /// The table.
    pub(super) table: &'static str,
    /// What one of it is called.
    pub(super) called: &'static str,
    /// Selects ordinals and ids of a page after `?1`, `?2` many; all of them where `?3`, else those that are not over.
    pub(super) sql: &'static str,
    /// Selects ids after `?1`, `?2` many, that records are about and that have no row.
    pub(super) missing: &'static str,
    /// Whether any record is about this id.
    pub(super) told: &'static str,
}

impl OpenRows {
    /// How each of these differs from its records, by `compare`; what has no id is named. With `all`, where not all could be held, those that have no row, too. What was
    /// named before, when it was over, is not named again.
    pub(super) fn each(
        &self,
        connection: &Connection,
        all: bool,
        faults: &mut Faults,
        mut compare: impl FnMut(Uuid) -> Attempt<Vec<Fault>>,
    ) -> Attempt<()> {
        let mut name = |id: &str, faults: &mut Faults| -> Attempt<()> {
            let differences = match id.parse() {
                Ok(id) => compare(id)?,
                Err(_) => vec![self.unknown(id, "no record tells of it")],
            };
            for difference in differences {
                if !faults.kept.contains(&difference) {
                    faults.add(difference);
                }
            }
            Ok(())
        };
        let mut after = i64::MIN;
        loop {
            let mut statement = connection.prepare_cached(self.sql)?;
            let rows = statement
                .query_map((after, PAGE, all), |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))?;
            let rows = rows.collect::<Result<Vec<_>, _>>()?;
            let Some((last, _)) = rows.last() else { break };
            after = *last;
            rows.iter().try_for_each(|(_, id)| name(id, faults))?;
        }
        let mut after = String::new();
        loop {
            if !all {
                return Ok(());
            }
            let mut statement = connection.prepare_cached(self.missing)?;
            let rows = statement.query_map((&after, PAGE), |row| row.get::<_, String>(0))?;
            let rows = rows.collect::<Result<Vec<_>, _>>()?;
            let Some(last) = rows.last() else { return Ok(()) };
            after.clone_from(last);
            rows.iter().try_for_each(|id| name(id, faults))?;
        }
    }

    /// The fault of a row that does not come from records; none if no record is about it at all, since those are all named at the end.
    pub(super) fn underivable(&self, connection: &Connection, id: Uuid) -> Attempt<Option<Fault>> {
        let is_told = connection.prepare_cached(self.told)?.exists([id.to_string()])?;
        Ok(is_told.then(|| self.unknown(&id.to_string(), "its records cannot be folded")))
    }

    fn unknown(&self, id: &str, difference: &str) -> Fault {
        Fault::of(self.table, format!("{} {id}", self.called), difference)
    }
}
