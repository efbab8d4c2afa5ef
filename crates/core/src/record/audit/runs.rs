//! Every run of a log, folded as its records come by.
//!
//! Runs that are not over are held in memory, up to a bound; whoever was put aside, or is over and goes on after a redrive, is folded anew
//! from its own records, which the store finds by its index.

use std::collections::HashMap;

use serde::Deserialize;
use uuid::Uuid;

use super::header::Header;
use crate::run::{RunEvent, RunState, Step};

/// Runs that are held in memory.
const HELD_MAX: usize = 100_000;

/// Why a run's records do not follow from each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FoldFault {
    /// The id is none.
    #[error("`{0}` is not the id of a run")]
    Id(String),
    /// The body cannot be read.
    #[error("the body cannot be read as that of a `{kind}`: {message}")]
    Body {
        /// The record's kind.
        kind: String,
        /// What is wrong.
        message: String,
    },
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
    /// What happened cannot happen to a run that stands so.
    #[error("run {run_id}: {message}")]
    Illegal {
        /// The run.
        run_id: Uuid,
        /// What is wrong.
        message: String,
    },
}

/// See the module.
#[derive(Debug, Default)]
pub struct Folds {
    held: HashMap<Uuid, RunState>,
    /// Runs that were admitted.
    pub admitted: u64,
}

#[derive(Deserialize)]
struct Admitted {
    #[serde(default)]
    start: Option<Start>,
}

#[derive(Deserialize)]
struct Start {
    step: Step,
}

#[derive(Deserialize)]
struct Told {
    #[serde(default)]
    event: Option<RunEvent>,
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
        let (Some(run_id), Some(body)) = (header.run_id, body) else { return Ok(None) };
        if header.body_class != "fact" {
            return Ok(None);
        }
        let run_id: Uuid = run_id.parse().map_err(|_| FoldFault::Id(run_id.to_owned()))?;
        let unreadable = |error: serde_json::Error| FoldFault::Body {
            kind: header.kind.to_owned(),
            message: error.to_string(),
        };
        if header.kind == "run_admitted" {
            let admitted: Admitted = serde_json::from_str(body).map_err(unreadable)?;
            let state =
                admitted.start.map_or(RunState::admitted(), |start| RunState::admitted_at(start.step));
            self.make_room();
            self.admitted += 1;
            if self.held.insert(run_id, state).is_some() {
                return Err(FoldFault::Twice { run_id });
            }
            return Ok(self.held.get(&run_id).map(|state| (run_id, state)));
        }
        let told: Told = serde_json::from_str(body).map_err(unreadable)?;
        let Some(event) = told.event else { return Ok(None) };
        if event.name() != header.kind {
            let message = format!("the event `{}` in a record `{}`", event.name(), header.kind);
            return Err(FoldFault::Illegal { run_id, message });
        }
        if !self.held.contains_key(&run_id) {
            let unknown = || FoldFault::Unknown { kind: header.kind.to_owned(), run_id };
            let state = fold_before(run_id).ok_or_else(unknown)?;
            self.make_room();
            self.held.insert(run_id, state);
        }
        let Some(state) = self.held.get_mut(&run_id) else { return Ok(None) };
        *state =
            state.next(&event).map_err(|error| FoldFault::Illegal { run_id, message: error.to_string() })?;
        Ok(Some((run_id, state)))
    }

    /// The run need not be held any longer.
    pub fn forget(&mut self, run_id: Uuid) {
        self.held.remove(&run_id);
    }

    /// The runs that are held.
    pub fn held(&self) -> impl Iterator<Item = (&Uuid, &RunState)> {
        self.held.iter()
    }

    fn make_room(&mut self) {
        if self.held.len() >= HELD_MAX {
            self.held.clear();
        }
    }
}
