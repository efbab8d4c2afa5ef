//! The server and the network to it misbehave: what was acknowledged is there, once, and it goes on by itself.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use orbit_core::digest::Digest;
use orbit_core::record::{Kind, Record, Subject};
use orbit_store::StoreError;
use orbit_store::contract::log::LogStore as _;
use orbit_store::contract::node::{Load, NodeStore as _, Renewal};
use orbit_store::contract::record::{RecordFilter, RecordStore as _};
use orbit_store::contract::schedule::ScheduleStore as _;
use orbit_store::contract::view::StoreView as _;
use orbit_store::postgres::{CONNECTIONS_MAX, PostgresStore};
use orbit_testkit::cluster::{Cluster, Holds, SmallDisk};
use orbit_testkit::proxy::{Cut, Proxy, Way};
use serde_json::json;

use super::cluster::{TestDatabase, connect};
use crate::conformance::world::{World, at, cycle, log_is_whole, namespace};

/// How long a test waits for what should come at once.
const PATIENCE: Duration = Duration::from_mins(1);
/// COMMITs of one test that are cut, one after the other.
const CUTS: usize = 6;

/// A store behind a network that a test disturbs.
async fn behind_a_proxy() -> (PostgresStore, TestDatabase, Proxy) {
    let database = TestDatabase::lent().await;
    let proxy = database.proxy();
    (open(&proxy, &database).await, database, proxy)
}

async fn open(proxy: &Proxy, database: &TestDatabase) -> PostgresStore {
    PostgresStore::open(&proxy.config("orbit_runtime", database.name()), &namespace()).await.unwrap()
}

fn record(number: usize) -> Record {
    let body = json!({ "number": number }).as_object().unwrap().clone().into();
    Record::fact(at(0), Kind::NodeStarted, Subject::default(), body)
}

/// How often each of these records is in the log.
async fn counts(store: &PostgresStore) -> BTreeMap<usize, usize> {
    let mut counts = BTreeMap::new();
    for record in store.records(RecordFilter::default(), u32::MAX).await.unwrap() {
        if let Some(number) = record.body["number"].as_u64() {
            *counts.entry(usize::try_from(number).unwrap()).or_default() += 1;
        }
    }
    counts
}

/// Appends until it is acknowledged; each try has a number of its own. The number that was, and those of which nobody knows.
async fn append(store: &PostgresStore, next: &AtomicUsize, unknown: &mut Vec<usize>) -> usize {
    let tried = async {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            match store.append(vec![record(number)]).await {
                Ok(()) => return number,
                Err(StoreError::Unknown { .. }) => unknown.push(number),
                Err(StoreError::Io { .. } | StoreError::Full { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, tried).await.expect("it goes on by itself")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_is_cut_is_told_as_unknown_and_what_is_acknowledged_is_there_once() {
    for cut in [Cut::Before, Cut::After] {
        let (store, database, proxy) = behind_a_proxy().await;
        let next = AtomicUsize::new(0);
        let (mut acknowledged, mut unknown) = (Vec::new(), Vec::new());
        for round in 0..CUTS {
            proxy.cut_at_commit(round % 2, cut);
            while proxy.is_armed() {
                acknowledged.push(append(&store, &next, &mut unknown).await);
                // Whoever makes the same call until it is answered has it done once.
                let fired = async {
                    let number = u32::try_from(round).unwrap();
                    while store.fire(cycle(number), at(0)).await.is_err() {}
                };
                tokio::time::timeout(PATIENCE, fired).await.expect("it goes on by itself");
            }
        }
        let other = PostgresStore::open(&database.runtime(), &namespace()).await.unwrap();
        let counts = counts(&other).await;
        assert!(!unknown.is_empty(), "{cut:?}: nothing of an append was cut");
        assert!(acknowledged.iter().all(|number| counts.get(number) == Some(&1)), "{cut:?}: {counts:?}");
        let expected = usize::from(cut == Cut::After);
        for number in unknown {
            assert_eq!(counts.get(&number).copied().unwrap_or_default(), expected, "{cut:?}: {number}");
        }
        assert_eq!(World::new(&other).log_of("cycle_fired").await.len(), CUTS);
        log_is_whole(&other).await;
    }
}

#[tokio::test]
async fn what_a_slow_network_holds_back_is_not_acknowledged_and_done_once_when_it_comes() {
    let (store, database, proxy) = behind_a_proxy().await;
    store.append(vec![record(0)]).await.unwrap();
    let other = PostgresStore::open(&database.runtime(), &namespace()).await.unwrap();
    for round in 1..=4 {
        proxy.set(Way::Held);
        let mut call = pin!(store.append(vec![record(round)]));
        // Whatever the others do meanwhile, they do.
        let elsewhere = async {
            for number in 0..3 {
                other.append(vec![record(100 * round + number)]).await.unwrap();
            }
        };
        tokio::select! {
            biased;
            answer = &mut call => panic!("answered by nobody: {answer:?}"),
            () = elsewhere => {}
        }
        assert!(!counts(&other).await.contains_key(&round));
        proxy.set(Way::Open);
        call.await.unwrap();
    }
    let counts = counts(&other).await;
    assert!(counts.len() == 17 && counts.values().all(|count| *count == 1), "{counts:?}");
    log_is_whole(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewals_do_not_wait_for_work_that_holds_every_connection() {
    let (store, database, _proxy) = behind_a_proxy().await;
    let store = Arc::new(store);
    World::new(&*store).join(at(0)).await;
    // Reads wait for a lock that another session has, until they have every connection of the pool.
    let owner = connect(&database.owner()).await;
    owner.batch_execute("BEGIN; LOCK runs IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let reads: Vec<_> = (0..20)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.counts().await })
        })
        .collect();
    let watcher = connect(&database.owner()).await;
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let all = async {
        while watcher.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) < 16 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, all).await.unwrap();
    assert_eq!(store.renew(Load::default()).await.unwrap(), Renewal::Renewed);
    owner.batch_execute("ROLLBACK").await.unwrap();
    for read in reads {
        read.await.unwrap().unwrap();
    }
}

/// Why nothing is taken, once no connection is left that was cut: of what was sent over one of those nobody knows.
async fn refused(store: &PostgresStore, number: usize) -> StoreError {
    for _ in 0..=CONNECTIONS_MAX {
        let error = store.append(vec![record(number)]).await.unwrap_err();
        if !matches!(error, StoreError::Unknown { .. }) {
            return error;
        }
    }
    panic!("nobody knows still");
}

#[tokio::test]
async fn a_server_that_takes_no_more_connections_is_asked_again() {
    let (store, database, proxy) = behind_a_proxy().await;
    store.append(vec![record(0)]).await.unwrap();
    let owner = connect(&database.owner()).await;
    let limit = |count: i32| format!("ALTER DATABASE {} CONNECTION LIMIT {count}", database.name());
    owner.batch_execute(&limit(0)).await.unwrap();
    proxy.cut();
    let full = refused(&store, 1).await;
    assert!(
        matches!(&full, StoreError::Io { message, .. } if message.contains("too many connections")),
        "{full}"
    );
    owner.batch_execute(&limit(-1)).await.unwrap();
    store.append(vec![record(2)]).await.unwrap();
    // The same where nobody answers at all.
    proxy.set(Way::Refused);
    proxy.cut();
    assert!(matches!(refused(&store, 3).await, StoreError::Io { .. }));
    proxy.set(Way::Open);
    store.append(vec![record(4)]).await.unwrap();
    assert_eq!(counts(&store).await, BTreeMap::from([(0, 1), (2, 1), (4, 1)]));
}

/// Writers go on while this happens to their server, and until each has had this many more records acknowledged.
async fn written_while(cluster: Cluster, happens: impl FnOnce(&Cluster) + Send + 'static) {
    const WRITERS: usize = 3;
    const AFTER: usize = 5;
    cluster.migrated("orbit", "").await;
    let url = cluster.config("orbit_runtime", "orbit");
    let store = Arc::new(PostgresStore::open(&url, &namespace()).await.unwrap());
    let (next, happened) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let (store, next, happened) = (Arc::clone(&store), Arc::clone(&next), Arc::clone(&happened));
            tokio::spawn(async move {
                let (mut acknowledged, mut unknown, mut after) = (Vec::new(), Vec::new(), 0);
                while after < AFTER {
                    after += usize::from(happened.load(Ordering::Relaxed));
                    acknowledged.push(append(&store, &next, &mut unknown).await);
                }
                (acknowledged, unknown)
            })
        })
        .collect();
    while next.load(Ordering::Relaxed) < 20 {
        tokio::task::yield_now().await;
    }
    let cluster = tokio::task::spawn_blocking(move || {
        happens(&cluster);
        cluster
    });
    let _cluster = cluster.await.unwrap();
    happened.store(true, Ordering::Relaxed);
    let (mut acknowledged, mut unknown) = (Vec::new(), Vec::new());
    for writer in writers {
        let (more, not_known) = writer.await.unwrap();
        acknowledged.extend(more);
        unknown.extend(not_known);
    }
    let counts = counts(&store).await;
    assert!(acknowledged.iter().all(|number| counts.get(number) == Some(&1)), "{acknowledged:?} {counts:?}");
    assert!(unknown.iter().all(|number| counts.get(number).is_none_or(|count| *count == 1)));
    assert!(counts.keys().all(|number| acknowledged.contains(number) || unknown.contains(number)));
    log_is_whole(&*store).await;
}

async fn started(disk: Option<SmallDisk>) -> Cluster {
    let durable = ["-c", "synchronous_commit=on", "-c", "full_page_writes=on"];
    tokio::task::spawn_blocking(move || Cluster::start_with(None, &durable, disk.as_ref())).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_a_restart_and_a_crash_of_the_server_nothing_acknowledged_is_lost() {
    written_while(started(None).await, |cluster| {
        for signal in ["INT", "QUIT"] {
            cluster.restart(signal);
        }
    })
    .await;
}

/// A record that does not become smaller.
fn large(number: usize) -> Record {
    const DIGESTS: usize = 4096;
    let text: String = (0..DIGESTS).map(|n| Digest::of(format!("{number} {n}").as_bytes()).hex()).collect();
    let body = json!({ "number": number, "text": text }).as_object().unwrap().clone().into();
    Record::fact(at(0), Kind::NodeStarted, Subject::default(), body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_of_the_server_that_is_full_refuses_and_takes_again_what_was_refused() {
    const MOST: usize = 200;
    let folder = tempfile::tempdir().unwrap();
    let small = folder.path().to_owned();
    // The server has to get there.
    std::fs::set_permissions(&small, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let cluster =
        started(Some(SmallDisk { folder: small.clone(), size: "32m", holds: Holds::Tablespaces })).await;
    let admin = connect(&cluster.config("postgres", "postgres")).await;
    let place = small.display();
    admin.batch_execute(&format!("CREATE TABLESPACE small LOCATION '{place}'")).await.unwrap();
    cluster.migrated("orbit", "TEMPLATE template0 TABLESPACE small").await;
    // What somebody else has left there.
    let fill = format!("COPY (SELECT repeat('x', 1000) FROM generate_series(1, 8000)) TO '{place}/fill'");
    admin.batch_execute(&fill).await.unwrap();
    let store = PostgresStore::open(&cluster.config("orbit_runtime", "orbit"), &namespace()).await.unwrap();
    let mut acknowledged = 0;
    let refused = loop {
        match store.append(vec![large(acknowledged)]).await {
            Ok(()) => acknowledged += 1,
            Err(error) => break error,
        }
        store.log_state().await.expect("what is there can be read");
        assert!(acknowledged < MOST, "a disk of 32 MiB takes no {MOST} records");
    };
    assert!(matches!(refused, StoreError::Full { .. }), "{refused}");
    assert!(!counts(&store).await.is_empty());
    admin.batch_execute(&format!("COPY (SELECT 1) TO PROGRAM 'rm {place}/fill'")).await.unwrap();
    store.append(vec![large(acknowledged)]).await.unwrap();
    let counts = counts(&store).await;
    assert!(counts.len() == acknowledged + 1 && counts.values().all(|count| *count == 1), "{counts:?}");
    log_is_whole(&store).await;
}
