//! Deliveries, their attempts, the notices that are owed, and how endpoints do.

use jiff::Timestamp;
use orbit_core::canonical;
use orbit_core::dispatch::breaker::{Answer, HealthEvent};
use rusqlite::{Connection, params};
use uuid::Uuid;

use super::super::columns::{Length, Micros, Text};
use super::super::fault::{Attempt, Fault};
use super::super::settle::{self, Owner};
use super::super::{dispatch, endpoint};
use super::adopt::UNTOLD_AT;
use super::reading::Entry;
use crate::contract::dispatch::NewDelivery;
use crate::rows::told::{Created, Received, Started, Told};

/// See [`super::fold`].
pub(super) fn fold(tx: &Connection, entry: &Entry) -> Attempt<()> {
    match Told::read(&entry.kind, &entry.body)? {
        Some(Told::Created(created)) => owe(tx, &created, entry)?,
        Some(Told::Started(Started { delivery_id, attempt })) => {
            dispatch::send(tx, delivery_id, 0)?;
            dispatch::attempt_made(tx, delivery_id, attempt, entry.at)?;
        }
        Some(Told::Received(received)) => receive(tx, &received, entry.at)?,
        Some(Told::Settled { delivery_id, dead }) => {
            settle::mark(tx, delivery_id, dead.as_deref(), entry.at)?;
        }
        Some(Told::Redriven(deliveries)) => {
            for delivery_id in deliveries {
                let update =
                    "UPDATE deliveries SET state = 'waiting', due_at = ?2, round_attempts = 0, reason = NULL,
                    settled_at = NULL WHERE delivery_id = ?1";
                tx.prepare_cached(update)?.execute(params![Text(delivery_id), Micros(entry.at)])?;
            }
        }
        None => {}
    }
    match health_event(entry)? {
        Some(event) => {
            let name = entry.text("endpoint")?;
            let before = endpoint::health(tx, name)?;
            endpoint::keep(tx, name, &before, &before.next(&event))
        }
        None => Ok(()),
    }
}

fn owe(tx: &Connection, created: &Created<'_>, entry: &Entry) -> Attempt<()> {
    let new = NewDelivery {
        delivery_id: created.delivery_id,
        endpoint: created.endpoint.to_string(),
        url: created.url.to_string(),
    };
    let owner = match created.notice_id {
        None => Owner::Run(entry.run_id()?),
        Some(notice_id) => {
            owed(tx, notice_id, entry)?;
            Owner::Notice(notice_id)
        }
    };
    settle::insert(tx, owner, &new, entry.at)
}

/// A notice that gathers no more: its body says what it gathered.
fn owed(tx: &Connection, notice_id: Uuid, entry: &Entry) -> Attempt<()> {
    let notice = &entry.body["notice"];
    let instant =
        |name: &str| {
            notice[name].as_str().and_then(|text| text.parse::<Timestamp>().ok()).map(Micros).ok_or_else(
                || Fault::contradiction(format!("`notice.{name}` is no instant: {}", notice[name])),
            )
        };
    let insert = "INSERT INTO notices (notice_id, endpoint, event, count, first_at, last_at, examples, due_at, snapshot, body)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    let due_at = entry.optional("gathered_until")?.unwrap_or(UNTOLD_AT);
    tx.prepare_cached(insert)?.execute(params![
        Text(notice_id),
        entry.text("endpoint")?,
        notice["event"].as_str(),
        notice["count"].as_u64().map(Length),
        instant("first_at")?,
        instant("last_at")?,
        canonical::to_string(&notice["examples"]),
        Micros(due_at),
        Text(entry.snapshot()?),
        canonical::to_string(notice),
    ])?;
    Ok(())
}

/// An attempt is over. When the next one is due is told since records have `retry_at`; see `adopt` for older ones.
fn receive(tx: &Connection, received: &Received, at: Timestamp) -> Attempt<()> {
    let Received { delivery_id, attempt, receipt, retry_at } = received;
    if !settle::answer(tx, (*delivery_id, *attempt), receipt, at)? {
        return Err(Fault::contradiction(format!("attempt {attempt} of `{delivery_id}` awaits no receipt")));
    }
    match retry_at {
        Some(until) => settle::wait(tx, *delivery_id, *until),
        None => Ok(()),
    }
}

/// What a record says of how its endpoint does.
fn health_event(entry: &Entry) -> Attempt<Option<HealthEvent>> {
    Ok(Some(match entry.kind.as_str() {
        "receipt_captured" => HealthEvent::Answered(Answer {
            delivery_id: entry.field("delivery_id")?,
            signal: entry.field("signal")?,
            at: entry.at,
        }),
        "breaker_opened" => {
            HealthEvent::Opened { until: entry.field("until")?, pause_ms: entry.field("pause_ms")? }
        }
        "breaker_half_opened" => HealthEvent::HalfOpened { probe: entry.field("delivery_id")? },
        "breaker_closed" => HealthEvent::Closed,
        "endpoint_failing" => HealthEvent::Failing,
        "endpoint_disabled" => HealthEvent::Disabled { reason: entry.field("reason")?, at: entry.at },
        "endpoint_enabled" => HealthEvent::Enabled,
        _ => return Ok(None),
    }))
}
