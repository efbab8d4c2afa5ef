//! The scheduler: decides every firing that has come due since its run profile's cursor.
//!
//! A turn looks only at those of whom the agenda says that they are due, or that something has changed for; it reads their cursors, decides, and commits many
//! decisions at once. Any number of nodes may do this: each cursor is committed against the one that its decision was made on, and a cycle's identity is
//! unique, so one of them gets through. Whoever was outrun looks again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::{join_all, try_join};
use jiff::{SignedDuration, Timestamp};
use orbit_core::governance::{Closed, Door, GateFacts, gate};
use orbit_store::StoreError;
use orbit_store::contract::schedule::{ScheduleCommit, Standing};
use tokio::sync::Mutex;
use uuid::Uuid;

use super::agenda::{Agenda, Picked};
use super::compiled::Compiled;
use super::decision::{About, Decided, Decision, Failure, decide_some};
use crate::namespace::Namespace;
use crate::running::Cut;
use crate::service::{POLL_MAX, Service, Turn, TurnError, panic_message};

/// Run profiles that are neither due nor owed a look, and are looked at all the same every [`POLL_MAX`]: whatever was missed is found.
const ROUND_MAX: usize = 250;
/// After this a run profile that failed is tried again.
const FAILED_PAUSE: SignedDuration = SignedDuration::from_secs(1);

/// See the module.
pub struct Scheduler {
    namespace: Arc<Namespace>,
    started_at: Timestamp,
    /// Held for a turn.
    state: Mutex<State>,
}

/// What is remembered between turns, and found anew by the next process.
#[derive(Default)]
struct State {
    compiled: Option<Arc<Compiled>>,
    agenda: Agenda,
    /// The time of the last turn, and how the gate was then.
    seen: Option<(Timestamp, Option<Closed>)>,
    /// When some were looked at in the round, by the clock that does not jump.
    round_at: Option<Duration>,
    /// What each run profile failed with last, so that a lasting failure is reported once.
    failing: BTreeMap<Uuid, String>,
}

/// What a commit came to: the cycles that are new, or none if another node was faster.
type Committed = Result<Option<Vec<Uuid>>, StoreError>;

impl Scheduler {
    /// The scheduler of a namespace. What came due before now counts as missed while no node was up.
    pub fn new(namespace: Arc<Namespace>) -> Self {
        let started_at = namespace.shared.clock.now();
        Self { namespace, started_at, state: Mutex::default() }
    }

    /// The schedules of the active snapshot, compiled once for each.
    async fn compiled(&self, state: &mut State) -> Result<Option<Arc<Compiled>>, TurnError> {
        let Some(snapshot) = self.namespace.active() else { return Ok(None) };
        let former = state.compiled.clone();
        if let Some(former) = former.as_ref().filter(|known| Arc::ptr_eq(&known.snapshot, &snapshot)) {
            return Ok(Some(Arc::clone(former)));
        }
        let compiled = blocking(move || Compiled::new(snapshot, former.as_deref())).await?;
        let compiled = Arc::new(compiled);
        state.agenda.follow(compiled.ids());
        state.failing.retain(|id, _| compiled.get(*id).is_some());
        state.compiled = Some(Arc::clone(&compiled));
        Ok(Some(compiled))
    }

    /// Where they stand. One whose row cannot be read fails for itself.
    async fn standing(&self, ids: &[Uuid]) -> Result<(VecDeque<(Uuid, Standing)>, Vec<Decided>), StoreError> {
        let store = &self.namespace.store;
        match store.standing(ids).await {
            Ok(mut all) => {
                let standing = |id: &Uuid| (*id, all.remove(id).unwrap_or_default());
                Ok((ids.iter().map(standing).collect(), Vec::new()))
            }
            Err(StoreError::Corrupt { .. }) => {
                let (mut standing, mut failed) = (VecDeque::new(), Vec::new());
                for id in ids {
                    match store.standing(&[*id]).await {
                        Ok(mut one) => standing.push_back((*id, one.remove(id).unwrap_or_default())),
                        Err(error @ StoreError::Corrupt { .. }) => failed.push((*id, Err(error.into()))),
                        Err(error) => return Err(error),
                    }
                }
                Ok((standing, failed))
            }
            Err(error) => Err(error),
        }
    }

    /// Decides about these and commits it; how many cycles fired.
    async fn look(
        &self,
        state: &mut State,
        (compiled, gate): (Arc<Compiled>, GateFacts),
        ids: &[Uuid],
        now: Timestamp,
    ) -> Result<usize, TurnError> {
        let namespace = &self.namespace;
        let ((mut standing, failed), resumed_at) =
            try_join(self.standing(ids), namespace.store.resumed_at()).await?;
        let reopened_at = namespace.shared.reopened_at.get().max(resumed_at);
        let (name, started_at) = (namespace.name.clone(), self.started_at);
        let about = Arc::new(About { namespace: name, compiled, gate, now, started_at, reopened_at });
        let mut fired = self.carry_out(state, failed, now).await?;
        while !standing.is_empty() {
            let about = Arc::clone(&about);
            let (decided, rest) = blocking(move || {
                let decided = decide_some(&about, &mut standing);
                (decided, standing)
            })
            .await?;
            standing = rest;
            fired += self.carry_out(state, decided, now).await?;
        }
        Ok(fired)
    }

    /// Commits what was decided and notes when each is due again; how many cycles fired.
    async fn carry_out(
        &self,
        state: &mut State,
        mut decided: Vec<Decided>,
        now: Timestamp,
    ) -> Result<usize, TurnError> {
        self.cancel_others(&mut decided, now).await;
        let commit = |(_, decision): &mut Decided| decision.as_mut().ok().and_then(|it| it.commit.take());
        let commits: Vec<_> = decided.iter_mut().filter_map(commit).collect();
        let committing: Vec<_> = commits.iter().map(|commit| commit.run_profile_id).collect();
        let answers = self.commit(commits, now).await?;
        let mut answers: BTreeMap<Uuid, Committed> = committing.into_iter().zip(answers).collect();
        let mut fired = 0;
        for (id, decision) in decided {
            let next = match (decision, answers.remove(&id)) {
                (Err(failure), _) => Err(failure),
                (Ok(_), Some(Err(error))) => Err(error.into()),
                // Another node was faster; the next turn begins at its cursor.
                (Ok(_), Some(Ok(None))) => Ok(Some(now)),
                (Ok(Decision { next, .. }), Some(Ok(Some(new)))) => {
                    fired += new.len();
                    Ok(next)
                }
                (Ok(Decision { next, .. }), None) => Ok(next),
            };
            let again = || now.checked_add(FAILED_PAUSE).ok();
            state.agenda.set(id, next.as_ref().map_or_else(|_| again(), |next| *next));
            self.report(state, id, next.err()).await;
        }
        if fired > 0 {
            self.namespace.nudges.selection.notify_one();
        }
        Ok(fired)
    }

    /// Before the commit, which brings the cycle that must not be cancelled. A crash between the two leaves the firing undecided.
    async fn cancel_others(&self, decided: &mut [Decided], now: Timestamp) {
        let namespace = &self.namespace;
        let cancels = |(_, decision): &&mut Decided| decision.as_ref().is_ok_and(|it| it.cancels_others);
        let cancelling = decided.iter_mut().filter(cancels).map(|(id, decision)| async move {
            let reason = "a later firing of its run profile cancelled it";
            match namespace.store.cancel_cycles(*id, reason, now).await {
                Ok(runs) => runs.into_iter().for_each(|run| _ = namespace.running.cut(run, Cut::Cancelled)),
                Err(error) => *decision = Err(error.into()),
            }
        });
        join_all(cancelling).await;
    }

    /// Commits all of them at once; the answer to each. An error if none of several could be.
    async fn commit(
        &self,
        commits: Vec<ScheduleCommit>,
        now: Timestamp,
    ) -> Result<Vec<Committed>, StoreError> {
        let store = &self.namespace.store;
        if commits.is_empty() {
            return Ok(Vec::new());
        }
        let error = match store.commit_schedules(commits.clone(), now).await {
            Ok(answers) => return Ok(answers.into_iter().map(Ok).collect()),
            Err(error) => error,
        };
        if commits.len() == 1 {
            return Ok(vec![Err(error)]);
        }
        // One of them may be at fault, which must not harm the others: each for itself, together, so that they share a flush.
        let alone = commits.into_iter().map(|commit| async move {
            let mut answers = store.commit_schedules(vec![commit], now).await?;
            Ok(answers.pop().flatten())
        });
        let answers: Vec<Committed> = join_all(alone).await;
        if answers.iter().all(Result::is_err) { Err(error) } else { Ok(answers) }
    }

    /// Reports a failure unless it is the one that was reported last.
    async fn report(&self, state: &mut State, run_profile_id: Uuid, failure: Option<Failure>) {
        let message = failure.map(|failure| failure.to_string());
        let before = match &message {
            Some(message) => state.failing.insert(run_profile_id, message.clone()),
            None => state.failing.remove(&run_profile_id),
        };
        let news = before != message;
        if let Some(message) = message.filter(|_| news) {
            let message = format!("run profile `{run_profile_id}`: {message}");
            self.namespace.record_failure("schedule", &message).await;
        }
    }
}

impl State {
    /// Everybody is owed a look if the gate is another one than in the last turn, or the clock was set back. Forward it may go as far as it likes: then more are due.
    fn notice(&mut self, now: Timestamp, closed: Option<Closed>) {
        let same = self.seen.as_ref().is_some_and(|(then, before)| *then <= now && *before == closed);
        if !same {
            self.agenda.owe_all();
        }
        self.seen = Some((now, closed));
    }

    fn pick(&mut self, now: Timestamp, monotonic: Duration) -> Picked {
        let is_time = self.round_at.is_none_or(|last| monotonic.saturating_sub(last) >= POLL_MAX);
        if is_time {
            self.round_at = Some(monotonic);
        }
        self.agenda.pick(now, if is_time { ROUND_MAX } else { 0 })
    }
}

/// How the gate stands for everybody; each run profile's own state comes with the snapshot.
fn closed(facts: &GateFacts) -> Option<Closed> {
    let mut closed = gate(Door::Tick, facts, &[]).err()?;
    if let Closed::DiskFloor { free_bytes, .. } = &mut closed {
        // It changes all the time; only where the floor is matters.
        *free_bytes = 0;
    }
    Some(closed)
}

/// Does what may take long on a thread that may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, TurnError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| TurnError::Panicked { message: panic_message(error) })
}

#[async_trait]
impl Service for Scheduler {
    fn name(&self) -> &'static str {
        "schedule"
    }

    async fn turn(&self) -> Result<Turn, TurnError> {
        let state = &mut *self.state.lock().await;
        let Some(compiled) = self.compiled(state).await? else { return Ok(Turn::default()) };
        let clock = &self.namespace.shared.clock;
        let (now, gate) = (clock.now(), self.namespace.gate_facts());
        state.notice(now, closed(&gate));
        if gate.lease_lapsed {
            // Nothing is decided: another node does, or this one when it is renewed.
            return Ok(Turn::default());
        }
        let picked = state.pick(now, clock.monotonic());
        let mut done = 0;
        if !picked.ids.is_empty() {
            done = self.look(state, (compiled, gate), &picked.ids, now).await?;
            state.agenda.looked_at(&picked);
        }
        // Whoever came due meanwhile is looked at at once.
        done += usize::from(state.agenda.is_pending(clock.now()));
        Ok(Turn::did(done, state.agenda.next()))
    }

    async fn failed(&self, error: &TurnError) {
        self.namespace.record_failure(self.name(), &error.to_string()).await;
    }
}
