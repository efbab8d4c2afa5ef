//! What may start: the permits that are free, counted down as steps take them.

use std::collections::BTreeMap;

use uuid::Uuid;

/// What a step needs permits of. Runs that wait in one lane are held by the same limits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane {
    /// The run's profile.
    pub profile_id: Uuid,
    /// The run's run profile.
    pub run_profile_id: Uuid,
    /// The processor of the step to start.
    pub processor: String,
}

/// Permits that are free. A profile or run profile that is not named here has no limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// Of the node and the namespace.
    pub runs: u32,
    /// Of profiles, by id.
    pub profiles: BTreeMap<Uuid, u32>,
    /// Of run profiles, by id.
    pub run_profiles: BTreeMap<Uuid, u32>,
    /// Of processors, by name.
    pub processors: BTreeMap<String, u32>,
    /// Of each processor that is not named.
    pub other_processors: u32,
}

impl Room {
    /// Room for so many runs, whatever they are.
    pub const fn of(runs: u32) -> Self {
        Self {
            runs,
            profiles: BTreeMap::new(),
            run_profiles: BTreeMap::new(),
            processors: BTreeMap::new(),
            other_processors: u32::MAX,
        }
    }

    /// How many steps of this lane may start.
    pub fn for_lane(&self, lane: &Lane) -> u32 {
        let profile = self.profiles.get(&lane.profile_id).copied().unwrap_or(u32::MAX);
        let run_profile = self.run_profiles.get(&lane.run_profile_id).copied().unwrap_or(u32::MAX);
        let processor = self.processors.get(&lane.processor).copied().unwrap_or(self.other_processors);
        self.runs.min(profile).min(run_profile).min(processor)
    }

    /// A step of this lane takes its permits; false, and nothing changes, if one of them is not free.
    pub fn take(&mut self, lane: &Lane) -> bool {
        if self.for_lane(lane) == 0 {
            return false;
        }
        self.runs -= 1;
        let less = |free: &mut u32| *free = free.saturating_sub(1);
        self.profiles.get_mut(&lane.profile_id).into_iter().for_each(less);
        self.run_profiles.get_mut(&lane.run_profile_id).into_iter().for_each(less);
        less(self.processors.entry(lane.processor.clone()).or_insert(self.other_processors));
        true
    }

    /// How many of these may start, each lane with so many runs that wait.
    pub fn startable<'a>(mut self, waiting: impl IntoIterator<Item = (&'a Lane, u32)>) -> u32 {
        let before = self.runs;
        for (lane, count) in waiting {
            for _ in 0..count.min(self.for_lane(lane)) {
                self.take(lane);
            }
        }
        before - self.runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(profile: u128, run_profile: u128, processor: &str) -> Lane {
        Lane {
            profile_id: Uuid::from_u128(profile),
            run_profile_id: Uuid::from_u128(run_profile),
            processor: processor.to_owned(),
        }
    }

    #[test]
    fn the_tightest_limit_counts() {
        let room = Room {
            profiles: BTreeMap::from([(Uuid::from_u128(1), 2)]),
            run_profiles: BTreeMap::from([(Uuid::from_u128(7), 3)]),
            processors: BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 9)]),
            other_processors: 4,
            ..Room::of(5)
        };
        let check = |lane: &Lane, expected: u32| assert_eq!(room.for_lane(lane), expected, "{lane:?}");
        check(&lane(1, 7, "a"), 1);
        check(&lane(1, 7, "b"), 2);
        check(&lane(2, 7, "b"), 3);
        check(&lane(2, 8, "c"), 4);
        check(&lane(2, 8, "b"), 5);
        let check = |waiting: &[(&Lane, u32)], expected: u32| {
            assert_eq!(room.clone().startable(waiting.iter().copied()), expected, "{waiting:?}");
        };
        check(&[], 0);
        check(&[(&lane(1, 7, "a"), 900)], 1);
        check(&[(&lane(1, 7, "a"), 9), (&lane(1, 7, "b"), 9), (&lane(2, 7, "b"), 9)], 3);
        check(&[(&lane(2, 8, "c"), 9), (&lane(3, 8, "b"), 9)], 5);
        check(&[(&lane(2, 8, "c"), 1), (&lane(3, 8, "b"), 1)], 2);
    }

    #[test]
    fn what_has_no_room_takes_nothing() {
        let mut room = Room { other_processors: 1, ..Room::of(2) };
        assert!(room.take(&lane(1, 1, "a")));
        let before = room.clone();
        assert!(!room.take(&lane(2, 2, "a")));
        assert_eq!(room, before);
        assert!(room.take(&lane(2, 2, "b")));
        assert!(!room.take(&lane(3, 3, "c")));
    }
}
