//! A notice as a delivery: owed, and claimed with an attempt record. How attempts end is `dispatch`'s and `settle`'s, as for all deliveries.

use jiff::Timestamp;
use orbit_core::canonical;
use orbit_core::record::Kind;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::json;
use uuid::Uuid;

use super::columns::{self, Length, Micros, Text};
use super::fault::Attempt;
use super::record::{fact, facts};
use super::settle::{self, Debtor, Delivery, Owner};
use super::tx::Tx;
use super::{dispatch, endpoint};
use crate::contract::Claim;
use crate::contract::dispatch::NewDelivery;
use crate::contract::notify::{ClaimedNotice, OwedNotice};
use crate::rows::delivery::notice_started;

/// See [`crate::contract::notify::NotifyStore::owe_notice`].
pub(super) fn owe(tx: &Tx<'_>, owed: &OwedNotice, now: Timestamp) -> Attempt<bool> {
    let (notice, name) = (&owed.due.notice, &owed.due.endpoint);
    let update =
        "UPDATE notices SET snapshot = ?3, body = ?4 WHERE notice_id = ?1 AND count = ?2 AND body IS NULL
        RETURNING due_at";
    let body = canonical::of(&owed.body);
    let parameters = params![Text(notice.notice_id), Length(notice.count), Text(owed.snapshot), body];
    let mut statement = tx.prepare_cached(update)?;
    let gathered_until = |row: &Row<'_>| columns::instant(row, "due_at");
    let Some(due_at) = statement.query_row(parameters, gathered_until).optional()? else { return Ok(false) };
    let new = NewDelivery { delivery_id: owed.delivery_id, endpoint: name.clone(), url: owed.url.clone() };
    settle::insert(tx, Owner::Notice(notice.notice_id), &new, now)?;
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
    if let Some(reason) = endpoint::disabled(tx, name)? {
        let delivery = Delivery {
            id: owed.delivery_id,
            owner: Owner::Notice(notice.notice_id),
            endpoint: name.clone(),
            state: "waiting".to_owned(),
            attempts: 0,
        };
        settle::settle(tx, &mut debtor, &delivery, Some(&reason), now)?;
    }
    Ok(true)
}

/// See [`crate::contract::notify::NotifyStore::claim_notices`].
pub(super) fn claim(tx: &Tx<'_>, endpoint: &str, limit: u32, now: Timestamp) -> Attempt<Vec<ClaimedNotice>> {
    let due = |limit| {
        let sql = "SELECT delivery_id FROM deliveries INDEXED BY deliveries_of_notices
            WHERE state = 'waiting' AND endpoint = ?1 AND due_at <= ?2 AND notice_id IS NOT NULL
            ORDER BY due_at LIMIT ?3";
        let mut statement = tx.prepare_cached(sql)?;
        let read = |row: &Row<'_>| columns::id(row, "delivery_id");
        let rows = statement.query_map(params![endpoint, Micros(now), limit], read)?;
        Ok(rows.collect::<Result<_, _>>()?)
    };
    let admitted = dispatch::admitted(tx, endpoint, limit, due, now)?;
    admitted.into_iter().map(|delivery_id| start(tx, delivery_id, now)).collect()
}

/// Whether a notice to this endpoint is due.
pub(super) fn is_due(tx: &Connection, endpoint: &str, now: Timestamp) -> Attempt<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM deliveries INDEXED BY deliveries_of_notices
        WHERE state = 'waiting' AND endpoint = ?1 AND due_at <= ?2 AND notice_id IS NOT NULL)";
    Ok(tx.prepare_cached(sql)?.query_row(params![endpoint, Micros(now)], |row| row.get(0))?)
}

/// Endpoints that a notice waits for and is due.
pub(super) fn endpoints(tx: &Connection, now: Timestamp) -> Attempt<Vec<String>> {
    let sql = "SELECT DISTINCT endpoint FROM deliveries INDEXED BY deliveries_of_notices
        WHERE state = 'waiting' AND notice_id IS NOT NULL AND due_at <= ?1 ORDER BY endpoint";
    let mut statement = tx.prepare_cached(sql)?;
    Ok(statement.query_map([Micros(now)], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

fn start(tx: &Tx<'_>, delivery_id: Uuid, now: Timestamp) -> Attempt<ClaimedNotice> {
    let claim = dispatch::take(tx, delivery_id)?;
    let select = "SELECT d.notice_id, event, d.endpoint, url, snapshot, attempts, round_attempts, body
        FROM deliveries d JOIN notices USING (notice_id) WHERE delivery_id = ?1";
    let claimed = tx.prepare_cached(select)?.query_row([Text(delivery_id)], |row| claimed(row, claim))?;
    dispatch::attempt_made(tx, delivery_id, claimed.attempt, now)?;
    let (subject, body) = notice_started(delivery_id, &claimed);
    fact(tx, now, Kind::AttemptStarted, subject, body)?;
    Ok(claimed)
}

fn claimed(row: &Row<'_>, claim: Claim) -> rusqlite::Result<ClaimedNotice> {
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
