//! A delivery's life in rows: it is owed, settled, given up with its endpoint, or loses the answer to an attempt in a crash.

use std::collections::BTreeMap;

use jiff::Timestamp;
use orbit_core::dispatch::breaker::{Health, Rule, Signal};
use orbit_core::record::Kind;
use orbit_core::run::RunEvent;
use serde_json::{Value, json};
use uuid::Uuid;

use super::columns::{self, Json, Micros, Row, Text, params};
use super::endpoint;
use super::fault::Attempt;
use super::record::{Facts, fact, facts};
use super::run_rows::{self, With};
use super::transition::{self, Run};
use super::tx::{Connection, Tx};
use crate::contract::BATCH_MAX;
use crate::contract::dispatch::NewDelivery;
use crate::rows::claim::Free;
pub(super) use crate::rows::delivery::{Debtor, Delivery, Owner, Received};

/// The owner of a delivery.
pub(super) async fn debtor(owner: Owner, tx: &Connection) -> Attempt<Debtor> {
    match owner {
        Owner::Run(run_id) => Ok(Debtor::Run(transition::load_known(tx, run_id).await?)),
        Owner::Notice(notice_id) => {
            let sql = "SELECT snapshot FROM notices WHERE notice_id = $1";
            let read = |row: &Row| columns::digest(row, "snapshot");
            Ok(Debtor::Notice(tx.query_row(sql, params![Text(notice_id)], read).await?))
        }
    }
}

/// The columns of a [`Delivery`].
pub(super) const COLUMNS: &str = "delivery_id, run_id, notice_id, endpoint, state, attempts";

/// Reads [`COLUMNS`].
pub(super) fn read(row: &Row) -> Attempt<Delivery> {
    Ok(Delivery {
        id: columns::id(row, "delivery_id")?,
        owner: owner(row)?,
        endpoint: row.get("endpoint")?,
        state: row.get("state")?,
        attempts: row.get("attempts")?,
    })
}

fn owner(row: &Row) -> Attempt<Owner> {
    let notice: Option<Text<Uuid>> = row.get("notice_id")?;
    notice.map_or_else(|| columns::id(row, "run_id").map(Owner::Run), |id| Ok(Owner::Notice(id.0)))
}

/// The artifact of the run is owed; what an endpoint that is disabled would get is a dead letter at once.
pub(super) async fn owe(
    tx: &Tx,
    run: &mut Run,
    (deliveries, healths): (&[NewDelivery], &BTreeMap<String, Health>),
    now: Timestamp,
) -> Attempt<()> {
    for new in deliveries {
        insert(tx, Owner::Run(run.id), new, now).await?;
        let body = json!({
            "delivery_id": new.delivery_id,
            "endpoint": new.endpoint,
            "url": new.url,
            "idempotency_key": new.delivery_id,
        });
        fact(tx, now, Kind::DeliveryCreated, run.subject(), facts(body))?;
    }
    for new in deliveries {
        if let Some(reason) = healths.get(&new.endpoint).and_then(endpoint::reason) {
            let delivery = Delivery {
                id: new.delivery_id,
                owner: Owner::Run(run.id),
                endpoint: new.endpoint.clone(),
                state: "waiting".to_owned(),
                attempts: 0,
            };
            settle_of_run(tx, run, &delivery, Some(&reason), now).await?;
        }
    }
    Ok(())
}

/// The row of a delivery that is owed from now on.
pub(super) async fn insert(tx: &Connection, owner: Owner, new: &NewDelivery, now: Timestamp) -> Attempt<()> {
    let (run_id, notice_id) = match owner {
        Owner::Run(id) => (Some(Text(id)), None),
        Owner::Notice(id) => (None, Some(Text(id))),
    };
    let insert =
        "INSERT INTO deliveries (delivery_id, run_id, notice_id, endpoint, url, state, due_at, created_at)
        VALUES ($1, $2, $3, $4, $5, 'waiting', $6, $6)";
    let parameters = params![Text(new.delivery_id), run_id, notice_id, new.endpoint, new.url, Micros(now)];
    tx.send(insert, parameters).await?;
    Ok(())
}

/// The delivery was accepted, or it is a dead letter for this reason.
pub(super) async fn settle(
    tx: &Tx,
    debtor: &mut Debtor,
    delivery: &Delivery,
    dead: Option<&str>,
    now: Timestamp,
) -> Attempt<()> {
    match debtor {
        Debtor::Run(run) => settle_of_run(tx, run, delivery, dead, now).await,
        Debtor::Notice(_) => {
            run_rows::settle(tx, delivery.id, dead, now).await?;
            let mut body = settled(delivery, dead);
            body.insert("accepted".to_owned(), dead.is_none().into());
            fact(tx, now, Kind::DeliverySettled, debtor.subject(), body)
        }
    }
}

async fn settle_of_run(
    tx: &Tx,
    run: &mut Run,
    delivery: &Delivery,
    dead: Option<&str>,
    now: Timestamp,
) -> Attempt<()> {
    let event = RunEvent::DeliverySettled { accepted: dead.is_none() };
    let with = With::Settled { delivery_id: delivery.id, dead };
    transition::apply_with(tx, run, (&event, with), settled(delivery, dead), now).await
}

/// What the record of a delivery that is settled says.
fn settled(delivery: &Delivery, dead: Option<&str>) -> Facts {
    let mut body = facts(json!({
        "delivery_id": delivery.id,
        "endpoint": delivery.endpoint,
        "attempts": delivery.attempts,
    }));
    if let Some(reason) = dead {
        body.insert("reason".to_owned(), reason.into());
    }
    delivery.owner.name_notice(&mut body);
    body
}

/// The delivery waits for its next attempt.
pub(super) async fn wait(tx: &Connection, delivery_id: Uuid, until: Timestamp) -> Attempt<()> {
    let update = "UPDATE deliveries SET state = 'waiting', due_at = $2 WHERE delivery_id = $1";
    tx.send(update, params![Text(delivery_id), Micros(until)]).await?;
    Ok(())
}

/// What waits for a disabled endpoint is dead, a bounded number at once; how many that were.
pub(super) async fn give_up_disabled(tx: &Tx, now: Timestamp) -> Attempt<u32> {
    let sql = format!(
        "SELECT {COLUMNS} FROM deliveries WHERE endpoint = $1 AND state = 'waiting'
        ORDER BY ordinal LIMIT $2"
    );
    let mut given_up = 0;
    for (endpoint, reason) in endpoint::all_disabled(tx).await? {
        let parameters = params![endpoint, BATCH_MAX - given_up];
        let waiting = tx.query_all(&sql, parameters, read).await?;
        for delivery in waiting {
            let mut debtor = debtor(delivery.owner, tx).await?;
            settle(tx, &mut debtor, &delivery, Some(&reason), now).await?;
            given_up += 1;
        }
    }
    Ok(given_up)
}

/// The attempt has this receipt, which says so much about its endpoint.
pub(super) fn received(
    tx: &Tx,
    debtor: &Debtor,
    delivery: &Delivery,
    received: &Received<'_>,
    now: Timestamp,
) -> Attempt<()> {
    fact(tx, now, Kind::ReceiptCaptured, debtor.subject(), received.facts(delivery))
}

/// The row of an attempt that has its receipt; false if it has one already.
pub(super) async fn answer(
    tx: &Connection,
    (delivery_id, attempt): (Uuid, u32),
    receipt: &Value,
    now: Timestamp,
) -> Attempt<bool> {
    let update = "UPDATE attempts SET receipt = $3, answered_at = $4
        WHERE delivery_id = $1 AND attempt = $2 AND receipt IS NULL";
    let parameters = params![Text(delivery_id), attempt, Json(receipt), Micros(now)];
    Ok(tx.execute(update, parameters).await? == 1)
}

/// Attempts of these claims that are under way.
pub(super) async fn unanswered(tx: &Connection, claims: &Free<'_>) -> Attempt<Vec<Delivery>> {
    let sql = "SELECT a.delivery_id, run_id, notice_id, endpoint, state, a.attempt AS attempts, token
        FROM attempts a JOIN deliveries d ON d.delivery_id = a.delivery_id
        WHERE a.receipt IS NULL ORDER BY d.ordinal";
    let read = |row: &Row| Ok((read(row)?, row.get::<_, i64>("token")?));
    let open = tx.query_all(sql, params![], read).await?.into_iter();
    Ok(open.filter(|(one, token)| claims.covers(one.id, *token)).map(|(one, _)| one).collect())
}

/// Attempts of these claims that are under way have their receipt, and what they were for waits again; how many there were.
pub(super) async fn answers_lost(tx: &Tx, claims: &Free<'_>, now: Timestamp) -> Attempt<u32> {
    let receipt = &claims.receipt();
    let mut lost = 0;
    for delivery in unanswered(tx, claims).await? {
        let mut debtor = debtor(delivery.owner, tx).await?;
        let waits = delivery.state == "sending" && debtor.is_owing();
        let retry_at = waits.then_some(now);
        if answer(tx, (delivery.id, delivery.attempts), receipt, now).await? {
            let answered = Received { receipt, signal: Signal::Silent, retry_at };
            received(tx, &debtor, &delivery, &answered, now)?;
        }
        // A probe whose answer was lost leaves no breaker half open.
        let before = endpoint::health(tx, &delivery.endpoint).await?;
        let said = (Signal::Silent, &Rule::default());
        let after = endpoint::answered(tx, (&debtor, &delivery, before), said, None, now).await?;
        lost += 1;
        if !waits {
            continue;
        }
        match endpoint::reason(&after) {
            Some(reason) => settle(tx, &mut debtor, &delivery, Some(&reason), now).await?,
            None => wait(tx, delivery.id, now).await?,
        }
    }
    Ok(lost)
}
