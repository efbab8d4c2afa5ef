//! The single writer of a database: a thread that takes transactions of the domain from a bounded channel and commits all that wait at
//! once.
//!
//! Each transaction is a savepoint in one physical transaction, so that one that fails or panics harms no neighbour and one fsync
//! serves all. Nobody is answered before COMMIT returned. A failed COMMIT is never tried again: if the disk is full everything is rolled
//! back and says so, and after any other failure nobody can tell what is durable, so the process ends and recovers at the next start.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::fault::{Attempt, Fault, is_full};
use crate::StoreError;

/// Transactions that may wait for the writer; more callers wait in line.
const QUEUE_MAX: usize = 1024;

/// What bounds a physical transaction, and what happens when a commit failed.
#[derive(Clone, Copy)]
pub(super) struct Rules {
    /// Transactions of the domain in one physical transaction.
    pub(super) batch_max: usize,
    /// After this long no further one is taken in.
    pub(super) batch_time: Duration,
    /// Called with what happened when a commit failed other than for want of space. Ends the process; where it returns, the writer stops.
    pub(super) fatal: fn(&str),
}

impl Default for Rules {
    fn default() -> Self {
        Self { batch_max: 256, batch_time: Duration::from_millis(20), fatal: abort }
    }
}

fn abort(message: &str) {
    tracing::error!("{message}; the process ends because nobody can tell what is durable");
    std::process::abort();
}

/// A handle on the thread; when it is dropped, what waits is done and the database is closed.
pub(super) struct Writer {
    sender: Option<mpsc::Sender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
    place: Arc<str>,
}

impl Writer {
    /// Starts the thread over a connection that is ready to use.
    pub(super) fn start(connection: Connection, place: &Arc<str>, rules: Rules) -> std::io::Result<Self> {
        let (sender, receiver) = mpsc::channel(QUEUE_MAX);
        let loop_ = Loop { connection, receiver, place: Arc::clone(place), rules };
        let thread =
            std::thread::Builder::new().name("store-writer".to_owned()).spawn(move || loop_.run())?;
        Ok(Self { sender: Some(sender), thread: Some(thread), place: Arc::clone(place) })
    }

    /// Does it in a transaction of its own; the answer comes when it is durable. It may be called twice: after a batch that was lost as a whole.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        F: FnMut(&Connection) -> Attempt<T> + Send + 'static,
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
    fn run(&mut self, connection: &Connection) -> Attempt<()>;
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
    F: FnMut(&Connection) -> Attempt<T> + Send,
    T: Send,
{
    fn run(&mut self, connection: &Connection) -> Attempt<()> {
        self.value = Some((self.work)(connection)?);
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
    receiver: mpsc::Receiver<Box<dyn Job>>,
    place: Arc<str>,
    rules: Rules,
}

/// How a transaction of the domain ended within a physical one.
enum Ran {
    /// It is part of it.
    Done,
    /// Only it was rolled back.
    Refused(Fault),
    /// The physical transaction was rolled back, and with it all that had been done.
    AllLost(Fault),
}

/// Whether the writer may go on.
enum Then {
    GoOn,
    Stop,
}

impl Loop {
    fn run(mut self) {
        while let Some(first) = self.receiver.blocking_recv() {
            match self.batch(first) {
                Then::GoOn => {}
                Then::Stop => return,
            }
        }
    }

    /// One physical transaction with all that waits.
    fn batch(&mut self, first: Box<dyn Job>) -> Then {
        if let Err(error) = self.connection.execute_batch("BEGIN IMMEDIATE") {
            first.refuse(Fault::from(error).at(&self.place));
            return Then::GoOn;
        }
        let begun = Instant::now();
        let mut done = Vec::new();
        let mut taken = 1;
        let mut next = Some(first);
        while let Some(mut job) = next.take() {
            match run_in_savepoint(&self.connection, &mut *job) {
                Ran::Done => done.push(job),
                Ran::Refused(fault) => job.refuse(fault.at(&self.place)),
                Ran::AllLost(fault) => {
                    job.refuse(fault.at(&self.place));
                    return self.singly(done);
                }
            }
            if taken < self.rules.batch_max && begun.elapsed() < self.rules.batch_time {
                next = self.receiver.try_recv().ok();
                taken += 1;
            }
        }
        self.commit(done)
    }

    /// Each in a physical transaction of its own: they had been done in one that was lost through another's fault.
    fn singly(&mut self, survivors: Vec<Box<dyn Job>>) -> Then {
        for mut job in survivors {
            if let Err(error) = self.connection.execute_batch("BEGIN IMMEDIATE") {
                job.refuse(Fault::from(error).at(&self.place));
                continue;
            }
            let then = match run_in_savepoint(&self.connection, &mut *job) {
                Ran::Done => self.commit(vec![job]),
                Ran::Refused(fault) => {
                    job.refuse(fault.at(&self.place));
                    self.commit(Vec::new())
                }
                Ran::AllLost(fault) => {
                    job.refuse(fault.at(&self.place));
                    Then::GoOn
                }
            };
            match then {
                Then::GoOn => {}
                Then::Stop => return Then::Stop,
            }
        }
        Then::GoOn
    }

    fn commit(&mut self, done: Vec<Box<dyn Job>>) -> Then {
        match self.connection.execute_batch("COMMIT") {
            Ok(()) => {
                for job in done {
                    job.confirm();
                }
            }
            Err(error) if is_full(&error) && rolled_back(&self.connection) => {
                let full = Fault::from(error).at(&self.place);
                for job in done {
                    job.refuse(full.clone());
                }
            }
            Err(error) => {
                (self.rules.fatal)(&format!("the store `{}` could not commit: {error}", self.place));
                return Then::Stop;
            }
        }
        Then::GoOn
    }
}

fn run_in_savepoint(connection: &Connection, job: &mut dyn Job) -> Ran {
    if let Err(error) = connection.execute_batch("SAVEPOINT job") {
        return if rolled_back(connection) { Ran::AllLost(error.into()) } else { Ran::Refused(error.into()) };
    }
    let result = catch_unwind(AssertUnwindSafe(|| job.run(connection))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(Fault::contradiction(format!("a transaction panicked: {text}")))
    });
    let fault = match result.and_then(|()| Ok(connection.execute_batch("RELEASE job")?)) {
        Ok(()) => return Ran::Done,
        Err(fault) => fault,
    };
    // After want of space or memory and after failed I/O, SQLite may have rolled back the whole transaction by itself.
    let undone =
        !connection.is_autocommit() && connection.execute_batch("ROLLBACK TO job; RELEASE job").is_ok();
    if undone {
        return Ran::Refused(fault);
    }
    rolled_back(connection);
    Ran::AllLost(fault)
}

/// Rolls the physical transaction back if SQLite has not done so; whether none is open now.
fn rolled_back(connection: &Connection) -> bool {
    connection.is_autocommit() || (connection.execute_batch("ROLLBACK").is_ok() && connection.is_autocommit())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use std::sync::mpsc as blocking;

    use super::*;

    const PLACE: &str = "test.db";

    type Work<T> = Box<dyn FnMut(&Connection) -> Attempt<T> + Send>;

    struct Bench {
        folder: tempfile::TempDir,
        commits: Arc<AtomicU32>,
        writer: Writer,
    }

    fn refuse_to_die(message: &str) {
        assert!(message.contains("could not commit"), "{message}");
    }

    fn bench(prepare: impl FnOnce(&Connection)) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let mut connection = Connection::open(folder.path().join(PLACE)).unwrap();
        connection
            .execute_batch("PRAGMA journal_mode = wal; CREATE TABLE t (n INTEGER, filling BLOB)")
            .unwrap();
        prepare(&connection);
        let commits = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&commits);
        let hook = move || {
            count.fetch_add(1, Ordering::SeqCst);
            false
        };
        connection.commit_hook(Some(hook)).unwrap();
        // Nothing is left to the clock: a batch is as large as what waits.
        let rules = Rules { batch_max: 64, batch_time: Duration::MAX, fatal: refuse_to_die };
        let writer = Writer::start(connection, &Arc::from(PLACE), rules).unwrap();
        Bench { folder, commits, writer }
    }

    fn insert(n: u32, bytes: u32) -> impl FnMut(&Connection) -> Attempt<u32> + Send + 'static {
        move |tx| {
            tx.execute("INSERT INTO t VALUES (?1, zeroblob(?2))", [n, bytes])?;
            Ok(n)
        }
    }

    impl Bench {
        /// Holds the writer within a first transaction until all of `work` waits behind it, so that they share a physical one.
        async fn together<T: Send + 'static>(&self, work: Vec<Work<T>>) -> Vec<Result<T, StoreError>> {
            let (release, held) = blocking::channel::<()>();
            let (entered, inside) = oneshot::channel();
            let mut entered = Some(entered);
            let first = self.writer.write(move |_| {
                if let Some(entered) = entered.take() {
                    entered.send(()).unwrap();
                    held.recv().unwrap();
                }
                Ok(())
            });
            let rest = async {
                inside.await.unwrap();
                let mut waiting: Vec<_> =
                    work.into_iter().map(|work| Box::pin(self.writer.write(work))).collect();
                for one in &mut waiting {
                    // One poll puts it into the channel; its answer cannot be there yet.
                    let pending =
                        std::future::poll_fn(|cx| std::task::Poll::Ready(one.as_mut().poll(cx))).await;
                    assert!(pending.is_pending());
                }
                release.send(()).unwrap();
                let mut answers = Vec::new();
                for one in waiting {
                    answers.push(one.await);
                }
                answers
            };
            let (first, answers) = tokio::join!(first, rest);
            first.unwrap();
            answers
        }

        /// What another connection sees: what is durable.
        fn durable(&self) -> Vec<u32> {
            let connection = Connection::open(self.folder.path().join(PLACE)).unwrap();
            let mut statement = connection.prepare("SELECT n FROM t ORDER BY n").unwrap();
            statement.query_map((), |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
        }

        fn commits(&self) -> u32 {
            self.commits.load(Ordering::SeqCst)
        }
    }

    #[tokio::test]
    async fn all_that_waits_is_one_commit() {
        let bench = bench(|_| ());
        let answers = bench.together((0..20).map(|n| Box::new(insert(n, 1)) as Box<_>).collect()).await;
        let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
        assert_eq!(answers, (0..20).collect::<Vec<_>>());
        assert_eq!((bench.durable(), bench.commits()), (answers, 1));
        let more = bench.together((20..110).map(|n| Box::new(insert(n, 1)) as Box<_>).collect()).await;
        assert!(more.iter().all(Result::is_ok));
        assert_eq!((bench.durable().len(), bench.commits()), (110, 3), "a batch is bounded");
    }

    #[tokio::test]
    async fn one_that_fails_or_panics_harms_no_neighbour() {
        let bench = bench(|_| ());
        let refused = |tx: &Connection| {
            insert(90, 1)(tx)?;
            Err(Fault::contradiction("no"))
        };
        let panics = |tx: &Connection| -> Attempt<u32> {
            insert(91, 1)(tx)?;
            panic!("a defect")
        };
        let answers = bench
            .together(vec![
                Box::new(insert(1, 1)),
                Box::new(refused),
                Box::new(insert(2, 1)),
                Box::new(panics),
                Box::new(insert(3, 1)),
            ])
            .await;
        let words: Vec<_> =
            answers.iter().map(|answer| answer.as_ref().map_err(ToString::to_string)).collect();
        assert_eq!((&words[0], &words[2], &words[4]), (&Ok(&1), &Ok(&2), &Ok(&3)));
        assert!(words[1].clone().unwrap_err().ends_with(": no"), "{words:?}");
        assert!(words[3].clone().unwrap_err().ends_with("panicked: a defect"), "{words:?}");
        assert_eq!((bench.durable(), bench.commits()), (vec![1, 2, 3], 1));
    }

    #[tokio::test]
    async fn a_full_disk_loses_nothing_acknowledged() {
        let limit = |connection: &Connection, pages: u32| {
            connection.pragma_update(None, "max_page_count", pages).map_err(Fault::from)
        };
        let bench = bench(|connection| limit(connection, 40).unwrap());
        bench.writer.write(insert(1, 10)).await.unwrap();
        let answers = bench
            .together(vec![
                Box::new(insert(2, 10)),
                Box::new(insert(90, 400_000)),
                Box::new(insert(3, 10)),
                Box::new(insert(91, 400_000)),
                Box::new(insert(4, 10)),
            ])
            .await;
        let ok: Vec<_> = answers.iter().map(Result::is_ok).collect();
        assert_eq!(ok, [true, false, true, false, true]);
        for full in [&answers[1], &answers[3]] {
            assert!(matches!(full, Err(StoreError::Full { place }) if place == PLACE), "{full:?}");
        }
        assert_eq!(bench.durable(), [1, 2, 3, 4]);
        bench.writer.write(move |tx| limit(tx, 4000)).await.unwrap();
        bench.writer.write(insert(90, 400_000)).await.unwrap();
        assert_eq!(bench.durable(), [1, 2, 3, 4, 90]);
    }

    /// What SQLite does by itself after some failures: the physical transaction is gone.
    fn lose_everything(tx: &Connection) -> Attempt<u32> {
        tx.execute_batch("ROLLBACK")?;
        Err(Fault::contradiction("everything was rolled back"))
    }

    #[tokio::test]
    async fn survivors_of_a_lost_batch_are_done_again_one_by_one() {
        let bench = bench(|_| ());
        let calls = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&calls);
        let mut again = insert(1, 1);
        let counted = move |tx: &Connection| {
            count.fetch_add(1, Ordering::SeqCst);
            again(tx)
        };
        let answers = bench
            .together(vec![
                Box::new(counted),
                Box::new(insert(2, 1)),
                Box::new(lose_everything),
                Box::new(insert(3, 1)),
            ])
            .await;
        let ok: Vec<_> = answers.iter().map(Result::is_ok).collect();
        assert_eq!(ok, [true, true, false, true]);
        assert_eq!((bench.durable(), calls.load(Ordering::SeqCst)), (vec![1, 2, 3], 2));
    }

    #[tokio::test]
    async fn a_commit_that_fails_answers_nobody_and_is_not_tried_again() {
        static DIED: AtomicBool = AtomicBool::new(false);
        let tries = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&tries);
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE t (n INTEGER, filling BLOB)").unwrap();
        let fail = move || {
            count.fetch_add(1, Ordering::SeqCst);
            true
        };
        connection.commit_hook(Some(fail)).unwrap();
        let rules = Rules { fatal: |_| DIED.store(true, Ordering::SeqCst), ..Rules::default() };
        let writer = Writer::start(connection, &Arc::from(PLACE), rules).unwrap();
        let answer = writer.write(insert(1, 1)).await;
        assert!(matches!(answer, Err(StoreError::Closed { .. })), "{answer:?}");
        assert!(DIED.load(Ordering::SeqCst));
        let answer = writer.write(insert(2, 1)).await;
        assert!(matches!(answer, Err(StoreError::Closed { .. })), "{answer:?}");
        assert_eq!(tries.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn what_waits_is_done_before_the_writer_closes() {
        let bench = bench(|_| ());
        let Bench { folder, writer, .. } = bench;
        let mut waiting = Box::pin(writer.write(insert(1, 1)));
        let _ = std::future::poll_fn(|cx| std::task::Poll::Ready(waiting.as_mut().poll(cx).is_ready())).await;
        drop(waiting);
        drop(writer);
        let connection = Connection::open(folder.path().join(PLACE)).unwrap();
        let count: u32 = connection.query_row("SELECT count(*) FROM t", (), |row| row.get(0)).unwrap();
        assert_eq!(count, 1, "a caller that went away loses the answer, not the transaction");
    }
}
