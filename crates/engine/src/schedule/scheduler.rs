//! The scheduler: decides, for each run profile of the active snapshot, every firing that has come due since its cursor.
//!
//! Any number of nodes may do this: the cursor is committed against the one that the decision was made on, and a cycle's identity is
//! unique, so one of them gets through. Each run profile is decided in a task of its own; its failure or panic harms no other.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures_util::future;
use jiff::Timestamp;
use orbit_core::config::{RunProfile, Snapshot};
use orbit_core::digest::Digest;
use orbit_core::governance::{Closed, Door};
use orbit_core::id::{Trigger, cycle_id};
use orbit_core::record::{Kind, Record, Subject};
use orbit_core::schedule::{Cursor, Facts, Load, Plan, Schedule, ScheduleError, decide};
use orbit_store::StoreError;
use orbit_store::contract::earlier;
use orbit_store::contract::schedule::{NewCycle, ScheduleCommit, ScheduleCursor};
use serde_json::Value;
use uuid::Uuid;

use crate::gate::Cell;
use crate::namespace::Namespace;
use crate::running::Cut;
use crate::service::{Service, Turn, TurnError, panic_message};

/// Run profiles that are decided at once.
const DECIDING_MAX: usize = 32;

/// See the module.
pub struct Scheduler {
    namespace: Arc<Namespace>,
    started_at: Timestamp,
    compiled: Cell<Option<Arc<Compiled>>>,
    /// What each run profile failed with last, so that a lasting failure is reported once.
    failing: Mutex<BTreeMap<Uuid, String>>,
}

/// The schedules of a snapshot.
struct Compiled {
    snapshot: Arc<Snapshot>,
    schedules: Vec<Result<Arc<Scheduled>, (Uuid, ScheduleError)>>,
}

/// A run profile with its schedule.
struct Scheduled {
    run_profile: RunProfile,
    schedule: Schedule,
    snapshot: Digest,
}

/// Why a run profile could not be decided.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    #[error("the decision panicked: {message}")]
    Panicked { message: String },
}

impl Scheduler {
    /// The scheduler of a namespace. What came due before now counts as missed while no node was up.
    pub fn new(namespace: Arc<Namespace>) -> Self {
        let started_at = namespace.shared.clock.now();
        Self { namespace, started_at, compiled: Cell::default(), failing: Mutex::default() }
    }

    /// The schedules of the active snapshot, compiled once for each.
    fn compiled(&self) -> Option<Arc<Compiled>> {
        let snapshot = self.namespace.active()?;
        if let Some(compiled) = self.compiled.get().filter(|known| Arc::ptr_eq(&known.snapshot, &snapshot)) {
            return Some(compiled);
        }
        let digest = snapshot.digest();
        let schedules =
            snapshot.run_profiles.values().map(|run_profile| Scheduled::compile(run_profile, digest));
        let schedules = schedules.collect();
        let compiled = Arc::new(Compiled { snapshot, schedules });
        self.compiled.set(Some(Arc::clone(&compiled)));
        Some(compiled)
    }

    async fn decide(
        &self,
        id: Uuid,
        scheduled: &Result<Arc<Scheduled>, (Uuid, ScheduleError)>,
        cursor: Option<ScheduleCursor>,
        reopened_at: Option<Timestamp>,
    ) -> (Uuid, Result<Turn, Failure>) {
        let scheduled = match scheduled {
            Ok(scheduled) => Arc::clone(scheduled),
            Err((_, error)) => return (id, Err(error.clone().into())),
        };
        let namespace = Arc::clone(&self.namespace);
        let times = Times { started_at: self.started_at, reopened_at };
        let task = tokio::spawn(async move { scheduled.turn(&namespace, cursor, times).await });
        let decided = match task.await {
            Ok(turn) => turn.map_err(Failure::from),
            Err(error) => Err(Failure::Panicked { message: panic_message(error) }),
        };
        (id, decided)
    }

    /// Reports a failure unless it is the one that was reported last.
    async fn report(&self, run_profile_id: Uuid, failure: Option<Failure>) {
        let message = failure.map(|failure| failure.to_string());
        let before = {
            let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
            match &message {
                Some(message) => failing.insert(run_profile_id, message.clone()),
                None => failing.remove(&run_profile_id),
            }
        };
        let news = before != message;
        if let Some(message) = message.filter(|_| news) {
            let message = format!("run profile `{run_profile_id}`: {message}");
            self.namespace.record_failure("schedule", &message).await;
        }
    }
}

#[async_trait]
impl Service for Scheduler {
    fn name(&self) -> &'static str {
        "schedule"
    }

    async fn turn(&self) -> Result<Turn, TurnError> {
        let Some(compiled) = self.compiled() else { return Ok(Turn::default()) };
        let mut cursors = self.namespace.store.cursors().await?;
        let resumed_at = self.namespace.store.resumed_at().await?;
        let reopened_at = self.namespace.shared.reopened_at.get().max(resumed_at);
        let mut all = Turn::default();
        // Several at once, so that they share a flush.
        for some in compiled.schedules.chunks(DECIDING_MAX) {
            let mut deciding = Vec::with_capacity(some.len());
            for scheduled in some {
                let id = match scheduled {
                    Ok(scheduled) => scheduled.run_profile.run_profile_id,
                    Err((id, _)) => *id,
                };
                deciding.push(self.decide(id, scheduled, cursors.remove(&id), reopened_at));
            }
            for (id, turn) in future::join_all(deciding).await {
                let failure = match turn {
                    Ok(turn) => {
                        all = Turn { done: all.done + turn.done, next: earlier(all.next, turn.next) };
                        None
                    }
                    Err(failure) => Some(failure),
                };
                self.report(id, failure).await;
            }
        }
        Ok(all)
    }

    async fn failed(&self, error: &TurnError) {
        self.namespace.record_failure(self.name(), &error.to_string()).await;
    }
}

/// What a decision needs to know of the past.
#[derive(Clone, Copy)]
struct Times {
    started_at: Timestamp,
    reopened_at: Option<Timestamp>,
}

impl Scheduled {
    fn compile(run_profile: &RunProfile, snapshot: Digest) -> Result<Arc<Self>, (Uuid, ScheduleError)> {
        let id = run_profile.run_profile_id;
        let schedule =
            Schedule::compile(&run_profile.execution_policy.schedule, id).map_err(|error| (id, error))?;
        Ok(Arc::new(Self { run_profile: run_profile.clone(), schedule, snapshot }))
    }

    /// Decides and commits.
    async fn turn(
        &self,
        namespace: &Namespace,
        cursor: Option<ScheduleCursor>,
        times: Times,
    ) -> Result<Turn, StoreError> {
        let RunProfile { run_profile_id, label, execution_policy: policy, state, .. } = &self.run_profile;
        let now = namespace.shared.clock.now();
        let document = format!("run profile `{label}`");
        let closed = namespace.ask(Door::Tick, &[(&document, *state)]).err();
        if closed == Some(Closed::LeaseLapsed) {
            // Nothing is decided: another node does, or this one when it is renewed.
            return Ok(Turn::default());
        }
        let base = cursor.as_ref().map(|cursor| cursor.decided_through);
        let cursor = cursor.map(|ScheduleCursor { decided_through, open_decisions }| Cursor {
            decided_through,
            memory: open_decisions,
        });
        let mut facts = Facts {
            schedule: &self.schedule,
            overlap: policy.overlap,
            catch_up: &policy.catch_up,
            resume: &policy.resume,
            now,
            started_at: times.started_at,
            reopened_at: times.reopened_at,
            closed: closed.as_ref(),
            load: Load::default(),
        };
        let mut plan = decide(&facts, cursor.as_ref());
        if !plan.fire.is_empty() {
            // Only a firing depends on what is under way; most turns need not ask.
            let load = namespace.store.cycle_load(*run_profile_id).await?;
            facts.load = Load { active: load.active, queued: load.queued };
            plan = decide(&facts, cursor.as_ref());
        }
        let turn = Turn { done: plan.fire.len() + usize::from(plan.more), next: plan.next };
        if plan.changed {
            self.commit(namespace, plan, base, now).await?;
        }
        Ok(turn)
    }

    async fn commit(
        &self,
        namespace: &Namespace,
        plan: Plan,
        base: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let run_profile_id = self.run_profile.run_profile_id;
        if plan.fire.iter().any(|fire| fire.cancel_others) {
            // Before the commit, which brings the cycle that must not be cancelled. A crash between the two leaves the firing undecided.
            let reason = "a later firing of its run profile cancelled it";
            for run_id in namespace.store.cancel_cycles(run_profile_id, reason, now).await? {
                namespace.running.cut(run_id, Cut::Cancelled);
            }
        }
        let commit = self.committed(namespace, plan, base, now);
        // None means that another node was faster; the next turn begins at its cursor.
        let fired = namespace.store.commit_schedule(commit, now).await?.unwrap_or_default();
        if !fired.is_empty() {
            namespace.nudges.selection.notify_one();
        }
        Ok(())
    }

    fn committed(
        &self,
        namespace: &Namespace,
        plan: Plan,
        base: Option<Timestamp>,
        now: Timestamp,
    ) -> ScheduleCommit {
        let RunProfile { run_profile_id, label, .. } = &self.run_profile;
        let trigger = Trigger::Schedule;
        let fire = plan.fire.into_iter().map(|fire| NewCycle {
            cycle_id: cycle_id(&namespace.name, *run_profile_id, &trigger, fire.nominal),
            run_profile_id: *run_profile_id,
            run_profile: label.to_string(),
            trigger: trigger.to_string(),
            nominal: fire.nominal,
            snapshot: self.snapshot,
            queued: fire.queued,
            preset: Value::Null,
            detail: fire.detail,
        });
        let subject = Subject { snapshot: Some(self.snapshot), ..Subject::default() };
        let record = |body| Record::fact(now, Kind::ScheduleDecided, subject, body);
        let records =
            plan.decided.iter().map(|decided| record(decided.body(*run_profile_id, label.as_str())));
        ScheduleCommit {
            run_profile_id: *run_profile_id,
            base,
            cursor: ScheduleCursor {
                decided_through: plan.cursor.decided_through,
                open_decisions: plan.cursor.memory,
            },
            fire: fire.collect(),
            records: records.collect(),
        }
    }
}
