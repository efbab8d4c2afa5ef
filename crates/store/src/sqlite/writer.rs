//! The single writer of a database: a thread that takes transactions of the domain from a bounded channel and commits all that wait at
//! once.
//!
//! One fsync serves all. Where one fails or panics, the physical transaction is rolled back and those that were done in it are done again, each in
//! one of its own: that is rare, while a savepoint each, which would spare it, costs a copy of every page that is changed and a sixth of the writer's
//! time. Right before COMMIT the records of all of them get their positions. Nobody is answered before COMMIT returned. A failed COMMIT is never
//! tried again: if the disk is full everything is rolled back and says so, and after any other failure nobody can tell what is durable, so the
//! process ends and recovers at the next start.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use orbit_core::record::Sealed;

use super::fault::{Attempt, Fault, is_full};
use super::tail::Tail;
use super::tx::Tx;
use crate::StoreError;

/// Transactions that may wait for the writer; more callers wait in line.
const QUEUE_MAX: usize = 1024;

/// Why nobody can tell what is durable although no COMMIT failed.
const STUCK: &str = "its transaction can neither be finished nor undone";

/// What bounds a physical transaction, and what happens when a commit failed.
#[derive(Clone, Copy)]
pub(super) struct Rules {
    /// Transactions of the domain in one physical transaction.
    pub(super) batch_max: usize,
    /// After so many bytes no further one is taken in.
    pub(super) batch_bytes: u64,
    /// After this long no further one is taken in.
    pub(super) batch_time: Duration,
    /// Called with what happened when a commit failed other than for want of space. Ends the process; where it returns, the writer stops.
    pub(super) fatal: fn(&str),
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            batch_max: 256,
            batch_bytes: 8 * 1024 * 1024,
            batch_time: Duration::from_millis(20),
            fatal: abort,
        }
    }
}

fn abort(message: &str) {
    tracing::error!("{message}; the process ends because nobody can tell what is durable");
    std::process::abort();
}

/// What a writer has committed since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Physical commits that changed something, each of them one fsync.
    pub commits: u64,
    /// Transactions of the domain in them.
    pub transactions: u64,
    /// Records in them.
    pub records: u64,
    /// How long they took: the pages are written to the log ahead, and it is made durable.
    pub committing: Duration,
    /// How long all of the physical transactions took, from BEGIN to the last answer.
    pub busy: Duration,
}

impl Written {
    /// What was committed between this and a later look.
    #[must_use]
    pub const fn until(self, later: Self) -> Self {
        Self {
            commits: later.commits - self.commits,
            transactions: later.transactions - self.transactions,
            records: later.records - self.records,
            committing: later.committing.saturating_sub(self.committing),
            busy: later.busy.saturating_sub(self.busy),
        }
    }
}

/// [`Written`], counted.
#[derive(Default)]
struct Counts {
    commits: AtomicU64,
    transactions: AtomicU64,
    records: AtomicU64,
    committing: AtomicU64,
    busy: AtomicU64,
}

impl Counts {
    fn add(&self, (changed, committing): (bool, Duration), transactions: usize, records: usize) {
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        if changed {
            self.committing.fetch_add(nanoseconds(committing), Ordering::Relaxed);
        }
        self.commits.fetch_add(u64::from(changed), Ordering::Relaxed);
        self.transactions.fetch_add(number(transactions), Ordering::Relaxed);
        self.records.fetch_add(number(records), Ordering::Relaxed);
    }
}

/// A handle on the thread; when it is dropped, what waits is done and the database is closed.
pub(super) struct Writer {
    sender: Option<mpsc::Sender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
    place: Arc<str>,
    counts: Arc<Counts>,
}

impl Writer {
    /// Starts the thread over a connection that is ready to use.
    pub(super) fn start(
        (connection, tail): (Connection, Tail),
        place: &Arc<str>,
        rules: Rules,
    ) -> std::io::Result<Self> {
        let (sender, receiver) = mpsc::channel(QUEUE_MAX);
        let counts = Arc::<Counts>::default();
        let loop_ =
            Loop { connection, tail, receiver, place: Arc::clone(place), rules, counts: Arc::clone(&counts) };
        let thread =
            std::thread::Builder::new().name("store-writer".to_owned()).spawn(move || loop_.run())?;
        Ok(Self { sender: Some(sender), thread: Some(thread), place: Arc::clone(place), counts })
    }

    /// What was committed so far.
    pub(super) fn written(&self) -> Written {
        Written {
            commits: self.counts.commits.load(Ordering::Relaxed),
            transactions: self.counts.transactions.load(Ordering::Relaxed),
            records: self.counts.records.load(Ordering::Relaxed),
            committing: Duration::from_nanos(self.counts.committing.load(Ordering::Relaxed)),
            busy: Duration::from_nanos(self.counts.busy.load(Ordering::Relaxed)),
        }
    }

    /// Does it in a transaction of its own; the answer comes when it is durable. It may be called twice: after another one failed in the same physical transaction.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        F: FnMut(&Tx<'_>) -> Attempt<T> + Send + 'static,
        T: Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let closed = || StoreError::Closed { place: self.place.to_string() };
        let job = Box::new(Typed { work, value: None, reply });
        self.sender.as_ref().ok_or_else(closed)?.send(job).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.sender = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(place = %self.place, "the writer of the store panicked");
        }
    }
}

/// A transaction of the domain that waits for its turn.
trait Job: Send {
    /// Does it and keeps what it gives.
    fn run(&mut self, tx: &Tx<'_>) -> Attempt<()>;
    /// It is durable.
    fn confirm(self: Box<Self>);
    /// Nothing of it is true.
    fn refuse(self: Box<Self>, error: StoreError);
}

struct Typed<T, F> {
    work: F,
    value: Option<T>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Job for Typed<T, F>
where
    F: FnMut(&Tx<'_>) -> Attempt<T> + Send,
    T: Send,
{
    fn run(&mut self, tx: &Tx<'_>) -> Attempt<()> {
        self.value = Some((self.work)(tx)?);
        Ok(())
    }

    fn confirm(self: Box<Self>) {
        if let Some(value) = self.value {
            // A caller that no longer waits loses the answer, not the transaction.
            let _ = self.reply.send(Ok(value));
        }
    }

    fn refuse(self: Box<Self>, error: StoreError) {
        let _ = self.reply.send(Err(error));
    }
}

struct Loop {
    connection: Connection,
    tail: Tail,
    receiver: mpsc::Receiver<Box<dyn Job>>,
    place: Arc<str>,
    rules: Rules,
    counts: Arc<Counts>,
}

/// What a physical transaction holds so far.
struct Batch {
    begun: Instant,
    done: Vec<Box<dyn Job>>,
    records: Vec<Sealed>,
    bytes: u64,
    /// Rows that the connection had changed before.
    changes_before: u64,
}

/// How a physical transaction ended.
enum Ended {
    /// Its jobs have their answers.
    Answered,
    /// It was rolled back; what had been done in it is done again.
    Again(Vec<Box<dyn Job>>),
    /// Nobody can tell what is durable.
    Stop,
}

impl Loop {
    fn run(mut self) {
        while let Some(first) = self.receiver.blocking_recv() {
            let again = match self.batch(first, self.rules.batch_max) {
                Ended::Answered => continue,
                Ended::Again(survivors) => survivors,
                Ended::Stop => return,
            };
            for job in again {
                // Each in a physical transaction of its own: none can be lost through another's fault again.
                match self.batch(job, 1) {
                    Ended::Answered | Ended::Again(_) => {}
                    Ended::Stop => return,
                }
            }
        }
    }

    /// One physical transaction with all that waits, but no more than so many.
    fn batch(&mut self, first: Box<dyn Job>, most: usize) -> Ended {
        if let Err(error) = self.connection.execute_batch("BEGIN IMMEDIATE") {
            first.refuse(Fault::from(error).at(&self.place));
            return Ended::Answered;
        }
        let mut batch = Batch {
            begun: Instant::now(),
            done: Vec::new(),
            records: Vec::new(),
            bytes: 0,
            changes_before: self.connection.total_changes(),
        };
        let mut taken = 1;
        let mut next = Some(first);
        while let Some(mut job) = next.take() {
            let position = self.tail.size() + u64::try_from(batch.records.len()).unwrap_or(u64::MAX);
            match run(Tx::new(&self.connection, &self.tail, position), &mut *job) {
                Ok((records, bytes)) => {
                    batch.done.push(job);
                    batch.records.extend(records);
                    batch.bytes += bytes;
                }
                // After want of space or memory and after failed I/O, SQLite may have rolled back by itself.
                Err(_) if !rolled_back(&self.connection) => return self.unknown(STUCK),
                Err(fault) => {
                    job.refuse(fault.at(&self.place));
                    return Ended::Again(batch.done);
                }
            }
            let room = taken < most && batch.bytes < self.rules.batch_bytes;
            if room && batch.begun.elapsed() < self.rules.batch_time {
                next = self.receiver.try_recv().ok();
                taken += 1;
            }
        }
        self.commit(batch)
    }

    fn commit(&mut self, batch: Batch) -> Ended {
        let mut tail = self.tail.clone();
        if let Err(fault) = tail.write(&self.connection, &batch.records) {
            return self.undone(batch.done, fault);
        }
        let began = Instant::now();
        match self.connection.execute_batch("COMMIT") {
            Ok(()) => {
                self.tail = tail;
                let changed = self.connection.total_changes() != batch.changes_before;
                self.counts.add((changed, began.elapsed()), batch.done.len(), batch.records.len());
                for job in batch.done {
                    job.confirm();
                }
                self.counts.busy.fetch_add(nanoseconds(batch.begun.elapsed()), Ordering::Relaxed);
                Ended::Answered
            }
            Err(error) if is_full(&error) => self.undone(batch.done, error.into()),
            Err(error) => self.unknown(&error.to_string()),
        }
    }

    /// Nothing of the physical transaction is true, once it is rolled back. Where it held several, each may do alone.
    fn undone(&self, mut jobs: Vec<Box<dyn Job>>, fault: Fault) -> Ended {
        if !rolled_back(&self.connection) {
            return self.unknown(STUCK);
        }
        match (jobs.len(), jobs.pop()) {
            (1, Some(job)) => job.refuse(fault.at(&self.place)),
            (_, Some(last)) => {
                jobs.push(last);
                return Ended::Again(jobs);
            }
            (_, None) => {}
        }
        Ended::Answered
    }

    fn unknown(&self, message: &str) -> Ended {
        (self.rules.fatal)(&format!("the store `{}` could not commit: {message}", self.place));
        Ended::Stop
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Does it within the open physical transaction: its records, and how many bytes were written as far as they were counted.
fn run(tx: Tx<'_>, job: &mut dyn Job) -> Attempt<(Vec<Sealed>, u64)> {
    catch_unwind(AssertUnwindSafe(|| job.run(&tx))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(Fault::contradiction(format!("a transaction panicked: {text}")))
    })?;
    Ok(tx.into_records())
}

/// Rolls the physical transaction back if SQLite has not done so; whether none is open now.
fn rolled_back(connection: &Connection) -> bool {
    connection.is_autocommit() || (connection.execute_batch("ROLLBACK").is_ok() && connection.is_autocommit())
}

#[cfg(test)]
#[path = "tests_writer.rs"]
mod tests;
