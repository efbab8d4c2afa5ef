//! The active snapshot, halts, and who is quarantined.

use orbit_core::digest::Digest;
use rusqlite::{Connection, params};

use super::super::columns::{Micros, Text};
use super::super::fault::Attempt;
use super::reading::Entry;

/// See [`super::fold`].
pub(super) fn fold(tx: &Connection, entry: &Entry) -> Attempt<()> {
    let at = Micros(entry.at);
    match entry.kind.as_str() {
        "config_activated" => {
            let digest: Digest = entry.field("digest")?;
            tx.prepare_cached("UPDATE temp.store SET active_snapshot = ?1")?.execute([Text(digest)])?;
        }
        "halted" => {
            let insert = "INSERT INTO halts (at, reason) VALUES (?1, ?2)";
            tx.prepare_cached(insert)?.execute(params![at, entry.text("reason")?])?;
        }
        "resumed" => {
            let update = "UPDATE halts SET lifted_at = ?1 WHERE lifted_at IS NULL";
            tx.prepare_cached(update)?.execute([at])?;
        }
        "processor_quarantined" => {
            let (processor, settings) = processor(entry)?;
            let crashes: u32 = entry.field("crashes_in_a_row")?;
            let upsert = "INSERT INTO processor_crashes (processor, settings, crashes, quarantined_at) VALUES (?1, ?2, ?3, ?4)
                ON CONFLICT (processor, settings) DO UPDATE SET crashes = excluded.crashes, quarantined_at = excluded.quarantined_at";
            tx.prepare_cached(upsert)?.execute(params![processor, Text(settings), crashes, at])?;
        }
        "processor_released" => {
            let (processor, settings) = processor(entry)?;
            let delete = "DELETE FROM processor_crashes WHERE processor = ?1 AND settings = ?2";
            tx.prepare_cached(delete)?.execute(params![processor, Text(settings)])?;
        }
        _ => {}
    }
    Ok(())
}

fn processor(entry: &Entry) -> Attempt<(&str, Digest)> {
    Ok((entry.text("processor")?, entry.field("settings")?))
}
