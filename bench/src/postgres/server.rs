//! The server, its databases, and what a measurement takes of it and of this process.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use jiff::Timestamp;
use orbit_core::config::NamespaceName;
use orbit_core::record::{Begin, Seed, Signer};
use orbit_store::contract::log::LogStore as _;
use orbit_store::postgres::{PostgresStore, Traffic, migrate};
use orbit_testkit::cluster::{Cluster, connect};
use std::sync::atomic::{AtomicU64, Ordering};
use tokio_postgres::Client;

use crate::world::{NAMESPACE, Stores, World};

/// Clock ticks a second of proc(5), which are the same on every Linux.
const TICKS_A_SECOND: f64 = 100.0;

/// See the module.
pub(crate) struct Server {
    cluster: Cluster,
    /// Its data; and the homes of nodes, which hold no rows.
    folder: tempfile::TempDir,
    databases: AtomicU64,
}

/// What the nodes of a world see their rows through.
pub(super) struct Views {
    /// One for each node, with connections of its own.
    pub(super) stores: Vec<Arc<PostgresStore>>,
    /// The database.
    pub(super) database: String,
}

impl Views {
    /// Of all of them.
    pub(super) fn traffic(&self) -> Traffic {
        self.stores.iter().map(|store| store.traffic()).fold(Traffic::default(), |sum, one| Traffic {
            transactions: sum.transactions + one.transactions,
            again: sum.again + one.again,
            statements: sum.statements + one.statements,
            round_trips: sum.round_trips + one.round_trips,
            flushes: sum.flushes + one.flushes,
        })
    }
}

impl Server {
    /// A new one, with a database that others are copied from.
    pub(crate) async fn start(below: &Path) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir_in(below)?;
        // Its own user has to get there.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open)?;
        let data = folder.path().join("data");
        std::fs::create_dir(&data)?;
        let server = Self { cluster: Cluster::durable(&data), folder, databases: AtomicU64::default() };
        server.client("postgres").await?.batch_execute("CREATE DATABASE origin").await?;
        migrate(&server.cluster.config("postgres", "origin")).await?;
        Ok(server)
    }

    /// A client of its own that row-level security does not bind.
    pub(super) async fn client(&self, database: &str) -> anyhow::Result<Client> {
        Ok(connect(&self.cluster.config("postgres", database)).await)
    }

    /// A database that is migrated and empty.
    pub(super) async fn database(&self) -> anyhow::Result<String> {
        let name = format!("bench_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let create = format!("CREATE DATABASE {name} TEMPLATE origin");
        self.client("postgres").await?.batch_execute(&create).await?;
        Ok(name)
    }

    /// A database of this name that is empty, whatever it was before.
    pub(crate) async fn renew(&self, name: &str) -> anyhow::Result<()> {
        let client = self.client("postgres").await?;
        client.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await?;
        client.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE template0")).await?;
        Ok(client.batch_execute("CHECKPOINT").await?)
    }

    /// The folder of its socket.
    pub(crate) fn host(&self) -> PathBuf {
        self.cluster.socket().parent().map(Path::to_owned).unwrap_or_default()
    }

    /// What the server does by itself within a minute. Before, it knows nothing of the tables, and plans to read every row of a namespace for one.
    pub(super) async fn analyze(&self, database: &str) -> anyhow::Result<()> {
        Ok(self.client(database).await?.batch_execute("ANALYZE").await?)
    }

    /// The database is gone.
    pub(super) async fn drop(&self, database: &str) -> anyhow::Result<()> {
        let drop = format!("DROP DATABASE {database} WITH (FORCE)");
        Ok(self.client("postgres").await?.batch_execute(&drop).await?)
    }

    /// So many nodes over a new database.
    pub(super) async fn world(&self, nodes: usize, work: (usize, usize)) -> anyhow::Result<World<Views>> {
        self.world_in(self.database().await?, NAMESPACE, nodes, work).await
    }

    /// So many nodes of a namespace in this database that it has not been in.
    pub(super) async fn world_in(
        &self,
        database: String,
        namespace: &str,
        nodes: usize,
        work: (usize, usize),
    ) -> anyhow::Result<World<Views>> {
        let url = self.cluster.config("orbit_runtime", &database);
        let (name, mut views, mut opened) = (NamespaceName::parse(namespace)?, Vec::new(), Vec::new());
        let signer = signer(&name)?;
        for number in 0..nodes {
            let own = Arc::new(PostgresStore::open(&url, &name).await?);
            let system = Arc::new(PostgresStore::open(&url, &NamespaceName::system()).await?);
            if number == 0 {
                own.begin_signing(Begin::First(signer.clone()), Timestamp::UNIX_EPOCH).await?;
            }
            views.push(Arc::clone(&own));
            opened.push(Stores { name: name.clone(), own, system, signer: Some(signer.clone()) });
        }
        let homes = tempfile::tempdir_in(self.folder.path())?;
        World::over(homes, opened, work, Views { stores: views, database }).await
    }

    /// It ends, and nothing of it is left.
    pub(crate) fn stop(self) {
        self.cluster.stop();
    }
}

fn signer(name: &NamespaceName) -> anyhow::Result<Signer> {
    Ok(Seed::new([7; 32]).signer(name.as_str(), "orbit/bench/0123456789abcdef")?)
}

/// What was used up to an instant.
pub(super) struct Measurements {
    /// Seconds of a processor, of this process and of the server.
    cpu: [f64; 2],
    wal_bytes: f64,
    database_bytes: f64,
}

impl Measurements {
    /// Up to now.
    pub(super) async fn take(server: &Server, database: &str) -> anyhow::Result<Self> {
        let sql = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8, pg_database_size(current_database())::float8";
        let row = server.client(database).await?.query_one(sql, &[]).await?;
        let own = processes(|id, _| id == std::process::id())?;
        let main = server.cluster.server();
        let of_server = processes(|id, parent| id == main || parent == main)?;
        Ok(Self { cpu: [own, of_server], wal_bytes: row.try_get(0)?, database_bytes: row.try_get(1)? })
    }

    /// What came after this and up to `later`.
    pub(super) fn until(&self, later: &Self) -> Self {
        Self {
            cpu: [later.cpu[0] - self.cpu[0], later.cpu[1] - self.cpu[1]],
            wal_bytes: later.wal_bytes - self.wal_bytes,
            database_bytes: later.database_bytes - self.database_bytes,
        }
    }

    /// For people.
    pub(super) fn told(&self, runs: usize, seconds: f64) -> String {
        let each = |of: f64| of / runs as f64;
        let [own, server] = self.cpu;
        format!(
            "{:.1} KiB of WAL, {:.1} KiB of database, processor {:.2} ms here and {:.2} ms in the server, together {:.2} of the processors busy",
            each(self.wal_bytes) / 1024.0,
            each(self.database_bytes) / 1024.0,
            each(own) * 1000.0,
            each(server) * 1000.0,
            (own + server) / seconds
        )
    }
}

/// Seconds of a processor that these processes and those that they have waited for have used; they are told by id and parent.
fn processes(is_one: impl Fn(u32, u32) -> bool) -> anyhow::Result<f64> {
    let mut ticks = 0.0;
    for entry in std::fs::read_dir("/proc")? {
        let Some(id) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // One that has ended meanwhile is among its parent's children.
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{id}/stat")) else { continue };
        let fields: Vec<_> = stat.rsplit(')').next().context("no stat")?.split_whitespace().collect();
        let number =
            |place: usize| fields.get(place).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
        let parent = fields.get(1).and_then(|field| field.parse().ok()).unwrap_or(0);
        if is_one(id, parent) {
            ticks += (11..=14).map(number).sum::<f64>();
        }
    }
    Ok(ticks / TICKS_A_SECOND)
}
