//! Deliveries are claimed with an attempt record, and committed with a receipt.

use std::collections::BTreeMap;

use async_trait::async_trait;
use futures_util::future::{try_join, try_join3};
use jiff::Timestamp;
use orbit_core::dispatch::breaker::{Admits, Health};
use orbit_core::record::Kind;
use serde_json::Value;
use uuid::Uuid;

use super::columns::{self, Json, Micros, Row, Text, params};
use super::cycle::Beside;
use super::fault::{Attempt, Fault};
use super::record::{Seen, evidence, fact};
use super::settle::{self, Debtor, Delivery, Owner, Received};
use super::tx::{Connection, Tx, reading, together, writing};
use super::{PostgresStore, endpoint, redrive, tiers, token, transition};
use crate::StoreError;
use crate::contract::dispatch::{
    AttemptCommit, ClaimedDelivery, DispatchStore, FreeAttempts, RedriveFilter, RedriveFrom, Redriven,
    Settle, WaitingEndpoint,
};
use crate::contract::{Claim, OpenDoors};
use crate::rows::delivery::attempt_started;

#[async_trait]
impl DispatchStore for PostgresStore {
    async fn claim_deliveries(
        &self,
        endpoint: &str,
        limit: u32,
        doors: OpenDoors,
        now: Timestamp,
    ) -> Result<Vec<ClaimedDelivery>, StoreError> {
        writing!(self, |tx| {
            let due = due(tx, DUE, (endpoint, limit), doors, now);
            let (health, due, ()) = try_join3(endpoint::health(tx, endpoint), due, token::look(tx)).await?;
            claim(tx, endpoint, (&health, due), now).await
        })
    }

    async fn claim_next_in_order(
        &self,
        endpoint: &str,
        doors: OpenDoors,
        now: Timestamp,
    ) -> Result<Option<ClaimedDelivery>, StoreError> {
        writing!(self, |tx| {
            let next = due(tx, NEXT_IN_ORDER, (endpoint, 1), doors, now);
            let (health, next) = try_join(endpoint::health(tx, endpoint), next).await?;
            Ok(claim(tx, endpoint, (&health, next), now).await?.pop())
        })
    }

    async fn commit_attempt(
        &self,
        claim: Claim,
        commit: AttemptCommit,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        writing!(self, |tx| commit_attempt(tx, claim, &commit, now).await)
    }

    async fn waiting_endpoints(&self) -> Result<Vec<WaitingEndpoint>, StoreError> {
        reading!(self, |tx| endpoint::waiting(tx).await)
    }

    async fn give_up_disabled(&self, now: Timestamp) -> Result<u32, StoreError> {
        // Asked much more often than there is something to do, which a reader can tell.
        if reading!(self, |tx| endpoint::all_disabled(tx).await)?.is_empty() {
            return Ok(0);
        }
        writing!(self, |tx| settle::give_up_disabled(tx, now).await)
    }

    async fn redrive(
        &self,
        filter: RedriveFilter,
        from: Option<RedriveFrom>,
        now: Timestamp,
    ) -> Result<Redriven, StoreError> {
        writing!(self, |tx| redrive::redrive(tx, &filter, from, now).await)
    }

    async fn count_redrivable(&self, filter: RedriveFilter) -> Result<u64, StoreError> {
        reading!(self, |tx| redrive::count(tx, &filter).await)
    }
}

/// As many of those that are due as the health of their endpoint admits; if that is a probe, the first of them is it.
pub(super) async fn admitted<T>(
    tx: &Tx,
    (endpoint, health): (&str, &Health),
    mut due: Vec<T>,
    id: impl Fn(&T) -> Uuid,
    now: Timestamp,
) -> Attempt<Vec<T>> {
    match health.admits(now) {
        Admits::Any => {}
        Admits::Probe => {
            due.truncate(1);
            if let Some(probe) = due.first() {
                endpoint::probes(tx, endpoint, id(probe), now).await?;
            }
        }
        Admits::Nothing => due.clear(),
    }
    Ok(due)
}

/// Due deliveries of runs, oldest first.
const DUE: &str = "SELECT delivery_id FROM deliveries
    WHERE state = 'waiting' AND endpoint = $1 AND due_at <= $2 AND CASE WHEN attempts = 0 THEN $3::boolean ELSE $4::boolean END AND run_id IS NOT NULL
    ORDER BY due_at, ordinal LIMIT $5 FOR UPDATE SKIP LOCKED";

/// The first delivery of a run in the order of making, if it is due and nothing is being sent.
const NEXT_IN_ORDER: &str = "SELECT delivery_id FROM (
        SELECT delivery_id, due_at, attempts FROM deliveries
        WHERE state = 'waiting' AND endpoint = $1 AND run_id IS NOT NULL ORDER BY ordinal LIMIT 1) AS head
    WHERE due_at <= $2 AND CASE WHEN attempts = 0 THEN $3::boolean ELSE $4::boolean END AND NOT EXISTS (
        SELECT 1 FROM deliveries WHERE state = 'sending' AND endpoint = $1 AND run_id IS NOT NULL)
    LIMIT $5";

/// What one of these finds, as it is claimed: but for the token, and with the numbers of the attempts to be made.
async fn due(
    tx: &Connection,
    sql: &str,
    (endpoint, limit): (&str, u32),
    doors: OpenDoors,
    now: Timestamp,
) -> Attempt<Vec<ClaimedDelivery>> {
    // `OFFSET 0`: by its indexes for each of the few, however many the server expects.
    let sql = format!(
        "SELECT due.delivery_id, one.* FROM ({sql}) AS due CROSS JOIN LATERAL (
            SELECT d.ordinal, d.due_at, d.run_id, cycle_id, profile_id, snapshot, request, endpoint, url, attempts + 1 AS attempts,
                round_attempts + 1 AS round_attempts, artifact_digest, artifact_bytes, artifact_media_type
            FROM deliveries d JOIN runs USING (run_id) JOIN cycles USING (cycle_id) JOIN run_requests USING (run_id)
            WHERE d.delivery_id = due.delivery_id OFFSET 0) AS one
        ORDER BY one.due_at, one.ordinal"
    );
    let parameters = params![endpoint, Micros(now), doors.first, doors.retry, limit];
    tx.query_all(&sql, parameters, claimed).await
}

/// The next attempts at an endpoint of this health are the caller's, as far as these are admitted, and their records are there before the first byte can be sent.
async fn claim(
    tx: &Tx,
    endpoint: &str,
    (health, due): (&Health, Vec<ClaimedDelivery>),
    now: Timestamp,
) -> Attempt<Vec<ClaimedDelivery>> {
    let mut claimed = admitted(tx, (endpoint, health), due, |one| one.claim.id, now).await?;
    for one in &mut claimed {
        one.claim = take(tx, one.claim.id, now).await?;
        let (subject, body) = attempt_started(one.claim.id, one);
        fact(tx, now, Kind::AttemptStarted, subject, body)?;
    }
    Ok(claimed)
}

/// What is due at each of the endpoints that are free, in their order, as far as there is room.
pub(super) async fn due_free(
    tx: &Tx,
    free: Option<&FreeAttempts>,
    now: Timestamp,
) -> Attempt<Vec<Vec<ClaimedDelivery>>> {
    let Some(FreeAttempts { endpoints, doors }) = free else { return Ok(Vec::new()) };
    let due = endpoints.iter().map(|(endpoint, limit)| due(tx, DUE, (endpoint, *limit), *doors, now));
    try_join(together(due.collect()), token::look(tx)).await.map(|(due, ())| due)
}

/// The same after these were owed, which are the youngest of all and due at once.
pub(super) fn due_with(
    free: Option<&FreeAttempts>,
    mut due: Vec<Vec<ClaimedDelivery>>,
    owed: Vec<ClaimedDelivery>,
) -> Vec<Vec<ClaimedDelivery>> {
    let Some(FreeAttempts { endpoints, .. }) = free.filter(|free| free.doors.first) else { return due };
    for one in owed {
        let of_endpoint =
            endpoints.iter().zip(&mut due).find(|((endpoint, _), _)| **endpoint == one.endpoint);
        if let Some((_, due)) = of_endpoint.filter(|((_, limit), due)| due.len() < **limit as usize) {
            due.push(one);
        }
    }
    due
}

/// The next attempts are the caller's of what is due at each of these endpoints, whose health is this.
pub(super) async fn claim_free(
    tx: &Tx,
    (free, due): (Option<&FreeAttempts>, Vec<Vec<ClaimedDelivery>>),
    healths: &BTreeMap<String, Health>,
    now: Timestamp,
) -> Attempt<Vec<ClaimedDelivery>> {
    let endpoints = free.into_iter().flat_map(|free| free.endpoints.keys());
    let mut sending = Vec::new();
    for (endpoint, due) in endpoints.zip(due) {
        let health = healths.get(endpoint).cloned().unwrap_or_default();
        sending.extend(claim(tx, endpoint, (&health, due), now).await?);
    }
    Ok(sending)
}

/// The next attempt at the delivery is the caller's, and awaits its receipt.
pub(super) async fn take(tx: &Tx, delivery_id: Uuid, now: Timestamp) -> Attempt<Claim> {
    let token = token::next(tx).await?;
    let sql = "WITH sending AS (
            UPDATE deliveries SET state = 'sending', due_at = NULL, token = $2, attempts = attempts + 1,
            round_attempts = round_attempts + 1 WHERE delivery_id = $1 RETURNING delivery_id, attempts
        ) INSERT INTO attempts (delivery_id, attempt, started_at) SELECT delivery_id, attempts, $3 FROM sending";
    tx.send(sql, params![Text(delivery_id), token, Micros(now)]).await?;
    Ok(Claim { id: delivery_id, token })
}

fn claimed(row: &Row) -> Attempt<ClaimedDelivery> {
    Ok(ClaimedDelivery {
        claim: Claim { id: columns::id(row, "delivery_id")?, token: 0 },
        run_id: columns::id(row, "run_id")?,
        cycle_id: columns::id(row, "cycle_id")?,
        profile_id: columns::id(row, "profile_id")?,
        snapshot: columns::digest(row, "snapshot")?,
        request: columns::json(row, "request")?,
        endpoint: row.get("endpoint")?,
        url: row.get("url")?,
        attempt: row.get("attempts")?,
        attempt_in_round: row.get("round_attempts")?,
        artifact: tiers::artifact(row)?
            .ok_or_else(|| Fault::contradiction("a delivery of a run without an artifact"))?,
    })
}

/// The delivery of a claim, whose it is, and how its endpoint does; of a run also what the end of its cycle depends on.
async fn find(tx: &Tx, claim: Claim) -> Attempt<Option<(Delivery, Debtor, Health)>> {
    let sql = format!(
        "SELECT d.delivery_id, d.run_id, d.notice_id, d.endpoint, d.state, d.attempts, e.health,
            r.cycle_id, r.profile_id, coalesce(c.snapshot, n.snapshot) AS snapshot, r.state_json, r.token, r.deadline_at, {}
        FROM deliveries d LEFT JOIN endpoints e USING (endpoint) LEFT JOIN notices n USING (notice_id)
            LEFT JOIN runs r USING (run_id) LEFT JOIN cycles c USING (cycle_id) {}
        WHERE d.delivery_id = $1 AND d.token = $2",
        Beside::COLUMNS,
        Beside::HOLD
    );
    let read = |row: &Row| {
        let delivery = settle::read(row)?;
        let debtor = match delivery.owner {
            Owner::Run(_) => {
                let run = transition::read(row)?;
                tx.knows_beside(run.cycle_id, Beside::read(row)?)?;
                Debtor::Run(run)
            }
            Owner::Notice(_) => Debtor::Notice(columns::digest(row, "snapshot")?),
        };
        let health: Option<Json<Health>> = row.get("health")?;
        Ok((delivery, debtor, health.map(|health| health.0).unwrap_or_default()))
    };
    tx.query_optional(&sql, params![Text(claim.id), claim.token], read).await
}

/// The attempt of a claim has its receipt; false if it has one already, or the claim was lost.
async fn answer(tx: &Connection, claim: Claim, receipt: &Value, now: Timestamp) -> Attempt<bool> {
    let update =
        "UPDATE attempts SET receipt = $3, answered_at = $4 WHERE delivery_id = $1 AND receipt IS NULL
        AND attempt = (SELECT attempts FROM deliveries WHERE delivery_id = $1 AND token = $2)";
    let parameters = params![Text(claim.id), claim.token, Json(receipt), Micros(now)];
    Ok(tx.execute(update, parameters).await? == 1)
}

async fn commit_attempt(tx: &Tx, claim: Claim, commit: &AttemptCommit, now: Timestamp) -> Attempt<bool> {
    let (found, is_first) = try_join(find(tx, claim), answer(tx, claim, &commit.receipt, now)).await?;
    let Some((delivery, mut debtor, before)) = found.filter(|_| is_first) else { return Ok(false) };
    // Of a delivery that was cancelled meanwhile the receipt is taken all the same: there is one for every attempt.
    let held = delivery.state == "sending";
    let retry_at = match &commit.settle {
        Settle::Retry { until } => held.then_some(*until),
        Settle::Accepted | Settle::Dead { .. } => None,
    };
    let received = Received { receipt: &commit.receipt, signal: commit.signal, retry_at };
    settle::received(tx, &debtor, &delivery, &received, now)?;
    if let Some(seen) = &commit.evidence {
        let seen = Seen { evidence: seen, kind: Kind::ReceiptBody, of: delivery.facts() };
        evidence(tx, now, debtor.subject(), seen)?;
    }
    let (said, disable) = ((commit.signal, &commit.rule), commit.disable_endpoint.as_deref());
    let after = endpoint::answered(tx, (&debtor, &delivery, before), said, disable, now).await?;
    if held {
        match (&commit.settle, endpoint::reason(&after)) {
            (Settle::Accepted, _) => settle::settle(tx, &mut debtor, &delivery, None, now).await?,
            (Settle::Dead { reason }, _) => {
                settle::settle(tx, &mut debtor, &delivery, Some(reason), now).await?;
            }
            (Settle::Retry { .. }, Some(reason)) => {
                settle::settle(tx, &mut debtor, &delivery, Some(&reason), now).await?;
            }
            (Settle::Retry { until }, None) => settle::wait(tx, delivery.id, *until).await?,
        }
    }
    Ok(held)
}
