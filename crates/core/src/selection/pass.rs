//! One pass over a source: a bounded accumulator that is fed candidate by candidate.
//!
//! It keeps the best [`SELECTION_KEPT_MAX`] that are new, each hash once, and counts everything else. Whether a candidate is new is asked
//! only when it may be kept, and of up to [`SELECTION_ASKED_MAX`] at once, so that a source of a million lines costs a handful of questions. Memory does not grow
//! with the source.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Candidate, Malformed, Rank, candidate_hash};
use crate::config::{Choose, DedupeField};
use crate::digest::Digest;
use crate::limits::{
    SELECTION_ASKED_MAX, SELECTION_KEPT_MAX, SELECTION_MALFORMED_SHOWN_MAX, SELECTION_REASON_BYTES_MAX,
};

/// See the module.
#[derive(Clone, Debug)]
pub struct Pass {
    choose: Choose,
    seed: Uuid,
    fields: Vec<DedupeField>,
    kept: Vec<Ranked>,
    /// What may be kept, in the order in which it came; whether it is new is not known yet.
    waiting: Vec<Ranked>,
    report: Report,
}

#[derive(Clone, Debug)]
struct Ranked {
    rank: Rank,
    chosen: Chosen,
}

/// A candidate that was kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Chosen {
    /// The candidate.
    pub candidate: Candidate,
    /// SHA-256 of its compared parts.
    pub hash: Digest,
}

/// What a pass came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Selected {
    /// The best candidates that are new, best first, each hash once.
    pub candidates: Vec<Chosen>,
    /// What was counted, for the record: an object.
    pub report: Value,
}

#[derive(Clone, Debug, Default, Serialize)]
struct Report {
    /// Lines, records or items of every kind.
    lines: u64,
    candidates: u64,
    empty: u64,
    malformed: u64,
    too_long: u64,
    /// Candidates that equal one that was kept when they came. A count of all would need memory for all.
    duplicates: u64,
    /// Candidates that would have been kept and are held in the scope.
    taken: u64,
    first_malformed: Vec<Shown>,
}

#[derive(Clone, Debug, Serialize)]
struct Shown {
    line: u64,
    reason: String,
}

impl Pass {
    /// A pass that has seen nothing. The seed matters to a weighted choice alone.
    pub fn new(choose: Choose, seed: Uuid, fields: &[DedupeField]) -> Self {
        let kept = Vec::with_capacity(SELECTION_KEPT_MAX + 1);
        let waiting = Vec::with_capacity(SELECTION_ASKED_MAX);
        Self { choose, seed, fields: fields.to_vec(), kept, waiting, report: Report::default() }
    }

    /// Takes in a candidate. Which of some hashes are taken is asked for it and those before it, once there are enough that may be kept.
    pub fn offer<E>(
        &mut self,
        candidate: Candidate,
        taken: impl FnOnce(&[Digest]) -> Result<BTreeSet<Digest>, E>,
    ) -> Result<(), E> {
        self.report.lines += 1;
        self.report.candidates += 1;
        let hash = candidate_hash(&candidate, &self.fields);
        let rank = match self.choose {
            Choose::Weighted => Rank::weighted(self.seed, hash, candidate.weight()),
            Choose::InOrder => Rank::in_order(self.report.candidates, hash),
        };
        // What is behind the worst now will be behind it later.
        if self.is_behind(&rank) && self.kept.iter().all(|kept| kept.chosen.hash != hash) {
            return Ok(());
        }
        self.waiting.push(Ranked { rank, chosen: Chosen { candidate, hash } });
        if self.waiting.len() == SELECTION_ASKED_MAX { self.settle(taken) } else { Ok(()) }
    }

    /// Whether there are as many as may be, all of them better.
    fn is_behind(&self, rank: &Rank) -> bool {
        self.kept.len() == SELECTION_KEPT_MAX && self.kept.last().is_some_and(|worst| worst.rank < *rank)
    }

    /// What waits is kept, or not, one after the other.
    fn settle<E>(&mut self, taken: impl FnOnce(&[Digest]) -> Result<BTreeSet<Digest>, E>) -> Result<(), E> {
        let hashes: Vec<_> = self.waiting.iter().map(|one| one.chosen.hash).collect();
        let taken = if hashes.is_empty() { BTreeSet::new() } else { taken(&hashes)? };
        for one in std::mem::take(&mut self.waiting) {
            if let Some(same) = self.kept.iter().position(|kept| kept.chosen.hash == one.chosen.hash) {
                self.report.duplicates += 1;
                // The same candidate with a greater weight: the better rank counts, so that the order of lines does not.
                if one.rank < self.kept[same].rank {
                    self.kept.remove(same);
                    self.keep(one);
                }
            } else if self.is_behind(&one.rank) {
                // Better ones came just before it.
            } else if taken.contains(&one.chosen.hash) {
                self.report.taken += 1;
            } else {
                self.keep(one);
            }
        }
        Ok(())
    }

    /// Takes in a line without content.
    pub fn empty(&mut self) {
        self.report.lines += 1;
        self.report.empty += 1;
    }

    /// Takes in a line that is longer than a source may have.
    pub fn too_long(&mut self) {
        self.report.lines += 1;
        self.report.too_long += 1;
    }

    /// Takes in a line that is not a candidate. The number is that of the line in its source, from 1.
    pub fn malformed(&mut self, line: u64, why: &Malformed) {
        self.report.lines += 1;
        self.report.malformed += 1;
        if self.report.first_malformed.len() < SELECTION_MALFORMED_SHOWN_MAX {
            self.report.first_malformed.push(Shown { line, reason: shortened(&why.to_string()) });
        }
    }

    /// What it came to, once it is known which of the last ones are taken.
    pub fn finish<E>(
        mut self,
        taken: impl FnOnce(&[Digest]) -> Result<BTreeSet<Digest>, E>,
    ) -> Result<Selected, E> {
        self.settle(taken)?;
        let mut report = json!(self.report);
        report["kept"] = json!(self.kept.len());
        report["choose"] = json!(self.choose);
        if self.choose == Choose::Weighted {
            report["seed"] = json!(self.seed);
        }
        Ok(Selected { candidates: self.kept.into_iter().map(|kept| kept.chosen).collect(), report })
    }

    fn keep(&mut self, one: Ranked) {
        let at = self.kept.partition_point(|kept| kept.rank < one.rank);
        self.kept.insert(at, one);
        self.kept.truncate(SELECTION_KEPT_MAX);
    }
}

fn shortened(reason: &str) -> String {
    if reason.len() <= SELECTION_REASON_BYTES_MAX {
        return reason.to_owned();
    }
    format!("{}…", &reason[..reason.floor_char_boundary(SELECTION_REASON_BYTES_MAX)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Map;
    use std::cell::Cell;
    use std::convert::Infallible;

    const FIELDS: [DedupeField; 2] = [DedupeField::Label, DedupeField::Metadata];
    const SEED: Uuid = Uuid::from_u128(42);

    fn candidate(label: &str, weight: f64) -> Candidate {
        Candidate::new(label.to_owned(), weight, Map::new()).unwrap()
    }

    fn hash(label: &str) -> Digest {
        candidate_hash(&candidate(label, 1.0), &FIELDS)
    }

    fn select(choose: Choose, offers: &[(String, f64)], taken: &BTreeSet<Digest>) -> Selected {
        let mut pass = Pass::new(choose, SEED, &FIELDS);
        let answer = |hashes: &[Digest]| {
            assert!(hashes.len() <= SELECTION_ASKED_MAX);
            Ok::<_, Infallible>(hashes.iter().filter(|hash| taken.contains(hash)).copied().collect())
        };
        for (label, weight) in offers {
            pass.offer(candidate(label, *weight), answer).unwrap();
        }
        pass.finish(answer).unwrap()
    }

    fn labels(selected: &Selected) -> Vec<&str> {
        selected.candidates.iter().map(|chosen| chosen.candidate.label()).collect()
    }

    fn offers() -> impl Strategy<Value = Vec<(String, f64)>> {
        prop::collection::vec(("[a-h]{1,2}", 0.01_f64..100.0), 0..120)
    }

    fn taken() -> impl Strategy<Value = BTreeSet<Digest>> {
        prop::collection::btree_set("[a-h]{1,2}".prop_map(|label| hash(&label)), 0..20)
    }

    proptest! {
        #[test]
        fn in_order_is_the_first_new_ones(offers in offers(), taken in taken()) {
            let mut naive: Vec<&str> = Vec::new();
            for (label, _) in &offers {
                if !taken.contains(&hash(label)) && !naive.contains(&label.as_str()) {
                    naive.push(label);
                }
            }
            naive.truncate(SELECTION_KEPT_MAX);
            let selected = select(Choose::InOrder, &offers, &taken);
            prop_assert_eq!(labels(&selected), naive);
        }

        #[test]
        fn weighted_is_the_best_ranks_whatever_the_order(
            (offers, shuffled) in offers().prop_flat_map(|offers| (Just(offers.clone()), Just(offers).prop_shuffle())),
            taken in taken(),
        ) {
            let mut ranked: Vec<_> = offers.iter()
                .filter(|(label, _)| !taken.contains(&hash(label)))
                .map(|(label, weight)| (Rank::weighted(SEED, hash(label), *weight), label.as_str()))
                .collect();
            ranked.sort_unstable();
            let mut naive: Vec<&str> = Vec::new();
            for (_, label) in ranked {
                if !naive.contains(&label) {
                    naive.push(label);
                }
            }
            naive.truncate(SELECTION_KEPT_MAX);
            let one = select(Choose::Weighted, &offers, &taken);
            prop_assert_eq!(labels(&one), naive);
            prop_assert_eq!(one.candidates, select(Choose::Weighted, &shuffled, &taken).candidates);
        }
    }

    #[test]
    fn everything_is_counted() {
        let mut pass = Pass::new(Choose::InOrder, SEED, &FIELDS);
        pass.empty();
        pass.too_long();
        for line in 3..=12 {
            pass.malformed(line, &Malformed::NotAnObject { message: "é".repeat(500) });
        }
        let answer = |_: &[Digest]| Ok::<_, Infallible>(BTreeSet::from([hash("b")]));
        for label in ["a", "b", "a"] {
            pass.offer(candidate(label, 1.0), answer).unwrap();
        }
        let report = pass.finish(answer).unwrap().report;
        let count = |name: &str| report[name].as_u64();
        let counts = ["lines", "candidates", "empty", "malformed", "too_long", "duplicates", "taken", "kept"];
        assert_eq!(counts.map(count), [15, 3, 1, 10, 1, 1, 1, 1].map(Some));
        let shown = report["first_malformed"].as_array().unwrap();
        assert_eq!((shown.len(), &shown[0]["line"]), (SELECTION_MALFORMED_SHOWN_MAX, &json!(3)));
        assert!(shown[0]["reason"].as_str().unwrap().len() <= SELECTION_REASON_BYTES_MAX + "…".len());
    }

    #[test]
    fn only_what_may_be_kept_is_asked_for() {
        let (asked, questions) = (Cell::new(0), Cell::new(0));
        let answer = |hashes: &[Digest]| {
            asked.set(asked.get() + hashes.len());
            questions.set(questions.get() + 1);
            Ok::<_, Infallible>(BTreeSet::new())
        };
        let mut pass = Pass::new(Choose::Weighted, SEED, &FIELDS);
        for n in 0..10_000 {
            pass.offer(candidate(&n.to_string(), 1.0), answer).unwrap();
        }
        assert_eq!(pass.finish(answer).unwrap().candidates.len(), SELECTION_KEPT_MAX);
        // One after the other it would be 16 (1 + ln(10000 / 16)), about 119; those that wait are compared with what was known before them.
        assert!((64..400).contains(&asked.get()), "{}", asked.get());
        assert!(questions.get() <= asked.get().div_ceil(SELECTION_ASKED_MAX), "{}", questions.get());
    }

    #[test]
    fn a_question_without_an_answer_ends_the_pass() {
        let mut pass = Pass::new(Choose::InOrder, SEED, &FIELDS);
        for _ in 1..SELECTION_ASKED_MAX {
            assert_eq!(pass.offer(candidate("a", 1.0), |_| Err("closed")), Ok(()));
        }
        assert_eq!(pass.clone().finish(|_| Err("closed")), Err("closed"));
        assert_eq!(pass.offer(candidate("a", 1.0), |_| Err("closed")), Err("closed"));
    }
}
