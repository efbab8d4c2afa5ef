//! Starts runs in the transaction that admits them, where nobody waits for a permit before them: a commit less until their first step.
//!
//! A run starts so if it is next in the order in which the workers would start them: priority and age hold, whoever asks.

use std::sync::Arc;

use orbit_core::governance::Door;
use orbit_core::run::Step;
use orbit_core::synthesis::named_processor;
use orbit_core::tiers::{Lane, Room};
use orbit_store::contract::OpenDoors;
use orbit_store::contract::selection::NewRun;
use orbit_store::contract::tiers::{ClaimedStep, Free};
use uuid::Uuid;

use super::workers::{CLAIM_MAX, start};
use crate::claims::Hold;
use crate::namespace::Namespace;
use crate::permits::{Admission, NodePermit};

/// Permits for the first steps of new runs. Nobody else takes any while it is there.
pub(crate) struct StartPermits<'a> {
    admission: Admission<'a>,
    nodes: Vec<NodePermit>,
    /// What is free.
    pub(crate) free: Free,
}

impl<'a> StartPermits<'a> {
    /// What is free for the runs of a run profile; nothing if nothing is, or if somebody looks at the permits just now. Then the workers start them.
    pub(crate) fn new(namespace: &'a Namespace, run_profile_id: Uuid, runs: &[NewRun]) -> Option<Self> {
        let open = |door| namespace.ask(door, &[]).is_ok();
        let doors = OpenDoors { first: open(Door::Step), retry: open(Door::Retry) };
        if !doors.first || namespace.shared.stopping.is_cancelled() {
            return None;
        }
        let lanes: Vec<_> = runs.iter().filter_map(|run| lane(run_profile_id, run)).collect();
        let admission = namespace.permits.try_admit()?;
        let room = admission.room(CLAIM_MAX);
        let wanted = room.clone().startable(lanes.iter().map(|lane| (lane, 1)));
        if wanted == 0 {
            return None;
        }
        // Who gets none waits in line for the workers, who are nudged when the runs are there.
        let nodes = admission.node(wanted).permits;
        let runs = u32::try_from(nodes.len()).ok().filter(|runs| *runs > 0)?;
        let free = Free { waits: admission.waits(&lanes), room: Room { runs, ..room }, doors };
        Some(Self { admission, nodes, free })
    }

    /// Gives each step that started a task of its own.
    pub(crate) fn start(self, namespace: &Arc<Namespace>, claimed: Vec<(ClaimedStep, Hold)>) {
        start(namespace, &self.admission, claimed.into_iter().zip(self.nodes));
    }
}

/// The lane of a run's first step, if it has one.
fn lane(run_profile_id: Uuid, run: &NewRun) -> Option<Lane> {
    if run.rejected.is_some() {
        return None;
    }
    let step = run.start.as_ref().map_or(Step::Tier1, |start| start.step);
    let processor = named_processor(&run.request, step)?.to_owned();
    Some(Lane { profile_id: run.profile_id, run_profile_id, processor })
}
