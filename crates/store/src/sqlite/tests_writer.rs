//! What waits together is one commit, and what fails in it harms no neighbour.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, mpsc as blocking};

use super::super::migrate::migrate;
use super::*;

const PLACE: &str = "test.db";

type Work<T> = Box<dyn FnMut(&Tx<'_>) -> Attempt<T> + Send>;

struct Bench {
    folder: tempfile::TempDir,
    commits: Arc<AtomicU32>,
    writer: Writer,
}

fn refuse_to_die(message: &str) {
    assert!(message.contains("could not commit"), "{message}");
}

/// Nothing is left to the clock: a batch is as large as what waits.
const UNBOUNDED: Rules = Rules {
    batch_max: 64,
    batch_bytes: u64::MAX,
    batch_time: Duration::MAX,
    flush: File::sync_data,
    fatal: refuse_to_die,
};

fn bench(prepare: impl FnOnce(&Connection)) -> Bench {
    bench_with(UNBOUNDED, prepare)
}

fn bench_with(rules: Rules, prepare: impl FnOnce(&Connection)) -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let mut connection = Connection::open(folder.path().join(PLACE)).unwrap();
    connection.pragma_update(None, "journal_mode", "wal").unwrap();
    migrate(&connection, PLACE).unwrap();
    connection.execute_batch("CREATE TABLE t (n INTEGER, filling BLOB)").unwrap();
    prepare(&connection);
    let commits = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&commits);
    let hook = move || {
        count.fetch_add(1, Ordering::SeqCst);
        false
    };
    connection.commit_hook(Some(hook)).unwrap();
    let tail = Tail::load(&connection).unwrap();
    let writer = Writer::start((connection, tail), &Arc::from(PLACE), rules).unwrap();
    Bench { folder, commits, writer }
}

fn insert(n: u32, bytes: u32) -> impl FnMut(&Tx<'_>) -> Attempt<u32> + Send + 'static {
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
                let pending = std::future::poll_fn(|cx| std::task::Poll::Ready(one.as_mut().poll(cx))).await;
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

    /// What another connection sees.
    fn seen(&self) -> Vec<u32> {
        let connection = Connection::open(self.folder.path().join(PLACE)).unwrap();
        let mut statement = connection.prepare("SELECT n FROM t ORDER BY n").unwrap();
        statement.query_map((), |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    }

    /// The positions of the log, as another connection sees them.
    fn positions(&self) -> Vec<u32> {
        let connection = Connection::open(self.folder.path().join(PLACE)).unwrap();
        let mut statement = connection.prepare("SELECT position FROM log_records ORDER BY position").unwrap();
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
    assert_eq!((bench.seen(), bench.commits()), (answers, 1));
    let more = bench.together((20..110).map(|n| Box::new(insert(n, 1)) as Box<_>).collect()).await;
    assert!(more.iter().all(Result::is_ok));
    assert_eq!((bench.seen().len(), bench.commits()), (110, 3), "a batch is bounded");
}

#[tokio::test]
async fn one_that_fails_or_panics_harms_no_neighbour() {
    let bench = bench(|_| ());
    let refused = |tx: &Tx<'_>| {
        insert(90, 1)(tx)?;
        Err(Fault::contradiction("no"))
    };
    let panics = |tx: &Tx<'_>| -> Attempt<u32> {
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
    let words: Vec<_> = answers.iter().map(|answer| answer.as_ref().map_err(ToString::to_string)).collect();
    assert_eq!((&words[0], &words[2], &words[4]), (&Ok(&1), &Ok(&2), &Ok(&3)));
    assert!(words[1].clone().unwrap_err().ends_with(": no"), "{words:?}");
    assert!(words[3].clone().unwrap_err().ends_with("panicked: a defect"), "{words:?}");
    // The neighbours that came before are done again, each alone; what held the writer is one of them.
    assert_eq!((bench.seen(), bench.commits()), (vec![1, 2, 3], 4));
}

#[tokio::test]
async fn a_full_disk_loses_nothing_acknowledged() {
    let limit = |connection: &Connection, pages: u32| {
        let there: u32 = connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
        connection.pragma_update(None, "max_page_count", there + pages).map_err(Fault::from)
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
    assert_eq!(bench.seen(), [1, 2, 3, 4]);
    bench.writer.write(move |tx| limit(tx, 4000)).await.unwrap();
    bench.writer.write(insert(90, 400_000)).await.unwrap();
    assert_eq!(bench.seen(), [1, 2, 3, 4, 90]);
}

fn record(bytes: usize) -> Sealed {
    let header = r#"{"body_class":"fact","body_digest":"none"}"#.to_owned();
    Sealed { header, body: "x".repeat(bytes), salt: None }
}

/// A transaction that writes a row, and a record of so many bytes.
fn tells(n: u32, bytes: usize) -> impl FnMut(&Tx<'_>) -> Attempt<u32> + Send + 'static {
    let mut row = insert(n, 1);
    move |tx| {
        tx.append(record(bytes))?;
        row(tx)
    }
}

#[tokio::test]
async fn a_disk_that_is_full_once_the_log_is_written_refuses_only_who_does_not_fit() {
    let bench = bench(|connection| {
        let there: u32 = connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        connection.pragma_update(None, "max_page_count", there + 60).unwrap();
    });
    // Each row fits, and so does the log of any of them alone but the third; not the log of all.
    let answers = bench
        .together(vec![
            Box::new(tells(1, 100_000)),
            Box::new(tells(2, 10)),
            Box::new(tells(3, 400_000)),
            Box::new(tells(4, 100_000)),
            Box::new(tells(5, 10)),
        ])
        .await;
    let ok: Vec<_> = answers.iter().map(Result::is_ok).collect();
    assert_eq!(ok, [true, true, false, true, true], "{answers:?}");
    assert!(matches!(&answers[2], Err(StoreError::Full { place }) if place == PLACE), "{:?}", answers[2]);
    assert_eq!(bench.seen(), [1, 2, 4, 5]);
    assert_eq!(bench.positions(), [0, 1, 2, 3], "positions have no gaps");
    bench.writer.write(tells(6, 10)).await.unwrap();
    assert_eq!(bench.positions().len(), 5);
}

#[tokio::test]
async fn a_batch_is_bounded_by_bytes() {
    let rules = Rules { batch_bytes: 1_000, ..UNBOUNDED };
    let bench = bench_with(rules, |_| ());
    let work = |n: u32| -> Work<u32> { Box::new(tells(n, 400)) };
    let answers = bench.together((0..8).map(work).collect()).await;
    assert!(answers.iter().all(Result::is_ok));
    // Each is a little over 400 bytes: two are not yet too many, so that a third is taken in. The first batch holds also what held the writer.
    assert_eq!((bench.seen().len(), bench.commits()), (8, 3));
    let Written { commits, transactions, records, committing, busy, flushing } = bench.writer.written();
    assert_eq!((commits, transactions, records), (3, 9, 8));
    assert!(Duration::ZERO < committing && committing < busy, "{committing:?} of {busy:?}");
    assert!(flushing > Duration::ZERO);
}

#[tokio::test]
async fn a_batch_is_bounded_by_time() {
    // No time at all: what is under way is finished, and nothing more is taken in. What held the writer is a commit too.
    let bench = bench_with(Rules { batch_time: Duration::ZERO, ..UNBOUNDED }, |_| ());
    let answers = bench.together((0..5).map(|n| Box::new(insert(n, 1)) as Box<_>).collect()).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!((bench.seen().len(), bench.commits()), (5, 6));
}

/// What SQLite does by itself after some failures: the physical transaction is gone.
fn lose_everything(tx: &Tx<'_>) -> Attempt<u32> {
    tx.execute_batch("ROLLBACK")?;
    Err(Fault::contradiction("everything was rolled back"))
}

#[tokio::test]
async fn survivors_of_a_lost_batch_are_done_again_one_by_one() {
    let bench = bench(|_| ());
    let calls = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&calls);
    let mut again = insert(1, 1);
    let counted = move |tx: &Tx<'_>| {
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
    assert_eq!((bench.seen(), calls.load(Ordering::SeqCst)), (vec![1, 2, 3], 2));
}

#[tokio::test]
async fn a_commit_that_fails_answers_nobody_and_is_not_tried_again() {
    static DIED: AtomicBool = AtomicBool::new(false);
    let tries = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&tries);
    let mut connection = Connection::open_in_memory().unwrap();
    migrate(&connection, PLACE).unwrap();
    connection.execute_batch("CREATE TABLE t (n INTEGER, filling BLOB)").unwrap();
    let fail = move || {
        count.fetch_add(1, Ordering::SeqCst);
        true
    };
    connection.commit_hook(Some(fail)).unwrap();
    let rules = Rules { fatal: |_| DIED.store(true, Ordering::SeqCst), ..Rules::default() };
    let tail = Tail::load(&connection).unwrap();
    let writer = Writer::start((connection, tail), &Arc::from(PLACE), rules).unwrap();
    let answer = writer.write(insert(1, 1)).await;
    assert!(matches!(answer, Err(StoreError::Closed { .. })), "{answer:?}");
    assert!(DIED.load(Ordering::SeqCst));
    let answer = writer.write(insert(2, 1)).await;
    assert!(matches!(answer, Err(StoreError::Closed { .. })), "{answer:?}");
    assert_eq!(tries.load(Ordering::SeqCst), 1);
}

/// A flush that says when it begins, and goes on when it is told to.
type Gate = Mutex<Option<(blocking::Sender<()>, blocking::Receiver<()>)>>;

/// Such a flush.
fn through(gate: &Gate, file: &File) -> io::Result<()> {
    let gate = gate.lock().unwrap();
    let (entered, go) = gate.as_ref().unwrap();
    entered.send(()).unwrap();
    go.recv().map_err(io::Error::other)?;
    file.sync_data()
}

/// It waits from now on: where it says that it begins, and how it is told to go on.
fn shut(gate: &Gate) -> (blocking::Receiver<()>, blocking::Sender<()>) {
    let (entered, inside) = blocking::channel();
    let (go, gone) = blocking::channel();
    *gate.lock().unwrap() = Some((entered, gone));
    (inside, go)
}

#[tokio::test]
async fn nobody_is_answered_before_the_flush_and_what_comes_meanwhile_is_one_commit() {
    static GATE: Gate = Mutex::new(None);
    let flush = |file: &File| through(&GATE, file);
    let (inside, go) = shut(&GATE);
    let bench = bench_with(Rules { flush, ..UNBOUNDED }, |_| ());
    let polled = async |one: &mut std::pin::Pin<Box<dyn Future<Output = Result<u32, StoreError>> + '_>>| {
        std::future::poll_fn(|cx| std::task::Poll::Ready(one.as_mut().poll(cx).is_ready())).await
    };
    // Two, as the writer flushes itself what one alone has done.
    let (release, held) = blocking::channel::<()>();
    let mut work = insert(0, 1);
    let mut first: std::pin::Pin<Box<dyn Future<Output = _>>> = Box::pin(bench.writer.write(move |tx| {
        held.recv().unwrap();
        work(tx)
    }));
    let mut second: std::pin::Pin<Box<dyn Future<Output = _>>> = Box::pin(bench.writer.write(insert(1, 1)));
    assert!(!polled(&mut first).await);
    assert!(!polled(&mut second).await);
    release.send(()).unwrap();
    inside.recv().unwrap();
    // They are committed, so that others see them, and not durable.
    assert_eq!((bench.seen(), bench.commits()), (vec![0, 1], 1));
    assert!(!polled(&mut first).await);
    let reached = bench.writer.horizon().reached();
    let mut reached = std::pin::pin!(reached);
    assert!(std::future::poll_fn(|cx| std::task::Poll::Ready(reached.as_mut().poll(cx).is_pending())).await);
    let (ran, running) = blocking::channel();
    let mut meanwhile: Vec<std::pin::Pin<Box<dyn Future<Output = _>>>> = Vec::new();
    for n in [2, 3] {
        let (ran, mut work) = (ran.clone(), insert(n, 1));
        meanwhile.push(Box::pin(bench.writer.write(move |tx| {
            ran.send(()).unwrap();
            work(tx)
        })));
        assert!(!polled(&mut meanwhile[usize::try_from(n).unwrap() - 2]).await);
        running.recv().unwrap();
    }
    assert_eq!(bench.commits(), 1, "the next one is filled, and waits");
    go.send(()).unwrap();
    assert_eq!((first.await.unwrap(), second.await.unwrap()), (0, 1));
    assert!(reached.await);
    inside.recv().unwrap();
    assert_eq!((bench.seen(), bench.commits()), (vec![0, 1, 2, 3], 2));
    go.send(()).unwrap();
    for one in meanwhile {
        one.await.unwrap();
    }
}

#[tokio::test]
async fn only_what_need_not_be_durable_is_answered_before_the_flush() {
    static FLUSHED_BY: Mutex<Vec<String>> = Mutex::new(Vec::new());
    static GATE: Gate = Mutex::new(None);
    let flush = |file: &File| {
        FLUSHED_BY.lock().unwrap().push(std::thread::current().name().unwrap().to_owned());
        through(&GATE, file)
    };
    let (inside, go) = shut(&GATE);
    let bench = bench_with(Rules { flush, ..UNBOUNDED }, |_| ());
    // Nobody else waits, so no other thread need wake up.
    let mut alone = Box::pin(bench.writer.write(insert(1, 1)));
    assert!(std::future::poll_fn(|cx| std::task::Poll::Ready(alone.as_mut().poll(cx).is_pending())).await);
    inside.recv().unwrap();
    assert!(std::future::poll_fn(|cx| std::task::Poll::Ready(alone.as_mut().poll(cx).is_pending())).await);
    go.send(()).unwrap();
    assert_eq!(alone.await.unwrap(), 1);
    assert_eq!(bench.writer.write_unflushed(insert(2, 1)).await.unwrap(), 2);
    inside.recv().unwrap();
    assert!(!bench.writer.horizon().is_reached(), "readers wait for it");
    go.send(()).unwrap();
    assert!(bench.writer.horizon().reached().await);
    assert_eq!(*FLUSHED_BY.lock().unwrap(), ["store-writer", "store-flusher"]);
}

#[tokio::test]
async fn a_flush_that_fails_answers_nobody_and_ends_it() {
    static DIED: AtomicBool = AtomicBool::new(false);
    let fatal = |message: &str| {
        assert!(message.ends_with("could not commit: gone"), "{message}");
        DIED.store(true, Ordering::SeqCst);
    };
    let bench = bench_with(Rules { flush: |_| Err(io::Error::other("gone")), fatal, ..UNBOUNDED }, |_| ());
    for n in [1, 2] {
        let answer = bench.writer.write(insert(n, 1)).await;
        assert!(matches!(answer, Err(StoreError::Closed { .. })), "{answer:?}");
        assert!(DIED.load(Ordering::SeqCst));
        assert!(!bench.writer.horizon().reached().await, "what readers see may be lost");
    }
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
