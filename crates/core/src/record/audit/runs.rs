//! Every run of a log, folded as its records come by.
//!
//! Runs that are not over are held in memory, up to a bound; whoever was put aside, or is over and goes on after a redrive, is folded anew
//! from its own records, which the store finds by its index.

use std::collections::HashMap;

use uuid::Uuid;

use super::header::Header;
use crate::run::RunState;
use crate::run::fold::{FoldError, Folded, Told};

/// Runs that are held in memory.
const HELD_MAX: usize = 100_000;

/// Why a record cannot be one of its run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FoldFault {
    /// The id is none.
    #[error("`{0}` is not the id of a run")]
    Id(String),
    /// Something happened to a run that was not admitted.
    #[error("`{kind}` of run {run_id}, which was not admitted before")]
    Unknown {
        /// The record's kind.
        kind: String,
        /// The run.
        run_id: Uuid,
    },
    /// It was admitted twice.
    #[error("run {run_id} is admitted a second time")]
    Twice {
        /// The run.
        run_id: Uuid,
    },
    /// It does not follow from the records before it.
    #[error("run {run_id}: {error}")]
    Run {
        /// The run.
        run_id: Uuid,
        /// Why.
        error: FoldError,
    },
}

/// See the module.
#[derive(Debug, Default)]
pub struct Folds {
    held: HashMap<Uuid, Folded>,
    /// Runs that were admitted.
    pub admitted: u64,
}

impl Folds {
    /// Takes in a record. The run and its new state, if the record changes one. What is not held is asked of `fold_before`: the state of the run
    /// right before this record, if it was admitted.
    pub fn take(
        &mut self,
        header: &Header<'_>,
        body: Option<&str>,
        fold_before: impl FnOnce(Uuid) -> Option<RunState>,
    ) -> Result<Option<(Uuid, &RunState)>, FoldFault> {
        let (Some(run_id), Some(body), "fact") = (header.run_id, body, header.body_class) else {
            return Ok(None);
        };
        let run_id: Uuid = run_id.parse().map_err(|_| FoldFault::Id(run_id.to_owned()))?;
        let wrong = |error| FoldFault::Run { run_id, error };
        let body = &mut serde_json::Deserializer::from_str(body);
        if header.kind == "run_admitted" {
            let run = Folded::admit(body).map_err(wrong)?;
            self.make_room();
            self.admitted += 1;
            if self.held.insert(run_id, run).is_some() {
                return Err(FoldFault::Twice { run_id });
            }
            return Ok(self.held.get(&run_id).map(|run| (run_id, &run.state)));
        }
        let told = Told::read(header.kind, body).map_err(wrong)?;
        if told.event.is_none() {
            return Ok(None);
        }
        if !self.held.contains_key(&run_id) {
            let unknown = || FoldFault::Unknown { kind: header.kind.to_owned(), run_id };
            let state = fold_before(run_id).ok_or_else(unknown)?;
            self.make_room();
            self.held.insert(run_id, Folded { state });
        }
        let Some(run) = self.held.get_mut(&run_id) else { return Ok(None) };
        let event = run.apply(header.kind, told).map_err(wrong)?;
        Ok(event.map(|_| (run_id, &run.state)))
    }

    /// The run need not be held any longer.
    pub fn forget(&mut self, run_id: Uuid) {
        self.held.remove(&run_id);
    }

    /// The runs that are held.
    pub fn held(&self) -> impl Iterator<Item = (&Uuid, &RunState)> {
        self.held.iter().map(|(run_id, run)| (run_id, &run.state))
    }

    fn make_room(&mut self) {
        if self.held.len() >= HELD_MAX {
            self.held.clear();
        }
    }
}
