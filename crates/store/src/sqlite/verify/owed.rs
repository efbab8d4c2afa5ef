//! Deliveries and their attempts, folded in memory, and as the rows that they must have.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;
use orbit_core::record::audit::{Fault, Header};
use rusqlite::Connection;
use serde_json::Value;
use uuid::Uuid;

use super::cells::{Cell, Row, Table};
use crate::rows::Contradiction;
use crate::rows::told::{Created, Received, Started, Told};
use crate::sqlite::fault::Attempt as Attempted;

/// The columns of [`Delivery::row`].
macro_rules! deliveries_by {
    ($column:literal) => {
        Table {
            name: "deliveries",
            columns: &[
                "delivery_id", "notice_id", "endpoint", "url", "state", "reason", "attempts", "round_attempts", "due_at",
                "created_at", "settled_at",
            ],
            sql: concat!(
                "SELECT delivery_id, notice_id, endpoint, url, state, reason, attempts, round_attempts, due_at, created_at,
                settled_at FROM deliveries WHERE ", $column, " = ?1"
            ),
        }
    };
}

/// Those of a run.
pub(super) const OF_RUN: Table = deliveries_by!("run_id");
/// One by its id.
pub(super) const BY_ID: Table = deliveries_by!("delivery_id");
pub(super) const ATTEMPTS: Table = Table {
    name: "attempts",
    columns: &["attempt", "started_at", "answered_at", "receipt"],
    sql: "SELECT attempt, started_at, answered_at, receipt FROM attempts WHERE delivery_id = ?1 ORDER BY attempt",
};

/// A delivery as its records have it.
#[derive(Debug)]
pub(super) struct Delivery {
    id: Uuid,
    notice_id: Option<Uuid>,
    endpoint: String,
    url: String,
    state: &'static str,
    reason: Option<String>,
    round_attempts: u32,
    due_at: Option<Timestamp>,
    created_at: Timestamp,
    settled_at: Option<Timestamp>,
    attempts: Vec<Attempt>,
}

#[derive(Debug)]
struct Attempt {
    number: u32,
    started_at: Timestamp,
    answer: Option<(Timestamp, Value)>,
}

impl Delivery {
    /// One that is owed from now on.
    pub(super) fn created(created: Created<'_>, at: Timestamp) -> Self {
        Self {
            id: created.delivery_id,
            notice_id: created.notice_id,
            endpoint: created.endpoint.into_owned(),
            url: created.url.into_owned(),
            state: "waiting",
            reason: None,
            round_attempts: 0,
            due_at: Some(at),
            created_at: at,
            settled_at: None,
            attempts: Vec::new(),
        }
    }

    pub(super) const fn id(&self) -> Uuid {
        self.id
    }

    /// Its next attempt is under way.
    fn started(&mut self, attempt: u32, at: Timestamp) -> Result<(), Contradiction> {
        if self.attempts.iter().any(|other| other.number == attempt) {
            return Err(Contradiction::new(format!("attempt {attempt} of `{}` began before", self.id)));
        }
        (self.state, self.due_at) = ("sending", None);
        self.round_attempts += 1;
        self.attempts.push(Attempt { number: attempt, started_at: at, answer: None });
        Ok(())
    }

    fn received(&mut self, received: Received, at: Timestamp) -> Result<(), Contradiction> {
        let Received { delivery_id, attempt, receipt, retry_at } = received;
        let open = |other: &&mut Attempt| other.number == attempt && other.answer.is_none();
        let Some(open) = self.attempts.iter_mut().find(open) else {
            let message = format!("attempt {attempt} of `{delivery_id}` awaits no receipt");
            return Err(Contradiction::new(message));
        };
        open.answer = Some((at, receipt));
        if let Some(until) = retry_at {
            (self.state, self.due_at) = ("waiting", Some(until));
        }
        Ok(())
    }

    fn settled(&mut self, (state, reason): (&'static str, Option<String>), at: Timestamp) {
        (self.state, self.reason, self.due_at, self.settled_at) = (state, reason, None, Some(at));
    }

    fn redriven(&mut self, at: Timestamp) {
        (self.state, self.due_at, self.round_attempts) = ("waiting", Some(at), 0);
        (self.reason, self.settled_at) = (None, None);
    }

    /// Its run was cancelled.
    pub(super) fn cancel(&mut self, reason: &str, at: Timestamp) {
        if matches!(self.state, "waiting" | "sending") {
            self.settled(("cancelled", Some(reason.to_owned())), at);
        }
    }

    /// Its row. How an older version's record leaves one that has its receipt and is not settled is not told: it waits, and until when is not told.
    pub(super) fn row(&self) -> Row {
        let is_answered = self.attempts.last().is_some_and(|last| last.answer.is_some());
        let (state, due_at) = match self.state {
            "sending" if is_answered => ("waiting", Cell::Untold),
            state => (state, Cell::at(self.due_at)),
        };
        vec![
            Cell::text(self.id),
            Cell::text_or_null(self.notice_id),
            Cell::text(&self.endpoint),
            Cell::text(&self.url),
            Cell::text(state),
            Cell::text_or_null(self.reason.as_deref()),
            Cell::number(self.attempts.len()),
            Cell::number(self.round_attempts),
            due_at,
            Cell::at(Some(self.created_at)),
            Cell::at(self.settled_at),
        ]
    }

    /// The rows of its attempts.
    pub(super) fn attempts(&self) -> Vec<Row> {
        let row = |attempt: &Attempt| {
            vec![
                Cell::number(attempt.number),
                Cell::at(Some(attempt.started_at)),
                Cell::at(attempt.answer.as_ref().map(|(at, _)| *at)),
                attempt.answer.as_ref().map_or(Cell::Null, |(_, receipt)| Cell::Json(receipt.to_string())),
            ]
        };
        self.attempts.iter().map(row).collect()
    }
}

/// Deliveries by their ids.
pub(super) type Deliveries = BTreeMap<Uuid, Delivery>;

/// How many rows records have made.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Made {
    /// Of steps.
    pub(super) steps: u64,
    /// Of deliveries.
    pub(super) deliveries: u64,
    /// Of attempts.
    pub(super) attempts: u64,
    /// Of cycles.
    pub(super) cycles: u64,
    /// Of initiations.
    pub(super) initiations: u64,
    /// Of notices that are owed.
    pub(super) notices: u64,
}

fn known(deliveries: &mut Deliveries, id: Uuid) -> Result<&mut Delivery, Contradiction> {
    let unknown = || Contradiction::new(format!("delivery `{id}` was not created before"));
    deliveries.get_mut(&id).ok_or_else(unknown)
}

/// What a record tells has happened to these; an error if it cannot follow those before it.
pub(super) fn follow(
    deliveries: &mut Deliveries,
    told: Told<'_>,
    at: Timestamp,
    made: &mut Made,
) -> Result<(), Contradiction> {
    match told {
        Told::Created(created) => {
            made.deliveries += 1;
            let id = created.delivery_id;
            if deliveries.insert(id, Delivery::created(created, at)).is_some() {
                return Err(Contradiction::new(format!("delivery `{id}` is created a second time")));
            }
        }
        Told::Started(Started { delivery_id, attempt }) => {
            made.attempts += 1;
            known(deliveries, delivery_id)?.started(attempt, at)?;
        }
        Told::Received(received) => known(deliveries, received.delivery_id)?.received(received, at)?,
        Told::Settled { delivery_id, dead } => {
            let state = if dead.is_some() { "dead" } else { "accepted" };
            known(deliveries, delivery_id)?.settled((state, dead.map(Cow::into_owned)), at);
        }
        Told::Redriven(ids) => {
            for id in ids {
                known(deliveries, id)?.redriven(at);
            }
        }
    }
    Ok(())
}

/// When a record was decided.
pub(super) fn instant(header: &Header<'_>) -> Result<Timestamp, Contradiction> {
    let wrong = |error| Contradiction::new(format!("`at` of its header is no instant: {error}"));
    header.at.parse().map_err(wrong)
}

/// Compares deliveries and their attempts with these rows; every difference there is.
pub(super) fn compare<'d>(
    connection: &Connection,
    deliveries: impl Iterator<Item = &'d Delivery>,
    rows: Vec<Row>,
) -> Attempted<Vec<Fault>> {
    let mut expected = Vec::new();
    let mut faults = Vec::new();
    for delivery in deliveries {
        expected.push(delivery.row());
        let id = delivery.id();
        let found = ATTEMPTS.rows(connection, id)?;
        let named = |number: &Cell| format!("attempt {number} of delivery {id}");
        faults.extend(ATTEMPTS.compare(delivery.attempts(), found, named));
    }
    let named = |id: &Cell| format!("delivery {id}");
    faults.splice(0..0, OF_RUN.compare(expected, rows, named));
    Ok(faults)
}
