//! Random histories: what a node might ask of a store, in any order, with crashes between.

use jiff::Timestamp;
use orbit_core::config::NotifyEvent;
use orbit_core::digest::Digest;
use orbit_core::record::{Kind, Record, Subject};
use orbit_core::run::{AfterFailure, Interruption, RunEvent, Step};
use orbit_store::Store;
use orbit_store::contract::config::Base;
use orbit_store::contract::dispatch::{ClaimedDelivery, RedriveFilter, Settle};
use orbit_store::contract::retention::Older;
use orbit_store::contract::schedule::{NewCycle, ScheduleCommit, ScheduleCursor};
use orbit_store::contract::selection::{Start, TakeRule, Taken};
use orbit_store::contract::tiers::{ClaimedStep, Free, StepCommitted};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::Arc;

use crate::conformance::normalize::{claim_batch, place, waits};
use crate::conformance::notices;
use crate::conformance::world::{
    OPEN, RUN_PROFILE, World, answer, artifact, at, choice, commit, cycle, dead, done, failed, rule, run,
    succeeded,
};

/// One call of the contract, with what it needs to choose.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Admit {
        runs: u32,
        rejected: bool,
        from: u8,
    },
    ClaimSteps {
        limit: u32,
    },
    ClaimBatch,
    CommitStep {
        which: usize,
        how: u8,
        claim_next: bool,
    },
    ClaimDeliveries {
        endpoint: u8,
        limit: u32,
    },
    ClaimInOrder {
        endpoint: u8,
    },
    GiveUp,
    CommitAttempt {
        which: usize,
        how: u8,
    },
    CancelRun {
        which: usize,
    },
    CancelCycles,
    /// The process ends, and another one joins.
    Join,
    Expire,
    Redrive {
        endpoint: Option<u8>,
    },
    Release {
        processor: bool,
    },
    Pass {
        seconds: i64,
    },
    /// A cycle that waits, or whose selection was begun, failed or found nothing new.
    Fire {
        queued: bool,
        how: u8,
    },
    Schedule {
        fires: bool,
        tells: bool,
    },
    Halt {
        on: bool,
    },
    Notify {
        how: u8,
    },
    /// What is older leaves.
    Drop {
        payloads: bool,
        seconds: i64,
    },
    /// Claims whose answer was lost: those of some of the runs and deliveries are not held.
    Reclaim {
        holds: bool,
    },
}

pub(crate) fn calls() -> impl Strategy<Value = Vec<Call>> {
    // Weighted so that most runs reach their deliveries, and every way to be cut short happens to some.
    let call = prop_oneof![
        6 => (1..4_u32, any::<bool>(), 0..9_u8)
            .prop_map(|(runs, rejected, from)| Call::Admit { runs, rejected, from }),
        12 => (1..4_u32).prop_map(|limit| Call::ClaimSteps { limit }),
        4 => Just(Call::ClaimBatch),
        24 => (any::<usize>(), 0..14_u8, any::<bool>())
            .prop_map(|(which, how, claim_next)| Call::CommitStep { which, how, claim_next }),
        12 => (0..2_u8, 1..3_u32).prop_map(|(endpoint, limit)| Call::ClaimDeliveries { endpoint, limit }),
        4 => (0..2_u8).prop_map(|endpoint| Call::ClaimInOrder { endpoint }),
        1 => Just(Call::GiveUp),
        12 => (any::<usize>(), 0..8_u8).prop_map(|(which, how)| Call::CommitAttempt { which, how }),
        2 => any::<usize>().prop_map(|which| Call::CancelRun { which }),
        1 => Just(Call::CancelCycles),
        2 => Just(Call::Join),
        2 => Just(Call::Expire),
        4 => proptest::option::of(0..2_u8).prop_map(|endpoint| Call::Redrive { endpoint }),
        1 => any::<bool>().prop_map(|processor| Call::Release { processor }),
        4 => (1..400_i64).prop_map(|seconds| Call::Pass { seconds }),
        4 => (any::<bool>(), 0..4_u8).prop_map(|(queued, how)| Call::Fire { queued, how }),
        2 => (any::<bool>(), any::<bool>()).prop_map(|(fires, tells)| Call::Schedule { fires, tells }),
        1 => any::<bool>().prop_map(|on| Call::Halt { on }),
        4 => (0..7_u8).prop_map(|how| Call::Notify { how }),
        2 => (any::<bool>(), 0..400_i64).prop_map(|(payloads, seconds)| Call::Drop { payloads, seconds }),
        2 => any::<bool>().prop_map(|holds| Call::Reclaim { holds }),
    ];
    proptest::collection::vec(call, 1..240)
}

const ENDPOINTS: [&str; 2] = ["archive", "mirror"];

/// What a node would hold in memory: claims, valid and stale ones alike.
#[derive(Clone, Default)]
pub(crate) struct History {
    now: i64,
    joined: bool,
    cycles: u32,
    runs: Vec<uuid::Uuid>,
    steps: Vec<ClaimedStep>,
    deliveries: Vec<ClaimedDelivery>,
}

/// One of the last few, which are mostly still valid; now and then any.
fn recent<T>(all: &[T], which: usize) -> Option<&T> {
    let span = if which.is_multiple_of(8) { all.len() } else { all.len().min(4) };
    all.iter().rev().nth((which / 8) % span.max(1))
}

impl History {
    pub(crate) fn now(&self) -> Timestamp {
        at(self.now)
    }

    pub(crate) async fn call(&mut self, store: &dyn Store, call: Call) {
        let now = at(self.now);
        if !std::mem::replace(&mut self.joined, true) {
            World::new(store).join(now).await;
        }
        match call {
            Call::Admit { runs, rejected, from } => self.admit(store, runs, rejected, from).await,
            Call::ClaimSteps { limit } => {
                self.steps.extend(store.claim_steps(Free::of(limit, OPEN), now).await.unwrap());
            }
            Call::ClaimBatch => {
                let batch = claim_batch(store, OPEN, now).await;
                self.steps.extend(batch.into_iter().flat_map(|batch| batch.items));
            }
            Call::CommitStep { which, how, claim_next } => {
                self.commit_step(store, which, how, claim_next).await;
            }
            Call::ClaimDeliveries { endpoint, limit } => {
                let endpoint = ENDPOINTS[usize::from(endpoint)];
                self.deliveries.extend(store.claim_deliveries(endpoint, limit, OPEN, now).await.unwrap());
            }
            Call::ClaimInOrder { endpoint } => {
                let endpoint = ENDPOINTS[usize::from(endpoint)];
                self.deliveries.extend(store.claim_next_in_order(endpoint, OPEN, now).await.unwrap());
            }
            Call::GiveUp => drop(store.give_up_disabled(now).await.unwrap()),
            Call::CommitAttempt { which, how } => self.commit_attempt(store, which, how).await,
            Call::CancelRun { which } => {
                if let Some(run_id) = recent(&self.runs, which) {
                    store.cancel_run(*run_id, "by hand", now).await.unwrap();
                }
            }
            Call::CancelCycles => drop(store.cancel_cycles(RUN_PROFILE, "overlap", now).await.unwrap()),
            Call::Join => drop(World::new(store).join(now).await),
            Call::Expire => drop(store.expire_runs(now).await.unwrap()),
            Call::Redrive { endpoint } => {
                let endpoint = endpoint.map(|endpoint| ENDPOINTS[usize::from(endpoint)].to_owned());
                World::new(store).redrive(RedriveFilter { endpoint, ..RedriveFilter::default() }, now).await;
            }
            Call::Release { processor } => {
                let processor = if processor { "first" } else { "second" };
                store.release_processor(processor, now).await.unwrap();
            }
            Call::Pass { seconds } => self.now += seconds,
            Call::Fire { queued, how } => self.fire(store, queued, how).await,
            Call::Schedule { fires, tells } => self.schedule(store, fires, tells).await,
            Call::Halt { on: true } => drop(store.halt("by hand", now).await.unwrap()),
            Call::Halt { on: false } => drop(store.resume(now).await.unwrap()),
            Call::Notify { how } => self.notify(store, how).await,
            Call::Drop { payloads, seconds } => {
                let older = Older { than: at(self.now - seconds), limit: 3 };
                if payloads {
                    store.drop_payloads(older, now).await.unwrap();
                } else {
                    store.drop_evidence(older, now).await.unwrap();
                }
            }
            Call::Reclaim { holds } => {
                let held = self.steps.iter().map(|step| step.claim.id);
                let held = held.chain(self.deliveries.iter().map(|delivery| delivery.claim.id));
                let held: Vec<_> = held.filter(|_| holds).collect();
                store.reclaim(&held, now).await.unwrap();
            }
        }
    }

    async fn admit(&mut self, store: &dyn Store, runs: u32, rejected: bool, from: u8) {
        let (world, now) = (World::new(store), at(self.now));
        self.cycles += 1;
        store.fire(cycle(self.cycles), now).await.unwrap();
        let claimed = world.claim_cycle(now).await;
        let label = self.cycles.to_string();
        let release_on = ["failed", "partial", "cancelled"].map(str::to_owned).to_vec();
        let rule = if from.is_multiple_of(2) { TakeRule { release_on, ..rule() } } else { rule() };
        let choice = choice(&claimed, &[&label], rule);
        let taken = store.take_initiation(claimed.claim, choice, now).await.unwrap();
        assert!(matches!(taken, Taken::Initiation(_)));
        let mut runs: Vec<_> = (0..runs).map(|number| run(&claimed, number, now)).collect();
        let step = [Step::Tier2, Step::Tier3, Step::Normalize].get(usize::from(from)).copied();
        runs[0].retry_of = self.runs.last().copied();
        runs[0].start = step.map(|step| Start { step, input: artifact("of an older run") });
        // Whatever begins later has a request.
        runs[0].rejected = (rejected && step.is_none()).then(|| "no such key".to_owned());
        self.runs.extend(runs.iter().map(|run| run.run_id));
        assert!(store.admit(claimed.claim, runs, now).await.unwrap());
    }

    async fn commit_step(&mut self, store: &dyn Store, which: usize, how: u8, claim_next: bool) {
        let Some(step) = recent(&self.steps, which).cloned() else { return };
        let now = at(self.now);
        let mut end = match (how, step.step) {
            (0, _) => failed(step.step, AfterFailure::GiveUp),
            (1, _) => failed(step.step, AfterFailure::Retry { until: at(self.now + 5) }),
            (2, _) => commit(RunEvent::StepInterrupted { step: step.step, cause: Interruption::Halt }),
            (3, _) => commit(RunEvent::DeadlinePassed { step: step.step }),
            (4, _) => done(&step, &[]),
            (5..=7, _) => done(&step, &ENDPOINTS[..1]),
            (13, Step::Normalize) if step.attempt == 1 => {
                commit(RunEvent::StepInterrupted { step: step.step, cause: Interruption::Batch })
            }
            (11.., Step::Tier3) => waits(step.step, place("any", self.now + 10)),
            (8..=10, _) | (_, Step::Normalize) => done(&step, &ENDPOINTS),
            (_, Step::Tier1) => succeeded(Step::Tier1, Step::Tier2),
            (_, Step::Tier2) => succeeded(Step::Tier2, Step::Tier3),
        };
        end.claim_next = claim_next.then(|| Arc::clone(&step.request));
        end.work = end.artifact.is_some().then(|| Digest::of(&[how % 3]));
        let answer = store.commit_step(step.claim, end, now).await.unwrap();
        if let StepCommitted::Done { next: Some(next), .. } = answer {
            self.steps.push(*next);
        }
    }

    async fn commit_attempt(&mut self, store: &dyn Store, which: usize, how: u8) {
        let Some(claimed) = recent(&self.deliveries, which) else { return };
        let now = at(self.now);
        let commit = match how {
            0 => answer("refused", dead()),
            1 => answer("unavailable", Settle::Retry { until: at(self.now + 5) }),
            3 => answer("refused", Settle::Retry { until: at(self.now + 5) }),
            4 => answer("interrupted", Settle::Retry { until: now }),
            2 => {
                let mut gone = answer("gone", dead());
                gone.disable_endpoint = Some("status 410".to_owned());
                gone
            }
            _ => answer("accepted", Settle::Accepted),
        };
        store.commit_attempt(claimed.claim, commit, now).await.unwrap();
    }

    async fn fire(&mut self, store: &dyn Store, queued: bool, how: u8) {
        let now = at(self.now);
        self.cycles += 1;
        let preset = if how == 0 { json!([{ "number": 1.0 }]) } else { Value::Null };
        store.fire(NewCycle { queued, preset, ..cycle(self.cycles) }, now).await.unwrap();
        if how == 0 {
            return;
        }
        let Some(claimed) = store.claim_cycle(now).await.unwrap() else { return };
        match how {
            1 => drop(store.fail_selection(claimed.claim, "no such file", now).await.unwrap()),
            2 if self.cycles.is_multiple_of(2) => store.unclaim_cycle(claimed.claim).await.unwrap(),
            // Mostly one that is held; if it is free again, it is taken and the cycle stays where a crash would leave it.
            2 => {
                let choice = choice(&claimed, &["1"], rule());
                drop(store.take_initiation(claimed.claim, choice, now).await.unwrap());
            }
            _ => {}
        }
    }

    async fn schedule(&mut self, store: &dyn Store, fires: bool, tells: bool) {
        let now = at(self.now);
        self.cycles += 1;
        let standing = store.standing(&[RUN_PROFILE]).await.unwrap().remove(&RUN_PROFILE).unwrap();
        let base = standing.cursor.map(|cursor| cursor.decided_through);
        let due = NewCycle { trigger: "schedule".to_owned(), nominal: now, ..cycle(self.cycles) };
        let body = json!({ "run_profile_id": RUN_PROFILE, "decision": "skipped", "from": now, "to": now });
        let record = Record::fact(now, Kind::ScheduleDecided, Subject::default(), body);
        let commit = ScheduleCommit {
            run_profile_id: RUN_PROFILE,
            base,
            cursor: ScheduleCursor { decided_through: now, open_decisions: json!({ "open": self.cycles }) },
            fire: if fires { vec![due] } else { Vec::new() },
            records: if tells { vec![record] } else { Vec::new() },
        };
        assert!(store.commit_schedules(vec![commit], now).await.unwrap()[0].is_some());
    }

    async fn notify(&mut self, store: &dyn Store, how: u8) {
        let (now, world) = (self.now, World::new(store));
        match how {
            0 => drop(store.activate(&notices::snapshot(false), Base::Any, at(now)).await.unwrap()),
            1..=3 => {
                store.activate(&notices::snapshot(true), Base::Any, at(now)).await.unwrap();
                let end = world.log().await.len() as u64;
                // Nobody reads beyond the end of the log.
                if store.notify_cursor().await.unwrap().is_some_and(|cursor| cursor < end) {
                    let endpoint = ENDPOINTS[usize::from(how % 2)];
                    let told = notices::told(endpoint, NotifyEvent::CycleFailed, end, now);
                    notices::tell(&world, &[told], now).await;
                }
            }
            4 => {
                for notice in notices::due(&world, now).await {
                    notices::owe(&world, notice, now).await;
                }
            }
            5 => {
                if let Some(notice) = notices::due(&world, now).await.pop() {
                    store.forget_notice(notice.notice.notice_id).await.unwrap();
                }
            }
            _ => {
                for claimed in store.claim_notices(ENDPOINTS[0], 2, at(now)).await.unwrap() {
                    let answered = if now % 2 == 0 {
                        answer("accepted", Settle::Accepted)
                    } else {
                        answer("unavailable", Settle::Retry { until: at(now + 5) })
                    };
                    store.commit_attempt(claimed.claim, answered, at(now)).await.unwrap();
                }
            }
        }
    }
}
