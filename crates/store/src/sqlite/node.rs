//! The one process that works at the store. Its lease is the lock of the home: nobody else can join while it lives.

use async_trait::async_trait;
use jiff::Timestamp;
use orbit_core::record::{Kind, Subject};
use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;

use super::columns::{self, Length, Micros};
use super::fault::Attempt;
use super::reclaim::{free, is_anything_held};
use super::record::fact;
use super::tx::Tx;
use super::{SCHEMA, SqliteStore, token};
use crate::StoreError;
use crate::contract::node::{Joined, Joining, Load, NodeStore, NodeView, Renewal, Watched};
use crate::rows::claim::Free;
use crate::rows::node::{lease_ms, started_facts};

#[async_trait]
impl NodeStore for SqliteStore {
    async fn join(&self, joining: &Joining, now: Timestamp) -> Result<Joined, StoreError> {
        let joining = joining.clone();
        self.write(move |tx| join(tx, &joining, now)).await
    }

    async fn renew(&self, load: Load) -> Result<Renewal, StoreError> {
        // Nobody can have taken it over, and a write for screens alone would wake the disk all day.
        *self.load.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = load;
        Ok(Renewal::Renewed)
    }

    async fn take_over(&self, now: Timestamp) -> Result<Watched, StoreError> {
        // There is no other node.
        let _ = now;
        Ok(Watched::default())
    }

    async fn leave(&self) -> Result<bool, StoreError> {
        self.write(|tx| leave(tx)).await
    }

    async fn reclaim(&self, held: &[Uuid], now: Timestamp) -> Result<u32, StoreError> {
        let held = held.to_vec();
        self.write(move |tx| {
            let Some(epoch) = member(tx)? else { return Ok(0) };
            Ok(free(tx, &Free::Unheld(epoch, &held), now)?.total())
        })
        .await
    }

    async fn nodes(&self, now: Timestamp) -> Result<Vec<NodeView>, StoreError> {
        let load = *self.load.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.read(move |tx| {
            let mut statement = tx.prepare_cached("SELECT * FROM nodes ORDER BY epoch")?;
            let nodes = statement.query_map((), |row| view(row, load, now))?;
            Ok(nodes.collect::<Result<_, _>>()?)
        })
        .await
    }
}

fn join(tx: &Tx<'_>, joining: &Joining, now: Timestamp) -> Attempt<Joined> {
    let epoch = token::raise_epoch(tx)?;
    tx.execute("DELETE FROM nodes", ())?;
    let recovered = free(tx, &Free::AllBut(Vec::new()), now)?;
    let insert = "INSERT INTO nodes (epoch, node, version, schema, started_at, lease_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let lease = Length(lease_ms(joining));
    tx.execute(insert, params![epoch, joining.node, joining.version, SCHEMA, Micros(now), lease])?;
    fact(tx, now, Kind::NodeStarted, Subject::default(), started_facts(joining, epoch, recovered))?;
    Ok(Joined { epoch, expires: false, recovered })
}

/// The incarnation that is a node, if one is.
fn member(tx: &Connection) -> Attempt<Option<i64>> {
    Ok(tx.query_row("SELECT max(epoch) FROM nodes", (), |row| row.get(0)).optional()?.flatten())
}

fn leave(tx: &Connection) -> Attempt<bool> {
    let Some(epoch) = member(tx)? else { return Ok(true) };
    tx.execute("DELETE FROM nodes", ())?;
    Ok(!is_anything_held(tx, &Free::Of(epoch))?)
}

fn view(row: &Row<'_>, load: Load, now: Timestamp) -> rusqlite::Result<NodeView> {
    let started_at = columns::instant(row, "started_at")?;
    Ok(NodeView {
        epoch: row.get("epoch")?,
        node: row.get("node")?,
        version: row.get("version")?,
        schema: row.get("schema")?,
        started_at,
        age_ms: u64::try_from(now.duration_since(started_at).as_millis()).unwrap_or(0),
        expires_in_ms: None,
        load,
    })
}
