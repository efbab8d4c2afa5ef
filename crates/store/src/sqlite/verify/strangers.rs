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

const RUNS: &str = "SELECT 'run ' || run_id FROM runs r
    WHERE NOT EXISTS (SELECT 1 FROM log_records l WHERE l.run_id = r.run_id) LIMIT 100";
const CYCLES: &str = "SELECT 'cycle ' || cycle_id FROM cycles c
    WHERE NOT EXISTS (SELECT 1 FROM log_records l WHERE l.cycle_id = c.cycle_id) LIMIT 100";
const INITIATIONS: &str = "SELECT 'initiation ' || initiation_id FROM initiations i
    WHERE NOT EXISTS (SELECT 1 FROM log_records l WHERE l.cycle_id = i.cycle_id) LIMIT 100";
/// Like [`DELIVERIES`]. No record tells of notices that still gather.
const NOTICES: &str = "SELECT 'notice ' || notice_id FROM notices WHERE body IS NOT NULL AND notice_id NOT IN (
        SELECT iif(json_valid(body), body ->> '$.notice_id', NULL) AS id FROM log_records JOIN log_bodies USING (position)
        WHERE iif(json_valid(header), header ->> '$.kind' = 'delivery_created', FALSE) AND id IS NOT NULL)
    LIMIT 100";

/// Names them, where there are not as many rows as records have made.
pub(super) fn name(connection: &Connection, made: Made, runs: u64, faults: &mut Faults) -> Attempt<()> {
    let unknown = "no record tells of it";
    for (table, expected, sql, difference) in [
        ("cycles", made.cycles, CYCLES, unknown),
        ("initiations", made.initiations, INITIATIONS, unknown),
        ("runs", runs, RUNS, unknown),
        ("steps", made.steps, STEPS, unknown),
        ("deliveries", made.deliveries, DELIVERIES, unknown),
        ("attempts", made.attempts, ATTEMPTS, "there is no such delivery"),
        ("notices WHERE body IS NOT NULL", made.notices, NOTICES, unknown),
    ] {
        let count = format!("SELECT count(*) FROM {table}");
        // Where as many rows are missing as were added, a table has its number: then one of those that are missing was named.
        let is_complete = connection.query_row(&count, (), |row| row.get::<_, Length>(0))?.0 == expected;
        let table = table.split(' ').next().unwrap_or(table);
        let is_kept = faults.count == u64::try_from(faults.kept.len()).unwrap_or(0);
        if is_complete && is_kept && !faults.kept.iter().any(|fault| fault.table == table) {
            continue;
        }
        let mut statement = connection.prepare(sql)?;
        for row in statement.query_map((), |row| row.get::<_, String>(0))? {
            faults.add(Fault::of(table, row?, difference));
        }
    }
    Ok(())
}
