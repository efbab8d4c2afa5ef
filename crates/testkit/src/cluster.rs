//! A PostgreSQL server for this test process alone: made anew in a temporary folder, reached through a socket there, and ended with the process.
//!
//! A shell keeps watch over it. It waits for the end of its standard input, which comes when this process ends, however it ends; then it stops the
//! server by its process id and removes the folder. A server that somebody else runs is never seen.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};

use nix::unistd::{Gid, Uid, User};
use orbit_core::config::NamespaceName;
use orbit_store::postgres::{PostgresStore, migrate};
use tokio_postgres::NoTls;

/// `$1` are the server's programs and `$2` its folder; `$3`, if it is not empty, is a port of loopback on which it speaks TLS too, with the certificate `$4`
/// and the key `$5`. `$6` is the folder of its data, which may exist if it is empty; what follows are settings. Starts the server and says so on
/// standard output.
const WATCH: &str = r#"
set -eu
umask 077
mkdir "$2"
cd "$2"
data=$6
"$1/initdb" -A trust -U postgres -E UTF8 --locale=C --no-sync -D "$data" >initdb.log 2>&1 || { cat initdb.log; exit 1; }
listen="-c listen_addresses="
if [ -n "$3" ]; then
    printf '%s' "$4" >certificate.pem
    printf '%s' "$5" >key.pem
    listen="-c listen_addresses=127.0.0.1 -c port=$3 -c ssl=on -c ssl_cert_file=$2/certificate.pem -c ssl_key_file=$2/key.pem"
fi
"$1/postgres" -D "$data" -k "$2" $listen "${@:7}" >server.log 2>&1 &
server=$!
trap 'kill -QUIT $server; wait $server || true; rm -rf "$2"' EXIT
for _ in $(seq 600); do
    if "$1/pg_isready" -q -h "$2" -p "${3:-5432}" -U postgres; then echo ready; break; fi
    if ! kill -0 $server; then cat server.log; exit 1; fi
    read -r -t 0.05 _ <&0 || true
done
cat >/dev/null
"#;

/// Nothing is synchronised with the disk: what is tested is not what a power loss leaves.
const FAST: &[&str] = &[
    "-cfsync=off",
    "-csynchronous_commit=off",
    "-cfull_page_writes=off",
    "-cmax_connections=300",
    "-cshared_buffers=64MB",
];
/// As a server that is to keep what it acknowledges, with room for what is measured.
const DURABLE: &[&str] =
    &["-cmax_connections=100", "-cshared_buffers=512MB", "-cmax_wal_size=4GB", "-ccheckpoint_timeout=15min"];

/// The server of this process.
pub struct Cluster {
    folder: PathBuf,
    data: PathBuf,
    databases: AtomicU64,
    /// Databases that tests have left as they were made but for their rows: to make one takes longer than most tests.
    idle: Mutex<Vec<String>>,
    /// Its input is held open for as long as this process lives.
    watch: Child,
}

/// How a server speaks TLS.
pub struct Tls {
    /// On which port of loopback.
    pub port: u16,
    /// Its certificate, as PEM.
    pub certificate: String,
    /// The key of that, as PEM.
    pub key: String,
}

/// The newest of the server's programs that Debian has installed.
fn programs() -> PathBuf {
    let versions =
        std::fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is missing: scripts/install.sh test");
    let mut found: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| {
            let path = entry.unwrap().path();
            let number = path.file_name()?.to_str()?.parse().ok()?;
            path.join("bin/initdb").exists().then(|| (number, path.join("bin")))
        })
        .collect();
    found.sort();
    found.pop().expect("PostgreSQL is missing: scripts/install.sh test").1
}

/// Who runs the server if this process is root: it refuses to run as that.
fn not_root() -> Option<User> {
    Uid::effective().is_root().then(|| User::from_name("nobody").unwrap().expect("there is a user `nobody`"))
}

impl Cluster {
    /// One that nobody else in this process shares.
    pub fn start(tls: Option<&Tls>) -> Self {
        Self::with(tls, None, FAST)
    }

    /// One that keeps what it acknowledges, in this folder, which is empty. Whoever made the folder removes it, after [`Cluster::stop`].
    pub fn durable(data: &Path) -> Self {
        if let Some(nobody) = not_root() {
            std::os::unix::fs::chown(data, Some(nobody.uid.as_raw()), Some(nobody.gid.as_raw())).unwrap();
        }
        Self::with(None, Some(data.to_owned()), DURABLE)
    }

    /// Ends the server now instead of with the process.
    pub fn stop(mut self) {
        drop(self.watch.stdin.take());
        self.watch.wait().unwrap();
    }

    fn with(tls: Option<&Tls>, data: Option<PathBuf>, settings: &[&str]) -> Self {
        static CLUSTERS: AtomicU64 = AtomicU64::new(0);
        let number = CLUSTERS.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("orbit-postgres-{}-{number}", std::process::id()));
        let mut watch = Command::new("bash");
        watch.args(["-c", WATCH, "watch"]).arg(programs()).arg(&folder);
        match tls {
            Some(Tls { port, certificate, key }) => watch.args([&port.to_string(), certificate, key]),
            None => watch.args(["", "", ""]),
        };
        let data = data.unwrap_or_else(|| folder.join("data"));
        watch.arg(&data).args(settings);
        watch
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .current_dir("/")
            .process_group(0);
        if let Some(nobody) = not_root() {
            watch.uid(nobody.uid.as_raw()).gid(Gid::as_raw(nobody.gid));
        }
        let mut watch = watch.spawn().unwrap();
        let mut said = String::new();
        let mut output = BufReader::new(watch.stdout.take().unwrap());
        while !said.ends_with("ready\n") {
            assert_ne!(output.read_line(&mut said).unwrap(), 0, "the server did not start: {said}");
        }
        Self { folder, data, databases: AtomicU64::new(0), idle: Mutex::default(), watch }
    }

    /// The process id of the server.
    pub fn server(&self) -> u32 {
        let note = std::fs::read_to_string(self.data.join("postmaster.pid")).unwrap();
        note.lines().next().unwrap().parse().unwrap()
    }

    /// How a role reaches a database.
    pub fn config(&self, role: &str, database: &str) -> String {
        format!("host={} user={role} dbname={database}", self.folder.display())
    }
}

/// The server, started by whoever asks first, with a database that is migrated and that others are copied from.
fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        let cluster = Cluster::start(None);
        blocking(async {
            execute(&cluster.config("postgres", "postgres"), "CREATE DATABASE origin").await;
            migrate(&cluster.config("postgres", "origin")).await.unwrap();
        });
        cluster
    })
}

/// Does it in a runtime of its own: tests run in others, or in none.
pub fn blocking<T: Send>(work: impl Future<Output = T> + Send) -> T {
    std::thread::scope(|scope| {
        let done = scope.spawn(|| {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
        });
        done.join().unwrap()
    })
}

/// A client of its own.
pub async fn connect(config: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(config, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn execute(config: &str, sql: &str) {
    connect(config).await.batch_execute(sql).await.unwrap();
}

/// A database of one test.
pub struct TestDatabase {
    name: String,
    /// Whether its schema and roles are as they were made, so that another test may have it once it is empty.
    may_be_lent: bool,
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        if self.may_be_lent && !std::thread::panicking() {
            cluster().idle.lock().unwrap().push(std::mem::take(&mut self.name));
        }
    }
}

impl TestDatabase {
    /// One that is migrated.
    pub async fn migrated() -> Self {
        Self::made("TEMPLATE origin").await
    }

    /// One without a table.
    pub async fn empty() -> Self {
        Self::made("TEMPLATE template0").await
    }

    async fn made(how: &str) -> Self {
        let number = cluster().databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{number}");
        execute(&cluster().config("postgres", "postgres"), &format!("CREATE DATABASE {name} {how}")).await;
        Self { name, may_be_lent: false }
    }

    /// One that is migrated and whose schema the test leaves alone.
    pub async fn lent() -> Self {
        let idle = cluster().idle.lock().unwrap().pop();
        let mut database = match idle {
            Some(name) => Self { name, may_be_lent: false },
            None => Self::migrated().await,
        };
        // Sessions of the test before may still be closing: what they hold open goes with them.
        let empty = "DO $$ BEGIN EXECUTE (SELECT 'TRUNCATE ' || string_agg(quote_ident(tablename), ', ') FROM pg_tables
            WHERE schemaname = 'public' AND tablename <> 'migrations'); END $$";
        execute(&database.owner(), empty).await;
        database.may_be_lent = true;
        database
    }

    /// How the owner of its tables reaches it.
    pub fn owner(&self) -> String {
        self.role("postgres")
    }

    /// How the engine reaches it.
    pub fn runtime(&self) -> String {
        self.role("orbit_runtime")
    }

    /// How a role reaches it.
    pub fn role(&self, role: &str) -> String {
        cluster().config(role, &self.name)
    }
}

/// A store of its own, as the engine opens it. Another test may have its database after this one.
pub async fn store(namespace: &NamespaceName) -> (PostgresStore, TestDatabase) {
    let database = TestDatabase::lent().await;
    (PostgresStore::open(&database.runtime(), namespace).await.unwrap(), database)
}
