//! What the statements of a transaction go through, and in how few round trips.
//!
//! The server works on the statements of a connection one after the other, whether or not their answers were waited for. So only what the next statement depends on is
//! waited for: a statement that is merely to be true ([`Connection::send`]) is on its way when the call is over, and its answer is taken in whenever somebody waits for a
//! later one, at the latest for that of COMMIT. BEGIN is such a statement too. What is read together goes together ([`together`], or the `try_join` of pairs), where it does
//! not matter which comes first: a statement that is not prepared yet is overtaken by one that is.
//!
//! **A statement that failed.** The server refuses everything that comes after it in the transaction, COMMIT too, which it then answers as if it were ROLLBACK. So the
//! first answer that is an error is kept, and is the fault of whatever comes later. What is sent after a BEGIN that failed would be a transaction of its own, but without a
//! namespace, and so sees no row and makes none.
//!
//! **Dropped halfway.** A [`Session`] is thrown away with whoever holds it last, unless it is given back; what is under way holds it as well.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll};

use deadpool_postgres::{Object, StatementCache};
use futures_util::future::{BoxFuture, join};
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use super::columns::{Parameter, Row};
use super::fault::{Attempt, Fault, words};
use super::traffic::Meter;

/// One WAL record, whose transaction is flushed when it is committed.
const FLUSH: &str = "SELECT pg_logical_emit_message(true, 'orbit', '')";

/// A connection of the pool with an open transaction; it is thrown away unless the transaction is known to be over.
struct Session(Option<Object>);

impl Session {
    fn object(&self) -> Attempt<&Object> {
        self.0.as_ref().ok_or_else(|| Fault::contradiction("a transaction that is over was used"))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(Object::take(connection));
        }
    }
}

/// What was sent and is not answered, in order, and the first answer that was an error.
#[derive(Default)]
struct Sent {
    waiting: Vec<BoxFuture<'static, Result<(), Error>>>,
    failed: Option<Error>,
    /// Whether anything was answered, such as BEGIN: so the server is there, or was in this transaction.
    is_heard: bool,
}

impl Sent {
    /// Takes in what has been answered.
    fn take_in(&mut self, context: &mut Context<'_>) {
        let (failed, is_heard) = (&mut self.failed, &mut self.is_heard);
        self.waiting.retain_mut(|answer| match answer.as_mut().poll(context) {
            Poll::Ready(Ok(())) => {
                *is_heard = true;
                false
            }
            Poll::Ready(Err(error)) => {
                failed.get_or_insert(error);
                false
            }
            Poll::Pending => true,
        });
    }
}

/// The rows of a statement that was sent; none before the transaction has ended.
#[derive(Default)]
pub(super) struct Answer(Arc<OnceLock<Vec<Row>>>);

impl Answer {
    /// Every row.
    pub(super) fn read<T>(&self, read: impl Fn(&Row) -> Attempt<T>) -> Attempt<Vec<T>> {
        self.0.get().into_iter().flatten().map(read).collect()
    }
}

/// See the module.
pub(super) struct Connection {
    sent: Mutex<Sent>,
    session: Arc<Session>,
    meter: Arc<Meter>,
    /// How many statements are under way.
    line: Arc<AtomicU64>,
}

impl Connection {
    /// A connection on which a transaction is open, or about to be.
    pub(super) fn new(connection: Object, meter: &Arc<Meter>) -> Self {
        Self {
            sent: Mutex::default(),
            session: Arc::new(Session(Some(connection))),
            meter: Arc::clone(meter),
            line: Arc::default(),
        }
    }

    /// Nothing panics while it is held.
    fn sent(&self) -> MutexGuard<'_, Sent> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for an answer, and takes in those that come before: the connection hands no later one out until they are.
    async fn answered<T>(&self, answer: impl Future<Output = Result<T, Error>>) -> Attempt<T> {
        let mut answer = pin!(answer);
        let answered = poll_fn(|context| {
            let answered = answer.as_mut().poll(context);
            self.sent().take_in(context);
            answered
        });
        answered.await.map_err(|error| self.cause(error))
    }

    /// What really went wrong: the server refuses everything after the first error.
    fn cause(&self, error: Error) -> Fault {
        let is_consequence = error.code() == Some(&SqlState::IN_FAILED_SQL_TRANSACTION);
        let first = if is_consequence { self.sent().failed.take() } else { None };
        Fault::Postgres(first.unwrap_or(error))
    }

    async fn query(&self, sql: &str, parameters: Attempt<Vec<Parameter>>) -> Attempt<Vec<Row>> {
        let (connection, parameters) = (self.session.object()?, parameters?);
        let answer = async {
            let statement = connection.prepare_cached(sql).await?;
            let parameters: Vec<_> = parameters.iter().map(dynamic).collect();
            let _under_way = self.meter.sends(&self.line);
            connection.query(&statement, &parameters).await
        };
        Ok(self.answered(answer).await?.into_iter().map(Row).collect())
    }

    /// Changes rows; their number.
    pub(super) async fn execute(&self, sql: &str, parameters: Attempt<Vec<Parameter>>) -> Attempt<u64> {
        let (connection, parameters) = (self.session.object()?, parameters?);
        let answer = async {
            let statement = connection.prepare_cached(sql).await?;
            let parameters: Vec<_> = parameters.iter().map(dynamic).collect();
            let _under_way = self.meter.sends(&self.line);
            connection.execute(&statement, &parameters).await
        };
        self.answered(answer).await
    }

    /// What tells this connection from every other for as long as it lives.
    pub(super) fn identity(&self) -> Attempt<Weak<StatementCache>> {
        Ok(Arc::downgrade(&self.session.object()?.statement_cache))
    }

    /// Changes rows, however many. It is on its way afterwards, and its answer is nothing that anybody waits for before the transaction ends.
    pub(super) async fn send(&self, sql: &str, parameters: Attempt<Vec<Parameter>>) -> Attempt<()> {
        self.asks(sql, parameters).await.map(drop)
    }

    /// The same of a statement that has rows to answer.
    pub(super) async fn asks(&self, sql: &str, parameters: Attempt<Vec<Parameter>>) -> Attempt<Answer> {
        let (session, parameters) = (Arc::clone(&self.session), parameters?);
        let statement = self.answered(session.object()?.prepare_cached(sql)).await?;
        let under_way = self.meter.sends(&self.line);
        let found = Answer::default();
        let rows = Arc::clone(&found.0);
        let answer = async move {
            let parameters: Vec<_> = parameters.iter().map(dynamic).collect();
            // There is one: the statement was prepared on it.
            if let Some(connection) = &session.0 {
                let answered = connection.query(&statement, &parameters).await?;
                _ = rows.set(answered.into_iter().map(Row).collect());
            }
            drop(under_way);
            Ok::<(), Error>(())
        };
        self.goes(Box::pin(answer)).await;
        Ok(found)
    }

    /// The same of statements without parameters, which are not prepared.
    pub(super) async fn send_batch(&self, sql: String) {
        let session = Arc::clone(&self.session);
        let under_way = self.meter.sends(&self.line);
        let answer = async move {
            if let Some(connection) = &session.0 {
                connection.batch_execute(&sql).await?;
            }
            drop(under_way);
            Ok::<(), Error>(())
        };
        self.goes(Box::pin(answer)).await;
    }

    /// Sent by the first look at its answer.
    async fn goes(&self, answer: BoxFuture<'static, Result<(), Error>>) {
        self.sent().waiting.push(answer);
        poll_fn(|context| {
            self.sent().take_in(context);
            Poll::Ready(())
        })
        .await;
    }

    /// Every row.
    pub(super) async fn query_all<T>(
        &self,
        sql: &str,
        parameters: Attempt<Vec<Parameter>>,
        read: impl Fn(&Row) -> Attempt<T>,
    ) -> Attempt<Vec<T>> {
        self.query(sql, parameters).await?.iter().map(read).collect()
    }

    /// The first row, if there is one.
    pub(super) async fn query_optional<T>(
        &self,
        sql: &str,
        parameters: Attempt<Vec<Parameter>>,
        read: impl FnOnce(&Row) -> Attempt<T>,
    ) -> Attempt<Option<T>> {
        self.query(sql, parameters).await?.first().map(read).transpose()
    }

    /// The first row, which there must be.
    pub(super) async fn query_row<T>(
        &self,
        sql: &str,
        parameters: Attempt<Vec<Parameter>>,
        read: impl FnOnce(&Row) -> Attempt<T>,
    ) -> Attempt<T> {
        let found = self.query_optional(sql, parameters, read).await?;
        found.ok_or_else(|| Fault::contradiction("a row that others refer to is gone"))
    }

    /// Ends the transaction in these words. What was sent before is answered too, and if one of these answers is an error, then that is how it ended.
    /// The connection may go back to the pool if the server has said that it is over.
    pub(super) async fn ends(self, how: &str) -> Attempt<()> {
        let (ended, is_over) = self.ended(how).await?;
        if is_over {
            self.give_back();
        }
        ended
    }

    /// COMMIT, and behind it the flush that makes it durable, which is one of nothing where the server did not commit.
    pub(super) async fn commits(self) -> Attempt<()> {
        let (ended, flushed) = join(self.ended("COMMIT"), self.flush()).await;
        let (ended, is_over) = ended?;
        if ended.is_ok() {
            flushed?;
        }
        if is_over {
            self.give_back();
        }
        ended
    }

    /// The server is there. A connection of the pool may have been lost, and of a COMMIT that is among the first things sent over it nobody could tell what became of it; so a
    /// transaction in which nothing was read waits once more.
    pub(super) async fn hears(&self) -> Attempt<()> {
        poll_fn(|context| {
            let mut sent = self.sent();
            sent.take_in(context);
            if sent.is_heard || sent.waiting.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        let lost = self.sent().failed.take_if(|error| error.as_db_error().is_none());
        lost.map_or(Ok(()), |error| Err(Fault::Postgres(error)))
    }

    /// What this connection has committed is durable.
    async fn flush(&self) -> Attempt<()> {
        let connection = self.session.object()?;
        self.meter.flushes();
        let flushed = async {
            let statement = connection.prepare_cached(FLUSH).await?;
            connection.execute(&statement, &[]).await
        };
        flushed.await.map(drop).map_err(|error| Fault::Unknown(words(&error)))
    }

    /// How it ended in these words, and whether the server has said that it is over.
    async fn ended(&self, how: &str) -> Attempt<(Attempt<()>, bool)> {
        let ended = {
            let connection = self.session.object()?;
            let answer = async {
                let _under_way = self.meter.sends(&self.line);
                connection.batch_execute(how).await
            };
            self.answered(answer).await
        };
        // Answers come in order, so there are none left; a connection that was lost answers all of them.
        poll_fn(|context| {
            let mut sent = self.sent();
            sent.take_in(context);
            if sent.waiting.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        let is_over = match &ended {
            Ok(()) => true,
            Err(fault) => matches!(fault, Fault::Postgres(error) if error.as_db_error().is_some()),
        };
        Ok(match self.sent().failed.take() {
            Some(error) => (Err(Fault::Postgres(error)), is_over),
            None => (ended, is_over),
        })
    }

    /// Ends a transaction that has changed nothing, and whose answers are all here. COMMIT is on its way, and can neither fail nor be overtaken: whoever has the connection next
    /// comes behind it.
    pub(super) async fn leaves(self) -> Attempt<()> {
        // Such as that of BEGIN, without which nothing was seen.
        if let Some(error) = self.sent().failed.take() {
            return Err(Fault::Postgres(error));
        }
        self.meter.statement();
        {
            let mut commit = pin!(self.session.object()?.batch_execute("COMMIT"));
            poll_fn(|context| {
                // Sent by the first look at its answer, which nobody needs.
                let _ = commit.as_mut().poll(context);
                Poll::Ready(())
            })
            .await;
        }
        self.give_back();
        Ok(())
    }

    /// The transaction is over, or will be before anything else: the connection may go back to the pool.
    fn give_back(self) {
        let Self { sent, session, .. } = self;
        drop(sent);
        if let Some(mut session) = Arc::into_inner(session) {
            drop(session.0.take());
        }
    }
}

fn dynamic(parameter: &Parameter) -> &(dyn tokio_postgres::types::ToSql + Sync) {
    parameter
}

/// Waits for all of these at once, in the order of the list: what they send is sent in that order.
pub(super) async fn together<T, F>(work: Vec<F>) -> Attempt<Vec<T>>
where
    F: Future<Output = Attempt<T>>,
{
    let mut waiting: Vec<(Pin<Box<F>>, Option<T>)> =
        work.into_iter().map(|one| (Box::pin(one), None)).collect();
    poll_fn(|context| {
        let mut is_done = true;
        for (one, found) in &mut waiting {
            if found.is_some() {
                continue;
            }
            match one.as_mut().poll(context) {
                Poll::Ready(Ok(value)) => *found = Some(value),
                Poll::Ready(Err(fault)) => return Poll::Ready(Err(fault)),
                Poll::Pending => is_done = false,
            }
        }
        if is_done { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await?;
    Ok(waiting.into_iter().filter_map(|(_, found)| found).collect())
}
