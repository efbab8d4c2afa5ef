//! What this process has seen of a log, which it holds every server against that it is connected to.
//!
//! A server that came back from a failover or a backup with older data would take everything that is written as if nothing had been lost: positions are given
//! twice, runs are done twice, and what was acknowledged is gone without a word. So a process remembers how far it has seen the log, the root of the tree
//! there, and which of its own records were acknowledged since and may have no position yet. Another server is only ever behind another connection. So the first
//! transaction of a namespace on each connection looks, before anything else, whether the log there has grown from what was seen and holds those records. Where it has not,
//! nothing is read or written and the connection is thrown away: the next call makes another one, and goes on if the right server answers.
//!
//! The same goes for the schema: a connection to a database that was migrated beyond what this binary knows is thrown away, and from then on nothing is read or written by this process. Here
//! nothing but another program helps.
//!
//! What was seen before this process began it is told ([`Witness::tell`]), by whoever keeps copies of checkpoints elsewhere.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use deadpool_postgres::StatementCache;
use orbit_core::digest::Digest;
use orbit_core::record::proof::frontier_at;

use super::columns::{Length, Parameter};
use super::fault::{Attempt, Fault};
use super::tail::Tail;
use super::tx::Connection;
use super::{migrate, record, tree};

/// Records without a position that are remembered; nodes give positions at least once a second, and of more than these the oldest are forgotten.
const WAITING_MAX: usize = 8192;

/// See the module.
#[derive(Default)]
pub(super) struct Witness {
    /// The end of the log when this process last saw it: with it the tree's right edge need not be read again.
    known: Mutex<Tail>,
    waiting: Mutex<Waiting>,
    /// Size and root as others have them.
    told: Mutex<Option<(u64, Digest)>>,
    /// Connections that were looked at, each by what it alone has for as long as it lives.
    looked_at: Mutex<Vec<Weak<StatementCache>>>,
    /// The schema that was found, once it was one that this binary does not know.
    superseded_by: OnceLock<u32>,
}

/// Own records that were acknowledged and may have no position yet, oldest first.
#[derive(Default)]
struct Waiting {
    records: VecDeque<Acknowledged>,
    /// How many there ever were.
    count: u64,
}

struct Acknowledged {
    /// Which one it was, of all there ever were.
    ordinal: u64,
    /// Its number among those that wait for their positions.
    seq: i64,
    leaf: Digest,
    /// Its position is not below this.
    from: u64,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Witness {
    /// The end of the log as it was seen last.
    pub(super) fn known(&self) -> Tail {
        lock(&self.known).clone()
    }

    /// A transaction is committed that saw the log end so, if it saw that.
    pub(super) fn saw(&self, tail: Option<Tail>) {
        if let Some(tail) = tail {
            let mut known = lock(&self.known);
            if tail.size() > known.size() {
                *known = tail;
            }
        }
    }

    /// A transaction is committed whose records are pending; none of them comes before this position.
    pub(super) fn acknowledged(&self, from: u64, pending: Vec<(i64, Digest)>) {
        let mut waiting = lock(&self.waiting);
        for (seq, leaf) in pending {
            let ordinal = waiting.count;
            waiting.count += 1;
            waiting.records.push_back(Acknowledged { ordinal, seq, leaf, from });
        }
        let surplus = waiting.records.len().saturating_sub(WAITING_MAX);
        waiting.records.drain(..surplus);
    }

    /// Tells what was acknowledged until now from what is later.
    pub(super) fn mark(&self) -> u64 {
        lock(&self.waiting).count
    }

    /// A transaction that began after this mark, and saw the end of the log, found this the first record that waits: what was acknowledged before the mark and comes
    /// before it has its position.
    pub(super) fn positioned(&self, mark: u64, first: Option<i64>) {
        let waits = |one: &Acknowledged| one.ordinal >= mark || first.is_some_and(|first| one.seq >= first);
        lock(&self.waiting).records.retain(waits);
    }

    /// The log had this root at this size; every connection is looked at again.
    pub(super) fn tell(&self, size: u64, root: Digest) {
        let mut told = lock(&self.told);
        if told.is_none_or(|(before, _)| before < size) {
            *told = Some((size, root));
        }
        lock(&self.looked_at).clear();
    }

    /// The database has this schema, and no transaction of this process begins any more.
    pub(super) fn is_superseded_by(&self, schema: u32) {
        _ = self.superseded_by.set(schema);
    }

    /// What is to be looked for over a connection that was not looked at yet. Asked before the transaction begins: what others commit after that it does not see.
    pub(super) fn unmet(&self, connection: &Connection) -> Attempt<Option<Seen>> {
        if let Some(schema) = self.superseded_by.get() {
            return Err(Fault::Newer(*schema));
        }
        let identity = connection.identity()?;
        let mut looked_at = lock(&self.looked_at);
        looked_at.retain(|one| one.strong_count() > 0);
        if looked_at.iter().any(|one| one.ptr_eq(&identity)) {
            return Ok(None);
        }
        drop(looked_at);
        let waiting = lock(&self.waiting);
        let leaves = waiting.records.iter().map(|one| Some(one.leaf.0.to_vec())).collect();
        let from = waiting.records.iter().map(|one| one.from).min().unwrap_or_default();
        let known = self.known();
        let ends = [Some((known.size(), known.root())), *lock(&self.told)];
        let end = ends.into_iter().flatten().max_by_key(|(size, _)| *size);
        Ok(Some(Seen { identity, end, leaves, from }))
    }

    /// The connection, on which a transaction of the namespace is open, is to a server that has what was seen.
    pub(super) async fn admit(&self, connection: &Connection, seen: Seen) -> Attempt<()> {
        let is_known = migrate::is_known_still(connection).await;
        if let Err(Fault::Newer(schema)) = is_known {
            self.is_superseded_by(schema);
        }
        is_known?;
        if let Some((size, root)) = seen.end {
            has_grown_from(connection, size, root).await?;
        }
        holds(connection, seen.leaves, seen.from).await?;
        lock(&self.looked_at).push(seen.identity);
        Ok(())
    }
}

/// What a server must have.
pub(super) struct Seen {
    identity: Weak<StatementCache>,
    /// Size and root.
    end: Option<(u64, Digest)>,
    /// Of records that waited.
    leaves: Vec<Option<Vec<u8>>>,
    /// None of them comes before this position.
    from: u64,
}

/// Every record that waited is there, with a position or without.
async fn holds(connection: &Connection, leaves: Vec<Option<Vec<u8>>>, from: u64) -> Attempt<()> {
    if leaves.is_empty() {
        return Ok(());
    }
    // The leaf of a pending record is what RFC 6962 makes of its header.
    let sql = "SELECT count(*) FROM unnest($1::bytea[]) AS wanted (leaf)
        WHERE NOT EXISTS (SELECT 1 FROM log_records WHERE position >= $2 AND log_records.leaf = wanted.leaf)
            AND NOT EXISTS (SELECT 1 FROM log_pending
                WHERE sha256('\\x00'::bytea || convert_to(header, 'UTF8')) = wanted.leaf)";
    let from = i64::try_from(from).map_err(Fault::unreadable)?;
    let parameters = Ok(vec![Parameter::ByteStrings(leaves), Parameter::from(from)]);
    let Length(missing) = connection.query_row(sql, parameters, |row| row.get(0)).await?;
    if missing == 0 {
        return Ok(());
    }
    let message =
        format!("lacks {missing} of the records that were acknowledged: it is an older state of it");
    Err(Fault::Rewound(message))
}

/// The log there has this root at this size.
async fn has_grown_from(connection: &Connection, size: u64, root: Digest) -> Attempt<()> {
    if size == 0 {
        return Ok(());
    }
    let found = record::count(connection).await?;
    if found < size {
        return Err(shrunk(found, size));
    }
    let tree = tree::for_walk(connection, |nodes| frontier_at(nodes, size)).await?;
    if frontier_at(&tree, size)?.root() == root {
        return Ok(());
    }
    let message =
        format!("has another history: its first {size} records are not those that were acknowledged");
    Err(Fault::Rewound(message))
}

/// Of a log that has less than it had.
pub(super) fn shrunk(found: u64, seen: u64) -> Fault {
    Fault::Rewound(format!("has {found} records, and {seen} were acknowledged: it is an older state of it"))
}
