//! Whom the scheduler looks at in a turn: those that are due by the wall clock, those that something has changed for, and in turn all others.
//!
//! It decides nothing and may be mistaken: what is true is the cursor in the store. So nothing here outlives the process, whatever changes owes everybody a
//! look, and whoever is not due is looked at all the same once in a while.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use jiff::Timestamp;
use uuid::Uuid;

/// Run profiles that one turn looks at.
pub(super) const LOOK_MAX: usize = 500;
/// Of these, so many at least are of those that are owed a look, however many are due: neither waits for the end of the other.
const OWED_MIN: usize = 100;

/// See the module.
#[derive(Default)]
pub(super) struct Agenda {
    /// Every run profile of the snapshot, and when it is due as far as that is known.
    known: BTreeMap<Uuid, Option<Timestamp>>,
    /// The same by time.
    due: BTreeSet<(Timestamp, Uuid)>,
    /// Who was last in the round through all of them.
    last: Option<Uuid>,
    /// How many more of the round are owed a look.
    owed: usize,
}

/// Whom a turn looks at.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Picked {
    /// Everybody once.
    pub(super) ids: Vec<Uuid>,
    /// Those of the round, in its order; some of them may be due as well.
    round: Vec<Uuid>,
}

impl Agenda {
    /// The run profiles are these. Those that were known before are due when they were, until they are looked at.
    pub(super) fn follow(&mut self, ids: impl Iterator<Item = Uuid>) {
        let mut former = std::mem::take(&mut self.known);
        self.known = ids.map(|id| (id, former.remove(&id).flatten())).collect();
        let gone = former.into_iter().filter_map(|(id, due)| Some((due?, id)));
        gone.for_each(|entry| _ = self.due.remove(&entry));
        self.owe_all();
    }

    /// Everybody is looked at once from now on.
    pub(super) fn owe_all(&mut self) {
        self.owed = self.known.len();
    }

    /// Whom to look at now; of those that are neither due nor owed a look, no more than `spare`.
    pub(super) fn pick(&self, now: Timestamp, spare: usize) -> Picked {
        let of_due = LOOK_MAX - self.owed.min(OWED_MIN);
        let due = self.due.range(..=(now, Uuid::max())).map(|(_, id)| *id);
        let mut ids: Vec<Uuid> = due.take(of_due).collect();
        let room = (LOOK_MAX - ids.len()).min(self.owed.max(spare));
        let after = |last| self.known.range((last, Bound::Unbounded)).map(|(id, _)| *id);
        let behind = after(self.last.map_or(Bound::Unbounded, Bound::Excluded));
        let round: Vec<Uuid> =
            behind.chain(after(Bound::Unbounded)).take(room.min(self.known.len())).collect();
        let is_due: BTreeSet<Uuid> = ids.iter().copied().collect();
        ids.extend(round.iter().filter(|id| !is_due.contains(id)));
        Picked { ids, round }
    }

    /// The round is beyond them.
    pub(super) fn looked_at(&mut self, picked: &Picked) {
        self.owed = self.owed.saturating_sub(picked.round.len());
        self.last = picked.round.last().copied().or(self.last);
    }

    /// It is due then; if never, nothing but a change or the round leads to it.
    pub(super) fn set(&mut self, id: Uuid, next: Option<Timestamp>) {
        let Some(known) = self.known.get_mut(&id) else { return };
        if let Some(former) = std::mem::replace(known, next) {
            self.due.remove(&(former, id));
        }
        self.due.extend(next.map(|next| (next, id)));
    }

    /// Whether anybody is owed a look, or is due.
    pub(super) fn is_pending(&self, now: Timestamp) -> bool {
        self.owed > 0 || self.next().is_some_and(|next| next <= now)
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.due.first().map(|(due, _)| *due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> Uuid {
        Uuid::from_u128(u128::try_from(number).unwrap())
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// So many run profiles that were all looked at, none of which is due.
    fn quiet(count: usize) -> Agenda {
        let mut agenda = Agenda::default();
        agenda.follow((0..count).map(id));
        while agenda.owed > 0 {
            turn(&mut agenda, 0, 0);
        }
        agenda.last = None;
        agenda
    }

    /// Looks at who is picked; who that is.
    fn turn(agenda: &mut Agenda, now: i64, spare: usize) -> Vec<usize> {
        let picked = agenda.pick(at(now), spare);
        agenda.looked_at(&picked);
        picked.ids.iter().map(|id| usize::try_from(id.as_u128()).unwrap()).collect()
    }

    #[test]
    fn who_is_due_is_picked_in_order() {
        let mut agenda = quiet(5);
        for (number, due) in [(3, 10), (1, 20), (4, 30)] {
            agenda.set(id(number), Some(at(due)));
        }
        assert_eq!((agenda.next(), agenda.is_pending(at(9))), (Some(at(10)), false));
        assert_eq!(turn(&mut agenda, 9, 0), [0_usize; 0]);
        assert_eq!(turn(&mut agenda, 20, 0), [3, 1]);
        // Whoever was picked stays due until it is set anew: a turn that failed is done again.
        assert_eq!(turn(&mut agenda, 20, 0), [3, 1]);
        agenda.set(id(3), Some(at(40)));
        agenda.set(id(1), None);
        agenda.set(id(77), Some(at(1)));
        assert_eq!(turn(&mut agenda, 39, 0), [4]);
        // A clock that is set back, and forward again.
        assert_eq!(turn(&mut agenda, 1, 0), [0_usize; 0]);
        assert_eq!(turn(&mut agenda, 1_000_000, 0), [4, 3]);
    }

    #[test]
    fn whatever_changes_owes_everybody_one_look_and_nobody_waits_for_it() {
        let count = 2 * LOOK_MAX;
        let mut agenda = quiet(count);
        (0..count).for_each(|number| agenda.set(id(number), Some(at(number.try_into().unwrap()))));
        agenda.owe_all();
        // Of both kinds some: the one that is due is of the round too, and is looked at once.
        let first = turn(&mut agenda, 0, 0);
        assert_eq!((first.len(), first[0], agenda.owed), (LOOK_MAX - 1, 0, count - (LOOK_MAX - 1)));
        let all_due = turn(&mut agenda, 10_000, 0);
        assert_eq!(
            all_due[LOOK_MAX - OWED_MIN..],
            (LOOK_MAX - 1..LOOK_MAX + OWED_MIN - 1).collect::<Vec<_>>()
        );
        // Nothing is due any more.
        (0..count).for_each(|number| agenda.set(id(number), None));
        assert!(agenda.is_pending(at(0)));
        let rest = turn(&mut agenda, 0, 0);
        assert_eq!((rest.len(), rest.last()), (count - (LOOK_MAX - 1) - OWED_MIN, Some(&(count - 1))));
        assert!(!agenda.is_pending(at(0)));
        assert_eq!(turn(&mut agenda, 0, 0), [0_usize; 0]);
    }

    #[test]
    fn who_is_not_due_is_looked_at_in_turn() {
        let mut agenda = quiet(5);
        agenda.set(id(2), Some(at(1)));
        assert_eq!(turn(&mut agenda, 0, 2), [0, 1]);
        assert_eq!(turn(&mut agenda, 1, 2), [2, 3]);
        assert_eq!(turn(&mut agenda, 1, 2), [2, 4, 0]);
        assert_eq!(turn(&mut agenda, 0, 77), [1, 2, 3, 4, 0]);
        assert_eq!(turn(&mut quiet(0), 0, 77), [0_usize; 0]);
    }

    #[test]
    fn another_snapshot_keeps_what_is_known_and_forgets_who_is_gone() {
        let mut agenda = quiet(3);
        (0..3).for_each(|number| agenda.set(id(number), Some(at(number.try_into().unwrap()))));
        agenda.follow([1, 2, 9].map(id).into_iter());
        assert_eq!((agenda.next(), agenda.owed, agenda.due.len()), (Some(at(1)), 3, 2));
        assert_eq!(turn(&mut agenda, 0, 0), [1, 2, 9]);
        agenda.follow([9].map(id).into_iter());
        assert_eq!((agenda.next(), agenda.due.len()), (None, 0));
    }
}
