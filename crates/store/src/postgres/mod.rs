//! The PostgreSQL backend: any number of namespaces in one database, any number of nodes on it.
//!
//! Every method of the contract is one transaction: `tx` says how it is isolated, repeated and lost, `connection` what its statements wait for, `sequencer` how records get their positions, `witness` how an older state of the database is told,
//! `pool` which roles are refused, `address` what is protected on the way there. The other files are those of SQLite, with the same names and statements in the same order; a comment says where they
//! must differ. `INDEXED BY` is missing everywhere: PostgreSQL has no such thing.

mod address;
mod begun;
mod blocking;
mod columns;
mod connection;
mod early;
mod fault;
mod migrate;
mod occupied;
mod owner;
mod pool;
pub(crate) mod protections;
mod sequencer;
mod server;
mod tail;
mod token;
mod traffic;
mod tree;
mod turns;
mod tx;
mod witness;

mod config;
mod cycle;
mod dispatch;
mod endpoint;
mod governance;
mod lanes;
mod log;
mod node;
mod normalize;
mod notice;
mod notify;
mod payload;
mod quarantine;
mod reclaim;
mod record;
mod redrive;
mod retention;
mod run_rows;
mod schedule;
mod selection;
mod settle;
mod signing;
mod tiers;
mod transition;
mod view;
mod view_delivery;
mod view_run;

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use deadpool_postgres::Pool;
use orbit_core::config::NamespaceName;

use crate::{Store, StoreError, transfer};
use blocking::Blocking;
pub(crate) use columns::NUL_KEPT_AS;
use columns::params;
use early::Early;
pub(crate) use fault::{Attempt, Fault};
pub use migrate::{Migrated, SCHEMA, migrate, pending};
pub use occupied::{AtWork, named};
pub(crate) use owner::{owner_session, position_everything};
pub use pool::CONNECTIONS_MAX;
pub use server::{Look, Server};
use token::Member;
use traffic::Meter;
pub use traffic::Traffic;
use turns::Turns;
use tx::{Connection, Mode, Over, Tx};
use witness::Witness;

/// The first key of the locks of whoever changes something; the second one is a hash of the namespace. Two namespaces with one hash only wait for each other.
pub(crate) const WRITERS: i64 = 0x006f_7277;

/// The store of one namespace.
pub struct PostgresStore {
    database: Database,
    /// The same over a connection that no other work has.
    leases: Database,
    blocking: Blocking,
}

impl Store for PostgresStore {}

impl PostgresStore {
    /// Opens the store of one namespace, over connections that no other shares; see [`Server`].
    pub async fn open(url: &str, namespace: &NamespaceName) -> Result<Self, StoreError> {
        Server::connect(url).await?.store(namespace).await
    }

    /// What it has sent to the server since it was opened, but for reads of threads that may block.
    pub fn traffic(&self) -> Traffic {
        self.database.meter.traffic()
    }
}

/// Why the store is not served, if it is only half here or has gone elsewhere.
async fn moved(tx: &Connection) -> Attempt<Option<String>> {
    let moved = tx
        .query_optional("SELECT moved FROM store", params![], |row| row.get::<_, Option<String>>(0))
        .await?;
    Ok(moved.flatten().map(|moved| transfer::refusal(&moved)))
}

/// The rows of one namespace, and the way to them.
struct Database {
    namespace: NamespaceName,
    pool: Pool,
    place: Arc<str>,
    /// What this process has seen of the log, over whatever connections.
    witness: Arc<Witness>,
    /// What this process is in the store.
    member: Member,
    meter: Arc<Meter>,
    turns: Turns,
    early: Early,
    /// So many firings by hand ask whether their cycle is new, before one demands it again: each that demands it in vain undoes its neighbours.
    asks: AtomicU32,
}

impl Database {
    fn new(pool: Pool, namespace: &NamespaceName, place: &str, witness: &Arc<Witness>) -> Self {
        let place = format!("{place}, namespace {namespace}").into();
        Self {
            namespace: namespace.clone(),
            pool,
            place,
            witness: Arc::clone(witness),
            member: Member::default(),
            meter: Arc::default(),
            turns: Turns::default(),
            early: Early::default(),
            asks: AtomicU32::default(),
        }
    }

    /// A transaction of this namespace; one that was tried before shares its fate with no other.
    async fn begin(&self, mode: Mode, is_again: bool) -> Attempt<Tx> {
        self.meter.begins();
        let over = if mode == Mode::Writing {
            let (turn, group) = self.turns.take(is_again).await?;
            let group = match group {
                Some(group) => group,
                None => turn.begins(self.open(mode).await?, &self.witness),
            };
            Over::Shared(Box::new(group), turn)
        } else {
            Over::Own(self.open(mode).await?)
        };
        Tx::new(over, mode, &self.witness, self.member.get()).await
    }

    /// A connection with a transaction of the server on it.
    async fn open(&self, mode: Mode) -> Attempt<Connection> {
        let connection = Connection::new(self.pool.get().await?, &self.meter);
        // On its way with what comes first. A namespace is made of letters, digits and dashes.
        let (mode_is, namespace) = (mode.characteristics(), &self.namespace);
        let mut begin = format!("BEGIN {mode_is}; SET LOCAL orbit.namespace = '{namespace}'");
        if matches!(mode, Mode::Writing | Mode::Early) {
            begin.push_str("; SET LOCAL synchronous_commit = off");
        }
        if mode == Mode::Early {
            // Whoever has the turn is never undone for it.
            _ = write!(begin, "; SET LOCAL lock_timeout = {}", early::LOCK_TIMEOUT.as_millis());
        }
        if mode.is_exclusive() {
            // Writing to a string cannot fail.
            _ = write!(begin, "; SELECT pg_advisory_xact_lock({WRITERS}, hashtext('{namespace}'))");
        }
        let unmet = self.witness.unmet(&connection)?;
        connection.send_batch(begin).await;
        if let Some(seen) = unmet {
            self.witness.admit(&connection, seen).await?;
        }
        Ok(connection)
    }
}
