//! The single writer of a database: a thread that takes transactions of the domain from a bounded channel and commits all that wait at
//! once.
//!
//! One flush serves all, while the next physical transaction is filled (`flusher`). Where one fails or panics, the physical transaction is rolled back and those that were done in it are done again, each in
//! one of its own: that is rare, while a savepoint each, which would spare it, costs a copy of every page that is changed and a sixth of the writer's
//! time. Right before COMMIT the records of all of them get their positions. Nobody is answered before what was committed is flushed. A failed COMMIT is never
//! tried again: if the disk is full everything is rolled back and says so, and after any other failure, as after a failed flush, nobody can tell what is
//! durable, so the process ends and recovers at the next start.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

use orbit_core::record::Sealed;

use super::fault::{Attempt, Fault, is_full};
use super::flusher::{Committed, Flush, Flusher, Horizon, Log, Told};
use super::tail::Tail;
use super::tx::Tx;
use super::written::{Counts, Written};
use crate::StoreError;

/// Transactions that may wait for the writer; more callers wait in line.
const QUEUE_MAX: usize = 1024;

/// Why nobody can tell what is durable although no COMMIT failed.
const STUCK: &str = "its transaction can neither be finished nor undone";

/// What bounds a physical transaction, and what happens when a commit failed.
#[derive(Clone, Copy)]
pub(super) struct Rules {
    /// Transactions of the domain in one physical transaction; with one, each is flushed within its COMMIT.
    pub(super) batch_max: usize,
    /// After so many bytes no further one is taken in.
    pub(super) batch_bytes: u64,
    /// After this long no further one is taken in.
    pub(super) batch_time: Duration,
    /// How the log ahead is flushed.
    pub(super) flush: Flush,
    /// Called with what happened when a commit failed other than for want of space. Ends the process; where it returns, the writer stops.
    pub(super) fatal: fn(&str),
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            batch_max: 256,
            batch_bytes: 8 * 1024 * 1024,
            batch_time: Duration::from_millis(20),
            flush: File::sync_data,
            fatal: abort,
        }
    }
}

fn abort(message: &str) {
    tracing::error!("{message}; the process ends because nobody can tell what is durable");
    std::process::abort();
}

/// A handle on the thread; when it is dropped, what waits is done and the database is closed.
pub(super) struct Writer {
    sender: Option<mpsc::Sender<Message>>,
    thread: Option<JoinHandle<()>>,
    place: Arc<str>,
    counts: Arc<Counts>,
    horizon: Arc<Horizon>,
}

/// What the writer is told.
enum Message {
    Do(Box<dyn Job>),
    /// A flush is over, for which it may wait.
    Flushed,
}

impl Writer {
    /// Starts the thread over a connection that is ready to use, and that nobody else changes.
    pub(super) fn start(
        (connection, tail): (Connection, Tail),
        place: &Arc<str>,
        rules: Rules,
    ) -> Result<Self, StoreError> {
        let io =
            |error: std::io::Error| StoreError::Io { place: place.to_string(), message: error.to_string() };
        // Alone, a transaction gains nothing by being flushed beside the next one.
        let (synchronous, file) = match rules.batch_max {
            1 => ("full", None),
            _ => ("normal", log_ahead(&connection).map_err(io)?),
        };
        connection
            .pragma_update(None, "synchronous", synchronous)
            .map_err(|error| Fault::from(error).at(place))?;
        let (sender, receiver) = mpsc::channel(QUEUE_MAX);
        let counts = Arc::<Counts>::default();
        let log = Log { file, flush: rules.flush };
        let (told, failed) = (sender.downgrade(), Arc::clone(place));
        let told = Told {
            counts: Arc::clone(&counts),
            // Where there is no room, the writer has other things to wake up for.
            idle: Box::new(move || _ = told.upgrade().map(|writer| writer.try_send(Message::Flushed))),
            failed: Box::new(move |message| (rules.fatal)(&cannot_commit(&failed, message))),
        };
        let (flusher, horizon) = Flusher::start(log, told).map_err(io)?;
        let loop_ = Loop {
            connection,
            tail,
            receiver,
            place: Arc::clone(place),
            rules,
            counts: Arc::clone(&counts),
            flusher,
            horizon: Arc::clone(&horizon),
        };
        let thread = std::thread::Builder::new().name("store-writer".to_owned()).spawn(move || loop_.run());
        let (sender, thread) = (Some(sender), Some(thread.map_err(io)?));
        Ok(Self { sender, thread, place: Arc::clone(place), counts, horizon })
    }

    /// How far the database is durable.
    pub(super) const fn horizon(&self) -> &Arc<Horizon> {
        &self.horizon
    }

    /// What was committed so far.
    pub(super) fn written(&self) -> Written {
        self.counts.written()
    }

    /// Does it in a transaction of its own; the answer comes when it is durable. It may be called twice: after another one failed in the same physical transaction.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        F: FnMut(&Tx<'_>) -> Attempt<T> + Send + 'static,
        T: Send + 'static,
    {
        self.answer(work, false).await
    }

    /// The same, but the answer comes when it is committed: for what no more is done with than to write something that comes behind it, and so is durable
    /// no sooner.
    pub(super) async fn write_unflushed<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        F: FnMut(&Tx<'_>) -> Attempt<T> + Send + 'static,
        T: Send + 'static,
    {
        self.answer(work, true).await
    }

    async fn answer<T, F>(&self, work: F, is_unflushed: bool) -> Result<T, StoreError>
    where
        F: FnMut(&Tx<'_>) -> Attempt<T> + Send + 'static,
        T: Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let closed = || StoreError::Closed { place: self.place.to_string() };
        let job = Box::new(Typed { work, is_unflushed, value: None, reply });
        self.sender.as_ref().ok_or_else(closed)?.send(Message::Do(job)).await.map_err(|_| closed())?;
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
pub(super) trait Job: Send {
    /// Does it and keeps what it gives.
    fn run(&mut self, tx: &Tx<'_>) -> Attempt<()>;
    /// Whether it is confirmed before it is durable.
    fn is_unflushed(&self) -> bool;
    /// It is durable, or need not be.
    fn confirm(self: Box<Self>);
    /// Nothing of it is true.
    fn refuse(self: Box<Self>, error: StoreError);
}

struct Typed<T, F> {
    work: F,
    is_unflushed: bool,
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

    fn is_unflushed(&self) -> bool {
        self.is_unflushed
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
    // Dropped first: what was handed over is durable before the connection closes.
    flusher: Flusher,
    connection: Connection,
    tail: Tail,
    receiver: mpsc::Receiver<Message>,
    place: Arc<str>,
    rules: Rules,
    counts: Arc<Counts>,
    horizon: Arc<Horizon>,
}

/// What a physical transaction holds so far.
struct Batch {
    begun: Instant,
    /// How long the writer had nothing to do.
    waited: Duration,
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
        while let Some(message) = self.receiver.blocking_recv() {
            let Message::Do(first) = message else { continue };
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
            waited: Duration::ZERO,
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
                next = self.next(&mut batch);
                taken += 1;
            }
        }
        self.commit(batch)
    }

    /// What is to be done in this physical transaction, too: all that waits, and all that comes while there is a flush under way.
    fn next(&mut self, batch: &mut Batch) -> Option<Box<dyn Job>> {
        loop {
            match self.receiver.try_recv() {
                Ok(Message::Do(job)) => return Some(job),
                Ok(Message::Flushed) => continue,
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) if self.horizon.is_reached() => return None,
                Err(TryRecvError::Empty) => {}
            }
            let began = Instant::now();
            let message = self.receiver.blocking_recv();
            batch.waited += began.elapsed();
            match message {
                Some(Message::Do(job)) => return Some(job),
                Some(Message::Flushed) => {}
                None => return None,
            }
        }
    }

    fn commit(&mut self, batch: Batch) -> Ended {
        let mut tail = self.tail.clone();
        if let Err(fault) = tail.write(&self.connection, &batch.records) {
            return self.undone(batch.done, fault);
        }
        let began = Instant::now();
        let number = self.horizon.next();
        let committed = self.connection.execute_batch("COMMIT");
        let changed = committed.is_ok() && self.connection.total_changes() != batch.changes_before;
        let work = batch.begun.elapsed().saturating_sub(batch.waited);
        self.counts.worked(work);
        match committed {
            Ok(()) => {
                self.tail = tail;
                self.counts.committed((changed, began.elapsed()), batch.done.len(), batch.records.len());
                let (unflushed, jobs): (Vec<_>, Vec<_>) =
                    batch.done.into_iter().partition(|job| job.is_unflushed());
                for job in unflushed {
                    job.confirm();
                }
                self.flush(Committed { number, changed, jobs })
            }
            Err(error) if is_full(&error) => {
                // Its number is passed, too, for readers that wait for it.
                match self.hand_over(Committed { number, changed, jobs: Vec::new() }) {
                    Ended::Answered | Ended::Again(_) => self.undone(batch.done, error.into()),
                    Ended::Stop => Ended::Stop,
                }
            }
            Err(error) => self.unknown(&error.to_string()),
        }
    }

    /// Beside the next physical transaction; here if nobody waits for one, so that no other thread has to wake up.
    fn flush(&self, committed: Committed) -> Ended {
        let is_alone = committed.jobs.len() == 1 && self.receiver.is_empty();
        if !is_alone || !self.horizon.covers(committed.number - 1) {
            return self.hand_over(committed);
        }
        if self.flusher.finish(committed) { Ended::Answered } else { Ended::Stop }
    }

    /// After a flush has failed, the flusher has told what there is to tell.
    fn hand_over(&self, committed: Committed) -> Ended {
        if self.flusher.hand_over(committed) { Ended::Answered } else { Ended::Stop }
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
        (self.rules.fatal)(&cannot_commit(&self.place, message));
        Ended::Stop
    }
}

fn cannot_commit(place: &str, message: &str) -> String {
    format!("the store `{place}` could not commit: {message}")
}

/// The write-ahead log of a database that is a file. It stays the same file for as long as the connection is open, and no lock is on it that closing it
/// would lose.
fn log_ahead(connection: &Connection) -> std::io::Result<Option<File>> {
    match connection.path() {
        Some(path) if Path::new(path).is_file() => File::open(format!("{path}-wal")).map(Some),
        Some(_) | None => Ok(None),
    }
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
