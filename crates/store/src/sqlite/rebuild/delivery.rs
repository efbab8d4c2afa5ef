//! Deliveries, their attempts, the notices that are owed, and how endpoints do.

use jiff::Timestamp;
use rusqlite::{Connection, params};
use uuid::Uuid;

use super::super::columns::{Length, Micros, Text};
use super::super::fault::{Attempt, Fault};
use super::super::settle::{self, Owner};
use super::super::{dispatch, endpoint};
use super::adopt::UNTOLD_AT;
use super::reading::Entry;
use crate::contract::dispatch::NewDelivery;
use crate::rows::endpoint::read as told_of_endpoint;
use crate::rows::notice::Owed;
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
    match told_of_endpoint(&entry.kind, &entry.body, entry.at)? {
        Some((name, event)) => {
            let before = endpoint::health(tx, &name)?;
            endpoint::keep(tx, &name, &before, &before.next(&event))
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

/// A notice that gathers no more.
fn owed(tx: &Connection, notice_id: Uuid, entry: &Entry) -> Attempt<()> {
    let owed = Owed::read(&entry.body)?;
    let insert = "INSERT INTO notices (notice_id, endpoint, event, count, first_at, last_at, examples, due_at, snapshot, body)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    tx.prepare_cached(insert)?.execute(params![
        Text(notice_id),
        owed.endpoint,
        owed.event,
        owed.count.map(Length),
        Micros(owed.first_at),
        Micros(owed.last_at),
        owed.examples,
        Micros(owed.due_at.unwrap_or(UNTOLD_AT)),
        Text(entry.snapshot()?),
        owed.body,
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
