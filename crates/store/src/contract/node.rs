//! Nodes: the processes that work at a store, one at a time on SQLite, any number on PostgreSQL.
//!
//! **An incarnation** is one process's membership in one namespace's store. It has a number, its *epoch*, which the store raises with every join. A claim's
//! token is `(epoch << 32) + counter`, so that the row itself says whose claim it is, and nobody has a token who has not joined.
//!
//! **A lease** is how long an incarnation is believed to be alive without a word of it. It begins and ends by the clock of the database, which all nodes
//! share; what a node's own clock says is of no interest here. Whose lease has ended may be taken over by any other: its claims are free, and its next claim,
//! renewal or commit finds that out. Until that has happened it may renew as if nothing had been. On SQLite there are no leases, because one process alone has
//! the store: the next one to join takes over whatever is left.
//!
//! What a node makes of this, and when it must stop working, says `orbit_engine::lease`.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::{Recovered, StoreError};

/// Who joins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joining {
    /// The node's name, which need not be unique.
    pub node: String,
    /// The version of its binary.
    pub version: String,
    /// How long it is believed to be alive after each word of it; whole milliseconds.
    pub lease: Duration,
    /// An incarnation under the same name whose process is dead for certain: its lease ends with this.
    pub former: Option<i64>,
}

/// A membership that has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The number of the incarnation.
    pub epoch: i64,
    /// Whether it ends unless it is renewed.
    pub expires: bool,
    /// What nobody worked on any more, and is free.
    pub recovered: Recovered,
}

/// How much a node has under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Load {
    /// Runs at work.
    pub runs: u32,
    /// Cycles being selected and deliveries being sent.
    pub tasks: u32,
}

/// The answer to a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// The lease begins again.
    Renewed,
    /// The incarnation is none any more: it was taken over, or never was one.
    Lost,
}

/// A node that was taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenOver {
    /// The incarnation.
    pub epoch: i64,
    /// The node's name.
    pub node: String,
    /// How long its lease had ended by then, in milliseconds, by the clock of the database.
    pub ended_ms: u64,
    /// What it had under way.
    pub recovered: Recovered,
}

/// What looking after the others came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    /// Who was taken over by this call.
    pub taken: Vec<TakenOver>,
    /// How long until the next lease of another node ends, unless it is renewed; none without another one.
    pub next: Option<Duration>,
}

/// A node, for screens. Spans are by the clock that its lease is measured with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeView {
    /// The incarnation.
    pub epoch: i64,
    /// The node's name.
    pub node: String,
    /// The version of its binary.
    pub version: String,
    /// The newest schema that its binary knows.
    pub schema: u32,
    /// When it joined.
    pub started_at: Timestamp,
    /// How long ago that was, in milliseconds.
    pub age_ms: u64,
    /// How long until its lease ends, in milliseconds: negative if it has, null if it has none.
    pub expires_in_ms: Option<i64>,
    /// What it has under way, as of its last renewal.
    pub load: Load,
}

/// See the module.
#[async_trait]
pub trait NodeStore {
    /// This process is a new incarnation, and what it may have been before it is no more. Every claim of nobody is free: on SQLite all there are, on PostgreSQL
    /// those of this process's earlier incarnation and of the one that is said to be dead, of nodes whose lease has ended, and of nobody who is known. A step that was under way is interrupted by
    /// a crash, which counts against its processor (see [`super::quarantine`]), a delivery attempt without an answer has the receipt `unknown`, a cycle that was
    /// being selected waits again. A `node_started` record tells who joined and what was found, a `node_taken_over` record the same of each node whose lease had ended.
    async fn join(&self, joining: &Joining, now: Timestamp) -> Result<Joined, StoreError>;

    /// The lease begins again, now, by the clock of the database; the load is what [`Self::nodes`] shows from now on.
    async fn renew(&self, load: Load) -> Result<Renewal, StoreError>;

    /// Other nodes whose lease has ended are no more, and what they had under way is free, as by [`Self::join`]. A `node_taken_over` record each tells who it was and
    /// what was found. However many ask at once, one does it.
    async fn take_over(&self, now: Timestamp) -> Result<Watched, StoreError>;

    /// This process claims nothing more. If it has nothing under way it is a node no more, and true is the answer. Else what it has is not free before its lease
    /// has ended, because nobody can know what of it still goes on.
    async fn leave(&self) -> Result<bool, StoreError>;

    /// Frees what this incarnation has claimed and does not hold, because the answer to a claim was lost; how much that was. Its steps are interrupted,
    /// which counts against nothing, its attempts have the receipt `interrupted`, its cycles wait again. `held` are the ids of all cycles, runs and
    /// deliveries that are worked on; nothing may be claimed meanwhile.
    async fn reclaim(&self, held: &[Uuid], now: Timestamp) -> Result<u32, StoreError>;

    /// Every node, those whose lease has ended and that nobody has taken over yet too, oldest first. `now` is the clock where the database has none.
    async fn nodes(&self, now: Timestamp) -> Result<Vec<NodeView>, StoreError>;
}
