//! Nodes: processes that work at the store, each for as long as its lease is renewed.
//!
//! Every instant here is the database's: a transaction's time is when it began, which is after its caller has asked. So a lease ends no earlier than its length after
//! the caller's monotonic clock was read, and is never found to have ended too early.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use orbit_core::record::{Kind, Subject};
use uuid::Uuid;

use super::columns::{self, Length, Row, params};
use super::fault::{Attempt, Fault};
use super::reclaim::{free, is_anything_held};
use super::record::fact;
use super::tx::{Connection, Mode, Tx, reading, transaction, writing};
use super::{PostgresStore, SCHEMA, migrate, token};
use crate::StoreError;
use crate::contract::Recovered;
use crate::contract::node::{Joined, Joining, Load, NodeStore, NodeView, Renewal, TakenOver, Watched};
use crate::rows::claim::Free;
use crate::rows::node::{lease_ms, started_facts, taken_over_facts};

/// The time of the transaction, in microseconds.
const NOW: &str = "(extract(epoch FROM now()) * 1000000)::bigint";

#[async_trait]
impl NodeStore for PostgresStore {
    async fn join(&self, joining: &Joining, now: Timestamp) -> Result<Joined, StoreError> {
        let before = self.database.member.last();
        let joined = writing!(self, |tx| join(tx, joining, before, now).await)?;
        self.database.member.joined(joined.epoch);
        Ok(joined)
    }

    async fn renew(&self, load: Load) -> Result<Renewal, StoreError> {
        let Some(epoch) = self.member() else { return Ok(Renewal::Lost) };
        // One statement, which is true by itself: it waits for whoever takes the row away, and then finds none; and it needs no turn, which may be long in coming.
        let update = format!(
            "UPDATE nodes SET expires_at = {NOW} + lease_ms * 1000, runs = $2, tasks = $3
            WHERE epoch = $1 AND $4 >= (SELECT max(number) FROM migrations)"
        );
        transaction!(&self.leases, Mode::Alone, |tx| {
            if tx.execute(&update, params![epoch, load.runs, load.tasks, i64::from(SCHEMA)]).await? == 1 {
                return Ok(Renewal::Renewed);
            }
            serves_still(tx).await?;
            Ok(Renewal::Lost)
        })
    }

    async fn take_over(&self, now: Timestamp) -> Result<Watched, StoreError> {
        // Nobody takes itself over: a node that asks is alive, whatever its lease says.
        let own = self.member();
        // Asked much more often than there is something to do, which a reader can tell.
        let next = reading!(self, |tx| next_end(tx, own).await)?;
        if next.is_none_or(|next| !next.is_zero()) {
            return Ok(Watched { taken: Vec::new(), next });
        }
        writing!(self, |tx| {
            let taken = take_over(tx, own, now).await?;
            Ok(Watched { taken, next: next_end(tx, own).await? })
        })
    }

    async fn leave(&self) -> Result<bool, StoreError> {
        let Some(epoch) = self.member() else { return Ok(true) };
        // First, so that nothing is claimed between the look at what is held and the end of this.
        self.database.member.leaves();
        writing!(self, |tx| {
            if is_anything_held(tx, &Free::Of(epoch)).await? {
                return Ok(false);
            }
            forget(tx, epoch).await?;
            Ok(true)
        })
    }

    async fn reclaim(&self, held: &[Uuid], now: Timestamp) -> Result<u32, StoreError> {
        let Some(epoch) = self.member() else { return Ok(0) };
        writing!(self, |tx| Ok(free(tx, &Free::Unheld(epoch, held), now).await?.total()))
    }

    async fn nodes(&self, now: Timestamp) -> Result<Vec<NodeView>, StoreError> {
        // The database has a clock of its own.
        let _ = now;
        let sql = format!(
            "SELECT *, greatest({NOW} - started_at, 0) / 1000 AS age_ms, (expires_at - {NOW}) / 1000 AS expires_in_ms
            FROM nodes ORDER BY epoch"
        );
        reading!(self, |tx| tx.query_all(&sql, params![], view).await)
    }
}

impl PostgresStore {
    /// The incarnation that this process is.
    fn member(&self) -> Option<i64> {
        self.database.member.get().map(|member| member.epoch)
    }
}

async fn join(tx: &Tx, joining: &Joining, before: Option<i64>, now: Timestamp) -> Attempt<Joined> {
    let epoch = token::raise_epoch(tx).await?;
    if let Some(before) = before {
        forget(tx, before).await?;
    }
    if let Some(former) = joining.former {
        // A number that means somebody else by now, as in a database from a backup, is left alone.
        tx.knows_no_member();
        let dead = "DELETE FROM nodes WHERE epoch = $1 AND node = $2";
        tx.execute(dead, params![former, joining.node]).await?;
    }
    let taken = take_over(tx, None, now).await?;
    // What this process had before, and what nobody has who is known.
    let of_nobody = free(tx, &Free::AllBut(members(tx).await?), now).await?;
    let insert = format!(
        "INSERT INTO nodes (epoch, node, version, schema, started_at, lease_ms, expires_at)
        VALUES ($1, $2, $3, $4, {NOW}, $5::bigint, {NOW} + $5::bigint * 1000)"
    );
    let lease = Length(lease_ms(joining));
    tx.execute(&insert, params![epoch, joining.node, joining.version, SCHEMA, lease]).await?;
    // Once the table is written to nobody migrates (see `occupied`): what is true here stays true until this is a node.
    serves_still(tx).await?;
    let recovered = taken.iter().map(|one| one.recovered).fold(of_nobody, Recovered::and);
    fact(tx, now, Kind::NodeStarted, Subject::default(), started_facts(joining, epoch, recovered))?;
    Ok(Joined { epoch, expires: true, recovered })
}

/// The schema is one that this binary serves still, or nothing goes over any connection of this process any more.
async fn serves_still(tx: &Tx) -> Attempt<()> {
    let is_known = migrate::is_known_still(tx).await;
    if let Err(Fault::Newer(found)) = is_known {
        tx.is_superseded_by(found);
    }
    is_known
}

async fn forget(tx: &Tx, epoch: i64) -> Attempt<()> {
    tx.knows_no_member();
    tx.execute("DELETE FROM nodes WHERE epoch = $1", params![epoch]).await?;
    Ok(())
}

async fn members(tx: &Connection) -> Attempt<Vec<i64>> {
    tx.query_all("SELECT epoch FROM nodes", params![], |row| row.get(0)).await
}

/// How long until the first lease of another node ends; nothing if it has.
async fn next_end(tx: &Connection, own: Option<i64>) -> Attempt<Option<Duration>> {
    let sql = format!("SELECT min(expires_at) - {NOW} FROM nodes WHERE epoch IS DISTINCT FROM $1::bigint");
    let left: Option<i64> = tx.query_row(&sql, params![own], |row| row.get(0)).await?;
    Ok(left.map(|micros| Duration::from_micros(u64::try_from(micros).unwrap_or(0))))
}

/// Nodes whose lease has ended, but for this one, are no more.
async fn take_over(tx: &Tx, own: Option<i64>, now: Timestamp) -> Attempt<Vec<TakenOver>> {
    let delete = format!(
        "DELETE FROM nodes WHERE expires_at <= {NOW} AND epoch IS DISTINCT FROM $1::bigint
        RETURNING epoch, node, ({NOW} - expires_at) / 1000 AS ended_ms"
    );
    let read = |row: &Row| {
        Ok((row.get::<_, i64>("epoch")?, row.get::<_, String>("node")?, row.get::<_, Length>("ended_ms")?.0))
    };
    let mut ended = tx.query_all(&delete, params![own], read).await?;
    tx.knows_no_member();
    ended.sort_unstable();
    let mut taken = Vec::with_capacity(ended.len());
    for (epoch, node, ended_ms) in ended {
        let recovered = free(tx, &Free::Of(epoch), now).await?;
        let one = TakenOver { epoch, node, ended_ms, recovered };
        fact(tx, now, Kind::NodeTakenOver, Subject::default(), taken_over_facts(&one))?;
        taken.push(one);
    }
    Ok(taken)
}

fn view(row: &Row) -> Attempt<NodeView> {
    Ok(NodeView {
        epoch: row.get("epoch")?,
        node: row.get("node")?,
        version: row.get("version")?,
        schema: row.get("schema")?,
        started_at: columns::instant(row, "started_at")?,
        age_ms: row.get::<_, Length>("age_ms")?.0,
        expires_in_ms: row.get("expires_in_ms")?,
        load: Load { runs: row.get("runs")?, tasks: row.get("tasks")? },
    })
}
