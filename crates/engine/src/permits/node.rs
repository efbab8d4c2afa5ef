//! The node's permits, handed to its namespaces in turn.
//!
//! A namespace that asks while another waits goes behind it, so that each gets one permit before any gets the next, however many runs wait in
//! one of them. A permit that comes free is offered to the namespace in front, by a nudge. One that does not come for it, because its store
//! hangs for example, loses its turn after a moment.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use orbit_core::config::NamespaceName;
use orbit_core::tiers::Fullness;
use tokio::sync::Notify;

use crate::clock::Clock;

/// How long a permit is kept free for the namespace whose turn it is.
const OFFER_MAX: SignedDuration = SignedDuration::from_secs(1);

/// See the module.
pub struct NodePermits {
    limit: u32,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    used: u32,
    /// Each asker at most once.
    line: VecDeque<Waiting>,
    full: Fullness,
}

/// Who asks: a namespace for the steps of its runs, or for programs that work for several runs. Each has a place in line of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asker {
    /// The namespace.
    pub namespace: NamespaceName,
    /// Whether it asks for such a program.
    pub program: bool,
}

struct Waiting {
    asker: Asker,
    wake: Arc<Notify>,
    /// Since when a permit is kept free for it.
    offered: Option<Timestamp>,
}

/// One run or program at work, until this is dropped.
pub struct NodePermit {
    node: Arc<NodePermits>,
}

/// What a namespace was given.
pub struct Taken {
    /// The permits; fewer than were asked for if it is another's turn or none is free.
    pub permits: Vec<NodePermit>,
    /// When to ask again if nobody nudges: a permit is free, and kept for another.
    pub again: Option<Timestamp>,
}

impl NodePermits {
    /// So many permits.
    pub fn new(limit: u32, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { limit: limit.max(1), clock, state: Mutex::default() })
    }

    /// Up to so many permits for somebody who has something to start. Who gets fewer waits in line, and is nudged at its turn.
    pub fn take(self: &Arc<Self>, asker: &Asker, wake: &Arc<Notify>, wanted: u32) -> Taken {
        let now = self.clock.now();
        let mut state = self.lock();
        state.lapse(asker, now);
        let mut permits = Vec::new();
        for _ in 0..wanted {
            let place = state.place(asker);
            if self.free(&state) <= place.unwrap_or(state.line.len()) {
                if place.is_none() {
                    let waiting = Waiting { asker: asker.clone(), wake: Arc::clone(wake), offered: None };
                    state.line.push_back(waiting);
                }
                break;
            }
            place.and_then(|place| state.line.remove(place));
            state.used += 1;
            permits.push(NodePermit { node: Arc::clone(self) });
        }
        self.changed(&mut state, now);
        let kept = state.line.iter().filter_map(|one| one.offered).min();
        let again = kept.filter(|_| state.place(asker).is_some()).map(|offered| offered + OFFER_MAX);
        Taken { permits, again }
    }

    /// There is nothing to start: whoever it is leaves the line.
    pub fn withdraw(&self, asker: &Asker) {
        let now = self.clock.now();
        let mut state = self.lock();
        state.line.retain(|one| one.asker != *asker);
        self.changed(&mut state, now);
    }

    /// Whether another namespace waits for a permit and none is free for it, so that a run of this one must not go on to its next step.
    pub fn is_wanted_by_another(&self, namespace: &NamespaceName) -> bool {
        let state = self.lock();
        let others = state.line.iter().filter(|one| one.asker.namespace != *namespace).count();
        others > self.free(&state)
    }

    /// Permits that are taken, and how many there are.
    pub fn count(&self) -> (u32, u32) {
        (self.lock().used, self.limit)
    }

    /// When all permits were taken.
    pub fn fullness(&self) -> Fullness {
        self.lock().full.clone()
    }

    fn free(&self, state: &State) -> usize {
        usize::try_from(self.limit.saturating_sub(state.used)).unwrap_or(usize::MAX)
    }

    /// Offers what is free to those in front, each once.
    fn changed(&self, state: &mut State, now: Timestamp) {
        let free = self.free(state);
        state.full.note(free == 0, now);
        for waiting in state.line.iter_mut().take(free).filter(|one| one.offered.is_none()) {
            waiting.offered = Some(now);
            waiting.wake.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The counts are whole after any panic: nothing between two changes of them can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn place(&self, asker: &Asker) -> Option<usize> {
        self.line.iter().position(|one| one.asker == *asker)
    }

    /// Whoever did not come for what was kept for it loses its turn; not the one that comes now.
    fn lapse(&mut self, comes: &Asker, now: Timestamp) {
        let lapsed = |one: &Waiting| {
            one.offered.is_some_and(|offered| now.duration_since(offered) >= OFFER_MAX) && one.asker != *comes
        };
        self.line.retain(|one| !lapsed(one));
    }
}

impl Drop for NodePermit {
    fn drop(&mut self) {
        let now = self.node.clock.now();
        let mut state = self.node.lock();
        state.used = state.used.saturating_sub(1);
        self.node.changed(&mut state, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Standing(Mutex<Timestamp>);

    impl Clock for Standing {
        fn now(&self) -> Timestamp {
            *self.0.lock().unwrap()
        }

        fn monotonic(&self) -> std::time::Duration {
            std::time::Duration::ZERO
        }

        fn random(&self) -> [u8; 32] {
            [7; 32]
        }
    }

    struct World {
        clock: Arc<Standing>,
        node: Arc<NodePermits>,
        wake: Arc<Notify>,
    }

    fn name(text: &str) -> NamespaceName {
        NamespaceName::parse(text).unwrap()
    }

    fn asker(namespace: &str) -> Asker {
        Asker { namespace: name(namespace), program: false }
    }

    impl World {
        fn new(limit: u32) -> Self {
            let clock = Arc::new(Standing(Mutex::new(Timestamp::UNIX_EPOCH)));
            let node = NodePermits::new(limit, Arc::<Standing>::clone(&clock));
            Self { clock, node, wake: Arc::default() }
        }

        fn take(&self, namespace: &str, wanted: u32) -> Vec<NodePermit> {
            self.node.take(&asker(namespace), &self.wake, wanted).permits
        }
    }

    #[test]
    fn alone_a_namespace_takes_what_is_free() {
        let world = World::new(3);
        let two = world.take("a", 2);
        assert_eq!((two.len(), world.node.count()), (2, (2, 3)));
        let rest = world.take("a", 9);
        assert_eq!((rest.len(), world.node.count()), (1, (3, 3)));
        drop((two, rest));
        assert_eq!(world.node.count(), (0, 3));
    }

    #[test]
    fn each_gets_one_before_any_gets_the_next() {
        let world = World::new(2);
        let mut held = world.take("a", 2);
        assert!(world.take("b", 5).is_empty() && world.take("c", 5).is_empty());
        assert!(world.node.is_wanted_by_another(&name("a")));
        let mut order = Vec::new();
        for _ in 0..9 {
            drop(held.remove(0));
            // Whoever asks first, it is the turn of the one in front.
            for namespace in ["a", "b", "c"] {
                let taken = world.take(namespace, 5);
                order.extend(std::iter::repeat_n(namespace, taken.len()));
                held.extend(taken);
            }
        }
        assert_eq!(order, ["b", "c", "a", "b", "c", "a", "b", "c", "a"]);
    }

    #[test]
    fn a_turn_that_is_not_taken_passes() {
        let world = World::new(1);
        let held = world.take("a", 1);
        assert!(world.take("b", 1).is_empty());
        drop(held);
        let kept = world.node.take(&asker("a"), &world.wake, 1);
        assert_eq!((kept.permits.len(), kept.again), (0, Some(Timestamp::UNIX_EPOCH + OFFER_MAX)));
        assert!(!world.node.is_wanted_by_another(&name("a")), "one is free for it");
        *world.clock.0.lock().unwrap() += OFFER_MAX;
        assert_eq!(world.take("a", 1).len(), 1);
    }

    #[test]
    fn who_has_nothing_to_start_leaves_the_line() {
        let world = World::new(1);
        let held = world.take("a", 1);
        assert!(world.take("b", 1).is_empty() && world.take("c", 1).is_empty());
        world.node.withdraw(&asker("b"));
        drop(held);
        assert!(world.take("a", 1).is_empty());
        assert_eq!(world.take("c", 1).len(), 1);
    }
}
