//! A transaction of the domain: a connection to read and change rows through, and the records that go with the change.
//!
//! **One at a time, as if.** A transaction that changes something is SERIALIZABLE: its reads and writes are as if nobody else were there, which is
//! what its SQLite twin, with its single writer, is written for. Where two get in each other's way PostgreSQL ends one of them, and it is done again
//! from the beginning, [`TRIES_MAX`] times at most. Claims skip what another transaction holds (`FOR UPDATE SKIP LOCKED`), so that they mostly do not.
//!
//! Of one process only one at a time changes a namespace, because those at once mostly do get in each other's way. In its turn it does not wait for the disk
//! (`synchronous_commit = off` for it alone).
//!
//! **Durable before it is answered.** Whoever has committed gives the turn to the next one, and then flushes: one WAL record with `synchronous_commit` as the server has it, so that it
//! waits for the disk and for the standbys that the server says; what is before it in the WAL is durable with it, and the server does many flushes with one. It goes over the same connection:
//! another one might lead to a server that does not have the transaction. A crash of the server loses at most an end of the WAL. What is lost was answered to nobody, and
//! everything that was decided by who saw it lies behind it, and is lost with it. Others see a change a few milliseconds before it is durable, but positions are given by
//! transactions that wait for the disk themselves.
//!
//! **Whose rows.** The first statement of every transaction, of those that only read too, sets the namespace for as long as the transaction lasts. Row-level
//! security shows and takes no other rows; a transaction without the setting sees nothing.
//!
//! **Dropped halfway.** A future may be dropped at any await. The connection is then thrown away, with what was open on it (see `connection`); no
//! connection goes back to the pool but after COMMIT or ROLLBACK. Nothing else outlives a transaction on one: settings and locks end with it, so that there is nothing to clean.
//!
//! **When nobody knows.** COMMIT is sent with the last statements. If the connection is lost between that and its answer, the transaction may be true or not. That is
//! [`crate::StoreError::Unknown`], never a silent second try. To ask again is safe, because every call is made to be: a claim's commit carries a token that
//! is used up by the first one (the second answers that the claim is lost), a cycle, run, delivery or notice has an id that derives from what it is and is
//! inserted once, an activation of the active snapshot and a halt of a halted namespace change nothing, a schedule's cursor is compared with its base. A claim that
//! nobody got the answer of is freed by `reclaim`, which exists for that. `append` alone would add its records twice; its callers are
//! told the truth and choose.

use std::ops::{ControlFlow, Deref};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use orbit_core::digest::Digest;
use orbit_core::record::Sealed;
use orbit_core::record::tree::leaf_hash;
use tokio::sync::OwnedSemaphorePermit;

use super::connection::Answer;
pub(super) use super::connection::{Connection, together};
use super::fault::{Attempt, Fault};
use super::sequencer::{self, poisoned};
use super::tail::Tail;
use super::token::Membership;
use super::witness::Witness;

/// A record that is larger is a defect of whoever made it: everything that goes into one is bounded by itself.
const RECORD_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How often a transaction is tried that others get in the way of.
pub(super) const TRIES_MAX: u32 = 20;
/// Pause before the second try; each further one is twice as long, up to `PAUSE_MAX`.
const PAUSE: Duration = Duration::from_millis(1);
/// The longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// What a transaction is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// It changes nothing and sees one state.
    Reading,
    /// It changes something, as if it were alone.
    Writing,
    /// It knows the position of its records: it holds the sequencer's lock. Its statements see what was committed before each of them.
    Positioned,
    /// It is the sequencer's.
    Sequencing,
    /// It is a single statement, which takes a row as it is when it gets it.
    Alone,
}

impl Mode {
    /// The characteristics of the transaction.
    pub(super) const fn characteristics(self) -> &'static str {
        match self {
            Self::Reading => "ISOLATION LEVEL REPEATABLE READ, READ ONLY",
            Self::Writing => "ISOLATION LEVEL SERIALIZABLE, READ WRITE",
            Self::Positioned | Self::Sequencing | Self::Alone => "ISOLATION LEVEL READ COMMITTED, READ WRITE",
        }
    }
}

/// What a transaction holds besides its rows.
#[derive(Default)]
struct Held {
    records: Vec<Sealed>,
    /// What of them is pending when this is committed.
    pending: Option<Pending>,
    tail: Option<Tail>,
}

/// Records that have no position yet.
struct Pending {
    leaves: Vec<Digest>,
    numbers: Answer,
}

impl Pending {
    /// The number of each among those that wait, once the transaction is over.
    fn numbered(self) -> Attempt<Vec<(i64, Digest)>> {
        let mut numbers = self.numbers.read(|row| row.get::<_, i64>("seq"))?;
        numbers.sort_unstable();
        Ok(numbers.into_iter().zip(self.leaves).collect())
    }
}

/// See the module. Its records have no position, unless the mode says so.
pub(super) struct Tx {
    connection: Connection,
    mode: Mode,
    turn: Option<OwnedSemaphorePermit>,
    held: Mutex<Held>,
    witness: Arc<Witness>,
    /// How far the log was seen when this began: no record of it comes before that.
    seen: u64,
    member: Option<Arc<Membership>>,
    is_known_member: AtomicBool,
    has_no_suspect: AtomicBool,
}

impl Tx {
    /// A transaction that has begun; `witness` is what this process has seen of the log, `member` the incarnation that this process is.
    pub(super) async fn new(
        connection: Connection,
        (mode, turn): (Mode, Option<OwnedSemaphorePermit>),
        witness: &Arc<Witness>,
        member: Option<Arc<Membership>>,
    ) -> Attempt<Self> {
        let (witness, seen) = (Arc::clone(witness), witness.known().size());
        let [is_known_member, has_no_suspect] = [AtomicBool::new(false), AtomicBool::new(false)];
        let held = Mutex::default();
        let tx =
            Self { connection, mode, turn, held, witness, seen, member, is_known_member, has_no_suspect };
        if mode == Mode::Positioned {
            sequencer::lock(&tx).await?;
            let tail = sequencer::take_all(&tx, tx.known_tail()).await?;
            tx.ends_at(tail)?;
        }
        Ok(tx)
    }

    /// The incarnation that claims.
    pub(super) fn membership(&self) -> Option<&Membership> {
        self.member.as_deref()
    }

    /// Whether this transaction has seen that it is a node still.
    pub(super) fn is_known_member(&self) -> bool {
        self.is_known_member.load(Ordering::Relaxed)
    }

    /// This transaction has seen it.
    pub(super) fn knows_member(&self) {
        self.is_known_member.store(true, Ordering::Relaxed);
    }

    /// Whether this transaction has seen that no crash is counted against anybody, and has counted none.
    pub(super) fn has_no_suspect(&self) -> bool {
        self.has_no_suspect.load(Ordering::Relaxed)
    }

    /// It has seen it, or it has counted one.
    pub(super) fn knows_suspects(&self, any: bool) {
        self.has_no_suspect.store(!any, Ordering::Relaxed);
    }

    /// The end of the log when this process last saw it.
    pub(super) fn known_tail(&self) -> Tail {
        self.witness.known()
    }

    /// The log ends so once this is committed.
    pub(super) fn ends_at(&self, tail: Tail) -> Attempt<()> {
        self.held.lock().map_err(poisoned)?.tail = Some(tail);
        Ok(())
    }

    /// The record is part of the transaction.
    pub(super) fn append(&self, record: Sealed) -> Attempt<()> {
        let bytes = record.header.len() + record.body.len();
        if bytes > RECORD_BYTES_MAX {
            return Err(Fault::contradiction(format!(
                "a record of {bytes} bytes: {RECORD_BYTES_MAX} at most"
            )));
        }
        self.held.lock().map_err(poisoned)?.records.push(record);
        Ok(())
    }

    /// The end of the log before the transaction's own records: everything that was durable before. Only where the mode knows it.
    pub(super) fn tail(&self) -> Attempt<Tail> {
        let held = self.held.lock().map_err(poisoned)?;
        held.tail.clone().ok_or_else(|| Fault::contradiction("a transaction without positions asks for one"))
    }

    /// The position that the next record will have, if the transaction is committed. Only where the mode knows it.
    pub(super) fn next_position(&self) -> Attempt<u64> {
        let size = self.tail()?.size();
        let records = self.held.lock().map_err(poisoned)?.records.len();
        Ok(size + u64::try_from(records).unwrap_or(u64::MAX))
    }

    /// It is durable if it was done, else nothing of it is true.
    pub(super) async fn end<T>(self, done: Attempt<T>) -> Attempt<T> {
        let done = match done {
            Ok(value) => self.add_records().await.map(|()| value),
            Err(fault) => Err(fault),
        };
        match done {
            Ok(value) => {
                self.commit().await?;
                Ok(value)
            }
            Err(fault) => {
                // Whatever comes of it: nothing is true.
                _ = self.connection.ends("ROLLBACK").await;
                Err(fault)
            }
        }
    }

    async fn add_records(&self) -> Attempt<()> {
        let records = std::mem::take(&mut self.held.lock().map_err(poisoned)?.records);
        if records.is_empty() {
            return Ok(());
        }
        if self.mode == Mode::Positioned {
            let added = sequencer::add(&self.connection, records).await?;
            let mut tail = self.tail()?;
            tail.take(&self.connection, &added).await?;
            return self.ends_at(tail);
        }
        let leaves = records.iter().map(|record| leaf_hash(record.header.as_bytes())).collect();
        let numbers = sequencer::send(&self.connection, records).await?;
        self.held.lock().map_err(poisoned)?.pending = Some(Pending { leaves, numbers });
        Ok(())
    }

    async fn commit(self) -> Attempt<()> {
        if self.mode == Mode::Writing {
            // What was lost before COMMIT is not true.
            self.connection.hears().await?;
        }
        let committed = match self.mode {
            Mode::Reading => self.connection.leaves().await,
            Mode::Writing => self.connection.commits(self.turn).await,
            Mode::Positioned | Mode::Sequencing | Mode::Alone => self.connection.ends("COMMIT").await,
        };
        match committed {
            Ok(()) => {
                let held = self.held.into_inner().map_err(poisoned)?;
                let pending = held.pending.map(Pending::numbered).transpose()?.unwrap_or_default();
                self.witness.acknowledged(held.tail, self.seen, pending);
                Ok(())
            }
            // The server says that it did not commit; anything else leaves it open.
            Err(Fault::Postgres(error)) if error.as_db_error().is_none() => Err(Fault::Unknown(error)),
            Err(fault) => Err(fault),
        }
    }
}

impl Deref for Tx {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

/// How often a transaction was tried.
#[derive(Default)]
pub(super) struct Tries(u32);

impl Tries {
    /// Whether to try again after this; if so, a pause has passed.
    pub(super) async fn after<T>(&mut self, attempt: Attempt<T>) -> ControlFlow<Attempt<T>> {
        self.0 += 1;
        match attempt {
            Err(fault) if fault.is_passing() && self.0 < TRIES_MAX => {
                let factor = 1_u32.checked_shl(self.0 - 1).unwrap_or(u32::MAX);
                tokio::time::sleep(PAUSE.saturating_mul(factor).min(PAUSE_MAX)).await;
                ControlFlow::Continue(())
            }
            attempt => ControlFlow::Break(attempt),
        }
    }
}

/// A transaction of the domain over a [`super::Database`]; the answer comes when it is over, for its callers. A macro, because a closure that lends a future
/// what it has captured cannot be said to be `Send`.
macro_rules! transaction {
    ($database:expr, $mode:expr, |$tx:ident| $body:expr) => {{
        let database: &$crate::postgres::Database = $database;
        let mut tries = $crate::postgres::tx::Tries::default();
        loop {
            let attempt = match database.begin($mode).await {
                Ok(begun) => {
                    let $tx = &begun;
                    let done = async { $body }.await;
                    begun.end(done).await
                }
                Err(fault) => Err(fault),
            };
            if let ::std::ops::ControlFlow::Break(attempt) = tries.after(attempt).await {
                break attempt.map_err(|fault| fault.at(&database.place));
            }
            database.meter.again();
        }
    }};
}
pub(super) use transaction;

/// A transaction that changes nothing.
macro_rules! reading {
    ($store:expr, |$tx:ident| $body:expr) => {
        $crate::postgres::tx::transaction!(&$store.database, $crate::postgres::tx::Mode::Reading, |$tx| $body)
    };
}
pub(super) use reading;

/// A transaction that changes something; true and durable when the answer is there.
macro_rules! writing {
    ($store:expr, |$tx:ident| $body:expr) => {
        $crate::postgres::tx::transaction!(&$store.database, $crate::postgres::tx::Mode::Writing, |$tx| $body)
    };
}
pub(super) use writing;

/// The same, of one that knows the positions of its records.
macro_rules! positioned {
    ($store:expr, |$tx:ident| $body:expr) => {
        $crate::postgres::tx::transaction!(&$store.database, $crate::postgres::tx::Mode::Positioned, |$tx| {
            $body
        })
    };
}
pub(super) use positioned;
