//! What one namespace has at work, counted over all of it and by profile, run profile and processor.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use orbit_core::config::{NamespaceName, Snapshot};
use orbit_core::tiers::{Lane, Limit, Room, Waits};
use tokio::sync::Notify;

use super::node::{Asker, NodePermit, NodePermits, Taken};
use crate::clock::Clock;

/// Attempts at once of a processor that the active snapshot does not have, but runs of older ones use.
const OTHER_PROCESSORS: u32 = 1;

/// See the module.
pub struct Permits {
    counts: Arc<Counts>,
    node: Arc<NodePermits>,
    /// Held while permits are looked at and taken, so that two that see the same one free do not both take it.
    admission: tokio::sync::Mutex<()>,
}

/// What permits of a namespace share.
struct Counts {
    namespace: NamespaceName,
    clock: Arc<dyn Clock>,
    /// The run workers.
    wake: Arc<Notify>,
    /// Those who start one program for several runs.
    wake_programs: Arc<Notify>,
    state: Mutex<State>,
}

struct State {
    snapshot: Option<Arc<Snapshot>>,
    /// What it limits, which may be little of very much: it is looked through at every claim.
    limited: Vec<Limit>,
    used: BTreeMap<Limit, u32>,
    waits: Waits,
}

/// A counted permit, until this is dropped; if it was the last that was free, those who wait for one look again then.
pub struct Permit {
    counts: Arc<Counts>,
    of: Limit,
}

/// What a run holds while it works, from its first step of a stretch to the last.
pub struct RunPermits {
    _of: [Permit; 3],
    _node: NodePermit,
}

/// What a program that is no step of one run holds: a batch.
pub struct Program {
    _of: [Permit; 2],
    _node: NodePermit,
}

/// The right to look at permits and to take them.
pub struct Admission<'a> {
    permits: &'a Permits,
    _only: tokio::sync::MutexGuard<'a, ()>,
}

/// A limit and how much of it is taken, for screens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// What is limited.
    pub limit: Limit,
    /// Permits that are taken.
    pub used: u32,
    /// How many there are; none if it is not limited.
    pub most: Option<u32>,
}

impl Permits {
    /// Nothing is at work; the first nudge is that of the run workers, the second that of who starts programs for several runs.
    pub fn new(
        namespace: NamespaceName,
        clock: Arc<dyn Clock>,
        [wake, wake_programs]: [Arc<Notify>; 2],
        node: Arc<NodePermits>,
    ) -> Self {
        let waits = Waits::new(clock.now());
        let state = Mutex::new(State { snapshot: None, limited: Vec::new(), used: BTreeMap::new(), waits });
        let counts = Arc::new(Counts { namespace, clock, wake, wake_programs, state });
        Self { counts, node, admission: tokio::sync::Mutex::default() }
    }

    /// The limits of this snapshot count from now on.
    pub fn limits_of(&self, snapshot: Arc<Snapshot>) {
        let limited = limits(&snapshot).filter(|limit| most(Some(&snapshot), limit).is_some()).collect();
        let mut state = self.counts.lock();
        (state.snapshot, state.limited) = (Some(snapshot), limited);
        let now = self.counts.clock.now();
        let known: Vec<_> = state.used.keys().chain(state.waits.full.keys()).cloned().collect();
        for limit in known.into_iter().filter(|limit| !matches!(limit, Limit::Gate)) {
            state.note(limit, now);
        }
        // Of what the snapshot no longer has, nothing is told any more.
        let State { snapshot, used, waits, .. } = &mut *state;
        waits.full.retain(|limit, _| {
            used.contains_key(limit) || *limit == Limit::Gate || most(snapshot.as_deref(), limit).is_some()
        });
    }

    /// First attempts may start, or the gate is closed to them.
    pub fn note_gate(&self, closed: bool) {
        let now = self.counts.clock.now();
        let mut state = self.counts.lock();
        state.note_full(Limit::Gate, closed, now);
    }

    /// Waits for the right to look at permits and to take them. Held no longer than a claim takes.
    pub async fn admit(&self) -> Admission<'_> {
        Admission { permits: self, _only: self.admission.lock().await }
    }

    /// The same, where nobody has it: for who can do without.
    pub fn try_admit(&self) -> Option<Admission<'_>> {
        self.admission.try_lock().ok().map(|only| Admission { permits: self, _only: only })
    }

    /// No step can start: the namespace does not wait for a permit of the node.
    pub fn withdraw(&self) {
        self.node.withdraw(&self.asker(false));
    }

    /// No program for several runs is to start.
    pub fn withdraw_program(&self) {
        self.node.withdraw(&self.asker(true));
    }

    fn asker(&self, program: bool) -> Asker {
        Asker { namespace: self.counts.namespace.clone(), program }
    }

    /// Whether a run may go on to its next step: no other namespace waits for its permit of the node.
    pub fn may_go_on(&self) -> bool {
        !self.node.is_wanted_by_another(&self.counts.namespace)
    }

    /// The namespace as a whole, then everything of which all permits are taken.
    pub fn counts(&self) -> Vec<Count> {
        let state = self.counts.lock();
        let of = |limit: &Limit, used: u32| Count { limit: limit.clone(), used, most: state.most(limit) };
        let whole = state.used.get(&Limit::Namespace).copied().unwrap_or(0);
        let others = state.used.iter().filter(|(limit, _)| **limit != Limit::Namespace);
        let full = others
            .map(|(limit, used)| of(limit, *used))
            .filter(|count| count.most.is_some_and(|most| count.used >= most));
        std::iter::once(of(&Limit::Namespace, whole)).chain(full).collect()
    }
}

impl Admission<'_> {
    /// Permits that are free in the namespace, at most so many.
    pub fn room(&self, most: u32) -> Room {
        let state = self.permits.counts.lock();
        let mut room = Room { runs: most, other_processors: OTHER_PROCESSORS, ..Room::of(0) };
        if let Some(free) = state.free(&Limit::Namespace) {
            room.runs = room.runs.min(free);
        }
        if state.snapshot.is_none() {
            return room;
        }
        // What is in use may be of a document that the snapshot no longer has.
        for limit in state.used.keys().chain(&state.limited) {
            let Some(free) = state.free(limit) else { continue };
            match limit {
                Limit::Processor(name) => _ = room.processors.insert(name.clone(), free),
                Limit::RunProfile(id) => _ = room.run_profiles.insert(*id, free),
                Limit::Profile(id) => _ = room.profiles.insert(*id, free),
                Limit::Gate | Limit::Namespace | Limit::Node => {}
            }
        }
        room
    }

    /// What held runs of these lanes until now.
    pub fn waits<'l>(&self, lanes: impl IntoIterator<Item = &'l Lane>) -> Waits {
        let node = self.permits.node.fullness();
        let state = self.permits.counts.lock();
        let mut waits = Waits::new(state.waits.began);
        for limit in lanes.into_iter().flat_map(Limit::of) {
            if let Some(full) = state.waits.full.get(&limit) {
                waits.full.insert(limit, full.clone());
            }
        }
        waits.full.insert(Limit::Node, node);
        waits
    }

    /// Up to so many permits of the node, in turn with the other namespaces.
    pub fn node(&self, wanted: u32) -> Taken {
        self.permits.node.take(&self.permits.asker(false), &self.permits.counts.wake, wanted)
    }

    /// What a step of this lane needs, and for its processor; that it is free was seen in [`Self::room`].
    pub fn take(&self, lane: &Lane, node: NodePermit) -> (RunPermits, Permit) {
        let counts = &self.permits.counts;
        let of = [Limit::Namespace, Limit::Profile(lane.profile_id), Limit::RunProfile(lane.run_profile_id)];
        let run = RunPermits { _of: of.map(|limit| counts.take(limit)), _node: node };
        (run, counts.take(Limit::Processor(lane.processor.clone())))
    }

    /// A permit of a processor, if one is free.
    pub fn processor(&self, name: &str) -> Option<Permit> {
        let of = Limit::Processor(name.to_owned());
        let free = self.permits.counts.lock().free(&of);
        (free != Some(0)).then(|| self.permits.counts.take(of))
    }

    /// The permits of one program of a processor that works for several runs, or none if one of them is not free; a nudge tells when it is.
    pub fn program(&self, processor: &str) -> Option<Program> {
        let counts = &self.permits.counts;
        let of = [Limit::Namespace, Limit::Processor(processor.to_owned())];
        let all_free = {
            let state = counts.lock();
            of.iter().all(|limit| state.free(limit) != Some(0))
        };
        if !all_free {
            self.permits.withdraw_program();
            return None;
        }
        let node =
            self.permits.node.take(&self.permits.asker(true), &counts.wake_programs, 1).permits.pop()?;
        Some(Program { _of: of.map(|limit| counts.take(limit)), _node: node })
    }
}

impl Counts {
    fn take(self: &Arc<Self>, of: Limit) -> Permit {
        let now = self.clock.now();
        let mut state = self.lock();
        *state.used.entry(of.clone()).or_insert(0) += 1;
        state.note(of.clone(), now);
        Permit { counts: Arc::clone(self), of }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The counts are whole after any panic: nothing between two changes of them can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn most(&self, limit: &Limit) -> Option<u32> {
        most(self.snapshot.as_deref(), limit).or(match limit {
            Limit::Processor(_) => Some(OTHER_PROCESSORS),
            Limit::Gate | Limit::RunProfile(_) | Limit::Profile(_) | Limit::Namespace | Limit::Node => None,
        })
    }

    /// Permits that are free; none if it is not limited.
    fn free(&self, limit: &Limit) -> Option<u32> {
        let used = self.used.get(limit).copied().unwrap_or(0);
        self.most(limit).map(|most| most.saturating_sub(used))
    }

    fn note(&mut self, limit: Limit, now: jiff::Timestamp) {
        let full = self.free(&limit) == Some(0);
        self.note_full(limit, full, now);
    }

    /// Only what was ever full is remembered.
    fn note_full(&mut self, limit: Limit, full: bool, now: jiff::Timestamp) {
        if full || self.waits.full.contains_key(&limit) {
            self.waits.full.entry(limit).or_default().note(full, now);
        }
    }
}

/// What the snapshot says of a limit; none if it does not limit it.
fn most(snapshot: Option<&Snapshot>, limit: &Limit) -> Option<u32> {
    let snapshot = snapshot?;
    match limit {
        Limit::Namespace => snapshot.config.caps.runs_concurrent,
        Limit::Processor(name) => {
            snapshot.processors.get(name.as_str()).map(orbit_core::config::Processor::concurrency)
        }
        Limit::RunProfile(id) => snapshot.run_profile_of(*id)?.execution_policy.concurrency,
        Limit::Profile(id) => snapshot.profile_of(*id)?.concurrency,
        Limit::Gate | Limit::Node => None,
    }
}

/// Everything that the snapshot limits, but the namespace as a whole.
fn limits(snapshot: &Snapshot) -> impl Iterator<Item = Limit> {
    let processors = snapshot.processors.keys().map(|name| Limit::Processor(name.to_string()));
    let run_profiles = snapshot.run_profiles.values().map(|one| Limit::RunProfile(one.run_profile_id));
    processors.chain(run_profiles).chain(snapshot.profiles.values().map(|one| Limit::Profile(one.profile_id)))
}

impl Drop for Permit {
    fn drop(&mut self) {
        let now = self.counts.clock.now();
        let mut state = self.counts.lock();
        // What was not full held nobody.
        let held_others = state.free(&self.of) == Some(0);
        if let Some(used) = state.used.get_mut(&self.of) {
            *used = used.saturating_sub(1);
            if *used == 0 {
                state.used.remove(&self.of);
            }
        }
        state.note(self.of.clone(), now);
        drop(state);
        if held_others {
            self.counts.wake.notify_one();
            self.counts.wake_programs.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use futures_util::FutureExt as _;
    use serde_json::json;
    use uuid::Uuid;

    fn snapshot(concurrency: u32) -> Arc<Snapshot> {
        let id = Uuid::from_u128(1);
        Arc::new(
            serde_json::from_value(json!({
                "namespace": "studio", "config": { "caps": { "runs_concurrent": 3 } }, "sources": {}, "endpoints": {}, "assets": {},
                "processors": { "slow": { "kind": "exec", "name": "slow", "argv": ["x"], "concurrency": concurrency } },
                "profiles": { "p": { "profile_id": id, "label": "p", "execution_rules": { "tiers": [] }, "concurrency": 2 } },
                "run_profiles": { "r": { "run_profile_id": id, "label": "r", "execution_policy": {
                    "selection": { "source": "s" }, "profiles": ["p"], "concurrency": 2 } } },
            }))
            .unwrap(),
        )
    }

    fn permits(node: u32) -> Permits {
        let clock = Arc::new(SystemClock);
        let node = NodePermits::new(node, Arc::<SystemClock>::clone(&clock));
        let permits =
            Permits::new(NamespaceName::parse("studio").unwrap(), clock, <[Arc<Notify>; 2]>::default(), node);
        permits.limits_of(snapshot(1));
        permits
    }

    fn lane(profile: u128, processor: &str) -> Lane {
        let (profile_id, run_profile_id) = (Uuid::from_u128(profile), Uuid::from_u128(1));
        Lane { profile_id, run_profile_id, processor: processor.to_owned() }
    }

    async fn take(permits: &Permits, lane: &Lane) -> (RunPermits, Permit) {
        let admission = permits.admit().await;
        assert!(admission.room(9).for_lane(lane) > 0);
        let node = admission.node(1).permits.pop().unwrap();
        admission.take(lane, node)
    }

    #[tokio::test]
    async fn permits_are_counted_and_given_back() {
        let permits = permits(9);
        let room = async |lane: &Lane| permits.admit().await.room(9).for_lane(lane);
        assert_eq!((room(&lane(1, "slow")).await, room(&lane(1, "gone")).await), (1, 1));
        let (run, processor) = take(&permits, &lane(1, "slow")).await;
        assert_eq!((room(&lane(1, "slow")).await, room(&lane(1, "gone")).await), (0, 1));
        drop(processor);
        assert_eq!(room(&lane(1, "slow")).await, 1, "the run goes on without the processor");
        assert!(permits.admit().await.processor("slow").is_some(), "free again as it is dropped at once");
        let other = take(&permits, &lane(1, "gone")).await;
        assert_eq!(room(&lane(2, "slow")).await, 0, "the run profile is full");
        let counts = permits.counts();
        let words: Vec<_> = counts.iter().map(|one| (one.limit.name(), one.used, one.most)).collect();
        let full = ("processor", 1, Some(1));
        assert_eq!(
            words,
            [("namespace", 2, Some(3)), full, ("run_profile", 2, Some(2)), ("profile", 2, Some(2))]
        );
        drop((run, other));
        assert_eq!(permits.counts().len(), 1);
        assert_eq!(permits.node.count(), (0, 9));
    }

    #[tokio::test]
    async fn a_changed_limit_counts_at_once() {
        let permits = permits(9);
        let _held = take(&permits, &lane(1, "slow")).await;
        assert!(permits.admit().await.processor("slow").is_none());
        permits.limits_of(snapshot(2));
        let second = permits.admit().await.processor("slow");
        assert!(second.is_some());
        permits.limits_of(snapshot(1));
        drop(second);
        assert!(permits.admit().await.processor("slow").is_none());
        let lanes = [lane(1, "slow")];
        let waits = permits.admit().await.waits(&lanes);
        assert!(waits.full.contains_key(&Limit::Processor("slow".to_owned())));
    }

    #[tokio::test]
    async fn only_a_permit_that_held_somebody_wakes_them() {
        let permits = permits(9);
        permits.limits_of(snapshot(2));
        let is_woken = |notify: &Notify| notify.notified().now_or_never().is_some();
        let woken = || [&permits.counts.wake, &permits.counts.wake_programs].map(|one| is_woken(one));
        let one = async || permits.admit().await.processor("slow").unwrap();
        drop(one().await);
        assert_eq!(woken(), [false, false], "another one was free all the time");
        let (first, second) = (one().await, one().await);
        drop(first);
        assert_eq!(woken(), [true, true]);
        drop(second);
        assert_eq!(woken(), [false, false]);
    }

    #[tokio::test]
    async fn a_program_takes_all_or_nothing() {
        let permits = permits(1);
        let program = permits.admit().await.program("slow").unwrap();
        assert!(permits.admit().await.program("slow").is_none());
        drop(program);
        let run = take(&permits, &lane(1, "gone")).await;
        assert!(permits.admit().await.program("slow").is_none(), "the node is full");
        assert_eq!(permits.counts()[0].used, 1, "nothing was kept");
        drop(run);
        assert!(permits.admit().await.program("slow").is_some());
    }
}
