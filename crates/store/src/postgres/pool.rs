//! Connections: a bounded pool, made with limits that the server enforces too, and only for a role that row-level security binds.

use std::fmt::Write as _;
use std::str::FromStr;
use std::time::Duration;

use deadpool::managed::QueueMode;
use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use tokio_postgres::Config;

use super::address::Address;
use super::columns::params;
use super::fault::{Attempt, Fault};
use super::tx::Connection;

/// Transactions of a server's stores at once; more wait.
pub const CONNECTIONS_MAX: usize = 16;
/// Renewals of leases at once, of all namespaces: one each some seconds, and each a single statement.
pub(super) const LEASE_CONNECTIONS: usize = 1;
/// How long a connection is waited for, one of the pool or a new one.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a caller waits for its turn at a connection.
pub(super) const WAIT_TIMEOUT: Duration = Duration::from_secs(30);
/// The server ends a statement that takes longer.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);
/// The server ends a session that has a transaction open and says nothing: one whose process has gone without a word holds no lock for longer.
/// A lease lasts 15 s and is renewed every 5 s: whoever takes over when it has ended meets no lock of the one that is gone.
const IDLE_IN_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection whose other end does not confirm what was sent is lost after this.
const UNCONFIRMED_TIMEOUT: Duration = Duration::from_secs(20);

/// A connection that nobody uses is asked after this whether its other end is there, and every [`ALIVE_EVERY`] from then on until it answers: those that are used last
/// are used first, so that others may lie for hours, which many a network between forgets without a word.
const IDLE_TIME: Duration = Duration::from_mins(1);
/// See [`IDLE_TIME`].
const ALIVE_EVERY: Duration = Duration::from_secs(10);

/// How statements are planned: all of them look rows up by an index, so that the plan of one execution is that of all, and none is worth compiling.
const PLANS: [(&str, &str); 2] = [("plan_cache_mode", "force_generic_plan"), ("jit", "off")];

/// A configuration as `libpq` and its URLs write it, with what every connection of ours has in common.
pub(super) fn config(text: &str) -> Attempt<Config> {
    // The text may hold a password, so nothing of it is repeated.
    let mut config = Config::from_str(text)
        .map_err(|_| Fault::Unreachable("its address is no PostgreSQL URL or key=value list".to_owned()))?;
    let mut options = config.get_options().unwrap_or_default().to_owned();
    for (name, limit) in [
        ("statement_timeout", STATEMENT_TIMEOUT),
        ("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION_TIMEOUT),
    ] {
        // Writing to a string cannot fail.
        let _ = write!(options, " -c {name}={}", limit.as_millis());
    }
    for (name, value) in PLANS {
        let _ = write!(options, " -c {name}={value}");
    }
    config
        .options(options)
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_user_timeout(UNCONFIRMED_TIMEOUT)
        .keepalives_idle(IDLE_TIME)
        .keepalives_interval(ALIVE_EVERY);
    if config.get_application_name().is_none() {
        config.application_name("orbit");
    }
    Ok(config)
}

/// A pool of so many connections at most.
///
/// Nothing is cleaned when a connection comes back: transactions that are not known to be over never let theirs back, and everything that is set
/// on one ends with its transaction.
pub(super) fn pool(address: &Address, connections: usize) -> Attempt<Pool> {
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    Pool::builder(Manager::from_config(address.config.clone(), address.tls.clone(), recycling))
        .max_size(connections)
        // The one that was used last: the server's process behind it has plans, rows and pages of them at hand.
        .queue_mode(QueueMode::Lifo)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(WAIT_TIMEOUT))
        .create_timeout(Some(CONNECT_TIMEOUT))
        .build()
        .map_err(|error| Fault::Unreachable(error.to_string()))
}

/// Why this role must not serve a store, if so: it could see other namespaces, or change what the log says.
pub(super) async fn refusal(tx: &Connection) -> Attempt<Option<String>> {
    let bypasses = "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user";
    if tx.query_row(bypasses, params![], |row| row.get::<_, bool>(0)).await? {
        return Ok(Some("its role bypasses row-level security: use `orbit_runtime`".to_owned()));
    }
    let unbound = "SELECT relname::text FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p')
            AND relname <> 'migrations' AND NOT (relrowsecurity AND relforcerowsecurity) ORDER BY relname LIMIT 1";
    if let Some(table) = tx.query_optional(unbound, params![], |row| row.get::<_, String>(0)).await? {
        return Ok(Some(format!("row-level security is not in force for its table `{table}`")));
    }
    // What has its position leaves `log_pending`, and a trigger guards `log_bodies`.
    let may_change = "SELECT relname::text FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p')
            AND relname LIKE 'log\\_%' AND (has_any_column_privilege(oid, 'UPDATE') OR has_table_privilege(oid, 'TRUNCATE')
                OR pg_has_role(relowner, 'MEMBER')
                OR (has_table_privilege(oid, 'DELETE') AND relname NOT IN ('log_pending', 'log_bodies')))
        ORDER BY relname LIMIT 1";
    let table = tx.query_optional(may_change, params![], |row| row.get::<_, String>(0)).await?;
    Ok(table.map(|table| format!("its role may change what `{table}` says: use `orbit_runtime`")))
}
