//! What the log does not tell is taken over from the rows that stand, as far as it does not contradict the log.
//!
//! Which that is and why says the table in [`super`]. Records of older versions tell less; what they leave open is marked by the fold and decided here.

use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::super::columns::{self, Length, Micros};
use super::super::config;
use super::super::fault::Attempt;

/// Stands in a text that an older version's record does not tell.
pub(super) const UNTOLD: &str = "?";
/// Stands for an instant that an older version's record does not tell.
pub(super) const UNTOLD_AT: Timestamp = Timestamp::MIN;

/// See the module. The log has so many records.
pub(super) fn adopt(tx: &Connection, size: u64, now: Timestamp) -> Attempt<()> {
    claims(tx)?;
    older_records(tx)?;
    notices(tx, size)?;
    cursors(tx, now)?;
    restored(tx)
}

/// The halt that a restore set has no record before the store is started.
fn restored(tx: &Connection) -> Attempt<()> {
    tx.execute_batch(
        "INSERT INTO temp.halts (ordinal, at, reason) SELECT ordinal, at, reason FROM main.halts m
        WHERE at = (SELECT restored_at FROM temp.store) AND lifted_at IS NULL
            AND NOT EXISTS (SELECT 1 FROM temp.halts t WHERE t.ordinal = m.ordinal)",
    )?;
    Ok(())
}

/// A claim that is still out stays its holder's.
fn claims(tx: &Connection) -> Attempt<()> {
    for (table, id) in [("cycles", "cycle_id"), ("runs", "run_id"), ("deliveries", "delivery_id")] {
        tx.execute_batch(&format!(
            "UPDATE temp.{table} AS t SET token = m.token FROM main.{table} m WHERE m.{id} = t.{id}"
        ))?;
    }
    tx.execute_batch(
        "UPDATE temp.cycles AS t SET state = 'selecting' FROM main.cycles m
        WHERE m.cycle_id = t.cycle_id AND m.state = 'selecting' AND t.state IN ('waiting', 'queued')",
    )?;
    Ok(())
}

fn older_records(tx: &Connection) -> Attempt<()> {
    let preset = "UPDATE temp.cycles AS t SET preset =
            coalesce((SELECT m.preset FROM main.cycles m WHERE m.cycle_id = t.cycle_id AND json_valid(m.preset)), 'null')
        WHERE preset = json_quote(?1)";
    tx.execute(preset, [UNTOLD])?;
    let release_on = "UPDATE temp.initiations AS t SET release_on =
            coalesce((SELECT m.release_on FROM main.initiations m
                WHERE m.initiation_id = t.initiation_id AND json_valid(m.release_on)), '[]')
        WHERE release_on = json_array(?1)";
    tx.execute(release_on, [UNTOLD])?;
    let due_at = "UPDATE temp.notices AS t SET due_at =
            coalesce((SELECT m.due_at FROM main.notices m WHERE m.notice_id = t.notice_id), t.last_at)
        WHERE due_at = ?1";
    tx.execute(due_at, [Micros(UNTOLD_AT)])?;
    // An attempt that is over leaves no delivery sending: it waits, and it is not told until when.
    let waiting = "UPDATE temp.deliveries AS t SET state = 'waiting', due_at =
            coalesce((SELECT m.due_at FROM main.deliveries m WHERE m.delivery_id = t.delivery_id AND m.state = 'waiting'),
                a.answered_at)
        FROM temp.attempts a WHERE t.state = 'sending' AND a.delivery_id = t.delivery_id AND a.attempt = t.attempts
            AND a.answered_at IS NOT NULL";
    tx.execute(waiting, ())?;
    Ok(())
}

/// Notices that gather, and up to where the log is followed for them.
fn notices(tx: &Connection, size: u64) -> Attempt<()> {
    tx.execute_batch(
        "INSERT INTO temp.notices (notice_id, endpoint, event, count, first_at, last_at, examples, due_at)
        SELECT notice_id, endpoint, event, count, first_at, last_at, examples, due_at FROM main.notices m
        WHERE body IS NULL AND NOT EXISTS (SELECT 1 FROM temp.notices t WHERE t.notice_id = m.notice_id)
        ORDER BY ordinal",
    )?;
    let active = "SELECT active_snapshot FROM temp.store";
    let active = tx.query_row(active, (), |row| columns::digest_or_null(row, "active_snapshot"))?;
    let snapshot = active.map(|digest| config::find(tx, digest)).transpose()?.flatten();
    if snapshot.is_some_and(|snapshot| !snapshot.config.notify.is_empty()) {
        let insert = "INSERT INTO temp.notify_cursor (one, position) VALUES
            (1, coalesce((SELECT position FROM main.notify_cursor WHERE position BETWEEN 0 AND ?1), ?1))";
        tx.execute(insert, [Length(size)])?;
    }
    Ok(())
}

/// A cursor is at least where the log says, and if it is further, not ahead of the clock.
fn cursors(tx: &Connection, now: Timestamp) -> Attempt<()> {
    let adopt = "INSERT OR REPLACE INTO temp.schedule_cursors SELECT * FROM main.schedule_cursors m
        WHERE json_valid(open_decisions) AND iif(
            EXISTS (SELECT 1 FROM temp.schedule_cursors t WHERE t.run_profile_id = m.run_profile_id
                AND t.decided_through = m.decided_through),
            TRUE,
            decided_through <= ?1 AND NOT EXISTS (SELECT 1 FROM temp.schedule_cursors t
                WHERE t.run_profile_id = m.run_profile_id AND t.decided_through > m.decided_through))";
    tx.execute(adopt, params![Micros(now)])?;
    Ok(())
}
