//! PostgreSQL has no room: for rows, where it refuses, and for its write-ahead log, where it goes down. Nothing acknowledged is lost, and with room again
//! everything goes on without anybody at ORBIT.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use orbit_testkit::cluster::{Cluster, Holds, SmallDisk, blocking, connect, try_connect};
use serde_json::Value;

use crate::home::{Answer, Home, Serving, until};
use crate::receiver::Receiver;

/// Firings that are tried on a full disk before one is refused.
const TRIES_MAX: usize = 200;
const DURABLE: [&str; 2] = ["-csynchronous_commit=on", "-cfull_page_writes=on"];
/// Small, so that the log of the server is not what fills the disk before the test does.
const SMALL_WAL: [&str; 4] =
    ["-csynchronous_commit=on", "-cfull_page_writes=on", "-cmax_wal_size=8MB", "-cmin_wal_size=2MB"];

struct World {
    cluster: Cluster,
    disk: PathBuf,
    home: Home,
    receiver: Receiver,
    /// Of firings that were answered.
    acknowledged: BTreeSet<String>,
    _folder: tempfile::TempDir,
}

impl World {
    /// None where nothing may be mounted.
    fn new(holds: Holds) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        if !may_mount() {
            println!("skipped: this user may make no mount namespace, and so no small disk");
            return None;
        }
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let small = SmallDisk { folder: folder.path().to_owned(), size: "32m", holds };
        let arguments: &[&str] = if holds == Holds::Wal { &SMALL_WAL } else { &DURABLE };
        let cluster = Cluster::start_with(None, arguments, Some(&small));
        let disk = cluster.see(&small);
        blocking(async {
            let how = match holds {
                Holds::Tablespaces => {
                    let admin = connect(&cluster.config("postgres", "postgres")).await;
                    let place = folder.path().display();
                    admin
                        .batch_execute(&format!("CREATE TABLESPACE small LOCATION '{place}'"))
                        .await
                        .unwrap();
                    "TEMPLATE template0 TABLESPACE small"
                }
                Holds::Wal => "TEMPLATE template0",
            };
            cluster.migrated("orbit", how).await;
        });
        let home = Home::on_files().furnished(TRIES_MAX + 20);
        let node = fs::read_to_string(home.path("orbit.yaml")).unwrap();
        home.write("orbit.yaml", &format!("{node}storage: {{ backend: postgres }}\n"));
        home.write(".env", &format!("ORBIT_DATABASE_URL='{}'\n", cluster.config("orbit_runtime", "orbit")));
        let hold = home.path("hold");
        let waits = format!("while [ -e {0} ]; do echo >{0}.held; sleep 0.05; done", hold.display());
        home.processor("two", &format!("cat; echo two; {waits}"), "");
        let receiver = Receiver::accepting();
        home.endpoint("archive", &receiver.url("/"), "retry: { attempts: 20, schedule: [200ms] }\n");
        home.profile("plain", 1, "distribution_map: [{ endpoint: archive }]\n");
        home.run_profile("daily", 1, "[plain]", "  overlap: allow\n");
        Some(Self { cluster, disk, home, receiver, acknowledged: BTreeSet::new(), _folder: folder })
    }

    /// Fires a cycle; what was said if it was refused.
    fn fire(&mut self) -> Option<Answer> {
        let answer = self.home.run(&["run", "--no-wait"]);
        if answer.code != 0 {
            return Some(answer);
        }
        self.acknowledged.insert(answer.stdout.trim().to_owned());
        None
    }

    /// Cycles are under way, and a program waits.
    fn begin(&mut self) -> Serving {
        let serving = self.home.serve();
        assert!(self.fire().is_none());
        until("the first cycle", || self.succeeded() == 1);
        fs::write(self.home.path("hold"), "").unwrap();
        for _ in 0..3 {
            assert!(self.fire().is_none());
        }
        until("a program to wait", || self.home.path("hold.held").exists());
        serving
    }

    /// Cycles are fired until one is refused.
    fn refused(&mut self) -> Answer {
        let refused = (0..TRIES_MAX).find_map(|_| self.fire());
        refused.unwrap_or_else(|| panic!("a full disk takes {TRIES_MAX} firings"))
    }

    fn cycles(&self) -> Vec<Value> {
        let answer = self.home.run(&["cycles", "list", "--limit", "1000", "--json"]);
        let told: Value = serde_json::from_str(&answer.stdout).unwrap_or_default();
        told["items"].as_array().cloned().unwrap_or_default()
    }

    fn succeeded(&self) -> usize {
        self.cycles().iter().filter(|cycle| cycle["outcome"] == "succeeded").count()
    }

    /// Everything that was acknowledged is done, once, and told once.
    fn is_whole(&self, serving: Serving) {
        until("every cycle to end", || {
            let cycles = self.cycles();
            let of = |id: &String| cycles.iter().any(|cycle| cycle["cycle_id"] == **id);
            self.acknowledged.iter().all(of) && cycles.iter().all(|cycle| cycle["outcome"] == "succeeded")
        });
        until("nothing to be owed", || {
            let owed = self.home.json(&["deliveries", "list", "--state", "waiting"], 0);
            owed["items"].as_array().unwrap().is_empty()
        });
        let cycles = self.cycles().len();
        let records = self.home.records();
        let count = |kind: &str| {
            let mut counts = BTreeMap::<(String, String), usize>::new();
            for record in records.iter().filter(|record| record["kind"] == kind) {
                let (delivery, attempt) = (&record["body"]["delivery_id"], &record["body"]["attempt"]);
                *counts.entry((delivery.to_string(), attempt.to_string())).or_default() += 1;
            }
            counts
        };
        let (attempts, receipts) = (count("attempt_started"), count("receipt_captured"));
        assert_eq!(attempts, receipts);
        assert!(receipts.values().all(|count| *count == 1), "{receipts:?}");
        assert_eq!(count("delivery_settled").len(), cycles);
        let keys: BTreeSet<_> = self
            .receiver
            .requests()
            .iter()
            .map(|request| request.headers["idempotency-key"].clone())
            .collect();
        assert_eq!(keys.len(), cycles);
        self.home.json(&["log", "verify"], 0);
        let log = serving.log();
        assert!(!log.contains("panicked"), "{log}");
        assert_eq!(serving.stop(), 0);
    }
}

fn may_mount() -> bool {
    let user: &[&str] = if nix::unistd::geteuid().is_root() { &["-m"] } else { &["-rm"] };
    std::process::Command::new("unshare").args(user).arg("true").status().is_ok_and(|status| status.success())
}

/// Somebody else takes all the room that is left.
fn fill(disk: &Path) {
    let mut file = fs::File::options().create(true).append(true).open(disk.join("fill")).unwrap();
    for size in [1 << 16, 1 << 12, 1] {
        while file.write_all(&vec![b'x'; size]).is_ok() {}
    }
}

/// Of a refusal and what is said to do.
fn says(answer: &Answer, words: &str) {
    let hint = "hint: the server must run, and have room for its data and for `pg_wal`";
    assert!(answer.code == 1 && answer.stderr.contains(words) && answer.stderr.contains(hint), "{answer:?}");
}

#[test]
fn a_database_without_room_refuses_and_everything_goes_on_once_there_is_some() {
    let Some(mut world) = World::new(Holds::Tablespaces) else { return };
    let serving = world.begin();
    fill(&world.disk);
    fs::remove_file(world.home.path("hold")).unwrap();
    says(&world.refused(), "the disk that holds `postgres ");
    until("it to be said", || serving.log().contains("waits to be recorded"));
    // It can still be read.
    let status = world.home.run(&["status"]);
    assert!(matches!(status.code, 0 | 4), "{status:?}");
    fs::remove_file(world.disk.join("fill")).unwrap();
    world.is_whole(serving);
}

#[test]
fn a_database_whose_write_ahead_log_has_no_room_comes_back_and_everything_goes_on() {
    let Some(mut world) = World::new(Holds::Wal) else { return };
    let serving = world.begin();
    fill(&world.disk);
    fs::remove_file(world.home.path("hold")).unwrap();
    // What others write is refused, and one of ORBIT's commits takes the server down.
    let owner = world.cluster.config("postgres", "orbit");
    until("the server to panic", || {
        fill(&world.disk);
        blocking(async {
            let write = "SELECT pg_logical_emit_message(true, 'others', repeat('x', 200000))";
            if let Ok(others) = try_connect(&owner).await {
                while others.batch_execute(write).await.is_ok() {}
            }
        });
        world.fire();
        world.cluster.log().contains("PANIC:  could not write to file")
    });
    // It comes up again by itself as long as it finds something of its own to give up, and at last does not.
    world.cluster.down("QUIT");
    says(&world.refused(), "the store `postgres ");
    says(&world.home.run(&["status"]), "the store `postgres ");
    until("it to be said", || serving.log().contains("waits to be recorded"));
    fs::remove_file(world.disk.join("fill")).unwrap();
    world.cluster.up();
    world.is_whole(serving);
}
