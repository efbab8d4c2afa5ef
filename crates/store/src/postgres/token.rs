//! Fencing tokens: no two claims of a store have the same one, across restarts and nodes too.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::begun::Begun;
use super::columns::params;
use super::fault::{Attempt, Fault};
use super::tx::{Connection, Tx};
use crate::rows::claim;

/// An incarnation as its process knows it: it counts its claims for itself. On SQLite the count stands in one row; here that row would let one claim wait for another.
pub(super) struct Membership {
    /// Its number.
    pub(super) epoch: i64,
    claims: AtomicI64,
    /// The steps that it has begun, and the runs that it has admitted.
    pub(super) begun: Begun,
}

/// The incarnation that this process is, if it has joined.
#[derive(Default)]
pub(super) struct Member(Mutex<Known>);

#[derive(Default)]
struct Known {
    current: Option<Arc<Membership>>,
    /// The last one that it was.
    last: Option<i64>,
}

impl Member {
    /// The incarnation.
    pub(super) fn get(&self) -> Option<Arc<Membership>> {
        self.lock().current.clone()
    }

    /// The last incarnation that this process was, also if it has left.
    pub(super) fn last(&self) -> Option<i64> {
        self.lock().last
    }

    /// From now on it is this one.
    pub(super) fn joined(&self, epoch: i64) {
        let membership = Membership { epoch, claims: AtomicI64::new(0), begun: Begun::default() };
        *self.lock() = Known { current: Some(Arc::new(membership)), last: Some(epoch) };
    }

    /// From now on it is none.
    pub(super) fn leaves(&self) {
        self.lock().current = None;
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether this process is a node: seen once a transaction of the server, so that who is going to claim may ask together with something else.
pub(super) async fn look(tx: &Tx) -> Attempt<()> {
    let Some(membership) = tx.membership() else { return Ok(()) };
    if !tx.is_known_member() {
        let is_node = "SELECT EXISTS (SELECT 1 FROM nodes WHERE epoch = $1)";
        if tx.query_row(is_node, params![membership.epoch], |row| row.get(0)).await? {
            tx.knows_member(membership.epoch);
        }
    }
    Ok(())
}

/// A token that no claim has had: the epoch in the upper half, the number of the claim within it in the lower. Only a node has one. Whoever takes an
/// incarnation over has the namespace to itself, and so has this one: what is read here stays true until the transaction is over.
pub(super) async fn next(tx: &Tx) -> Attempt<i64> {
    look(tx).await?;
    let membership = tx.membership().filter(|_| tx.is_known_member()).ok_or(Fault::NotJoined)?;
    let number = membership.claims.fetch_add(1, Ordering::Relaxed) + 1;
    claim::token(membership.epoch, number).ok_or(Fault::NotJoined)
}

/// A new epoch; its number.
pub(super) async fn raise_epoch(tx: &Connection) -> Attempt<i64> {
    let sql = "UPDATE store SET epoch = epoch + 1 RETURNING epoch";
    tx.query_row(sql, params![], |row| row.get(0)).await
}
