//! How endpoints do, in rows: what attempts say about them is applied here, and nothing is claimed against it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use orbit_core::dispatch::breaker::{Answer, Breaker, Health, HealthEvent, Rule, Signal};
use serde_json::json;
use uuid::Uuid;

use super::columns::{self, Json, Micros, Parameter, Row, params};
use super::fault::Attempt;
use super::record::{Facts, append, facts};
use super::settle::{Debtor, Delivery};
use super::tx::{Connection, Tx};
use crate::contract::dispatch::WaitingEndpoint;
use crate::contract::view::EndpointView;
use crate::rows::endpoint::{Told, columns_of, words};

/// How an endpoint does; one without a row does well.
pub(super) async fn health(tx: &Connection, endpoint: &str) -> Attempt<Health> {
    let sql = "SELECT health FROM endpoints WHERE endpoint = $1";
    let found = tx.query_optional(sql, params![endpoint], |row| columns::json(row, "health")).await?;
    Ok(found.unwrap_or_default())
}

/// The same of several; those that have no row are not in it.
pub(super) async fn healths<'a>(
    tx: &Connection,
    endpoints: impl IntoIterator<Item = &'a String>,
) -> Attempt<BTreeMap<String, Health>> {
    let names: Vec<_> = endpoints.into_iter().cloned().collect();
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let sql = "SELECT endpoint, health FROM endpoints WHERE endpoint = ANY ($1)";
    let read = |row: &Row| Ok((row.get("endpoint")?, columns::json(row, "health")?));
    Ok(tx.query_all(sql, Ok(vec![Parameter::Texts(names)]), read).await?.into_iter().collect())
}

/// Why an endpoint takes nothing, if it is disabled; in the words of a dead letter.
pub(super) async fn disabled(tx: &Connection, endpoint: &str) -> Attempt<Option<String>> {
    Ok(reason(&health(tx, endpoint).await?))
}

/// The same of one whose health is known.
pub(super) fn reason(health: &Health) -> Option<String> {
    match health {
        Health::Disabled { reason, .. } => Some(words(reason)),
        Health::Enabled { .. } => None,
    }
}

/// Endpoints that are disabled, each with the words for its dead letters.
pub(super) async fn all_disabled(tx: &Connection) -> Attempt<Vec<(String, String)>> {
    let views = views(tx).await?.into_iter();
    Ok(views.filter_map(|(endpoint, view)| Some((endpoint, words(&view.reason?)))).collect())
}

/// Every endpoint that has a row.
pub(super) async fn views(tx: &Connection) -> Attempt<BTreeMap<String, EndpointView>> {
    let sql = "SELECT endpoint, health FROM endpoints";
    let rows = tx
        .query_all(sql, params![], |row| {
            Ok((row.get("endpoint")?, EndpointView::from(&columns::json::<Health>(row, "health")?)))
        })
        .await?;
    Ok(rows.into_iter().collect())
}

/// An attempt at the endpoint, which did so before, has its receipt, which says so much about it; `disable` is why it wants nothing more, if so. How it does now.
pub(super) async fn answered(
    tx: &Tx,
    (debtor, delivery, before): (&Debtor, &Delivery, Health),
    (signal, rule): (Signal, &Rule),
    disable: Option<&str>,
    now: Timestamp,
) -> Attempt<Health> {
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
    keep(tx, &delivery.endpoint, &before, &after).await?;
    Ok(after)
}

/// The pause of the endpoint's breaker is over, and this delivery finds out whether it is back.
pub(super) async fn probes(tx: &Tx, endpoint: &str, probe: Uuid, now: Timestamp) -> Attempt<()> {
    let of = facts(json!({ "endpoint": endpoint, "delivery_id": probe }));
    happens(tx, endpoint, &HealthEvent::HalfOpened { probe }, of, now).await
}

/// The endpoint is tried again by hand: it is enabled, and unless it is only to be that, its breaker is closed.
pub(super) async fn try_again(tx: &Tx, endpoint: &str, only_enable: bool, now: Timestamp) -> Attempt<()> {
    let of = || facts(json!({ "endpoint": endpoint }));
    match health(tx, endpoint).await? {
        Health::Disabled { .. } => happens(tx, endpoint, &HealthEvent::Enabled, of(), now).await,
        Health::Enabled { breaker: Breaker::Open { .. } | Breaker::HalfOpen { .. }, .. } if !only_enable => {
            let mut of = of();
            of.insert("reason".to_owned(), "redriven".into());
            happens(tx, endpoint, &HealthEvent::Closed, of, now).await
        }
        Health::Enabled { .. } => Ok(()),
    }
}

async fn happens(tx: &Tx, endpoint: &str, event: &HealthEvent, of: Facts, now: Timestamp) -> Attempt<()> {
    let before = health(tx, endpoint).await?;
    let after = before.next(event);
    if after != before {
        tell(tx, &Told { event, health: &before, rule: &Rule::default(), debtor: None }, of, now)?;
    }
    keep(tx, endpoint, &before, &after).await
}

fn tell(tx: &Tx, told: &Told<'_>, of: Facts, now: Timestamp) -> Attempt<()> {
    told.record(of, now).map_or(Ok(()), |record| append(tx, &record))
}

/// The row is what the health is; a success at an endpoint that does well writes nothing.
pub(super) async fn keep(tx: &Connection, endpoint: &str, before: &Health, after: &Health) -> Attempt<()> {
    if before == after {
        return Ok(());
    }
    if *after == Health::default() {
        tx.send("DELETE FROM endpoints WHERE endpoint = $1", params![endpoint]).await?;
        return Ok(());
    }
    let (state, open_until) = columns_of(after);
    let upsert = "INSERT INTO endpoints (endpoint, state, open_until, health) VALUES ($1, $2, $3, $4)
        ON CONFLICT (namespace, endpoint) DO UPDATE SET state = $2, open_until = $3, health = $4";
    tx.send(upsert, params![endpoint, state, open_until.map(Micros), Json(after)]).await?;
    Ok(())
}

/// Jumps from endpoint to endpoint in the index, so that a million deliveries of one cost as much as one.
pub(super) const WAITING: &str = "WITH RECURSIVE waiting (endpoint) AS (
        SELECT min(endpoint) FROM deliveries WHERE state = 'waiting'
        UNION ALL
        SELECT (SELECT min(d.endpoint) FROM deliveries d
            WHERE d.state = 'waiting' AND d.endpoint > waiting.endpoint)
        FROM waiting WHERE waiting.endpoint IS NOT NULL)
    SELECT w.endpoint, e.open_until, (SELECT min(d.due_at) FROM deliveries d
            WHERE d.state = 'waiting' AND d.endpoint = w.endpoint) AS due_at,
        (SELECT d.due_at FROM deliveries d
            WHERE d.state = 'waiting' AND d.endpoint = w.endpoint ORDER BY d.ordinal LIMIT 1) AS head_due_at
    FROM waiting w LEFT JOIN endpoints e ON e.endpoint = w.endpoint
    WHERE w.endpoint IS NOT NULL AND coalesce(e.state, 'closed') IN ('closed', 'open')
    ORDER BY w.endpoint";

/// See [`crate::contract::dispatch::DispatchStore::waiting_endpoints`].
pub(super) async fn waiting(tx: &Connection) -> Attempt<Vec<WaitingEndpoint>> {
    tx.query_all(WAITING, params![], |row| {
        let until = columns::instant_or_null(row, "open_until")?;
        let not_before = |due: Timestamp| until.map_or(due, |until| until.max(due));
        Ok(WaitingEndpoint {
            endpoint: row.get("endpoint")?,
            due_at: not_before(columns::instant(row, "due_at")?),
            head_due_at: not_before(columns::instant(row, "head_due_at")?),
        })
    })
    .await
}
