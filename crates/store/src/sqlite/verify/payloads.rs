//! Payloads and snapshots: what is known by its digest has it.

use orbit_core::config::Snapshot;
use orbit_core::digest::Digest;
use orbit_core::record::audit::Fault;
use rusqlite::Connection;

use super::Report;
use crate::blobs::Blobs;
use crate::sqlite::columns::{Length, Text};
use crate::sqlite::fault::Attempt;

/// Payloads of a page.
const PAGE: u32 = 64;

struct Payload {
    ordinal: i64,
    digest: Digest,
    bytes: u64,
    /// Digest and length of its bytes, if they are in the row.
    inline: Option<(Digest, u64)>,
}

/// Reads all of them.
pub(super) fn check(
    connection: &Connection,
    blobs: &Blobs,
    report: &mut Report,
    progress: &mut dyn FnMut(&Report, u64),
) -> Attempt<()> {
    snapshots(connection, report)?;
    missing(connection, report)?;
    let sql = "SELECT count(*) FROM payloads WHERE dropped_at IS NULL";
    let total = connection.query_row(sql, (), |row| row.get::<_, Length>(0))?.0;
    let mut after = i64::MIN;
    loop {
        let page = page(connection, after)?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.ordinal;
        for payload in &page {
            report.payloads += 1;
            report.bytes += payload.bytes;
            if let Some(difference) = difference(payload, blobs) {
                let table = if payload.inline.is_some() { "payloads" } else { "blobs" };
                report.faults.add(Fault::of(table, payload.digest.to_string(), difference));
            }
        }
        progress(report, total.max(report.payloads));
    }
}

fn page(connection: &Connection, after: i64) -> Attempt<Vec<Payload>> {
    let sql = "SELECT rowid, digest, bytes, content FROM payloads WHERE rowid > ?1 AND dropped_at IS NULL
        ORDER BY rowid LIMIT ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map((after, i64::from(PAGE)), |row| {
        Ok(Payload {
            ordinal: row.get(0)?,
            digest: row.get::<_, Text<Digest>>(1)?.0,
            bytes: row.get::<_, Length>(2)?.0,
            // Hashed where it lies: a copy would be a tenth of the time.
            inline: row.get_ref(3)?.as_bytes_or_null()?.map(|bytes| (Digest::of(bytes), length(bytes))),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

fn difference(payload: &Payload, blobs: &Blobs) -> Option<String> {
    let found = match payload.inline {
        Some((digest, _)) if digest != payload.digest => {
            return Some(format!("its bytes have the digest {digest}"));
        }
        Some((_, bytes)) => bytes,
        None => match blobs.verify(payload.digest) {
            Ok(bytes) => bytes,
            Err(error) => return Some(error.to_string()),
        },
    };
    (found != payload.bytes).then(|| format!("it has {found} bytes, and the row says {}", payload.bytes))
}

/// What a step made is known, whether it is still there or not.
fn missing(connection: &Connection, report: &mut Report) -> Attempt<()> {
    let sql = "SELECT DISTINCT digest FROM steps s WHERE digest IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM payloads p WHERE p.digest = s.digest) LIMIT 100";
    let mut statement = connection.prepare(sql)?;
    for digest in statement.query_map((), |row| row.get::<_, String>(0))? {
        report.faults.add(Fault::of("payloads", digest?, "a step made it, and the row is missing"));
    }
    Ok(())
}

fn snapshots(connection: &Connection, report: &mut Report) -> Attempt<()> {
    let mut statement = connection.prepare("SELECT digest, document FROM snapshots")?;
    let rows =
        statement.query_map((), |row| Ok((row.get::<_, Text<Digest>>(0)?.0, row.get::<_, String>(1)?)))?;
    for row in rows {
        let (digest, document) = row?;
        let difference = match serde_json::from_str::<Snapshot>(&document) {
            Ok(snapshot) if snapshot.digest() == digest => continue,
            Ok(snapshot) => format!("its document has the digest {}", snapshot.digest()),
            Err(error) => format!("its document cannot be read: {error}"),
        };
        report.faults.add(Fault::of("snapshots", digest.to_string(), difference));
    }
    Ok(())
}
