//! A notice as a delivery: owed, and claimed with an attempt record. How attempts end is `dispatch`'s and `settle`'s, as for all deliveries.

use futures_util::future::try_join;
use jiff::Timestamp;
use orbit_core::canonical;
use orbit_core::record::Kind;
use serde_json::json;
use uuid::Uuid;

use super::columns::{self, Length, Micros, Row, Text, params};
use super::fault::Attempt;
use super::record::{fact, facts};
use super::settle::{self, Debtor, Delivery, Owner};
use super::tx::{Connection, Tx};
use super::{dispatch, endpoint};
use crate::contract::Claim;
use crate::contract::dispatch::NewDelivery;
use crate::contract::notify::{ClaimedNotice, OwedNotice};
use crate::rows::delivery::notice_started;

/// See [`crate::contract::notify::NotifyStore::owe_notice`].
pub(super) async fn owe(tx: &Tx, owed: &OwedNotice, now: Timestamp) -> Attempt<bool> {
    let (notice, name) = (&owed.due.notice, &owed.due.endpoint);
    let update =
        "UPDATE notices SET snapshot = $3, body = $4 WHERE notice_id = $1 AND count = $2 AND body IS NULL
        RETURNING due_at";
    let body = canonical::of(&owed.body);
    let parameters = params![Text(notice.notice_id), Length(notice.count), Text(owed.snapshot), body];
    let gathered_until = |row: &Row| columns::instant(row, "due_at");
    let Some(due_at) = tx.query_optional(update, parameters, gathered_until).await? else {
        return Ok(false);
    };
    let new = NewDelivery { delivery_id: owed.delivery_id, endpoint: name.clone(), url: owed.url.clone() };
    settle::insert(tx, Owner::Notice(notice.notice_id), &new, now).await?;
    let mut debtor = Debtor::Notice(owed.snapshot);
    let created = json!({
        "delivery_id": owed.delivery_id,
        "endpoint": name,
        "url": owed.url,
        "idempotency_key": owed.delivery_id,
        "notice_id": notice.notice_id,
        "notice": owed.body,
        "gathered_until": due_at,
    });
    fact(tx, now, Kind::DeliveryCreated, debtor.subject(), facts(created))?;
    if let Some(reason) = endpoint::disabled(tx, name).await? {
        let delivery = Delivery {
            id: owed.delivery_id,
            owner: Owner::Notice(notice.notice_id),
            endpoint: name.clone(),
            state: "waiting".to_owned(),
            attempts: 0,
        };
        settle::settle(tx, &mut debtor, &delivery, Some(&reason), now).await?;
    }
    Ok(true)
}

/// See [`crate::contract::notify::NotifyStore::claim_notices`].
pub(super) async fn claim(
    tx: &Tx,
    endpoint: &str,
    limit: u32,
    now: Timestamp,
) -> Attempt<Vec<ClaimedNotice>> {
    let sql = "SELECT delivery_id FROM deliveries
        WHERE state = 'waiting' AND endpoint = $1 AND due_at <= $2 AND notice_id IS NOT NULL
        ORDER BY due_at LIMIT $3 FOR UPDATE SKIP LOCKED";
    let read = |row: &Row| columns::id(row, "delivery_id");
    let due = tx.query_all(sql, params![endpoint, Micros(now), limit], read);
    let (health, due) = try_join(endpoint::health(tx, endpoint), due).await?;
    let due = dispatch::admitted(tx, (endpoint, &health), due, |id| *id, now).await?;
    let mut claimed = Vec::with_capacity(due.len());
    for delivery_id in due {
        claimed.push(start(tx, delivery_id, now).await?);
    }
    Ok(claimed)
}

/// Whether a notice to this endpoint is due.
pub(super) async fn is_due(tx: &Connection, endpoint: &str, now: Timestamp) -> Attempt<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM deliveries
        WHERE state = 'waiting' AND endpoint = $1 AND due_at <= $2 AND notice_id IS NOT NULL)";
    tx.query_row(sql, params![endpoint, Micros(now)], |row| row.get(0)).await
}

/// Endpoints that a notice waits for and is due.
pub(super) async fn endpoints(tx: &Connection, now: Timestamp) -> Attempt<Vec<String>> {
    let sql = "SELECT DISTINCT endpoint FROM deliveries
        WHERE state = 'waiting' AND notice_id IS NOT NULL AND due_at <= $1 ORDER BY endpoint";
    tx.query_all(sql, params![Micros(now)], |row| row.get(0)).await
}

async fn start(tx: &Tx, delivery_id: Uuid, now: Timestamp) -> Attempt<ClaimedNotice> {
    let claim = dispatch::take(tx, delivery_id, now).await?;
    let select = "SELECT d.notice_id, event, d.endpoint, url, snapshot, attempts, round_attempts, body
        FROM deliveries d JOIN notices USING (notice_id) WHERE delivery_id = $1";
    let claimed = tx.query_row(select, params![Text(delivery_id)], |row| claimed(row, claim)).await?;
    let (subject, body) = notice_started(delivery_id, &claimed);
    fact(tx, now, Kind::AttemptStarted, subject, body)?;
    Ok(claimed)
}

fn claimed(row: &Row, claim: Claim) -> Attempt<ClaimedNotice> {
    Ok(ClaimedNotice {
        claim,
        notice_id: columns::id(row, "notice_id")?,
        event: row.get::<_, Text<_>>("event")?.0,
        endpoint: row.get("endpoint")?,
        url: row.get("url")?,
        snapshot: columns::digest(row, "snapshot")?,
        attempt: row.get("attempts")?,
        attempt_in_round: row.get("round_attempts")?,
        body: row.get("body")?,
    })
}
