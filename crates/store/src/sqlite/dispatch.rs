//! Deliveries are claimed with an attempt record, committed with a receipt, and redriven.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use orbit_core::record::{Kind, Subject};
use orbit_core::run::{Ending, RunEvent, RunState};
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};
use serde_json::json;
use uuid::Uuid;

use super::columns::{self, Micros, Text};
use super::fault::Attempt;
use super::record::{Seen, evidence, fact, facts};
use super::settle::{self, Delivery};
use super::transition;
use super::{SqliteStore, tiers, token};
use crate::StoreError;
use crate::contract::dispatch::{AttemptCommit, ClaimedDelivery, DispatchStore, RedriveFilter, Settle};
use crate::contract::{Claim, OpenDoors};

#[async_trait]
impl DispatchStore for SqliteStore {
    async fn claim_deliveries(
        &self,
        endpoint: &str,
        limit: u32,
        doors: OpenDoors,
        now: Timestamp,
    ) -> Result<Vec<ClaimedDelivery>, StoreError> {
        let endpoint = endpoint.to_owned();
        self.write(move |tx| {
            let due = due(tx, &endpoint, limit, doors, now)?;
            due.into_iter().map(|delivery_id| start(tx, delivery_id, now)).collect()
        })
        .await
    }

    async fn commit_attempt(
        &self,
        claim: Claim,
        commit: AttemptCommit,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.write(move |tx| commit_attempt(tx, claim, &commit, now)).await
    }

    async fn due_endpoints(&self, now: Timestamp) -> Result<Vec<String>, StoreError> {
        self.read(move |tx| {
            let waiting = waiting_endpoints(tx)?.into_iter();
            Ok(waiting.filter(|(_, due)| *due <= now).map(|(endpoint, _)| endpoint).collect())
        })
        .await
    }

    async fn next_delivery_due(&self) -> Result<Option<Timestamp>, StoreError> {
        self.read(|tx| Ok(waiting_endpoints(tx)?.into_iter().map(|(_, due)| due).min())).await
    }

    async fn redrive(&self, filter: RedriveFilter, now: Timestamp) -> Result<Vec<Uuid>, StoreError> {
        self.write(move |tx| redrive(tx, &filter, now)).await
    }
}

/// Endpoints that something waits for, each with the instant its first delivery is due. Jumps from endpoint to endpoint in the index, so that
/// a million deliveries of one cost as much as one.
fn waiting_endpoints(tx: &Connection) -> Attempt<Vec<(String, Timestamp)>> {
    let sql = "WITH RECURSIVE waiting (endpoint) AS (
            SELECT min(endpoint) FROM deliveries INDEXED BY deliveries_due WHERE state = 'waiting'
            UNION ALL
            SELECT (SELECT min(d.endpoint) FROM deliveries d INDEXED BY deliveries_due
                WHERE d.state = 'waiting' AND d.endpoint > waiting.endpoint)
            FROM waiting WHERE waiting.endpoint IS NOT NULL)
        SELECT endpoint, (SELECT min(d.due_at) FROM deliveries d INDEXED BY deliveries_due
            WHERE d.state = 'waiting' AND d.endpoint = waiting.endpoint) AS due_at
        FROM waiting WHERE endpoint IS NOT NULL";
    let mut statement = tx.prepare_cached(sql)?;
    let read = |row: &Row<'_>| Ok((row.get("endpoint")?, columns::instant(row, "due_at")?));
    Ok(statement.query_map((), read)?.collect::<Result<_, _>>()?)
}

fn due(tx: &Connection, endpoint: &str, limit: u32, doors: OpenDoors, now: Timestamp) -> Attempt<Vec<Uuid>> {
    let sql = "SELECT delivery_id FROM deliveries INDEXED BY deliveries_due
        WHERE state = 'waiting' AND endpoint = ?1 AND due_at <= ?2 AND iif(attempts = 0, ?3, ?4)
        ORDER BY due_at, ordinal LIMIT ?5";
    let mut statement = tx.prepare_cached(sql)?;
    let parameters = params![endpoint, Micros(now), doors.first, doors.retry, limit];
    let rows = statement.query_map(parameters, |row| columns::id(row, "delivery_id"))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The delivery's next attempt is the caller's, and its record is there before the first byte can be sent.
fn start(tx: &Connection, delivery_id: Uuid, now: Timestamp) -> Attempt<ClaimedDelivery> {
    let token = token::next(tx)?;
    let update =
        "UPDATE deliveries SET state = 'sending', due_at = NULL, token = ?2, attempts = attempts + 1,
        round_attempts = round_attempts + 1 WHERE delivery_id = ?1";
    tx.prepare_cached(update)?.execute(params![Text(delivery_id), token])?;
    let select = "SELECT d.run_id, cycle_id, profile_id, snapshot, request, endpoint, url, attempts, round_attempts,
            artifact_digest, artifact_bytes, artifact_media_type
        FROM deliveries d JOIN runs USING (run_id) JOIN cycles USING (cycle_id) JOIN run_requests USING (run_id)
        WHERE delivery_id = ?1";
    let claim = Claim { id: delivery_id, token };
    let claimed = tx.prepare_cached(select)?.query_row([Text(delivery_id)], |row| claimed(row, claim))?;
    tx.prepare_cached("INSERT INTO attempts (delivery_id, attempt, started_at) VALUES (?1, ?2, ?3)")?
        .execute(params![Text(delivery_id), claimed.attempt, Micros(now)])?;
    let subject = Subject {
        cycle_id: Some(claimed.cycle_id),
        run_id: Some(claimed.run_id),
        profile_id: Some(claimed.profile_id),
        snapshot: Some(claimed.snapshot),
    };
    let body = json!({
        "delivery_id": delivery_id,
        "endpoint": claimed.endpoint,
        "url": claimed.url,
        "attempt": claimed.attempt,
        "attempt_in_round": claimed.attempt_in_round,
        "idempotency_key": delivery_id,
        "digest": claimed.artifact.digest,
        "bytes": claimed.artifact.bytes,
    });
    fact(tx, now, Kind::AttemptStarted, subject, facts(body))?;
    Ok(claimed)
}

fn claimed(row: &Row<'_>, claim: Claim) -> rusqlite::Result<ClaimedDelivery> {
    Ok(ClaimedDelivery {
        claim,
        run_id: columns::id(row, "run_id")?,
        cycle_id: columns::id(row, "cycle_id")?,
        profile_id: columns::id(row, "profile_id")?,
        snapshot: columns::digest(row, "snapshot")?,
        request: columns::json(row, "request")?,
        endpoint: row.get("endpoint")?,
        url: row.get("url")?,
        attempt: row.get("attempts")?,
        attempt_in_round: row.get("round_attempts")?,
        artifact: tiers::artifact(row)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?,
    })
}

fn find(tx: &Connection, claim: Claim) -> Attempt<Option<Delivery>> {
    let sql = format!("SELECT {} FROM deliveries WHERE delivery_id = ?1 AND token = ?2", settle::COLUMNS);
    Ok(tx.prepare_cached(&sql)?.query_row(params![Text(claim.id), claim.token], settle::read).optional()?)
}

fn commit_attempt(tx: &Connection, claim: Claim, commit: &AttemptCommit, now: Timestamp) -> Attempt<bool> {
    let Some(delivery) = find(tx, claim)? else { return Ok(false) };
    let mut run = transition::load_known(tx, delivery.run_id)?;
    // Of a delivery that was cancelled meanwhile the receipt is taken all the same: there is one for every attempt.
    if !settle::receive(tx, &run, &delivery, &commit.receipt, now)? {
        return Ok(false);
    }
    if let Some(seen) = &commit.evidence {
        let seen = Seen { evidence: seen, kind: Kind::ReceiptBody, of: delivery.facts() };
        evidence(tx, now, run.subject(), seen)?;
    }
    if let Some(reason) = &commit.disable_endpoint {
        settle::disable(tx, &run, &delivery, reason, now)?;
    }
    let held = delivery.state == "sending";
    if held {
        match (&commit.settle, settle::disabled(tx, &delivery.endpoint)?) {
            (Settle::Accepted, _) => settle::settle(tx, &mut run, &delivery, None, now)?,
            (Settle::Dead { reason }, _) => settle::settle(tx, &mut run, &delivery, Some(reason), now)?,
            (Settle::Retry { .. }, Some(reason)) => {
                settle::settle(tx, &mut run, &delivery, Some(&reason), now)?;
            }
            (Settle::Retry { until }, None) => settle::wait(tx, delivery.id, *until)?,
        }
    }
    if commit.disable_endpoint.is_some() {
        settle::give_up_waiting(tx, &delivery.endpoint, now)?;
    }
    Ok(held)
}

fn redrive(tx: &Connection, filter: &RedriveFilter, now: Timestamp) -> Attempt<Vec<Uuid>> {
    if let Some(endpoint) = &filter.endpoint {
        enable(tx, endpoint, now)?;
    }
    let mut redriven = Vec::new();
    for (run_id, dead) in dead_letters(tx, filter)? {
        let mut run = transition::load_known(tx, run_id)?;
        let Ok(deliveries) = u32::try_from(dead.len()) else { continue };
        match &run.state {
            RunState::Dispatching { .. } | RunState::Finished { ending: Ending::Partial { .. } } => {}
            // A run that was cancelled stays so, whatever was dead before.
            RunState::Ready { .. }
            | RunState::Working { .. }
            | RunState::Waiting { .. }
            | RunState::Finished { .. } => continue,
        }
        let ids: Vec<_> = dead.iter().map(|delivery| delivery.id).collect();
        let body = facts(json!({ "deliveries": ids }));
        transition::apply(tx, &mut run, &RunEvent::Redriven { deliveries }, body, now)?;
        for delivery in dead {
            enable(tx, &delivery.endpoint, now)?;
            let update =
                "UPDATE deliveries SET state = 'waiting', due_at = ?2, round_attempts = 0, reason = NULL,
                settled_at = NULL WHERE delivery_id = ?1";
            tx.prepare_cached(update)?.execute(params![Text(delivery.id), Micros(now)])?;
        }
        redriven.extend(ids);
    }
    Ok(redriven)
}

fn dead_letters(tx: &Connection, filter: &RedriveFilter) -> Attempt<Vec<(Uuid, Vec<Delivery>)>> {
    let mut sql = format!("SELECT {} FROM deliveries WHERE state = 'dead'", settle::COLUMNS);
    let given = [
        ("delivery_id", filter.delivery_id.map(|id| id.to_string())),
        ("run_id", filter.run_id.map(|id| id.to_string())),
        ("endpoint", filter.endpoint.clone()),
    ];
    let mut parameters = Vec::new();
    for (column, value) in given {
        if let Some(value) = value {
            parameters.push(value);
            sql = format!("{sql} AND {column} = ?{}", parameters.len());
        }
    }
    sql += " ORDER BY ordinal";
    let mut statement = tx.prepare_cached(&sql)?;
    let mut by_run = Vec::<(Uuid, Vec<Delivery>)>::new();
    let mut places = BTreeMap::new();
    for delivery in statement.query_map(params_from_iter(parameters), settle::read)? {
        let delivery = delivery?;
        let place = *places.entry(delivery.run_id).or_insert(by_run.len());
        if place == by_run.len() {
            by_run.push((delivery.run_id, Vec::new()));
        }
        by_run[place].1.push(delivery);
    }
    Ok(by_run)
}

/// The endpoint takes deliveries again.
fn enable(tx: &Connection, endpoint: &str, now: Timestamp) -> Attempt<()> {
    let delete = "DELETE FROM endpoints_disabled WHERE endpoint = ?1";
    if tx.prepare_cached(delete)?.execute([endpoint])? == 0 {
        return Ok(());
    }
    fact(tx, now, Kind::EndpointEnabled, Subject::default(), facts(json!({ "endpoint": endpoint })))
}
