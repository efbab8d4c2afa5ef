//! Dead letters wait again, a bounded number in a transaction.

use std::collections::BTreeMap;

use jiff::Timestamp;
use orbit_core::dispatch::breaker::Health;
use orbit_core::record::Kind;
use orbit_core::run::{Ending, RunEvent, RunState};
use serde_json::json;
use uuid::Uuid;

use super::columns::{Length, Micros, Parameter, Row, Text, params};
use super::fault::Attempt;
use super::record::{fact, facts};
use super::settle::{self, Debtor, Delivery, Owner};
use super::tx::{Connection, Tx};
use super::{endpoint, transition};
use crate::contract::BATCH_MAX;
use crate::contract::dispatch::{RedriveFilter, RedriveFrom, Redriven};

/// See [`crate::contract::dispatch::DispatchStore::redrive`].
pub(super) async fn redrive(
    tx: &Tx,
    filter: &RedriveFilter,
    from: Option<RedriveFrom>,
    now: Timestamp,
) -> Attempt<Redriven> {
    let first = from.is_none();
    let from = from.unwrap_or(RedriveFrom { started_at: now, after: -1 });
    if let Some(name) = filter.endpoint.as_deref().filter(|_| first) {
        endpoint::try_again(tx, name, false, now).await?;
    }
    let page = page(tx, filter, from).await?;
    let next = page.last.filter(|_| page.looked_at == BATCH_MAX);
    let mut redriven = Redriven { ids: Vec::new(), next: next.map(|after| RedriveFrom { after, ..from }) };
    for (owner, dead) in by_owner(tx, page.dead, from.started_at).await? {
        let ids: Vec<_> = dead.iter().map(|delivery| delivery.id).collect();
        if !told(tx, owner, &ids, now).await? {
            continue;
        }
        for delivery in dead {
            endpoint::try_again(tx, &delivery.endpoint, !first, now).await?;
            let update =
                "UPDATE deliveries SET state = 'waiting', due_at = $2, round_attempts = 0, reason = NULL,
                settled_at = NULL WHERE delivery_id = $1";
            tx.send(update, params![Text(delivery.id), Micros(now)]).await?;
        }
        redriven.ids.extend(ids);
    }
    Ok(redriven)
}

/// The owner's deliveries are tried again, and its record says so; false if it wants them no more.
async fn told(tx: &Tx, owner: Owner, ids: &[Uuid], now: Timestamp) -> Attempt<bool> {
    let mut run = match settle::debtor(owner, tx).await? {
        Debtor::Run(run) => run,
        notice @ Debtor::Notice(_) => {
            let body = facts(json!({ "deliveries": ids, "notice_id": owner.id() }));
            fact(tx, now, Kind::Redriven, notice.subject(), body)?;
            return Ok(true);
        }
    };
    match &run.state {
        RunState::Dispatching { .. } | RunState::Finished { ending: Ending::Partial { .. } } => {}
        // A run that was cancelled stays so, whatever was dead before.
        RunState::Ready { .. }
        | RunState::Working { .. }
        | RunState::Waiting { .. }
        | RunState::Finished { .. } => return Ok(false),
    }
    let Ok(deliveries) = u32::try_from(ids.len()) else { return Ok(false) };
    let body = facts(json!({ "deliveries": ids }));
    transition::apply(tx, &mut run, &RunEvent::Redriven { deliveries }, body, now).await?;
    Ok(true)
}

/// How many there are that a redrive would take.
pub(super) async fn count(tx: &Connection, filter: &RedriveFilter) -> Attempt<u64> {
    let mut parameters = Vec::new();
    let matching = matching(filter, &mut parameters);
    let sql = format!("SELECT count(*) {} AND {} AND {REDRIVABLE}", matching.dead, matching.given_up);
    let count = |row: &Row| row.get::<_, Length>(0);
    Ok(tx.query_row(&sql, Ok(parameters), count).await?.0)
}

/// Dead letters that match, of the next ones in the order of making.
struct Page {
    dead: Vec<Delivery>,
    looked_at: u32,
    last: Option<i64>,
}

/// Whether a dead letter's run, which a cancelled one is not, may dispatch again; a notice always may.
const REDRIVABLE: &str =
    "(d.run_id IS NULL OR (SELECT r.state = 'dispatching' OR coalesce(r.state_json::json -> 'ending' ->> 'outcome', '') = 'partial'
    FROM runs r WHERE r.run_id = d.run_id))";

/// Conditions of a filter as SQL over deliveries `d`.
struct Matching {
    /// `FROM … WHERE …`: those that an index finds.
    dead: String,
    /// An expression over the others.
    given_up: String,
}

fn matching(filter: &RedriveFilter, parameters: &mut Vec<Parameter>) -> Matching {
    let mut dead = "FROM deliveries d WHERE d.state = 'dead'".to_owned();
    let mut given_up = "TRUE".to_owned();
    let which = [
        ("d.delivery_id =", filter.delivery_id.map(|id| id.to_string().into())),
        ("d.run_id =", filter.run_id.map(|id| id.to_string().into())),
        ("d.endpoint =", filter.endpoint.clone().map(Parameter::from)),
    ];
    let when = [
        ("d.settled_at >=", filter.since.map(|at| at.as_microsecond().into())),
        ("d.settled_at <", filter.until.map(|at| at.as_microsecond().into())),
    ];
    for (column, value) in which {
        if let Some(value) = value {
            parameters.push(value);
            dead = format!("{dead} AND {column} ${}", parameters.len());
        }
    }
    for (column, value) in when {
        if let Some(value) = value {
            parameters.push(value);
            given_up = format!("{given_up} AND {column} ${}", parameters.len());
        }
    }
    Matching { dead, given_up }
}

async fn page(tx: &Connection, filter: &RedriveFilter, from: RedriveFrom) -> Attempt<Page> {
    let mut parameters = vec![
        Parameter::from(from.after),
        Parameter::from(i64::from(BATCH_MAX)),
        Parameter::from(from.started_at.as_microsecond()),
    ];
    let Matching { dead, given_up } = matching(filter, &mut parameters);
    let sql = format!(
        "SELECT {}, d.ordinal, d.settled_at <= $3 AND {given_up} AND {REDRIVABLE} AS fits {dead} AND d.ordinal > $1
        ORDER BY d.ordinal LIMIT $2",
        settle::COLUMNS
    );
    let rows = tx
        .query_all(&sql, Ok(parameters), |row| {
            Ok((row.get::<_, i64>("ordinal")?, row.get::<_, bool>("fits")?, settle::read(row)?))
        })
        .await?;
    let mut page = Page { dead: Vec::new(), looked_at: 0, last: None };
    for (ordinal, fits, delivery) in rows {
        page.looked_at += 1;
        page.last = Some(ordinal);
        page.dead.extend(fits.then_some(delivery));
    }
    Ok(page)
}

/// By owner in the order of making, without those of an endpoint that was disabled since the redrive began: it would only be asked again.
async fn by_owner(
    tx: &Connection,
    dead: Vec<Delivery>,
    started_at: Timestamp,
) -> Attempt<Vec<(Owner, Vec<Delivery>)>> {
    let mut gone = BTreeMap::<String, bool>::new();
    let mut by_owner = Vec::<(Owner, Vec<Delivery>)>::new();
    let mut places = BTreeMap::new();
    for delivery in dead {
        let is_gone = match gone.get(&delivery.endpoint) {
            Some(is_gone) => *is_gone,
            None => match endpoint::health(tx, &delivery.endpoint).await? {
                Health::Disabled { at, .. } => at > started_at,
                Health::Enabled { .. } => false,
            },
        };
        gone.insert(delivery.endpoint.clone(), is_gone);
        if is_gone {
            continue;
        }
        let place = *places.entry(delivery.owner).or_insert(by_owner.len());
        if place == by_owner.len() {
            by_owner.push((delivery.owner, Vec::new()));
        }
        by_owner[place].1.push(delivery);
    }
    Ok(by_owner)
}
