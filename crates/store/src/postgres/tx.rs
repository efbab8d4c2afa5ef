//! A transaction of the domain: a connection to read and change rows through, and the records that go with the change.
//!
//! **One at a time.** A transaction that changes something has the turn in its process and the lock of its namespace on the server (see `turns`), so that nobody
//! else changes anything meanwhile, which is what its SQLite twin, with its single writer, is written for. Each of its statements sees all that is committed by then
//! (READ COMMITTED). Without the turn go only the sequencer, which moves records and nothing else, the renewal of a lease, which is a single statement, and payloads that nobody names yet (see `early`). Where
//! two meet all the same PostgreSQL ends one of them, and it is done again from the beginning, [`TRIES_MAX`] times at most.
//!
//! **Together.** Those that wait for their turn become one transaction of the server. It does not wait for the disk while it holds the lock (`synchronous_commit = off` for it alone).
//!
//! **Durable before it is answered.** Whoever has committed lets the next one go on, and then flushes: one WAL record with `synchronous_commit` as the server has it, so that it
//! waits for the disk and for the standbys that the server says; what is before it in the WAL is durable with it, and the server does many flushes with one. It goes over the same connection:
//! another one might lead to a server that does not have the transaction. A crash of the server loses at most an end of the WAL. What is lost was answered to nobody, and
//! everything that was decided by who saw it lies behind it, and is lost with it. Others see a change a few milliseconds before it is durable, but positions are given by
//! transactions that wait for the disk themselves.
//!
//! **Whose rows.** The first statement of every transaction of the server, of those that only read too, sets the namespace for as long as it lasts. Row-level
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
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use orbit_core::record::Sealed;
use uuid::Uuid;

pub(super) use super::connection::{Connection, together};
use super::cycle::Beside;
use super::fault::{Attempt, Fault, words};
use super::sequencer::{self, poisoned};
use super::tail::Tail;
use super::token::Membership;
use super::turns::{Group, Turn};
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
    /// It changes something, and nobody else does meanwhile.
    Writing,
    /// The same of one that knows the position of its records: it holds the sequencer's lock as well, and shares its transaction with nobody.
    Positioned,
    /// It is the sequencer's.
    Sequencing,
    /// It is a single statement, which takes a row as it is when it gets it.
    Alone,
    /// The same of payloads, which are not waited for until they are durable.
    Early,
}

impl Mode {
    /// The characteristics of the transaction.
    pub(super) const fn characteristics(self) -> &'static str {
        match self {
            Self::Reading => "ISOLATION LEVEL REPEATABLE READ, READ ONLY",
            Self::Writing | Self::Positioned | Self::Sequencing | Self::Alone | Self::Early => {
                "ISOLATION LEVEL READ COMMITTED, READ WRITE"
            }
        }
    }

    /// Whether nobody else changes the namespace until it is over.
    pub(super) const fn is_exclusive(self) -> bool {
        match self {
            Self::Writing | Self::Positioned => true,
            Self::Reading | Self::Sequencing | Self::Alone | Self::Early => false,
        }
    }
}

/// What a transaction holds besides its rows.
#[derive(Default)]
struct Held {
    records: Vec<Sealed>,
    tail: Option<Tail>,
    beside: Option<(Uuid, Beside)>,
}

/// The transaction of the server that one of the domain goes over.
pub(super) enum Over {
    /// It has one of its own.
    Own(Connection),
    /// It has the turn in one that it may share with others.
    Shared(Box<Group>, Turn),
}

/// See the module. Its records have no position, unless the mode says so.
pub(super) struct Tx {
    over: Over,
    mode: Mode,
    held: Mutex<Held>,
    witness: Arc<Witness>,
    member: Option<Arc<Membership>>,
    seen: Arc<Seen>,
}

/// What need not be asked again in one transaction of the server.
#[derive(Default)]
pub(super) struct Seen {
    /// The incarnation that is known to be a node; 0 is none.
    member: AtomicI64,
    has_no_suspect: AtomicBool,
}

impl Tx {
    /// A transaction that has begun; `witness` is what this process has seen of the log, `member` the incarnation that this process is.
    pub(super) async fn new(
        over: Over,
        mode: Mode,
        witness: &Arc<Witness>,
        member: Option<Arc<Membership>>,
    ) -> Attempt<Self> {
        let seen = match &over {
            Over::Own(_) => Arc::default(),
            Over::Shared(group, _) => Arc::clone(&group.seen),
        };
        let tx = Self { over, mode, held: Mutex::default(), witness: Arc::clone(witness), member, seen };
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

    /// Whether it was seen that this process is a node still.
    pub(super) fn is_known_member(&self) -> bool {
        self.member.as_ref().is_some_and(|member| self.seen.member.load(Ordering::Relaxed) == member.epoch)
    }

    /// It was seen.
    pub(super) fn knows_member(&self, epoch: i64) {
        self.seen.member.store(epoch, Ordering::Relaxed);
    }

    /// A node is none any more.
    pub(super) fn knows_no_member(&self) {
        self.seen.member.store(0, Ordering::Relaxed);
    }

    /// Whether this transaction has seen that no crash is counted against anybody, and has counted none.
    pub(super) fn has_no_suspect(&self) -> bool {
        self.seen.has_no_suspect.load(Ordering::Relaxed)
    }

    /// It has seen it, or it has counted one.
    pub(super) fn knows_suspects(&self, any: bool) {
        self.seen.has_no_suspect.store(!any, Ordering::Relaxed);
    }

    /// The database has this schema now, which this binary does not know.
    pub(super) fn is_superseded_by(&self, schema: u32) {
        self.witness.is_superseded_by(schema);
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

    /// What was read of this cycle stays so, but for the run that the transaction is about.
    pub(super) fn knows_beside(&self, cycle_id: Uuid, beside: Beside) -> Attempt<()> {
        self.held.lock().map_err(poisoned)?.beside = Some((cycle_id, beside));
        Ok(())
    }

    /// What was read of this cycle, once.
    pub(super) fn takes_beside(&self, cycle_id: Uuid) -> Attempt<Option<Beside>> {
        let mut held = self.held.lock().map_err(poisoned)?;
        Ok(held.beside.take_if(|(known, _)| *known == cycle_id).map(|(_, beside)| beside))
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
    pub(super) async fn end<T>(mut self, done: Attempt<T>) -> Attempt<T> {
        let done = match done {
            Ok(value) => self.add_records().await.map(|()| value),
            Err(fault) => Err(fault),
        };
        match (done, self.over) {
            (Ok(value), Over::Shared(group, turn)) => turn.ends(*group).await.map(|()| value),
            (Ok(value), Over::Own(connection)) => {
                commit(connection, self.mode).await?;
                let held = self.held.into_inner().map_err(poisoned)?;
                self.witness.saw(held.tail);
                Ok(value)
            }
            (Err(fault), Over::Shared(group, turn)) => {
                let fault = group.undo(fault).await;
                drop(turn);
                Err(fault)
            }
            (Err(fault), Over::Own(connection)) => {
                // Whatever comes of it: nothing is true.
                _ = connection.ends("ROLLBACK").await;
                Err(fault)
            }
        }
    }

    async fn add_records(&mut self) -> Attempt<()> {
        let records = std::mem::take(&mut self.held.lock().map_err(poisoned)?.records);
        if records.is_empty() {
            return Ok(());
        }
        match &mut self.over {
            Over::Shared(group, _) => {
                group.adds(records);
                Ok(())
            }
            Over::Own(connection) => {
                let added = sequencer::add(connection, records).await?;
                let mut tail = self.tail()?;
                tail.take(self, &added).await?;
                self.ends_at(tail)
            }
        }
    }
}

async fn commit(connection: Connection, mode: Mode) -> Attempt<()> {
    let committed = match mode {
        Mode::Reading => connection.leaves().await,
        Mode::Writing | Mode::Positioned | Mode::Sequencing | Mode::Alone | Mode::Early => {
            connection.ends("COMMIT").await
        }
    };
    match committed {
        // The server says that it did not commit; anything else leaves it open.
        Err(Fault::Postgres(error)) if error.as_db_error().is_none() => Err(Fault::Unknown(words(&error))),
        committed => committed,
    }
}

impl Deref for Tx {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        match &self.over {
            Over::Own(connection) => connection,
            Over::Shared(group, _) => &group.connection,
        }
    }
}

/// How often a transaction was tried.
#[derive(Default)]
pub(super) struct Tries(u32);

impl Tries {
    /// Whether it was tried before.
    pub(super) const fn is_again(&self) -> bool {
        self.0 > 0
    }

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
            let attempt = match database.begin($mode, tries.is_again()).await {
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
