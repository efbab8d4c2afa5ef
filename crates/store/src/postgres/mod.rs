//! The PostgreSQL backend: any number of namespaces in one database, any number of nodes on it.
//!
//! Every method of the contract is one transaction: `tx` says how it is isolated, repeated and lost, `sequencer` how records get their positions,
//! `pool` which roles are refused. The other files are those of SQLite, with the same names and statements in the same order; a comment says where they
//! must differ. `INDEXED BY` is missing everywhere: PostgreSQL has no such thing.

mod blocking;
mod columns;
mod fault;
mod migrate;
mod owner;
mod pool;
mod sequencer;
mod tail;
mod token;
mod tree;
mod tx;

mod config;
mod cycle;
mod dispatch;
mod endpoint;
mod governance;
mod lanes;
mod log;
mod normalize;
mod notice;
mod notify;
mod payload;
mod quarantine;
mod reclaim;
mod record;
mod redrive;
mod retention;
mod schedule;
mod selection;
mod settle;
mod signing;
mod tiers;
mod transition;
mod view;
mod view_delivery;
mod view_run;

use std::sync::{Arc, Mutex};

use deadpool_postgres::Pool;
use orbit_core::config::NamespaceName;

use crate::{Store, StoreError, transfer};
use blocking::Blocking;
use columns::params;
pub(crate) use fault::{Attempt, Fault};
pub use migrate::{SCHEMA, migrate};
pub(crate) use owner::{owner_session, position_everything};
use tail::Tail;
use tx::{Connection, Mode, Tx};

/// The store of one namespace.
pub struct PostgresStore {
    database: Database,
    blocking: Blocking,
}

impl Store for PostgresStore {}

impl PostgresStore {
    /// Opens the store of a namespace in a database that was migrated. `config` is a URL or key=value list of a role that row-level security binds and that may not
    /// change what the log says; any other is refused.
    pub async fn open(config: &str, namespace: &NamespaceName) -> Result<Self, StoreError> {
        let config = pool::config(config).map_err(|fault| fault.at("postgres"))?;
        let place = pool::place(&config);
        let pool = pool::pool(config.clone(), pool::CONNECTIONS_MAX).map_err(|fault| fault.at(&place))?;
        let database = Database::new(pool, namespace, &place);
        let tx = database.begin(Mode::Reading).await.map_err(|fault| fault.at(&place))?;
        migrate::is_served(&tx, &place).await?;
        let refusal = match pool::refusal(&tx).await {
            Ok(None) => moved(&tx).await,
            refusal => refusal,
        };
        if let Some(message) = tx.end(refusal).await.map_err(|fault| fault.at(&place))? {
            return Err(StoreError::Refused { place, message });
        }
        tx::transaction!(&database, Mode::Writing, |tx| {
            let mine = "INSERT INTO store DEFAULT VALUES ON CONFLICT DO NOTHING";
            tx.execute(mine, params![]).await
        })?;
        let blocking = Blocking::start(config, namespace, &place)?;
        Ok(Self { database, blocking })
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
    /// The end of the log when this process last gave positions: with it the tree's right edge need not be read again.
    known: Arc<Mutex<Tail>>,
}

impl Database {
    fn new(pool: Pool, namespace: &NamespaceName, place: &str) -> Self {
        let place = format!("{place}, namespace {namespace}").into();
        Self { namespace: namespace.clone(), pool, place, known: Arc::default() }
    }

    /// A transaction of this namespace.
    async fn begin(&self, mode: Mode) -> Attempt<Tx> {
        let connection = Connection::new(self.pool.get().await?);
        // One round trip. A namespace is made of letters, digits and dashes.
        let (mode_is, namespace) = (mode.characteristics(), &self.namespace);
        let begin = format!("BEGIN {mode_is}; SELECT set_config('orbit.namespace', '{namespace}', true)");
        connection.batch(&begin).await?;
        Tx::new(connection, mode, &self.known).await
    }
}
