//! Deliveries are claimed with an attempt record, and committed with a receipt.

use async_trait::async_trait;
use jiff::Timestamp;
use orbit_core::dispatch::breaker::Admits;
use orbit_core::record::Kind;
use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;

use super::columns::{self, Micros, Text};
use super::fault::Attempt;
use super::record::{Seen, evidence, fact};
use super::settle::{self, Delivery, Received};
use super::tx::Tx;
use super::{SqliteStore, endpoint, redrive, tiers, token};
use crate::StoreError;
use crate::contract::dispatch::{
    AttemptCommit, ClaimedDelivery, DispatchStore, FreeAttempts, RedriveFilter, RedriveFrom, Redriven,
    Settle, WaitingEndpoint,
};
use crate::contract::{Claim, OpenDoors};
use crate::rows::delivery::attempt_started;

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
        self.write(move |tx| claim(tx, (&endpoint, limit), doors, now)).await
    }

    async fn claim_next_in_order(
        &self,
        endpoint: &str,
        doors: OpenDoors,
        now: Timestamp,
    ) -> Result<Option<ClaimedDelivery>, StoreError> {
        let endpoint = endpoint.to_owned();
        self.write(move |tx| {
            let next = |limit| due(tx, NEXT_IN_ORDER, (&endpoint, limit), doors, now);
            let admitted = admitted(tx, &endpoint, 1, next, now)?.pop();
            admitted.map(|delivery_id| start(tx, delivery_id, now)).transpose()
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

    async fn waiting_endpoints(&self) -> Result<Vec<WaitingEndpoint>, StoreError> {
        self.look(endpoint::waiting).await
    }

    async fn give_up_disabled(&self, now: Timestamp) -> Result<u32, StoreError> {
        // Asked much more often than there is something to do, which a reader can tell.
        if self.look(endpoint::all_disabled).await?.is_empty() {
            return Ok(0);
        }
        self.write(move |tx| settle::give_up_disabled(tx, now)).await
    }

    async fn redrive(
        &self,
        filter: RedriveFilter,
        from: Option<RedriveFrom>,
        now: Timestamp,
    ) -> Result<Redriven, StoreError> {
        self.write(move |tx| redrive::redrive(tx, &filter, from, now)).await
    }

    async fn count_redrivable(&self, filter: RedriveFilter) -> Result<u64, StoreError> {
        self.read(move |tx| redrive::count(tx, &filter)).await
    }
}

/// The next attempts at an endpoint are the caller's, so many at most.
fn claim(
    tx: &Tx<'_>,
    (endpoint, limit): (&str, u32),
    doors: OpenDoors,
    now: Timestamp,
) -> Attempt<Vec<ClaimedDelivery>> {
    let due = |limit| due(tx, DUE, (endpoint, limit), doors, now);
    let admitted = admitted(tx, endpoint, limit, due, now)?;
    admitted.into_iter().map(|delivery_id| start(tx, delivery_id, now)).collect()
}

/// The same at each of these endpoints.
pub(super) fn claim_free(
    tx: &Tx<'_>,
    free: Option<&FreeAttempts>,
    now: Timestamp,
) -> Attempt<Vec<ClaimedDelivery>> {
    let mut claimed = Vec::new();
    if let Some(free) = free {
        for (endpoint, limit) in &free.endpoints {
            claimed.extend(claim(tx, (endpoint, *limit), free.doors, now)?);
        }
    }
    Ok(claimed)
}

/// Up to `limit` of an endpoint, as far as its health admits them.
pub(super) fn admitted(
    tx: &Tx<'_>,
    endpoint: &str,
    limit: u32,
    due: impl FnOnce(u32) -> Attempt<Vec<Uuid>>,
    now: Timestamp,
) -> Attempt<Vec<Uuid>> {
    let admits = endpoint::health(tx, endpoint)?.admits(now);
    let due = match admits {
        Admits::Any => due(limit)?,
        Admits::Probe => due(limit.min(1))?,
        Admits::Nothing => Vec::new(),
    };
    if let (Admits::Probe, [probe, ..]) = (admits, due.as_slice()) {
        endpoint::probes(tx, endpoint, *probe, now)?;
    }
    Ok(due)
}

/// Due deliveries of runs, oldest first.
pub(super) const DUE: &str = "SELECT delivery_id FROM deliveries INDEXED BY deliveries_due
    WHERE state = 'waiting' AND endpoint = ?1 AND due_at <= ?2 AND iif(attempts = 0, ?3, ?4) AND run_id IS NOT NULL
    ORDER BY due_at, ordinal LIMIT ?5";

/// The first delivery of a run in the order of making, if it is due and nothing is being sent.
pub(super) const NEXT_IN_ORDER: &str = "SELECT delivery_id FROM (
        SELECT delivery_id, due_at, attempts FROM deliveries INDEXED BY deliveries_queue
        WHERE state = 'waiting' AND endpoint = ?1 AND run_id IS NOT NULL ORDER BY ordinal LIMIT 1)
    WHERE due_at <= ?2 AND iif(attempts = 0, ?3, ?4) AND NOT EXISTS (
        SELECT 1 FROM deliveries INDEXED BY deliveries_sending WHERE state = 'sending' AND endpoint = ?1 AND run_id IS NOT NULL)
    LIMIT ?5";

/// What one of these finds.
pub(super) fn due(
    tx: &Connection,
    sql: &str,
    (endpoint, limit): (&str, u32),
    doors: OpenDoors,
    now: Timestamp,
) -> Attempt<Vec<Uuid>> {
    let mut statement = tx.prepare_cached(sql)?;
    let parameters = params![endpoint, Micros(now), doors.first, doors.retry, limit];
    let rows = statement.query_map(parameters, |row| columns::id(row, "delivery_id"))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The delivery's next attempt is the caller's, and its record is there before the first byte can be sent.
fn start(tx: &Tx<'_>, delivery_id: Uuid, now: Timestamp) -> Attempt<ClaimedDelivery> {
    let claim = take(tx, delivery_id)?;
    let select = "SELECT d.run_id, cycle_id, profile_id, snapshot, request, endpoint, url, attempts, round_attempts,
            artifact_digest, artifact_bytes, artifact_media_type
        FROM deliveries d JOIN runs USING (run_id) JOIN cycles USING (cycle_id) JOIN run_requests USING (run_id)
        WHERE delivery_id = ?1";
    let claimed = tx.prepare_cached(select)?.query_row([Text(delivery_id)], |row| claimed(row, claim))?;
    attempt_made(tx, delivery_id, claimed.attempt, now)?;
    let (subject, body) = attempt_started(delivery_id, &claimed);
    fact(tx, now, Kind::AttemptStarted, subject, body)?;
    Ok(claimed)
}

/// The delivery is the caller's.
pub(super) fn take(tx: &Connection, delivery_id: Uuid) -> Attempt<Claim> {
    let token = token::next(tx)?;
    send(tx, delivery_id, token)?;
    Ok(Claim { id: delivery_id, token })
}

/// The row of a delivery whose next attempt is under way.
pub(super) fn send(tx: &Connection, delivery_id: Uuid, token: i64) -> Attempt<()> {
    let update =
        "UPDATE deliveries SET state = 'sending', due_at = NULL, token = ?2, attempts = attempts + 1,
        round_attempts = round_attempts + 1 WHERE delivery_id = ?1";
    tx.prepare_cached(update)?.execute(params![Text(delivery_id), token])?;
    Ok(())
}

/// The attempt awaits its receipt.
pub(super) fn attempt_made(tx: &Connection, delivery_id: Uuid, attempt: u32, now: Timestamp) -> Attempt<()> {
    tx.prepare_cached("INSERT INTO attempts (delivery_id, attempt, started_at) VALUES (?1, ?2, ?3)")?
        .execute(params![Text(delivery_id), attempt, Micros(now)])?;
    Ok(())
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

fn commit_attempt(tx: &Tx<'_>, claim: Claim, commit: &AttemptCommit, now: Timestamp) -> Attempt<bool> {
    let Some(delivery) = find(tx, claim)? else { return Ok(false) };
    let mut debtor = settle::debtor(delivery.owner, tx)?;
    // Of a delivery that was cancelled meanwhile the receipt is taken all the same: there is one for every attempt.
    let held = delivery.state == "sending";
    let retry_at = match &commit.settle {
        Settle::Retry { until } => held.then_some(*until),
        Settle::Accepted | Settle::Dead { .. } => None,
    };
    let received = Received { receipt: &commit.receipt, signal: commit.signal, retry_at };
    if !settle::receive(tx, &debtor, &delivery, &received, now)? {
        return Ok(false);
    }
    if let Some(seen) = &commit.evidence {
        let seen = Seen { evidence: seen, kind: Kind::ReceiptBody, of: delivery.facts() };
        evidence(tx, now, debtor.subject(), seen)?;
    }
    let (said, disable) = ((commit.signal, &commit.rule), commit.disable_endpoint.as_deref());
    endpoint::answered(tx, (&debtor, &delivery), said, disable, now)?;
    if held {
        match (&commit.settle, endpoint::disabled(tx, &delivery.endpoint)?) {
            (Settle::Accepted, _) => settle::settle(tx, &mut debtor, &delivery, None, now)?,
            (Settle::Dead { reason }, _) => settle::settle(tx, &mut debtor, &delivery, Some(reason), now)?,
            (Settle::Retry { .. }, Some(reason)) => {
                settle::settle(tx, &mut debtor, &delivery, Some(&reason), now)?;
            }
            (Settle::Retry { until }, None) => settle::wait(tx, delivery.id, *until)?,
        }
    }
    Ok(held)
}
