//! A PostgreSQL server for this test process alone: made anew in a temporary folder, reached through a socket there, and ended with the process.
//!
//! A shell keeps watch over it. It waits for the end of its standard input, which comes when this process ends, however it ends; then it stops the
//! server by its process id and removes the folder. A server that somebody else runs is never seen.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};

use nix::unistd::{Gid, Uid, User};
use orbit_core::config::NamespaceName;
use orbit_store::postgres::{PostgresStore, migrate};
use tokio_postgres::NoTls;

use crate::proxy::Proxy;

/// `$1` are the server's programs and `$2` its folder; `$3`, if it is not empty, is a port of loopback on which it speaks TLS too, with the certificate `$4`
/// and the key `$5`. `$6` is the folder of its data, which may exist if it is empty; what follows are arguments of the server. Starts the server and says so on standard output. A signal's name on standard input ends the server
/// with it and starts another, unless a second word follows; one that has ended is only started. `$INITDB` are further arguments of `initdb`. Nothing is synchronised with the disk, unless an argument says otherwise: what is tested here is not what a power loss leaves.
const WATCH: &str = r#"
set -eu
umask 077
programs=$1 folder=$2 port=$3 certificate=$4 key=$5 data=$6
shift 6
mkdir "$folder"
cd "$folder"
"$programs/initdb" -A trust -U postgres -E UTF8 --locale=C --no-sync ${INITDB:-} -D "$data" >initdb.log 2>&1 || { cat initdb.log; exit 1; }
listen="-c listen_addresses="
if [ -n "$port" ]; then
    printf '%s' "$certificate" >certificate.pem
    printf '%s' "$key" >key.pem
    listen="-c listen_addresses=127.0.0.1 -c port=$port -c ssl=on -c ssl_cert_file=$folder/certificate.pem -c ssl_key_file=$folder/key.pem"
fi
serve() {
    "$programs/postgres" -D "$data" -k "$folder" $listen -c fsync=off -c synchronous_commit=off -c full_page_writes=off \
        -c max_connections=300 -c shared_buffers=64MB "$@" >>server.log 2>&1 &
    server=$!
    for _ in $(seq 600); do
        if "$programs/pg_isready" -q -h "$folder" -p "${port:-5432}" -U postgres; then echo ready; return; fi
        if ! kill -0 $server; then cat server.log; exit 1; fi
        read -r -t 0.05 _ <&0 || true
    done
}
trap 'kill -QUIT $server; wait $server || true; rm -rf "$folder"' EXIT
serve "$@"
while read -r signal stays; do
    kill -"$signal" $server 2>/dev/null || true
    wait $server || true
    if [ -n "$stays" ]; then echo ready; else serve "$@"; fi
done
"#;

/// Makes a small disk at `$1`, of the size `$2`, for whoever has the ids `$3` and `$4`, which ends with the process, and becomes the rest as them.
const ON_A_SMALL_DISK: &str = r#"
mount -t tmpfs -o "size=$2,mode=0700,uid=$3,gid=$4" tmpfs "$1"
user=$3 group=$4
shift 4
if [ "$(id -u)" = 0 ]; then exec setpriv --reuid="$user" --regid="$group" --clear-groups "$@"; fi
exec "$@"
"#;

/// As a server that is to keep what it acknowledges, with room for what is measured.
const DURABLE: &[&str] = &[
    "-cfsync=on",
    "-csynchronous_commit=on",
    "-cfull_page_writes=on",
    "-cmax_connections=100",
    "-cshared_buffers=512MB",
    "-cmax_wal_size=4GB",
    "-ccheckpoint_timeout=15min",
];

/// The server of this process.
pub struct Cluster {
    folder: PathBuf,
    data: PathBuf,
    databases: AtomicU64,
    /// Databases that tests have left as they were made but for their rows: to make one takes longer than most tests.
    idle: Mutex<Vec<String>>,
    /// The watch: its input is held open for as long as this process lives.
    watch: Mutex<(Child, BufReader<ChildStdout>)>,
}

/// A disk that soon is full, beside the one that the server is on.
pub struct SmallDisk {
    /// The folder where it is, for the server alone.
    pub folder: PathBuf,
    /// Its size, as `mount` has it.
    pub size: &'static str,
    /// What of the server is there.
    pub holds: Holds,
}

/// What is on a small disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// The tablespaces that are made there.
    Tablespaces,
    /// The write-ahead log, in segments of 1 MiB.
    Wal,
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
fn not_root() -> Option<(Uid, Gid)> {
    let nobody = || User::from_name("nobody").unwrap().expect("there is a user `nobody`");
    Uid::effective().is_root().then(nobody).map(|nobody| (nobody.uid, nobody.gid))
}

impl Cluster {
    /// One that nobody else in this process shares.
    pub fn start(tls: Option<&Tls>) -> Self {
        Self::start_with(tls, &[], None)
    }

    /// The same with further arguments, and a disk.
    pub fn start_with(tls: Option<&Tls>, arguments: &[&str], disk: Option<&SmallDisk>) -> Self {
        Self::start_in(None, tls, (arguments, disk))
    }

    /// One that keeps what it acknowledges, in this folder, which is empty. Whoever made the folder removes it, after [`Cluster::stop`].
    pub fn durable(data: &Path) -> Self {
        if let Some((uid, gid)) = not_root() {
            std::os::unix::fs::chown(data, Some(uid.as_raw()), Some(gid.as_raw())).unwrap();
        }
        Self::start_in(Some(data.to_owned()), None, (DURABLE, None))
    }

    fn start_in(
        data: Option<PathBuf>,
        tls: Option<&Tls>,
        (arguments, disk): (&[&str], Option<&SmallDisk>),
    ) -> Self {
        static CLUSTERS: AtomicU64 = AtomicU64::new(0);
        let number = CLUSTERS.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("orbit-postgres-{}-{number}", std::process::id()));
        let nobody = not_root();
        let data = data.unwrap_or_else(|| folder.join("data"));
        let mut watch = match disk {
            None => Command::new("bash"),
            Some(disk) => on(disk, nobody),
        };
        watch.args(["-c", WATCH, "watch"]).arg(programs()).arg(&folder);
        match tls {
            Some(Tls { port, certificate, key }) => watch.args([&port.to_string(), certificate, key]),
            None => watch.args(["", "", ""]),
        };
        watch
            .arg(&data)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .current_dir("/")
            .process_group(0);
        if let Some(SmallDisk { folder, holds: Holds::Wal, .. }) = disk {
            watch.env("INITDB", format!("--waldir={}/wal --wal-segsize=1", folder.display()));
        }
        if let (Some((uid, gid)), None) = (nobody, disk) {
            watch.uid(uid.as_raw()).gid(gid.as_raw());
        }
        let mut watch = watch.spawn().unwrap();
        let mut output = BufReader::new(watch.stdout.take().unwrap());
        is_ready(&mut output);
        Self {
            folder,
            data,
            databases: AtomicU64::new(0),
            idle: Mutex::default(),
            watch: Mutex::new((watch, output)),
        }
    }

    /// Ends the server by a signal (`INT` as an operator would, `QUIT` as a crash), and starts it again.
    pub fn restart(&self, signal: &str) {
        let mut watch = self.watch.lock().unwrap();
        let (child, output) = &mut *watch;
        writeln!(child.stdin.as_mut().unwrap(), "{signal}").unwrap();
        is_ready(output);
    }

    /// Ends the server by a signal; it stays down.
    pub fn down(&self, signal: &str) {
        self.restart(&format!("{signal} stays"));
    }

    /// Starts it again.
    pub fn up(&self) {
        self.restart("0");
    }

    /// What the server has said.
    pub fn log(&self) -> String {
        let read = |name: &str| std::fs::read(self.folder.join(name)).unwrap_or_default();
        String::from_utf8_lossy(&read("server.log")).into_owned()
    }

    /// Its small disk, as this process sees it: it is there for the server alone.
    pub fn see(&self, disk: &SmallDisk) -> PathBuf {
        let watch = self.watch.lock().unwrap().0.id();
        let below = disk.folder.strip_prefix("/").unwrap();
        Path::new(&format!("/proc/{watch}/root")).join(below)
    }

    /// Ends the server now instead of with the process.
    pub fn stop(self) {
        let (mut child, _) = self.watch.into_inner().unwrap();
        drop(child.stdin.take());
        child.wait().unwrap();
    }

    /// The process id of the server.
    pub fn server(&self) -> u32 {
        let note = std::fs::read_to_string(self.data.join("postmaster.pid")).unwrap();
        note.lines().next().unwrap().parse().unwrap()
    }

    /// A database in it that is migrated, made as this says.
    pub async fn migrated(&self, name: &str, how: &str) {
        execute(&self.config("postgres", "postgres"), &format!("CREATE DATABASE {name} {how}")).await;
        migrate(&self.config("postgres", name)).await.unwrap();
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.folder.join(".s.PGSQL.5432")
    }

    /// How a role reaches a database.
    pub fn config(&self, role: &str, database: &str) -> String {
        format!("host={} user={role} dbname={database}", self.folder.display())
    }
}

/// A command in a mount namespace of its own, in which there is the disk, as this user or as whoever this process is.
fn on(disk: &SmallDisk, user: Option<(Uid, Gid)>) -> Command {
    let mut command = Command::new("unshare");
    match user {
        Some(_) => command.arg("--mount"),
        None => command.args(["--user", "--map-current-user", "--keep-caps", "--mount"]),
    };
    let (uid, gid) = user.unwrap_or((Uid::effective(), Gid::effective()));
    command.args(["bash", "-ec", ON_A_SMALL_DISK, "disk"]).arg(&disk.folder).arg(disk.size);
    command.args([uid.to_string(), gid.to_string()]).arg("bash");
    command
}

fn is_ready(output: &mut BufReader<ChildStdout>) {
    let mut said = String::new();
    while !said.ends_with("ready\n") {
        assert_ne!(output.read_line(&mut said).unwrap(), 0, "the server did not start: {said}");
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
    try_connect(config).await.unwrap()
}

/// The same, where the server may be down.
pub async fn try_connect(config: &str) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(config, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// A session for tests that run in no runtime.
pub struct Session {
    runtime: tokio::runtime::Runtime,
    client: tokio_postgres::Client,
}

impl Session {
    /// One of its own.
    pub fn new(config: &str) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let client = runtime.block_on(connect(config));
        Self { runtime, client }
    }

    /// The one text that a statement answers with.
    pub fn ask(&self, sql: &str) -> String {
        self.runtime.block_on(async { self.client.query_one(sql, &[]).await.unwrap().get(0) })
    }
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

    /// One with the same rows. Nobody may be connected to this one, or they are given a moment to go.
    pub async fn copied(&self) -> Self {
        Self::made(&format!("TEMPLATE {}", self.name)).await
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

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Another one with everything that is in it now. Whoever is connected to it is waited for, a few seconds.
    pub async fn copy(&self) -> String {
        let number = cluster().databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{number}");
        let sql = format!("CREATE DATABASE {name} TEMPLATE {}", self.name);
        execute(&cluster().config("postgres", "postgres"), &sql).await;
        name
    }

    /// How the owner reaches another database of the same server.
    pub fn owner_of(&self, database: &str) -> String {
        cluster().config("postgres", database)
    }

    /// A network to its server that a test may disturb.
    pub fn proxy(&self) -> Proxy {
        Proxy::start(cluster().socket())
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
