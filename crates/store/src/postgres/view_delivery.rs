//! Deliveries for screens, with one receipt an attempt.

use orbit_core::digest::Digest;
use uuid::Uuid;

use super::columns::{self, Length, Row, Text, params};
use super::fault::{Attempt, Fault};
use super::tx::Connection;
use super::view::List;
use crate::contract::view::{DeliveryView, NoticeView, Page, PageRequest, ReceiptView};

const DELIVERIES: &str =
    "SELECT d.*, artifact_digest, artifact_bytes, n.event, n.count, n.body FROM deliveries d
    LEFT JOIN runs ON runs.run_id = d.run_id LEFT JOIN notices n ON n.notice_id = d.notice_id";

/// A page of deliveries, in one state if it is given.
pub(super) async fn page(
    tx: &Connection,
    state: Option<&str>,
    request: &PageRequest,
) -> Attempt<Page<DeliveryView>> {
    let conditions = state.map(|state| ("d.state", state.to_owned())).into_iter().collect();
    let list = List { sql: DELIVERIES, key: "d.ordinal", conditions };
    let Page { items, next } = list.page(tx, request, read).await?;
    Ok(Page { items: all_with_receipts(tx, items).await?, next })
}

/// A delivery.
pub(super) async fn find(tx: &Connection, delivery_id: Uuid) -> Attempt<Option<DeliveryView>> {
    let sql = format!("{DELIVERIES} WHERE delivery_id = $1");
    let found = tx.query_optional(&sql, params![Text(delivery_id)], read).await?;
    Ok(all_with_receipts(tx, found.into_iter().collect()).await?.pop())
}

/// What a run owes, in the order of its targets.
pub(super) async fn of_run(tx: &Connection, run_id: Uuid) -> Attempt<Vec<DeliveryView>> {
    let sql = format!("{DELIVERIES} WHERE d.run_id = $1 ORDER BY d.ordinal");
    let deliveries = tx.query_all(&sql, params![Text(run_id)], read).await?;
    all_with_receipts(tx, deliveries).await
}

async fn all_with_receipts(tx: &Connection, deliveries: Vec<DeliveryView>) -> Attempt<Vec<DeliveryView>> {
    let mut complete = Vec::with_capacity(deliveries.len());
    for delivery in deliveries {
        complete.push(with_receipts(tx, delivery).await?);
    }
    Ok(complete)
}

fn read(row: &Row) -> Attempt<DeliveryView> {
    let id = |column| Ok::<_, Fault>(row.get::<_, Option<Text<Uuid>>>(column)?.map(|id| id.0));
    let notice = match id("notice_id")? {
        Some(notice_id) => {
            Some(NoticeView { notice_id, event: row.get("event")?, count: row.get::<_, Length>("count")?.0 })
        }
        None => None,
    };
    let (digest, bytes) = match row.get::<_, Option<String>>("body")? {
        Some(body) => (Digest::of(body.as_bytes()), body.len() as u64),
        None => (columns::digest(row, "artifact_digest")?, row.get::<_, Length>("artifact_bytes")?.0),
    };
    Ok(DeliveryView {
        delivery_id: columns::id(row, "delivery_id")?,
        run_id: id("run_id")?,
        notice,
        endpoint: row.get("endpoint")?,
        url: row.get("url")?,
        state: row.get("state")?,
        reason: row.get("reason")?,
        attempts: row.get("attempts")?,
        due_at: columns::instant_or_null(row, "due_at")?,
        created_at: columns::instant(row, "created_at")?,
        settled_at: columns::instant_or_null(row, "settled_at")?,
        digest,
        bytes,
        receipts: Vec::new(),
    })
}

async fn with_receipts(tx: &Connection, mut delivery: DeliveryView) -> Attempt<DeliveryView> {
    let sql = "SELECT attempt, started_at, answered_at, receipt FROM attempts
        WHERE delivery_id = $1 AND receipt IS NOT NULL ORDER BY attempt";
    let read = |row: &Row| {
        Ok(ReceiptView {
            attempt: row.get("attempt")?,
            started_at: columns::instant(row, "started_at")?,
            at: columns::instant(row, "answered_at")?,
            receipt: columns::json(row, "receipt")?,
        })
    };
    delivery.receipts = tx.query_all(sql, params![Text(delivery.delivery_id)], read).await?;
    Ok(delivery)
}
