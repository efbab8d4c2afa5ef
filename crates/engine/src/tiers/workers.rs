//! The run workers: claim the steps that may start, and give each run a task of its own.
//!
//! A step is claimed only when all it needs is free: permits of the node, the namespace, the profile, the run profile and the processor. So
//! nobody holds one permit while waiting for another. What a step does is in `step`, the permits are in `permits`.

use std::sync::Arc;

use async_trait::async_trait;
use orbit_core::governance::Door;
use orbit_core::tiers::Room;
use orbit_store::contract::tiers::{ClaimedStep, Free};
use orbit_store::contract::{OpenDoors, earlier};

use super::{step, work};
use crate::claims::Hold;
use crate::namespace::Namespace;
use crate::permits::{Admission, NodePermit};
use crate::service::{Service, Turn, TurnError};

/// Steps that one turn claims at most.
pub(super) const CLAIM_MAX: u32 = 16;

/// See the module.
pub struct Workers {
    namespace: Arc<Namespace>,
}

impl Workers {
    /// The workers of a namespace. Work folders that an earlier process left are removed.
    pub fn new(namespace: Arc<Namespace>) -> Self {
        work::remove_leftovers(&namespace.shared.layout.work(&namespace.name));
        Self { namespace }
    }

    /// Claims what may start and starts it.
    async fn start(&self, doors: OpenDoors) -> Result<Turn, TurnError> {
        let namespace = &self.namespace;
        let clock = &namespace.shared.clock;
        // Nobody else takes permits between the look at them and the claim.
        let admission = namespace.permits.admit().await;
        let startable = namespace.store.startable(CLAIM_MAX, doors, clock.now()).await?;
        let next = startable.next_due;
        let waiting: usize = startable.lanes.iter().map(|one| one.runs as usize).sum();
        let room = admission.room(CLAIM_MAX);
        let wanted = room.clone().startable(startable.lanes.iter().map(|one| (&one.lane, one.runs)));
        if wanted == 0 {
            // What holds the rest nudges when it comes free.
            namespace.permits.withdraw();
            return Ok(Turn::idle(next));
        }
        let taken = admission.node(wanted);
        let Ok(runs @ 1..) = u32::try_from(taken.permits.len()) else {
            return Ok(Turn::idle(earlier(next, taken.again)));
        };
        let room = Room { runs, ..room };
        let lanes = startable.lanes.iter().map(|one| &one.lane).filter(|lane| room.for_lane(lane) > 0);
        let free = Free { waits: admission.waits(lanes), room: room.clone(), doors };
        let call = namespace.store.claim_steps(free, clock.now());
        let claimed = namespace.claims.claim(call, |step| step.claim.id).await?;
        let done = claimed.len();
        // One more turn finds what was not counted, or who waits for a permit.
        let more = done < waiting || waiting >= CLAIM_MAX as usize;
        if !more {
            namespace.permits.withdraw();
        }
        start(namespace, &admission, claimed.into_iter().zip(taken.permits));
        Ok(Turn { done, more, next })
    }
}

/// Gives each of these steps a task of its own, with its permit of the node and the others that it needs.
pub(super) fn start(
    namespace: &Arc<Namespace>,
    admission: &Admission<'_>,
    claimed: impl Iterator<Item = ((ClaimedStep, Hold), NodePermit)>,
) {
    for ((step, hold), node) in claimed {
        let (run, processor) = admission.take(&step.lane, node);
        let worker = Arc::clone(namespace);
        namespace.runs.spawn(async move {
            step::run(&worker, step, processor).await;
            drop((hold, run));
        });
    }
}

#[async_trait]
impl Service for Workers {
    fn name(&self) -> &'static str {
        "tiers"
    }

    async fn turn(&self) -> Result<Turn, TurnError> {
        let namespace = &self.namespace;
        let doors = OpenDoors {
            first: namespace.ask(Door::Step, &[]).is_ok(),
            retry: namespace.ask(Door::Retry, &[]).is_ok(),
        };
        namespace.permits.note_gate(!doors.first);
        if !doors.first && !doors.retry {
            namespace.permits.withdraw();
            return Ok(Turn::default());
        }
        self.start(doors).await
    }

    async fn failed(&self, error: &TurnError) {
        // While the store fails, the turn is the other namespaces'.
        self.namespace.permits.withdraw();
        self.namespace.record_failure(self.name(), &error.to_string()).await;
    }
}
