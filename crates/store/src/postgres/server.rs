//! A database with stores in it: looked at once, and then opened namespace by namespace over the same connections.

use std::sync::Arc;
use std::time::{Duration, Instant};

use deadpool_postgres::Pool;
use jiff::Timestamp;
use orbit_core::config::NamespaceName;
use orbit_core::digest::Digest;

use super::address::Address;
use super::blocking::Blocking;
use super::columns::{Micros, params};
use super::fault::Attempt;
use super::tx::{self, Connection, Mode};
use super::{Database, PostgresStore, config, governance, migrate, moved, pool};
use crate::StoreError;
use crate::contract::governance::Halt;

/// See the module.
pub struct Server {
    address: Address,
    pool: Pool,
    /// For renewals of leases alone: they must not wait for work to give a connection back.
    leases: Pool,
}

/// What there is to know about a database before anything is opened in it.
#[derive(Clone, Debug)]
pub struct Look {
    /// The server's version, as it says it.
    pub version: String,
    /// The role that was connected as.
    pub role: String,
    /// Why this role must not serve stores, if so.
    pub refusal: Option<String>,
    /// What keeps the schema from being served, if anything does.
    pub schema: Result<(), StoreError>,
    /// How long one question took.
    pub round_trip: Duration,
    /// What its clock said at the end of that.
    pub clock: Timestamp,
}

impl Server {
    /// Reads the address, a URL or key=value list, and makes no connection yet.
    pub fn at(url: &str) -> Result<Self, StoreError> {
        let address = Address::parse(url)?;
        let pool = pool::pool(&address, pool::CONNECTIONS_MAX).map_err(|fault| fault.at(&address.place))?;
        let leases =
            pool::pool(&address, pool::LEASE_CONNECTIONS).map_err(|fault| fault.at(&address.place))?;
        Ok(Self { address, pool, leases })
    }

    /// A database that was migrated, as a role that row-level security binds and that may not change what the log says; any other is refused.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        let server = Self::at(url)?;
        let place = server.place();
        let connection = server.connection().await.map_err(|fault| fault.at(place))?;
        migrate::is_served(&connection, place).await?;
        match pool::refusal(&connection).await.map_err(|fault| fault.at(place))? {
            Some(message) => Err(StoreError::Refused { place: place.to_owned(), message }),
            None => Ok(server),
        }
    }

    /// Where it is, for people: no user and no password.
    pub fn place(&self) -> &str {
        &self.address.place
    }

    /// Whether everything goes to another machine as it is, for everybody on the way to read and to change.
    pub fn is_unprotected(&self) -> bool {
        self.address.is_unprotected()
    }

    /// Opens the store of a namespace, or makes it.
    pub async fn store(&self, namespace: &NamespaceName) -> Result<PostgresStore, StoreError> {
        let witness = Arc::default();
        let [database, leases] = [&self.pool, &self.leases]
            .map(|pool| Database::new(pool.clone(), namespace, self.place(), &witness));
        if let Some(message) = tx::transaction!(&database, Mode::Reading, |tx| moved(tx).await)? {
            return Err(StoreError::Refused { place: database.place.to_string(), message });
        }
        tx::transaction!(&database, Mode::Writing, |tx| {
            let mine = "INSERT INTO store DEFAULT VALUES ON CONFLICT DO NOTHING";
            tx.execute(mine, params![]).await
        })?;
        let blocking = Blocking::start(&self.address, namespace, &witness)?;
        Ok(PostgresStore { database, leases, blocking })
    }

    /// Looks at the database and changes nothing.
    pub async fn look(&self) -> Result<Look, StoreError> {
        let place = self.place();
        let connection = self.connection().await.map_err(|fault| fault.at(place))?;
        let schema = migrate::is_served(&connection, place).await;
        let looked: Attempt<Look> = async {
            let sql = "SELECT current_setting('server_version'), current_user::text";
            let who = |row: &super::columns::Row| Ok((row.get(0)?, row.get(1)?));
            let (version, role) = connection.query_row(sql, params![], who).await?;
            let refusal = pool::refusal(&connection).await?;
            let asked = Instant::now();
            let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
            let clock = connection.query_row(sql, params![], |row| row.get::<_, Micros>(0)).await?.0;
            Ok(Look { version, role, refusal, schema, round_trip: asked.elapsed(), clock })
        }
        .await;
        looked.map_err(|fault| fault.at(place))
    }

    /// The halt of a namespace that is in force. Its store is not opened, and need not exist.
    pub async fn halted(&self, namespace: &NamespaceName) -> Result<Option<Halt>, StoreError> {
        let database = Database::new(self.pool.clone(), namespace, self.place(), &Arc::default());
        tx::transaction!(&database, Mode::Reading, |tx| governance::in_force(tx).await)
    }

    /// As [`Self::halted`], the active snapshot of a namespace.
    pub async fn active_digest(&self, namespace: &NamespaceName) -> Result<Option<Digest>, StoreError> {
        let database = Database::new(self.pool.clone(), namespace, self.place(), &Arc::default());
        tx::transaction!(&database, Mode::Reading, |tx| config::active_digest(tx).await)
    }

    async fn connection(&self) -> Attempt<Connection> {
        Ok(Connection::new(self.pool.get().await?, &Arc::default()))
    }
}
