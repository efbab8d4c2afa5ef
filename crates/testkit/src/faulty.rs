//! A store that obeys a [`Plan`]: it wraps another one, numbers every call, and fails, ends or repeats those that the plan names.
//!
//! The table at the end is the whole contract. A method that is missing there does not compile, and a new one is one line.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use orbit_core::config::Snapshot;
use orbit_core::digest::Digest;
use orbit_core::record::{Begin, Record, Signer};
use orbit_core::run::RunState;
use orbit_store::contract::config::{Activated, ActivationView, Base, ConfigStore};
use orbit_store::contract::dispatch::{
    AttemptCommit, ClaimedDelivery, DispatchStore, RedriveFilter, RedriveFrom, Redriven, WaitingEndpoint,
};
use orbit_store::contract::governance::{GovernanceStore, Halt};
use orbit_store::contract::log::{self, Entry, Inclusion, LogSigner, LogState, LogStore, StoredCheckpoint};
use orbit_store::contract::node::{Joined, Joining, Load, NodeStore, NodeView, Renewal, Watched};
use orbit_store::contract::normalize::{ClaimedBatch, DoneBefore, NormalizeStore};
use orbit_store::contract::notify::{ClaimedNotice, DueNotice, NotifyCommit, NotifyStore, OwedNotice};
use orbit_store::contract::payload::{NewPayload, PayloadStore, StoredPayload};
use orbit_store::contract::quarantine::{Quarantine, QuarantineStore};
use orbit_store::contract::record::{RecordFilter, RecordStore, StoredRecord};
use orbit_store::contract::retention::{Amount, DroppedPayload, Older, RetentionStore};
use orbit_store::contract::schedule::{NewCycle, ScheduleCommit, ScheduleStore, Standing};
use orbit_store::contract::selection::{
    Admitting, Choice, ClaimedCycle, NewRun, SelectionStore, TakeRule, Taken,
};
use orbit_store::contract::tiers::{ClaimedStep, Free, RunStore, Startable, StepCommit, StepCommitted};
use orbit_store::contract::view::{
    Counts, CycleView, DeliveryView, Identified, InitiationView, Page, PageRequest, RunRequest, RunView,
    StoreView,
};
use orbit_store::contract::{Claim, OpenDoors};
use orbit_store::{Store, StoreError};
use uuid::Uuid;

use crate::fault::{Acknowledged, Effect, Ended, Fault, Mode, Plan, Repeat, When, error};

/// Calls that are not made twice, and why not.
pub const NOT_REPEATED: [(&str, &str); 8] = [
    ("append", "a record is an event; told twice, it happened twice"),
    ("join", "every join is another incarnation, and says so"),
    ("claim_cycles", "a second claim is of another row"),
    ("claim_steps", "a second claim is of another row"),
    ("claim_batch", "a second claim is of other rows"),
    ("claim_deliveries", "a second claim is of another row"),
    ("claim_next_in_order", "a second claim is of another row"),
    ("claim_notices", "a second claim is of another row"),
];

/// See the module.
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    plan: Arc<Plan>,
    ended: Ended,
}

impl FaultyStore {
    /// A store over another one. `ended` is set when the plan ends the process.
    pub fn new(inner: Arc<dyn Store>, plan: Arc<Plan>, ended: Ended) -> Self {
        Self { inner, plan, ended }
    }

    async fn call<T, F>(
        &self,
        name: &'static str,
        mode: Mode,
        act: impl Fn() -> F + Send + Sync,
    ) -> Result<T, StoreError>
    where
        T: Debug + Send,
        F: Future<Output = Result<T, StoreError>> + Send,
    {
        let fault = self.enter(name, mode).await;
        self.happen(fault, When::Before).await?;
        let answer = act().await?;
        if self.plan.repeat && mode == Mode::Write && NOT_REPEATED.iter().all(|(one, _)| *one != name) {
            let second = act().await;
            self.plan.repeated(Repeat { name, first: format!("{answer:?}"), second: format!("{second:?}") });
        }
        if mode == Mode::Write {
            self.plan.answered(name, &answer);
        }
        self.happen(fault, When::After).await?;
        self.acknowledge(name, mode).await;
        Ok(answer)
    }

    /// The call has its number. Once the process has ended nobody comes further than this.
    async fn enter(&self, name: &'static str, mode: Mode) -> Option<Fault> {
        if self.ended.is_cancelled() {
            std::future::pending::<()>().await;
        }
        self.plan.begin(name, mode)
    }

    async fn happen(&self, fault: Option<Fault>, when: When) -> Result<(), StoreError> {
        let Some(fault) = fault.filter(|fault| fault.when == when) else {
            // Whoever was under way when another call ended the process hears nothing either.
            if self.ended.is_cancelled() {
                std::future::pending::<()>().await;
            }
            return Ok(());
        };
        match fault.effect {
            Effect::End => {
                self.ended.cancel();
                std::future::pending().await
            }
            Effect::Abort => std::process::abort(),
            Effect::Io | Effect::Full => error(fault.effect).map_or(Ok(()), Err),
        }
    }

    /// A read on a thread that blocks, which cannot be left waiting: once the process has ended it is refused, and can do nothing with that.
    fn blocking<T>(
        &self,
        name: &'static str,
        read: impl Fn() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if self.ended.is_cancelled() {
            return Err(closed());
        }
        let fault = self.plan.begin(name, Mode::Read);
        self.happen_blocking(fault, When::Before)?;
        let answer = read()?;
        self.happen_blocking(fault, When::After)?;
        Ok(answer)
    }

    fn happen_blocking(&self, fault: Option<Fault>, when: When) -> Result<(), StoreError> {
        if let Some(fault) = fault.filter(|fault| fault.when == when) {
            match fault.effect {
                Effect::End => self.ended.cancel(),
                Effect::Abort => std::process::abort(),
                Effect::Io | Effect::Full => error(fault.effect).map_or(Ok(()), Err)?,
            }
        }
        if self.ended.is_cancelled() { Err(closed()) } else { Ok(()) }
    }

    /// Notes what is durable now that somebody was answered.
    async fn acknowledge(&self, name: &str, mode: Mode) {
        if mode != Mode::Write {
            return;
        }
        loop {
            let page = self.inner.page(self.plan.noted(), u64::MAX >> 1).await.unwrap();
            let note = |entry: &Entry| Acknowledged {
                call: name.to_owned(),
                position: entry.position,
                digest: Acknowledged::digest_of(&entry.header, entry.body.as_deref()),
            };
            let new: Vec<_> = page.entries.iter().map(note).collect();
            if new.is_empty() {
                return;
            }
            self.plan.acknowledge(new);
        }
    }
}

fn closed() -> StoreError {
    StoreError::Closed { place: "orbit.db".to_owned() }
}

impl Store for FaultyStore {}

/// The implementation of every trait: each method is a call of the inner one's, by its name.
macro_rules! traits {
    (@mode read) => { Mode::Read };
    (@mode write) => { Mode::Write };
    ($($trait:ident {
        $($mode:ident $name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*
    } $(+ { $($blocking:item)* })?)*) => {
        $(
            #[async_trait]
            impl $trait for FaultyStore {
                $(
                    async fn $name(&self, $($argument: $type),*) -> Result<$answer, StoreError> {
                        let act = || self.inner.$name($(Clone::clone(&$argument)),*);
                        self.call(stringify!($name), traits!(@mode $mode), act).await
                    }
                )*
                $($($blocking)*)?
            }
        )*
    };
}

traits! {
    ConfigStore {
        write activate(snapshot: &Snapshot, base: Base, now: Timestamp) -> Activated;
        read active() -> Option<Snapshot>;
        read active_digest() -> Option<Digest>;
        read snapshot(digest: Digest) -> Option<Snapshot>;
        read activations(page: PageRequest) -> Page<ActivationView>;
    }
    ScheduleStore {
        read standing(run_profile_ids: &[Uuid]) -> BTreeMap<Uuid, Standing>;
        write commit_schedules(commits: Vec<ScheduleCommit>, now: Timestamp) -> Vec<Option<Vec<Uuid>>>;
        write fire(cycle: NewCycle, now: Timestamp) -> bool;
        write cancel_cycles(run_profile_id: Uuid, reason: &str, now: Timestamp) -> Vec<Uuid>;
    }
    SelectionStore {
        write claim_cycles(most: u32, now: Timestamp) -> Vec<ClaimedCycle>;
        write take_and_admit(claim: Claim, choice: Choice, admitting: Admitting, now: Timestamp) -> Taken;
        write take_initiation(claim: Claim, choice: Choice, now: Timestamp) -> Taken;
        write admit(claim: Claim, runs: Vec<NewRun>, now: Timestamp) -> bool;
        write fail_selection(claim: Claim, message: &str, now: Timestamp) -> bool;
        write unclaim_cycle(claim: Claim) -> ();
    } + {
        fn taken(&self, rule: &TakeRule, hashes: &[Digest]) -> Result<BTreeSet<Digest>, StoreError> {
            self.blocking("taken", || self.inner.taken(rule, hashes))
        }
    }
    NodeStore {
        write join(joining: &Joining, now: Timestamp) -> Joined;
        write renew(load: Load) -> Renewal;
        write take_over(now: Timestamp) -> Watched;
        write leave() -> bool;
        write reclaim(held: &[Uuid], now: Timestamp) -> u32;
        read nodes(now: Timestamp) -> Vec<NodeView>;
    }
    RunStore {
        read startable(most: u32, doors: OpenDoors, now: Timestamp) -> Startable;
        write claim_steps(free: Free, now: Timestamp) -> Vec<ClaimedStep>;
        write commit_step(claim: Claim, commit: StepCommit, now: Timestamp) -> StepCommitted;
        write expire_runs(now: Timestamp) -> u32;
        read next_step_due() -> Option<Timestamp>;
        write cancel_run(run_id: Uuid, reason: &str, now: Timestamp) -> Option<RunState>;
    }
    NormalizeStore {
        read batches_ready(now: Timestamp) -> Vec<String>;
        write claim_batch(processor: &str, doors: OpenDoors, now: Timestamp) -> Option<ClaimedBatch>;
        read next_batch_due() -> Option<Timestamp>;
        read done_before(key: Digest) -> Option<DoneBefore>;
    }
    DispatchStore {
        write claim_deliveries(endpoint: &str, limit: u32, doors: OpenDoors, now: Timestamp) -> Vec<ClaimedDelivery>;
        write claim_next_in_order(endpoint: &str, doors: OpenDoors, now: Timestamp) -> Option<ClaimedDelivery>;
        write commit_attempt(claim: Claim, commit: AttemptCommit, now: Timestamp) -> bool;
        read waiting_endpoints() -> Vec<WaitingEndpoint>;
        write give_up_disabled(now: Timestamp) -> u32;
        write redrive(filter: RedriveFilter, from: Option<RedriveFrom>, now: Timestamp) -> Redriven;
        read count_redrivable(filter: RedriveFilter) -> u64;
    }
    GovernanceStore {
        write halt(reason: &str, now: Timestamp) -> bool;
        write resume(now: Timestamp) -> bool;
        read halted() -> Option<Halt>;
        read resumed_at() -> Option<Timestamp>;
    }
    QuarantineStore {
        read quarantined() -> Vec<Quarantine>;
        write release_processor(processor: &str, now: Timestamp) -> Vec<Quarantine>;
    }
    NotifyStore {
        read notify_cursor() -> Option<u64>;
        write commit_notices(commit: NotifyCommit) -> bool;
        read due_notices(limit: u32, now: Timestamp) -> Vec<DueNotice>;
        write owe_notice(owed: OwedNotice, now: Timestamp) -> bool;
        write forget_notice(notice_id: Uuid) -> ();
        read next_notice_due() -> Option<Timestamp>;
        write claim_notices(endpoint: &str, limit: u32, now: Timestamp) -> Vec<ClaimedNotice>;
        read notice_endpoints(now: Timestamp) -> Vec<String>;
        read notices_waiting() -> u64;
    }
    PayloadStore {
        write keep_payload(payload: NewPayload, now: Timestamp) -> ();
    } + {
        fn payload(&self, digest: Digest) -> Result<Option<StoredPayload>, StoreError> {
            self.blocking("payload", || self.inner.payload(digest))
        }
    }
    LogStore {
        read signers() -> Vec<LogSigner>;
        read restored_at() -> Option<Timestamp>;
        write begin_signing(begin: Begin, now: Timestamp) -> LogSigner;
        write checkpoint(signer: &Signer) -> Option<StoredCheckpoint>;
        read log_state() -> LogState;
        read checkpoint_numbered(number: u64) -> Option<StoredCheckpoint>;
        read checkpoints(from: u64, limit: u32) -> Vec<StoredCheckpoint>;
        read inclusion(position: u64) -> Option<Inclusion>;
        read consistency(old: u64, new: u64) -> Option<Vec<Digest>>;
        read page(from: u64, to: u64) -> log::Page;
        read last_of_run(run_id: Uuid) -> Option<u64>;
    } + {
        fn witness(&self, size: u64, root: Digest) {
            self.inner.witness(size, root);
        }
    }
    RetentionStore {
        write drop_evidence(older: Older, now: Timestamp) -> Amount;
        write drop_payloads(older: Older, now: Timestamp) -> Vec<DroppedPayload>;
        read droppable(evidence: Older, payloads: Older) -> (Amount, Amount);
        read unnamed(digests: Vec<Digest>) -> Vec<Digest>;
        write give_back(pages: u32) -> u64;
    }
    RecordStore {
        write append(records: Vec<Record>) -> ();
        read records(filter: RecordFilter, limit: u32) -> Vec<StoredRecord>;
    }
    StoreView {
        read cycles(page: PageRequest) -> Page<CycleView>;
        read cycle(cycle_id: Uuid) -> Option<CycleView>;
        read runs(cycle_id: Option<Uuid>, page: PageRequest) -> Page<RunView>;
        read run(run_id: Uuid) -> Option<RunView>;
        read run_request(run_id: Uuid) -> Option<RunRequest>;
        read ids_that_begin(of: Identified, beginning: &str, limit: u32) -> Vec<Uuid>;
        read deliveries(state: Option<String>, page: PageRequest) -> Page<DeliveryView>;
        read delivery(delivery_id: Uuid) -> Option<DeliveryView>;
        read initiations(page: PageRequest) -> Page<InitiationView>;
        read counts() -> Counts;
    }
}
