//! Notices gather in rows that nothing else reads, until they are owed as deliveries.

use async_trait::async_trait;
use jiff::Timestamp;
use orbit_core::config::NotifyEvent;
use orbit_core::limits::NOTICE_EXAMPLES_MAX;
use orbit_core::notify::Notice;
use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;

use super::columns::{self, Json, Length, Micros, Text};
use super::fault::Attempt;
use super::tx::Tx;
use super::{SqliteStore, notice};
use crate::StoreError;
use crate::contract::notify::{ClaimedNotice, DueNotice, NewTold, NotifyCommit, NotifyStore, OwedNotice};

#[async_trait]
impl NotifyStore for SqliteStore {
    async fn notify_cursor(&self) -> Result<Option<u64>, StoreError> {
        self.read(cursor).await
    }

    async fn commit_notices(&self, commit: NotifyCommit) -> Result<bool, StoreError> {
        self.write(move |tx| commit_notices(tx, &commit)).await
    }

    async fn due_notices(&self, limit: u32, now: Timestamp) -> Result<Vec<DueNotice>, StoreError> {
        self.read(move |tx| due(tx, limit, now)).await
    }

    async fn owe_notice(&self, owed: OwedNotice, now: Timestamp) -> Result<bool, StoreError> {
        self.write(move |tx| notice::owe(tx, &owed, now)).await
    }

    async fn forget_notice(&self, notice_id: Uuid) -> Result<(), StoreError> {
        self.write(move |tx| {
            let delete = "DELETE FROM notices WHERE notice_id = ?1 AND body IS NULL";
            tx.prepare_cached(delete)?.execute([Text(notice_id)])?;
            Ok(())
        })
        .await
    }

    async fn next_notice_due(&self) -> Result<Option<Timestamp>, StoreError> {
        self.read(|tx| {
            let sql = format!("SELECT min(due_at) AS due_at FROM notices n WHERE {MAY_BE_OWED}");
            Ok(tx.prepare_cached(&sql)?.query_row((), |row| columns::instant_or_null(row, "due_at"))?)
        })
        .await
    }

    async fn claim_notices(
        &self,
        endpoint: &str,
        limit: u32,
        now: Timestamp,
    ) -> Result<Vec<ClaimedNotice>, StoreError> {
        // Asked before every delivery of a run, which should not wait for a commit of nothing.
        if !self.look(|tx| notice::is_due(tx, endpoint, now)).await? {
            return Ok(Vec::new());
        }
        let endpoint = endpoint.to_owned();
        self.write(move |tx| notice::claim(tx, &endpoint, limit, now)).await
    }

    async fn notice_endpoints(&self, now: Timestamp) -> Result<Vec<String>, StoreError> {
        self.look(move |tx| notice::endpoints(tx, now)).await
    }

    async fn notices_waiting(&self) -> Result<u64, StoreError> {
        self.read(|tx| {
            let sql = "SELECT (SELECT count(*) FROM notices WHERE body IS NULL)
                + (SELECT count(*) FROM deliveries WHERE notice_id IS NOT NULL AND state IN ('waiting', 'sending'))";
            Ok(tx.prepare_cached(sql)?.query_row((), |row| row.get::<_, Length>(0))?.0)
        })
        .await
    }
}

/// SQL that is true of a notice `n` that gathers, and before which none of its endpoint and event is under way: so that an endpoint that is
/// down has two of each waiting, however much happens.
const MAY_BE_OWED: &str = "n.body IS NULL AND NOT EXISTS (
    SELECT 1 FROM deliveries d JOIN notices e ON e.notice_id = d.notice_id
    WHERE d.notice_id IS NOT NULL AND d.state IN ('waiting', 'sending') AND e.endpoint = n.endpoint AND e.event = n.event)";

/// The active snapshot has rules: the log is followed from its end on, if it is not followed already.
pub(super) fn begin(tx: &Tx<'_>) -> Attempt<()> {
    let insert = "INSERT INTO notify_cursor (one, position) VALUES (1, ?1) ON CONFLICT (one) DO NOTHING";
    tx.prepare_cached(insert)?.execute([Length(tx.next_position())])?;
    Ok(())
}

/// The active snapshot has no rule: the log is not followed. What was gathered is still told.
pub(super) fn end(tx: &Connection) -> Attempt<()> {
    tx.prepare_cached("DELETE FROM notify_cursor")?.execute(())?;
    Ok(())
}

fn cursor(tx: &Connection) -> Attempt<Option<u64>> {
    let mut statement = tx.prepare_cached("SELECT position FROM notify_cursor")?;
    Ok(statement.query_row((), |row| row.get::<_, Length>(0)).optional()?.map(|position| position.0))
}

fn commit_notices(tx: &Connection, commit: &NotifyCommit) -> Attempt<bool> {
    let update = "UPDATE notify_cursor SET position = ?2 WHERE position = ?1";
    let moved = tx.prepare_cached(update)?.execute([Length(commit.base), Length(commit.cursor)])?;
    if moved == 0 {
        return Ok(false);
    }
    for told in &commit.told {
        tell(tx, told, commit.due_at)?;
    }
    Ok(true)
}

fn tell(tx: &Connection, told: &NewTold, due_at: Timestamp) -> Attempt<()> {
    let upsert = "INSERT INTO notices (notice_id, endpoint, event, count, first_at, last_at, examples, due_at)
        VALUES (?1, ?2, ?3, ?4, ?5, ?5, json_array(json(?6)), ?7)
        ON CONFLICT (endpoint, event) WHERE body IS NULL DO UPDATE SET
            count = count + excluded.count,
            first_at = min(first_at, excluded.first_at),
            last_at = max(last_at, excluded.last_at),
            examples = iif(json_array_length(examples) < ?8, json_insert(examples, '$[#]', json(?6)), examples)";
    let examples_max = i64::try_from(NOTICE_EXAMPLES_MAX).unwrap_or(i64::MAX);
    tx.prepare_cached(upsert)?.execute(params![
        Text(told.notice_id),
        told.endpoint,
        told.event,
        Length(told.count),
        Micros(told.at),
        Json(&told.example),
        Micros(due_at),
        examples_max,
    ])?;
    Ok(())
}

fn due(tx: &Connection, limit: u32, now: Timestamp) -> Attempt<Vec<DueNotice>> {
    let sql = format!(
        "SELECT * FROM notices n WHERE {MAY_BE_OWED} AND n.due_at <= ?1 ORDER BY n.due_at, n.ordinal LIMIT ?2"
    );
    let mut statement = tx.prepare_cached(&sql)?;
    let rows = statement.query_map(params![Micros(now), limit], gathered)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn gathered(row: &Row<'_>) -> rusqlite::Result<DueNotice> {
    let notice = Notice {
        notice_id: columns::id(row, "notice_id")?,
        event: row.get::<_, Text<NotifyEvent>>("event")?.0,
        count: row.get::<_, Length>("count")?.0,
        first_at: columns::instant(row, "first_at")?,
        last_at: columns::instant(row, "last_at")?,
        examples: columns::json(row, "examples")?,
    };
    Ok(DueNotice { endpoint: row.get("endpoint")?, notice })
}
