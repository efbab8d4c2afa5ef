//! Turns: who changes a namespace, and how those that wait for it become one transaction of the server.
//!
//! **One at a time.** Of one process, one transaction of the domain after the other has the turn. Of several nodes, one has the namespace's lock on the server
//! (`pg_advisory_xact_lock`), which it takes with BEGIN and which the end of its transaction gives back, whatever end that is. So nobody meets
//! anybody else, and nothing is done twice for that reason.
//!
//! **Together.** Whoever is done while others wait does not end the transaction of the server but hands it over, and the next one goes on in it. It ends when everybody
//! has had the turn who was waiting when it began: whoever comes later may know of something that is newer than its beginning, by whose time leases are counted. Then all of them
//! are committed and made durable at once, and only then is anybody answered. The group of SQLite's writer is the same thing.
//!
//! **Where one fails,** the transaction of the server is undone, and those that were done in it are done again, each in one of its own. That takes a claim that was lost, or a key that was used before
//! (after which the next ones ask, see `schedule`); it is rare, while a savepoint each, which would spare it, costs two statements each.
//!
//! **Dropped halfway.** What waits for the end of a group may be dropped: a task of its own ends it. What has the turn may be dropped too, and throws the connection away with the
//! whole group, before any COMMIT; the others learn that they are to begin anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use orbit_core::digest::Digest;
use orbit_core::record::Sealed;
use orbit_core::record::tree::leaf_hash;
use tokio::sync::{Mutex, OwnedMutexGuard, oneshot};
use tokio::time::timeout;

use super::connection::{Answer, Connection};
use super::fault::{Attempt, Fault, words};
use super::pool::WAIT_TIMEOUT;
use super::sequencer;
use super::tx::Seen;
use super::witness::Witness;

/// Transactions of the domain in one of the server; whoever comes after them begins the next one.
const GROUP_MAX: usize = 64;
/// After so many bytes of records nobody is taken in.
const GROUP_BYTES: usize = 8 * 1024 * 1024;

/// The turns of one namespace in one process.
#[derive(Clone, Default)]
pub(super) struct Turns {
    line: Arc<Line>,
    /// Who has it has the turn. A transaction that lies in it is open, and handed over to whoever is next.
    open: Arc<Mutex<Option<Group>>>,
}

#[derive(Default)]
struct Line {
    /// How many have asked for a turn.
    asked: AtomicU64,
    /// Of these, how many wait for it.
    waiting: AtomicUsize,
}

/// One that waits for the turn, for as long as it does.
struct Waiting<'a>(&'a Line);

impl<'a> Waiting<'a> {
    fn new(line: &'a Line) -> Self {
        line.waiting.fetch_add(1, Ordering::SeqCst);
        Self(line)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Turns {
    /// Waits for the turn, and answers what it goes on in; a group of its own has to begin where there is nothing. No longer than for a connection: while the
    /// server does not answer, nobody waits for those before in line. Whoever is to be alone shares its group with nobody.
    pub(super) async fn take(&self, is_alone: bool) -> Attempt<(Turn, Option<Group>)> {
        let number = self.line.asked.fetch_add(1, Ordering::SeqCst);
        let open = {
            let _waiting = Waiting::new(&self.line);
            let got = timeout(WAIT_TIMEOUT, Arc::clone(&self.open).lock_owned()).await;
            got.map_err(|_| Fault::Unreachable("no turn came to change something".to_owned()))?
        };
        // Before anything of what may begin now is sent.
        let before = self.line.asked.load(Ordering::SeqCst);
        let mut turn = Turn { turns: self.clone(), open, before, is_alone };
        let Some(group) = turn.open.take() else { return Ok((turn, None)) };
        if !is_alone && number < group.before {
            return Ok((turn, Some(group)));
        }
        // What begins now waits for its lock, and so for its COMMIT.
        tokio::spawn(group.close());
        Ok((turn, None))
    }
}

impl Turns {
    /// Whether somebody has the turn just now.
    pub(super) fn is_taken(&self) -> bool {
        self.open.try_lock().is_err()
    }
}

/// The right to change something now. Dropping it gives it to the next one.
pub(super) struct Turn {
    turns: Turns,
    open: OwnedMutexGuard<Option<Group>>,
    /// Who had asked when it came.
    before: u64,
    is_alone: bool,
}

impl Turn {
    /// The group that begins with this turn, on a connection that has the namespace's lock or waits for it.
    pub(super) fn begins(&self, connection: Connection, witness: &Arc<Witness>) -> Group {
        Group {
            connection,
            before: self.before,
            others: Vec::new(),
            records: Vec::new(),
            from: witness.known().size(),
            seen: Arc::default(),
            witness: Arc::clone(witness),
        }
    }

    /// What was done in the group is done; the answer comes when it is true and durable.
    pub(super) async fn ends(mut self, mut group: Group) -> Attempt<()> {
        let is_last = self.is_alone || self.turns.line.waiting.load(Ordering::SeqCst) == 0 || group.is_full();
        if is_last {
            drop(self);
            return group.close().await;
        }
        let (tell, told) = oneshot::channel();
        group.others.push(tell);
        let is_first = group.others.len() == 1;
        *self.open = Some(group);
        if is_first {
            // Comes after all that wait by now.
            let open = Arc::clone(&self.turns.open);
            tokio::spawn(async move {
                let group = open.lock().await.take();
                if let Some(group) = group {
                    // Nobody waits for what it answers.
                    _ = group.close().await;
                }
            });
        }
        drop(self);
        match told.await {
            Ok(Ended::Durable) => Ok(()),
            Ok(Ended::Unknown(message)) => Err(Fault::Unknown(message)),
            Ok(Ended::Undone) | Err(_) => Err(Fault::Undone),
        }
    }
}

/// How a group ended for one that is in it.
enum Ended {
    Durable,
    Undone,
    Unknown(String),
}

/// An open transaction of the server, and who is done in it.
pub(super) struct Group {
    /// What it goes over.
    pub(super) connection: Connection,
    /// Who had asked for a turn when it began.
    before: u64,
    /// Who is done in it, but for the one that has the turn.
    others: Vec<oneshot::Sender<Ended>>,
    /// What they have to tell, in their order. It is sent at once, right before COMMIT.
    records: Vec<Sealed>,
    /// How far the log was seen when it began: none of its records comes before that.
    from: u64,
    /// What need not be asked again in it.
    pub(super) seen: Arc<Seen>,
    witness: Arc<Witness>,
}

impl Group {
    /// These follow the records of those before.
    pub(super) fn adds(&mut self, records: Vec<Sealed>) {
        self.records.extend(records);
    }

    /// Whether nobody else may go on in it.
    fn is_full(&self) -> bool {
        let bytes: usize = self.records.iter().map(|record| record.header.len() + record.body.len()).sum();
        self.others.len() + 1 >= GROUP_MAX || bytes >= GROUP_BYTES
    }

    /// Nothing of it is true. This is what became of the one that has the turn and failed so.
    pub(super) async fn undo(self, fault: Fault) -> Fault {
        // Whatever comes of it.
        _ = self.connection.ends("ROLLBACK").await;
        // It may have failed by what another did, which is undone as well.
        if self.others.is_empty() { fault } else { Fault::Undone }
    }

    /// Commits it and makes it durable. Everybody is told, and the answer is that of the one that has the turn, if one has.
    async fn close(self) -> Attempt<()> {
        let Self { connection, others, records, from, witness, .. } = self;
        let ended = commit(connection, records).await;
        let ended = ended.map(|records| witness.acknowledged(from, records));
        if others.is_empty() {
            return ended;
        }
        for other in others {
            let told = match &ended {
                Ok(()) => Ended::Durable,
                Err(Fault::Unknown(message)) => Ended::Unknown(message.clone()),
                Err(_) => Ended::Undone,
            };
            // Who no longer waits loses the answer, not the transaction.
            _ = other.send(told);
        }
        match ended {
            Ok(()) => Ok(()),
            Err(fault @ Fault::Unknown(_)) => Err(fault),
            Err(_) => Err(Fault::Undone),
        }
    }
}

/// COMMIT with these records; each leaf with its number among those that wait for their positions.
async fn commit(connection: Connection, records: Vec<Sealed>) -> Attempt<Vec<(i64, Digest)>> {
    let leaves: Vec<_> = records.iter().map(|record| leaf_hash(record.header.as_bytes())).collect();
    let numbers =
        if records.is_empty() { Answer::default() } else { sequencer::send(&connection, records).await? };
    // What was lost before COMMIT is not true.
    connection.hears().await?;
    match connection.commits().await {
        // The server says that it did not commit; anything else leaves it open.
        Err(Fault::Postgres(error)) if error.as_db_error().is_none() => Err(Fault::Unknown(words(&error))),
        Err(fault) => Err(fault),
        Ok(()) => {
            // It is true by now, so that nothing may be done again for this.
            let numbers = numbers.read(|row| row.get::<_, i64>("seq"));
            let mut numbers =
                numbers.map_err(|_| Fault::Unknown("its records have no numbers".to_owned()))?;
            numbers.sort_unstable();
            Ok(numbers.into_iter().zip(leaves).collect())
        }
    }
}
