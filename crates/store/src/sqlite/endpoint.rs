//! How endpoints do, in rows: what attempts say about them is applied here, and nothing is claimed against it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use orbit_core::dispatch::breaker::{Answer, Breaker, Health, HealthEvent, Rule, Signal};
use rusqlite::{Connection, OptionalExtension, params};
use serde_json::json;
use uuid::Uuid;

use super::columns::{self, Json, Micros};
use super::fault::Attempt;
use super::record::{Facts, append, facts};
use super::settle::{Debtor, Delivery};
use super::tx::Tx;
use crate::contract::dispatch::WaitingEndpoint;
use crate::contract::view::EndpointView;
use crate::rows::endpoint::{Told, columns_of, words};

/// How an endpoint does; one without a row does well.
pub(super) fn health(tx: &Connection, endpoint: &str) -> Attempt<Health> {
    let mut statement = tx.prepare_cached("SELECT health FROM endpoints WHERE endpoint = ?1")?;
    let found = statement.query_row([endpoint], |row| columns::json(row, "health")).optional()?;
    Ok(found.unwrap_or_default())
}

/// Why an endpoint takes nothing, if it is disabled; in the words of a dead letter.
pub(super) fn disabled(tx: &Connection, endpoint: &str) -> Attempt<Option<String>> {
    Ok(match health(tx, endpoint)? {
        Health::Disabled { reason, .. } => Some(words(&reason)),
        Health::Enabled { .. } => None,
    })
}

/// Endpoints that are disabled, each with the words for its dead letters.
pub(super) fn all_disabled(tx: &Connection) -> Attempt<Vec<(String, String)>> {
    let views = views(tx)?.into_iter();
    Ok(views.filter_map(|(endpoint, view)| Some((endpoint, words(&view.reason?)))).collect())
}

/// Every endpoint that has a row.
pub(super) fn views(tx: &Connection) -> Attempt<BTreeMap<String, EndpointView>> {
    let mut statement = tx.prepare_cached("SELECT endpoint, health FROM endpoints")?;
    let rows = statement.query_map((), |row| {
        Ok((row.get("endpoint")?, EndpointView::from(&columns::json::<Health>(row, "health")?)))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// An attempt at the endpoint has its receipt, which says so much about it; `disable` is why it wants nothing more, if so.
pub(super) fn answered(
    tx: &Tx<'_>,
    (debtor, delivery): (&Debtor, &Delivery),
    (signal, rule): (Signal, &Rule),
    disable: Option<&str>,
    now: Timestamp,
) -> Attempt<()> {
    let before = health(tx, &delivery.endpoint)?;
    let mut events = before.after(Answer { delivery_id: delivery.id, signal, at: now }, rule);
    events.extend(disable.map(|reason| HealthEvent::Disabled { reason: reason.to_owned(), at: now }));
    let mut after = before.clone();
    for event in &events {
        let next = after.next(event);
        if next != after {
            tell(tx, &Told { event, health: &after, rule, debtor: Some(debtor) }, delivery.facts(), now)?;
        }
        after = next;
    }
    keep(tx, &delivery.endpoint, &before, &after)
}

/// The pause of the endpoint's breaker is over, and this delivery finds out whether it is back.
pub(super) fn probes(tx: &Tx<'_>, endpoint: &str, probe: Uuid, now: Timestamp) -> Attempt<()> {
    let of = facts(json!({ "endpoint": endpoint, "delivery_id": probe }));
    happens(tx, endpoint, &HealthEvent::HalfOpened { probe }, of, now)
}

/// The endpoint is tried again by hand: it is enabled, and unless it is only to be that, its breaker is closed.
pub(super) fn try_again(tx: &Tx<'_>, endpoint: &str, only_enable: bool, now: Timestamp) -> Attempt<()> {
    let of = || facts(json!({ "endpoint": endpoint }));
    match health(tx, endpoint)? {
        Health::Disabled { .. } => happens(tx, endpoint, &HealthEvent::Enabled, of(), now),
        Health::Enabled { breaker: Breaker::Open { .. } | Breaker::HalfOpen { .. }, .. } if !only_enable => {
            let mut of = of();
            of.insert("reason".to_owned(), "redriven".into());
            happens(tx, endpoint, &HealthEvent::Closed, of, now)
        }
        Health::Enabled { .. } => Ok(()),
    }
}

fn happens(tx: &Tx<'_>, endpoint: &str, event: &HealthEvent, of: Facts, now: Timestamp) -> Attempt<()> {
    let before = health(tx, endpoint)?;
    let after = before.next(event);
    if after != before {
        tell(tx, &Told { event, health: &before, rule: &Rule::default(), debtor: None }, of, now)?;
    }
    keep(tx, endpoint, &before, &after)
}

fn tell(tx: &Tx<'_>, told: &Told<'_>, of: Facts, now: Timestamp) -> Attempt<()> {
    told.record(of, now).map_or(Ok(()), |record| append(tx, &record))
}

/// The row is what the health is; a success at an endpoint that does well writes nothing.
pub(super) fn keep(tx: &Connection, endpoint: &str, before: &Health, after: &Health) -> Attempt<()> {
    if before == after {
        return Ok(());
    }
    if *after == Health::default() {
        tx.prepare_cached("DELETE FROM endpoints WHERE endpoint = ?1")?.execute([endpoint])?;
        return Ok(());
    }
    let (state, open_until) = columns_of(after);
    let upsert = "INSERT INTO endpoints (endpoint, state, open_until, health) VALUES (?1, ?2, ?3, ?4)
        ON CONFLICT (endpoint) DO UPDATE SET state = ?2, open_until = ?3, health = ?4";
    tx.prepare_cached(upsert)?.execute(params![endpoint, state, open_until.map(Micros), Json(after)])?;
    Ok(())
}

/// Jumps from endpoint to endpoint in the index, so that a million deliveries of one cost as much as one.
pub(super) const WAITING: &str = "WITH RECURSIVE waiting (endpoint) AS (
        SELECT min(endpoint) FROM deliveries INDEXED BY deliveries_due WHERE state = 'waiting'
        UNION ALL
        SELECT (SELECT min(d.endpoint) FROM deliveries d INDEXED BY deliveries_due
            WHERE d.state = 'waiting' AND d.endpoint > waiting.endpoint)
        FROM waiting WHERE waiting.endpoint IS NOT NULL)
    SELECT w.endpoint, e.open_until, (SELECT min(d.due_at) FROM deliveries d INDEXED BY deliveries_due
            WHERE d.state = 'waiting' AND d.endpoint = w.endpoint) AS due_at,
        (SELECT d.due_at FROM deliveries d INDEXED BY deliveries_queue
            WHERE d.state = 'waiting' AND d.endpoint = w.endpoint ORDER BY d.ordinal LIMIT 1) AS head_due_at
    FROM waiting w LEFT JOIN endpoints e ON e.endpoint = w.endpoint
    WHERE w.endpoint IS NOT NULL AND coalesce(e.state, 'closed') IN ('closed', 'open')
    ORDER BY w.endpoint";

/// See [`crate::contract::dispatch::DispatchStore::waiting_endpoints`].
pub(super) fn waiting(tx: &Connection) -> Attempt<Vec<WaitingEndpoint>> {
    let mut statement = tx.prepare_cached(WAITING)?;
    let rows = statement.query_map((), |row| {
        let until = columns::instant_or_null(row, "open_until")?;
        let not_before = |due: Timestamp| until.map_or(due, |until| until.max(due));
        Ok(WaitingEndpoint {
            endpoint: row.get("endpoint")?,
            due_at: not_before(columns::instant(row, "due_at")?),
            head_due_at: not_before(columns::instant(row, "head_due_at")?),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
