//! Deliveries are claimed with an attempt record, and committed with a receipt.

use async_trait::async_trait;
use futures_util::future::{try_join, try_join3};
use jiff::Timestamp;
use orbit_core::dispatch::breaker::Admits;
use orbit_core::record::Kind;
use uuid::Uuid;

use super::columns::{self, Micros, Row, Text, params};
use super::fault::{Attempt, Fault};
use super::record::{Seen, evidence, fact};
use super::settle::{self, Delivery, Received};
use super::tx::{Connection, Tx, reading, together, writing};
use super::{PostgresStore, endpoint, redrive, tiers, token};
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
        writing!(self, |tx| claim(tx, (endpoint, limit), doors, now).await)
    }

    async fn claim_next_in_order(
        &self,
        endpoint: &str,
        doors: OpenDoors,
        now: Timestamp,
    ) -> Result<Option<ClaimedDelivery>, StoreError> {
        writing!(self, |tx| {
            let (admits, limit) = admits(tx, endpoint, 1, now).await?;
            let next = due(tx, NEXT_IN_ORDER, (endpoint, limit), doors, now).await?;
            probed(tx, endpoint, (admits, &next), now).await?;
            Ok(start(tx, &next, now).await?.pop())
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

/// How many of `limit` the health of an endpoint admits, and as what.
pub(super) async fn admits(
    tx: &Connection,
    endpoint: &str,
    limit: u32,
    now: Timestamp,
) -> Attempt<(Admits, u32)> {
    let admits = endpoint::health(tx, endpoint).await?.admits(now);
    let limit = match admits {
        Admits::Any => limit,
        Admits::Probe => limit.min(1),
        Admits::Nothing => 0,
    };
    Ok((admits, limit))
}

/// These are claimed: if they are admitted as a probe, the first of them is it.
pub(super) async fn probed(
    tx: &Tx,
    endpoint: &str,
    (admits, due): (Admits, &[Uuid]),
    now: Timestamp,
) -> Attempt<()> {
    if let (Admits::Probe, [probe, ..]) = (admits, due) {
        endpoint::probes(tx, endpoint, *probe, now).await?;
    }
    Ok(())
}

/// Due deliveries of runs, oldest first.
pub(super) const DUE: &str = "SELECT delivery_id FROM deliveries
    WHERE state = 'waiting' AND endpoint = $1 AND due_at <= $2 AND CASE WHEN attempts = 0 THEN $3::boolean ELSE $4::boolean END AND run_id IS NOT NULL
    ORDER BY due_at, ordinal LIMIT $5 FOR UPDATE SKIP LOCKED";

/// The first delivery of a run in the order of making, if it is due and nothing is being sent.
pub(super) const NEXT_IN_ORDER: &str = "SELECT delivery_id FROM (
        SELECT delivery_id, due_at, attempts FROM deliveries
        WHERE state = 'waiting' AND endpoint = $1 AND run_id IS NOT NULL ORDER BY ordinal LIMIT 1) AS head
    WHERE due_at <= $2 AND CASE WHEN attempts = 0 THEN $3::boolean ELSE $4::boolean END AND NOT EXISTS (
        SELECT 1 FROM deliveries WHERE state = 'sending' AND endpoint = $1 AND run_id IS NOT NULL)
    LIMIT $5";

/// What one of these finds.
pub(super) async fn due(
    tx: &Connection,
    sql: &str,
    (endpoint, limit): (&str, u32),
    doors: OpenDoors,
    now: Timestamp,
) -> Attempt<Vec<Uuid>> {
    if limit == 0 {
        return Ok(Vec::new());
    }
    let parameters = params![endpoint, Micros(now), doors.first, doors.retry, limit];
    tx.query_all(sql, parameters, |row| columns::id(row, "delivery_id")).await
}

/// The next attempts at an endpoint are the caller's, so many at most.
async fn claim(
    tx: &Tx,
    (endpoint, limit): (&str, u32),
    doors: OpenDoors,
    now: Timestamp,
) -> Attempt<Vec<ClaimedDelivery>> {
    let ((admits, limit), ()) = try_join(admits(tx, endpoint, limit, now), token::look(tx)).await?;
    let due = due(tx, DUE, (endpoint, limit), doors, now).await?;
    probed(tx, endpoint, (admits, &due), now).await?;
    start(tx, &due, now).await
}

/// The same at each of these endpoints.
pub(super) async fn claim_free(
    tx: &Tx,
    free: Option<&FreeAttempts>,
    now: Timestamp,
) -> Attempt<Vec<ClaimedDelivery>> {
    let mut claimed = Vec::new();
    if let Some(free) = free {
        for (endpoint, limit) in &free.endpoints {
            claimed.extend(claim(tx, (endpoint, *limit), free.doors, now).await?);
        }
    }
    Ok(claimed)
}

/// The next attempts of these deliveries are the caller's, and their records are there before the first byte can be sent.
async fn start(tx: &Tx, deliveries: &[Uuid], now: Timestamp) -> Attempt<Vec<ClaimedDelivery>> {
    let mut claims = Vec::with_capacity(deliveries.len());
    for delivery_id in deliveries {
        claims.push(take(tx, *delivery_id).await?);
    }
    let select = "SELECT d.run_id, cycle_id, profile_id, snapshot, request, endpoint, url, attempts, round_attempts,
            artifact_digest, artifact_bytes, artifact_media_type
        FROM deliveries d JOIN runs USING (run_id) JOIN cycles USING (cycle_id) JOIN run_requests USING (run_id)
        WHERE delivery_id = $1";
    let read = |claim: Claim| tx.query_row(select, params![Text(claim.id)], move |row| claimed(row, claim));
    let claimed = together(claims.into_iter().map(read).collect()).await?;
    for one in &claimed {
        attempt_made(tx, one.claim.id, one.attempt, now).await?;
        let (subject, body) = attempt_started(one.claim.id, one);
        fact(tx, now, Kind::AttemptStarted, subject, body)?;
    }
    Ok(claimed)
}

/// The delivery is the caller's.
pub(super) async fn take(tx: &Tx, delivery_id: Uuid) -> Attempt<Claim> {
    let token = token::next(tx).await?;
    send(tx, delivery_id, token).await?;
    Ok(Claim { id: delivery_id, token })
}

/// The row of a delivery whose next attempt is under way.
pub(super) async fn send(tx: &Connection, delivery_id: Uuid, token: i64) -> Attempt<()> {
    let update =
        "UPDATE deliveries SET state = 'sending', due_at = NULL, token = $2, attempts = attempts + 1,
        round_attempts = round_attempts + 1 WHERE delivery_id = $1";
    tx.send(update, params![Text(delivery_id), token]).await?;
    Ok(())
}

/// The attempt awaits its receipt.
pub(super) async fn attempt_made(
    tx: &Connection,
    delivery_id: Uuid,
    attempt: u32,
    now: Timestamp,
) -> Attempt<()> {
    tx.send(
        "INSERT INTO attempts (delivery_id, attempt, started_at) VALUES ($1, $2, $3)",
        params![Text(delivery_id), attempt, Micros(now)],
    )
    .await?;
    Ok(())
}

fn claimed(row: &Row, claim: Claim) -> Attempt<ClaimedDelivery> {
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
        artifact: tiers::artifact(row)?
            .ok_or_else(|| Fault::contradiction("a delivery of a run without an artifact"))?,
    })
}

async fn find(tx: &Connection, claim: Claim) -> Attempt<Option<Delivery>> {
    let sql = format!("SELECT {} FROM deliveries WHERE delivery_id = $1 AND token = $2", settle::COLUMNS);
    tx.query_optional(&sql, params![Text(claim.id), claim.token], settle::read).await
}

async fn commit_attempt(tx: &Tx, claim: Claim, commit: &AttemptCommit, now: Timestamp) -> Attempt<bool> {
    let Some(delivery) = find(tx, claim).await? else { return Ok(false) };
    let receipt = (delivery.id, delivery.attempts);
    let (mut debtor, is_first, before) = try_join3(
        settle::debtor(delivery.owner, tx),
        settle::answer(tx, receipt, &commit.receipt, now),
        endpoint::health(tx, &delivery.endpoint),
    )
    .await?;
    if !is_first {
        return Ok(false);
    }
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
