//! The schedules of a snapshot.

use std::collections::BTreeMap;
use std::sync::Arc;

use orbit_core::config::{DocName, RunProfile, Snapshot};
use orbit_core::digest::Digest;
use orbit_core::schedule::{Schedule, ScheduleError};
use uuid::Uuid;

/// See the module.
pub(super) struct Compiled {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) digest: Digest,
    /// By run profile.
    schedules: BTreeMap<Uuid, Scheduled>,
}

/// A run profile, by its label, and its schedule.
struct Scheduled {
    label: DocName,
    schedule: Result<Arc<Schedule>, ScheduleError>,
}

impl Compiled {
    /// Those of the snapshot. What was compiled before and is the same is taken from there.
    pub(super) fn new(snapshot: Arc<Snapshot>, former: Option<&Self>) -> Self {
        let schedules = snapshot.run_profiles.iter().map(|(label, run_profile)| {
            let id = run_profile.run_profile_id;
            let spec = &run_profile.execution_policy.schedule;
            let same = former.and_then(|former| former.get(id));
            let same = same.filter(|(known, _)| known.execution_policy.schedule == *spec);
            let schedule = match same {
                Some((_, schedule)) => schedule.clone(),
                None => Schedule::compile(spec, id).map(Arc::new),
            };
            (id, Scheduled { label: label.clone(), schedule })
        });
        let schedules = schedules.collect();
        Self { digest: snapshot.digest(), schedules, snapshot }
    }

    /// Every run profile.
    pub(super) fn ids(&self) -> impl Iterator<Item = Uuid> {
        self.schedules.keys().copied()
    }

    /// A run profile and its schedule.
    pub(super) fn get(&self, id: Uuid) -> Option<(&RunProfile, &Result<Arc<Schedule>, ScheduleError>)> {
        let Scheduled { label, schedule } = self.schedules.get(&id)?;
        Some((self.snapshot.run_profiles.get(label)?, schedule))
    }
}
