//! Notices gather in rows that nothing else reads, until they are owed as deliveries.

use async_trait::async_trait;
use jiff::Timestamp;
use orbit_core::config::NotifyEvent;
use orbit_core::limits::NOTICE_EXAMPLES_MAX;
use orbit_core::notify::Notice;
use uuid::Uuid;

use super::columns::{self, Json, Length, Micros, Row, Text, params};
use super::fault::Attempt;
use super::tx::{Connection, Tx, reading, writing};
use super::{PostgresStore, notice};
use crate::StoreError;
use crate::contract::notify::{ClaimedNotice, DueNotice, NewTold, NotifyCommit, NotifyStore, OwedNotice};

#[async_trait]
impl NotifyStore for PostgresStore {
    async fn notify_cursor(&self) -> Result<Option<u64>, StoreError> {
        reading!(self, |tx| cursor(tx).await)
    }

    async fn commit_notices(&self, commit: NotifyCommit) -> Result<bool, StoreError> {
        writing!(self, |tx| commit_notices(tx, &commit).await)
    }

    async fn due_notices(&self, limit: u32, now: Timestamp) -> Result<Vec<DueNotice>, StoreError> {
        reading!(self, |tx| due(tx, limit, now).await)
    }

    async fn owe_notice(&self, owed: OwedNotice, now: Timestamp) -> Result<bool, StoreError> {
        writing!(self, |tx| notice::owe(tx, &owed, now).await)
    }

    async fn forget_notice(&self, notice_id: Uuid) -> Result<(), StoreError> {
        writing!(self, |tx| {
            let delete = "DELETE FROM notices WHERE notice_id = $1 AND body IS NULL";
            tx.send(delete, params![Text(notice_id)]).await?;
            Ok(())
        })
    }

    async fn next_notice_due(&self) -> Result<Option<Timestamp>, StoreError> {
        reading!(self, |tx| {
            let sql = format!("SELECT min(due_at) AS due_at FROM notices n WHERE {MAY_BE_OWED}");
            tx.query_row(&sql, params![], |row| columns::instant_or_null(row, "due_at")).await
        })
    }

    async fn claim_notices(
        &self,
        endpoint: &str,
        limit: u32,
        now: Timestamp,
    ) -> Result<Vec<ClaimedNotice>, StoreError> {
        let endpoint = endpoint.to_owned();
        // Asked before every delivery of a run, which should not wait for a commit of nothing.
        let name = endpoint.clone();
        if !reading!(self, |tx| notice::is_due(tx, &name, now).await)? {
            return Ok(Vec::new());
        }
        writing!(self, |tx| notice::claim(tx, &endpoint, limit, now).await)
    }

    async fn notice_endpoints(&self, now: Timestamp) -> Result<Vec<String>, StoreError> {
        reading!(self, |tx| notice::endpoints(tx, now).await)
    }

    async fn notices_waiting(&self) -> Result<u64, StoreError> {
        reading!(self, |tx| {
            let sql = "SELECT (SELECT count(*) FROM notices WHERE body IS NULL)
                + (SELECT count(*) FROM deliveries WHERE notice_id IS NOT NULL AND state IN ('waiting', 'sending'))";
            Ok(tx.query_row(sql, params![], |row| row.get::<_, Length>(0)).await?.0)
        })
    }
}

/// SQL that is true of a notice `n` that gathers, and before which none of its endpoint and event is under way: so that an endpoint that is
/// down has two of each waiting, however much happens.
const MAY_BE_OWED: &str = "n.body IS NULL AND NOT EXISTS (
    SELECT 1 FROM deliveries d JOIN notices e ON e.notice_id = d.notice_id
    WHERE d.notice_id IS NOT NULL AND d.state IN ('waiting', 'sending') AND e.endpoint = n.endpoint AND e.event = n.event)";

/// The active snapshot has rules: the log is followed from its end on, if it is not followed already.
pub(super) async fn begin(tx: &Tx) -> Attempt<()> {
    let insert = "INSERT INTO notify_cursor (position) VALUES ($1) ON CONFLICT (namespace) DO NOTHING";
    tx.send(insert, params![Length(tx.next_position()?)]).await?;
    Ok(())
}

/// The active snapshot has no rule: the log is not followed. What was gathered is still told.
pub(super) async fn end(tx: &Connection) -> Attempt<()> {
    tx.send("DELETE FROM notify_cursor", params![]).await?;
    Ok(())
}

async fn cursor(tx: &Connection) -> Attempt<Option<u64>> {
    let sql = "SELECT position FROM notify_cursor";
    Ok(tx.query_optional(sql, params![], |row| row.get::<_, Length>(0)).await?.map(|position| position.0))
}

async fn commit_notices(tx: &Connection, commit: &NotifyCommit) -> Attempt<bool> {
    let update = "UPDATE notify_cursor SET position = $2 WHERE position = $1";
    let moved = tx.execute(update, params![Length(commit.base), Length(commit.cursor)]).await?;
    if moved == 0 {
        return Ok(false);
    }
    for told in &commit.told {
        tell(tx, told, commit.due_at).await?;
    }
    Ok(true)
}

async fn tell(tx: &Connection, told: &NewTold, due_at: Timestamp) -> Attempt<()> {
    let upsert =
        "INSERT INTO notices (notice_id, endpoint, event, count, first_at, last_at, examples, due_at)
        VALUES ($1, $2, $3, $4, $5, $5, '[' || $6 || ']', $7)
        ON CONFLICT (namespace, endpoint, event) WHERE body IS NULL DO UPDATE SET
            count = notices.count + excluded.count,
            first_at = least(notices.first_at, excluded.first_at),
            last_at = greatest(notices.last_at, excluded.last_at),
            examples = CASE WHEN json_array_length(notices.examples::json)::bigint < $8
                THEN left(notices.examples, -1) || ',' || $6 || ']' ELSE notices.examples END";
    let examples_max = i64::try_from(NOTICE_EXAMPLES_MAX).unwrap_or(i64::MAX);
    tx.send(
        upsert,
        params![
            Text(told.notice_id),
            told.endpoint,
            told.event,
            Length(told.count),
            Micros(told.at),
            Json(&told.example),
            Micros(due_at),
            examples_max,
        ],
    )
    .await?;
    Ok(())
}

async fn due(tx: &Connection, limit: u32, now: Timestamp) -> Attempt<Vec<DueNotice>> {
    let sql = format!(
        "SELECT * FROM notices n WHERE {MAY_BE_OWED} AND n.due_at <= $1 ORDER BY n.due_at, n.ordinal LIMIT $2"
    );
    tx.query_all(&sql, params![Micros(now), limit], gathered).await
}

fn gathered(row: &Row) -> Attempt<DueNotice> {
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
