//! Deliveries, their attempts, the notices that are owed, and how endpoints do.

use jiff::Timestamp;
use orbit_core::canonical;
use orbit_core::dispatch::breaker::{Answer, HealthEvent};
use rusqlite::{Connection, params};
use serde_json::Value;
use uuid::Uuid;

use super::super::columns::{Length, Micros, Text};
use super::super::fault::{Attempt, Fault};
use super::super::settle::{self, Owner};
use super::super::{dispatch, endpoint};
use super::adopt::UNTOLD_AT;
use super::reading::Entry;
use crate::contract::dispatch::NewDelivery;

/// See [`super::fold`].
pub(super) fn fold(tx: &Connection, entry: &Entry) -> Attempt<()> {
    match entry.kind.as_str() {
        "delivery_created" => created(tx, entry)?,
        "attempt_started" => {
            let delivery_id = entry.field("delivery_id")?;
            dispatch::send(tx, delivery_id, 0)?;
            dispatch::attempt_made(tx, delivery_id, entry.field("attempt")?, entry.at)?;
        }
        "receipt_captured" => received(tx, entry)?,
        "delivery_settled" => settled(tx, entry)?,
        "redriven" => {
            for delivery_id in entry.field::<Vec<Uuid>>("deliveries")? {
                let update =
                    "UPDATE deliveries SET state = 'waiting', due_at = ?2, round_attempts = 0, reason = NULL,
                    settled_at = NULL WHERE delivery_id = ?1";
                tx.prepare_cached(update)?.execute(params![Text(delivery_id), Micros(entry.at)])?;
            }
        }
        _ => {}
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

fn created(tx: &Connection, entry: &Entry) -> Attempt<()> {
    let new = NewDelivery {
        delivery_id: entry.field("delivery_id")?,
        endpoint: entry.field("endpoint")?,
        url: entry.field("url")?,
    };
    let owner = match entry.optional("notice_id")? {
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
fn received(tx: &Connection, entry: &Entry) -> Attempt<()> {
    let (delivery_id, attempt) = (entry.field("delivery_id")?, entry.field("attempt")?);
    let receipt: &Value = &entry.body["receipt"];
    if !settle::answer(tx, (delivery_id, attempt), receipt, entry.at)? {
        return Err(Fault::contradiction(format!("attempt {attempt} of `{delivery_id}` awaits no receipt")));
    }
    match entry.optional("retry_at")? {
        Some(until) => settle::wait(tx, delivery_id, until),
        None => Ok(()),
    }
}

fn settled(tx: &Connection, entry: &Entry) -> Attempt<()> {
    let accepted = match entry.body.get("event") {
        Some(event) => event["accepted"].as_bool(),
        None => entry.body["accepted"].as_bool(),
    };
    let accepted = accepted.ok_or_else(|| Fault::contradiction("it does not say whether it was accepted"))?;
    let dead = if accepted { None } else { Some(entry.text("reason")?) };
    settle::mark(tx, entry.field("delivery_id")?, dead, entry.at)
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
