//! A database that does not renew, in paused time: work ends before another node may take over, and goes on when it may.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use orbit_core::config::{NamespaceName, SecretRef};
use orbit_core::governance::{Closed, Door};
use orbit_store::StoreError;
use orbit_store::blobs::{Blobs, FolderBlobs};
use orbit_store::contract::Recovered;
use orbit_store::contract::node::{Joined, Joining, Load, NodeStore, NodeView, Renewal, Watched};
use orbit_store::sqlite::SqliteStore;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Holder, KILL_GRACE, LEASE, guard, trusted};
use crate::clock::Clock;
use crate::gate::{Cell, SystemDisk};
use crate::http::Client;
use crate::layout::Layout;
use crate::namespace::Namespace;
use crate::node::Shared;
use crate::notify::Vitals;
use crate::permits::NodePermits;
use crate::running::{Act, Cut};
use crate::secrets::Secrets;
use crate::service::{self, Service as _};
use crate::supervisor::Launcher;

const SECOND: Duration = Duration::from_secs(1);

/// The clock of the runtime, and a wall clock that is set wrong by an hour every second.
struct Running(Instant);

impl Clock for Running {
    fn now(&self) -> Timestamp {
        let passed = self.0.elapsed();
        let wrong = Duration::from_hours(passed.as_secs() % 2);
        Timestamp::from_second(1_700_000_000).unwrap() + passed + wrong
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }

    fn random(&self) -> [u8; 32] {
        [7; 32]
    }
}

struct NoSecrets;

impl Secrets for NoSecrets {
    fn get(&self, _: &NamespaceName, _: &SecretRef) -> Option<String> {
        None
    }
}

/// What a database does with a renewal.
#[derive(Clone, Copy, Debug)]
enum Answers {
    AtOnce,
    /// It is done, and the answer takes so long.
    After(Duration),
    Failing,
    Never,
    Lost,
}

struct Leases {
    clock: Arc<dyn Clock>,
    answers: Mutex<Answers>,
    /// When the lease ends, by the database.
    ends: Mutex<Duration>,
    joins: Mutex<u32>,
}

impl Leases {
    fn grant(&self) {
        *self.ends.lock().unwrap() = self.clock.monotonic() + LEASE;
    }
}

#[async_trait]
impl NodeStore for Leases {
    async fn join(&self, joining: &Joining, _: Timestamp) -> Result<Joined, StoreError> {
        assert_eq!(joining.lease, LEASE);
        *self.joins.lock().unwrap() += 1;
        *self.answers.lock().unwrap() = Answers::AtOnce;
        self.grant();
        Ok(Joined { epoch: 2, expires: true, recovered: Recovered::default() })
    }

    async fn renew(&self, _: Load) -> Result<Renewal, StoreError> {
        let answers = *self.answers.lock().unwrap();
        match answers {
            Answers::AtOnce => self.grant(),
            Answers::After(pause) => {
                self.grant();
                sleep(pause).await;
            }
            Answers::Failing => {
                return Err(StoreError::Io { place: "here".to_owned(), message: "no route".to_owned() });
            }
            Answers::Never => std::future::pending().await,
            Answers::Lost => return Ok(Renewal::Lost),
        }
        Ok(Renewal::Renewed)
    }

    async fn take_over(&self, _: Timestamp) -> Result<Watched, StoreError> {
        unreachable!("nobody looks after others here")
    }

    async fn leave(&self) -> Result<bool, StoreError> {
        unreachable!("nobody leaves here")
    }

    async fn reclaim(&self, _: &[Uuid], _: Timestamp) -> Result<u32, StoreError> {
        unreachable!("nobody claims here")
    }

    async fn nodes(&self, _: Timestamp) -> Result<Vec<NodeView>, StoreError> {
        unreachable!("nobody looks here")
    }
}

struct World {
    _home: tempfile::TempDir,
    clock: Arc<Running>,
    namespace: Arc<Namespace>,
    leases: Arc<Leases>,
    stop: CancellationToken,
}

/// A namespace without a lease.
async fn namespace(clock: &Arc<Running>) -> (tempfile::TempDir, Arc<Namespace>) {
    let home = tempfile::tempdir().unwrap();
    let name = NamespaceName::parse("studio").unwrap();
    let layout = Layout::new(home.path());
    let blobs = Arc::new(Blobs::from(FolderBlobs::open(&layout.blobs(&name)).unwrap()));
    let shared = Shared {
        node: "test".to_owned(),
        lease: LEASE,
        layout,
        clock: Arc::<Running>::clone(clock),
        disk: Arc::new(SystemDisk),
        launcher: Launcher { program: "/nowhere".into(), args: Vec::new() },
        client: Client::system(),
        secrets: Arc::new(NoSecrets),
        paused: Cell::default(),
        halted: Cell::default(),
        reopened_at: Cell::default(),
        superseded: crate::lease::Superseded::default(),
        stopping: CancellationToken::new(),
        runs: NodePermits::new(1, Arc::<Running>::clone(clock)),
        embedded: BTreeMap::new(),
    };
    let store = Arc::new(SqliteStore::in_memory(&name).unwrap());
    (home, Arc::new(Namespace::open(name, Arc::new(shared), store, blobs).await.unwrap()))
}

impl World {
    /// A node that has joined, renews and guards its lease.
    async fn new() -> Self {
        let clock = Arc::new(Running(Instant::now()));
        let (home, namespace) = namespace(&clock).await;
        let leases = Arc::new(Leases {
            clock: Arc::<Running>::clone(&clock),
            answers: Mutex::new(Answers::AtOnce),
            ends: Mutex::default(),
            joins: Mutex::default(),
        });
        leases.grant();
        namespace.trust.granted(clock.monotonic(), LEASE);
        let stop = CancellationToken::new();
        let holder = Arc::new(Holder::over(Arc::clone(&namespace), Arc::<Leases>::clone(&leases)));
        let pulse = Vitals::default().pulse(&namespace.name, "lease");
        let lost = Arc::clone(&namespace.claims.lost);
        let shared_clock = Arc::<Running>::clone(&clock);
        tokio::spawn(service::run(holder, lost, shared_clock, pulse, stop.clone()));
        tokio::spawn(guard(Arc::clone(&namespace), stop.clone()));
        Self { _home: home, clock, namespace, leases, stop }
    }

    fn answers(&self, answers: Answers) {
        *self.leases.answers.lock().unwrap() = answers;
    }

    fn begin(&self) -> Act {
        self.namespace.running.begin(Uuid::from_u128(1))
    }

    fn is_closed(&self) -> bool {
        let doors = [Door::Tick, Door::Admit, Door::Step, Door::Dispatch, Door::Retry];
        let closed = doors.map(|door| self.namespace.ask(door, &[]) == Err(Closed::LeaseLapsed));
        assert!(closed.iter().all(|one| *one == closed[0]), "all doors or none");
        closed[0]
    }

    /// What of the lease is left after programs were killed.
    fn left_to_others(&self) -> Duration {
        self.leases.ends.lock().unwrap().saturating_sub(self.clock.monotonic() + KILL_GRACE)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[tokio::test(start_paused = true)]
async fn work_is_cut_before_the_lease_ends_and_goes_on_once_it_is_renewed() {
    for broken in [Answers::Failing, Answers::Never] {
        let world = World::new().await;
        let act = world.begin();
        sleep(10 * LEASE).await;
        assert!(!world.is_closed() && act.cut().is_none(), "renewals keep it");
        world.answers(broken);
        let ends = *world.leases.ends.lock().unwrap();
        act.token.cancelled().await;
        assert_eq!(act.cut(), Some(Cut::Lapsed));
        assert_eq!(*world.leases.ends.lock().unwrap(), ends);
        assert!(!world.left_to_others().is_zero(), "{broken:?}: all is gone before others may begin");
        // Not sooner than it has to be either.
        assert!(ends + trusted(LEASE) <= world.clock.monotonic() + LEASE + SECOND, "{broken:?}");
        assert!(world.is_closed());
        // One that begins all the same, as between a claim and its answer, is cut too.
        let late = world.namespace.running.begin(Uuid::from_u128(2));
        sleep(SECOND).await;
        assert_eq!(late.cut(), Some(Cut::Lapsed));
        drop((act, late));
        sleep(20 * LEASE).await;
        assert!(world.is_closed());
        world.answers(Answers::AtOnce);
        sleep(LEASE).await;
        assert!(!world.is_closed(), "{broken:?}: the incarnation is still a member");
        assert_eq!(*world.leases.joins.lock().unwrap(), 0);
        let act = world.begin();
        sleep(10 * LEASE).await;
        assert!(act.cut().is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn trust_is_counted_from_the_question_however_late_the_answer_is() {
    let world = World::new().await;
    world.answers(Answers::After(4 * SECOND));
    let act = world.begin();
    for _ in 0..100 {
        sleep(SECOND).await;
        let left = world.namespace.trust.left(world.clock.monotonic()).unwrap();
        assert!(world.clock.monotonic() + left + KILL_GRACE < *world.leases.ends.lock().unwrap());
    }
    assert!(act.cut().is_none(), "slow is not broken");
}

#[tokio::test(start_paused = true)]
async fn who_was_taken_over_joins_anew_when_nothing_is_under_way() {
    let world = World::new().await;
    let act = world.begin();
    world.answers(Answers::Lost);
    // A claim finds it sooner than a renewal would.
    let refused = async { Err(StoreError::NotJoined { place: String::new() }) };
    let claimed = world.namespace.claims.claim(refused, |id: &Uuid| *id).await.unwrap();
    assert!(claimed.is_empty());
    let asked = world.clock.monotonic();
    act.token.cancelled().await;
    assert!(world.clock.monotonic() < asked + SECOND, "at once");
    assert_eq!(act.cut(), Some(Cut::Lapsed));
    sleep(10 * LEASE).await;
    assert!(world.is_closed());
    assert_eq!(*world.leases.joins.lock().unwrap(), 0, "something of the old incarnation is under way");
    drop(act);
    sleep(SECOND).await;
    assert!(!world.is_closed());
    sleep(10 * LEASE).await;
    assert_eq!(*world.leases.joins.lock().unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_a_lease_nothing_lapses() {
    let clock = Arc::new(Running(Instant::now()));
    let (_home, namespace) = namespace(&clock).await;
    // There is nothing to guard.
    guard(Arc::clone(&namespace), CancellationToken::new()).await;
    let holder = Holder::new(Arc::clone(&namespace));
    holder.turn().await.unwrap();
    let act = namespace.running.begin(Uuid::from_u128(1));
    sleep(1000 * LEASE).await;
    assert_eq!((namespace.ask(Door::Step, &[]), act.cut()), (Ok(()), None));
}
