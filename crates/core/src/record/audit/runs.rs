//! Every run of a log, folded as its records come by.
//!
//! Runs that are not over are held in memory, up to a bound; whoever was put aside, or is over and goes on after a redrive, is folded anew
//! from its own records, which the store finds by its index.

use std::collections::HashMap;

use uuid::Uuid;

use super::header::Header;
use crate::run::fold::{FoldError, Folded, Told};
use crate::run::{RunEvent, RunState};

/// Runs that are held in memory.
const HELD_MAX: usize = 20_000;

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

/// What is folded beside the state of a run, from the same records.
pub trait Beside: Default {
    /// Whether records of this kind tell something of it, also where nothing happens to the run itself.
    fn is_told_by(kind: &str) -> bool;
}

impl Beside for () {
    fn is_told_by(_: &str) -> bool {
        false
    }
}

/// A run as a record leaves it.
#[derive(Debug)]
pub struct Taken<'a, B> {
    /// The run.
    pub run_id: Uuid,
    /// Where it stood before; none if the record admits it.
    pub before: Option<RunState>,
    /// What happened to it, if something did.
    pub event: Option<RunEvent>,
    /// Where it stands now.
    pub state: &'a RunState,
    /// What is folded beside it: as it was before the record, which is for the caller to add.
    pub beside: &'a mut B,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Folds<B = ()> {
    held: HashMap<Uuid, (Folded, B)>,
    /// Runs that were admitted.
    pub admitted: u64,
    /// Whether any was put aside before it was over.
    pub put_aside: bool,
}

impl<B: Beside> Folds<B> {
    /// Takes in a record. The run as it leaves it, if the record tells something of one. What is not held is asked of `fold_before`: the run right
    /// before this record, if it was admitted.
    pub fn take(
        &mut self,
        header: &Header<'_>,
        body: Option<&str>,
        fold_before: impl FnOnce(Uuid) -> Option<(RunState, B)>,
    ) -> Result<Option<Taken<'_, B>>, FoldFault> {
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
            if self.held.insert(run_id, (run, B::default())).is_some() {
                return Err(FoldFault::Twice { run_id });
            }
            return Ok(self.held.get_mut(&run_id).map(|(run, beside)| Taken {
                run_id,
                before: None,
                event: None,
                state: &run.state,
                beside,
            }));
        }
        let told = Told::read(header.kind, body).map_err(wrong)?;
        if told.event.is_none() && !B::is_told_by(header.kind) {
            return Ok(None);
        }
        if !self.held.contains_key(&run_id) {
            let unknown = || FoldFault::Unknown { kind: header.kind.to_owned(), run_id };
            let (state, beside) = fold_before(run_id).ok_or_else(unknown)?;
            self.make_room();
            self.held.insert(run_id, (Folded { state }, beside));
        }
        let Some((run, beside)) = self.held.get_mut(&run_id) else { return Ok(None) };
        let before = Some(run.state.clone());
        let event = run.apply(header.kind, told).map_err(wrong)?;
        Ok(Some(Taken { run_id, before, event, state: &run.state, beside }))
    }

    /// The run as it stands, which is held no longer.
    pub fn forget(&mut self, run_id: Uuid) -> Option<(RunState, B)> {
        self.held.remove(&run_id).map(|(run, beside)| (run.state, beside))
    }

    /// The runs that are held.
    pub fn held(&self) -> impl Iterator<Item = (&Uuid, &RunState, &B)> {
        self.held.iter().map(|(run_id, (run, beside))| (run_id, &run.state, beside))
    }

    fn make_room(&mut self) {
        if self.held.len() >= HELD_MAX {
            self.held.clear();
            self.put_aside = true;
        }
    }
}
