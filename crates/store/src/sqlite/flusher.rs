//! What is committed becomes durable here: a thread that flushes the write-ahead log, and only then answers those whose transactions are in it. Where
//! nobody else waits the writer does so itself, as to wake another thread takes as long as a fast disk's flush.
//!
//! COMMIT itself does not wait for the disk (`synchronous = NORMAL`), and a flush makes durable all that was written before it, so that the writer
//! fills the next physical transaction meanwhile, and commits it when the flush is over. Checkpoints of SQLite flush by themselves whatever they rely on.
//!
//! Other connections see a commit before it is durable. Nothing may be told that a loss of power could take back, so a reader's answer waits until
//! all is durable that was committed when it had looked.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::watch;

use super::writer::Job;
use super::written::Counts;

/// Physical commits that may wait while one is flushed; then the writer waits.
const COMMITS_WAITING_MAX: usize = 1;

/// How a log ahead is made durable: `fdatasync`, and something that fails in tests.
pub(super) type Flush = fn(&File) -> io::Result<()>;

/// What has no file, as a database in memory, is as durable as it will ever be.
pub(super) struct Log {
    pub(super) file: Option<File>,
    pub(super) flush: Flush,
}

/// How far a database is committed and how far it is durable, in physical commits.
pub(super) struct Horizon {
    committed: AtomicU64,
    durable: watch::Receiver<Durable>,
}

/// What is known to be durable.
#[derive(Clone, Copy)]
enum Durable {
    /// Every commit up to this one.
    UpTo(u64),
    /// A flush has failed: nobody can tell any more.
    Unknown,
}

impl Durable {
    const fn covers(self, commit: u64) -> bool {
        match self {
            Self::UpTo(last) => last >= commit,
            Self::Unknown => true,
        }
    }
}

impl Horizon {
    /// The next commit has this number. Called before it, so that nobody sees one that was not counted.
    pub(super) fn next(&self) -> u64 {
        self.committed.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Whether nothing is under way, or nothing will ever be again because a flush has failed.
    pub(super) fn is_reached(&self) -> bool {
        self.covers(self.committed.load(Ordering::SeqCst))
    }

    /// The same of all commits up to this one.
    pub(super) fn covers(&self, commit: u64) -> bool {
        self.durable.has_changed().is_err() || self.durable.borrow().covers(commit)
    }

    /// Waits until all is durable that is committed by now; false if nobody can tell any more.
    pub(super) async fn reached(&self) -> bool {
        let committed = self.committed.load(Ordering::SeqCst);
        let reached = |durable: &Durable| durable.covers(committed);
        self.durable.clone().wait_for(reached).await.is_ok_and(|durable| matches!(*durable, Durable::UpTo(_)))
    }
}

/// A physical commit.
pub(super) struct Committed {
    pub(super) number: u64,
    /// Whether it wrote anything.
    pub(super) changed: bool,
    pub(super) jobs: Vec<Box<dyn Job>>,
}

/// A handle on the thread; when it is dropped, what waits is flushed and answered.
pub(super) struct Flusher {
    disk: Arc<Disk>,
    sender: Option<SyncSender<Committed>>,
    thread: Option<JoinHandle<()>>,
}

/// Who is told.
pub(super) struct Told {
    pub(super) counts: Arc<Counts>,
    /// The flusher waits again.
    pub(super) idle: Box<dyn Fn() + Send>,
    /// A flush failed; called with why.
    pub(super) failed: Box<dyn Fn(&str) + Send + Sync>,
}

/// Where commits become durable. One flush is under way at a time.
struct Disk {
    log: Log,
    counts: Arc<Counts>,
    durable: watch::Sender<Durable>,
    failed: Box<dyn Fn(&str) + Send + Sync>,
}

impl Disk {
    /// Makes commits durable that follow one another, and answers; false if nobody can tell whether they are.
    fn finish(&self, commits: Vec<Committed>) -> bool {
        let changed = commits.iter().any(|commit| commit.changed);
        if changed && let Some(file) = &self.log.file {
            let began = Instant::now();
            if let Err(error) = (self.log.flush)(file) {
                self.durable.send_replace(Durable::Unknown);
                (self.failed)(&error.to_string());
                return false;
            }
            self.counts.flushed(began.elapsed());
        }
        let last = commits.last().map_or(0, |commit| commit.number);
        self.durable.send_replace(Durable::UpTo(last));
        for job in commits.into_iter().flat_map(|commit| commit.jobs) {
            job.confirm();
        }
        true
    }
}

impl Flusher {
    /// Starts the thread.
    pub(super) fn start(log: Log, told: Told) -> io::Result<(Self, Arc<Horizon>)> {
        let (sender, receiver) = sync_channel(COMMITS_WAITING_MAX);
        let (durable, reached) = watch::channel(Durable::UpTo(0));
        let Told { counts, idle, failed } = told;
        let disk = Arc::new(Disk { log, counts, durable, failed });
        let working = Arc::clone(&disk);
        let run = move || run(&receiver, &working, &idle);
        let thread = std::thread::Builder::new().name("store-flusher".to_owned()).spawn(run)?;
        let horizon = Horizon { committed: AtomicU64::new(0), durable: reached };
        Ok((Self { disk, sender: Some(sender), thread: Some(thread) }, Arc::new(horizon)))
    }

    /// Makes it durable on the caller's thread, and answers. Only while no other commit is on its way.
    pub(super) fn finish(&self, committed: Committed) -> bool {
        self.disk.finish(vec![committed])
    }

    /// Its jobs are answered when it is durable; false if that can no longer be.
    pub(super) fn hand_over(&self, committed: Committed) -> bool {
        self.sender.as_ref().is_some_and(|sender| sender.send(committed).is_ok())
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.sender = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the flusher of a store panicked");
        }
    }
}

/// Until nobody hands anything over, or a flush fails.
fn run(receiver: &Receiver<Committed>, disk: &Disk, idle: &dyn Fn()) {
    while let Ok(first) = receiver.recv() {
        // All that was committed by now is in one flush.
        let go_on = disk.finish(std::iter::once(first).chain(receiver.try_iter()).collect());
        idle();
        if !go_on {
            return;
        }
    }
}
