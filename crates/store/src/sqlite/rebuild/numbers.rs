//! Numbers that a database has given stay those that it gave.
//!
//! In a file they are counted in the order of the log, so that the fold counts the same ones. In a database all namespaces draw from one sequence, and what stands in the log does not tell what
//! was drawn. A row that was missing comes after all others then, and lanes of which the log knows nothing are left alone.

use rusqlite::Connection;

use super::super::fault::Attempt;

/// Tables whose rows are numbered, and what tells their rows apart otherwise.
const NUMBERED: [(&str, &[&str]); 6] = [
    ("cycles", &["cycle_id"]),
    ("initiations", &["initiation_id"]),
    ("runs", &["run_id"]),
    ("notices", &["notice_id"]),
    ("deliveries", &["delivery_id"]),
    ("halts", &["at", "reason"]),
];

/// The fold finds the lanes that there are, and numbers only those that it misses.
pub(super) fn keep_lanes(tx: &Connection) -> Attempt<()> {
    Ok(tx.execute_batch("INSERT INTO temp.lanes SELECT * FROM main.lanes")?)
}

/// Every row of the fold has the number of the row that stands, or one after all of them.
pub(super) fn keep(tx: &Connection) -> Attempt<()> {
    for (table, key) in NUMBERED {
        let same =
            key.iter().map(|column| format!("m.{column} = t.{column}")).collect::<Vec<_>>().join(" AND ");
        // Out of the way of those that are given.
        tx.execute_batch(&format!(
            "UPDATE temp.{table} SET ordinal = -ordinal;
            UPDATE temp.{table} AS t SET ordinal = m.ordinal FROM main.{table} m WHERE {same};
            UPDATE temp.{table} SET ordinal = (SELECT coalesce(max(ordinal), 0) FROM main.{table}) - ordinal WHERE ordinal < 0"
        ))?;
    }
    Ok(())
}
