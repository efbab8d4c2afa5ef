//! Rows of what runs and notices leave that no record tells of. Those of a known run or delivery are found when it is compared; the others by their number.

use orbit_core::record::audit::{Fault, Faults};
use rusqlite::Connection;

use super::owed::Made;
use crate::sqlite::columns::Length;
use crate::sqlite::fault::Attempt;

const STEPS: &str = "SELECT 'step ' || step || ' of run ' || run_id FROM steps s
    WHERE NOT EXISTS (SELECT 1 FROM log_records l WHERE l.run_id = s.run_id) LIMIT 100";
/// What was owed to nobody's run is looked for in the whole log: only where there are too many rows.
const DELIVERIES: &str = "SELECT 'delivery ' || delivery_id FROM deliveries d WHERE iif(run_id IS NULL,
        delivery_id NOT IN (
            SELECT iif(json_valid(body), body ->> '$.delivery_id', NULL) AS id FROM log_records JOIN log_bodies USING (position)
            WHERE iif(json_valid(header), header ->> '$.kind' = 'delivery_created', FALSE) AND id IS NOT NULL),
        NOT EXISTS (SELECT 1 FROM log_records l WHERE l.run_id = d.run_id))
    LIMIT 100";
const ATTEMPTS: &str = "SELECT 'attempt ' || attempt || ' of delivery ' || delivery_id FROM attempts a
    WHERE NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.delivery_id = a.delivery_id) LIMIT 100";

/// Names them, where there are not as many rows as records have made.
pub(super) fn name(connection: &Connection, made: Made, faults: &mut Faults) -> Attempt<()> {
    let unknown = "no record tells of it";
    for (table, expected, sql, difference) in [
        ("steps", made.steps, STEPS, unknown),
        ("deliveries", made.deliveries, DELIVERIES, unknown),
        ("attempts", made.attempts, ATTEMPTS, "there is no such delivery"),
    ] {
        let count = format!("SELECT count(*) FROM {table}");
        if connection.query_row(&count, (), |row| row.get::<_, Length>(0))?.0 == expected {
            continue;
        }
        let mut statement = connection.prepare(sql)?;
        for row in statement.query_map((), |row| row.get::<_, String>(0))? {
            faults.add(Fault::of(table, row?, difference));
        }
    }
    Ok(())
}
