//! What is under way right now, so that it can be ended: by a halt, a stop, an operator who cancels a run, or the end of a lease.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use orbit_core::governance::Closed;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Why an act is ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// An operator halted the namespace or the node.
    Halt,
    /// The node stops and does not wait longer.
    Stop,
    /// The run was cancelled; its row says so already.
    Cancelled,
    /// The lease is not trusted any more: another node may begin to do the same.
    Lapsed,
}

impl Cut {
    /// Why a closed door ends what is under way, if it does.
    pub const fn by(closed: &Closed) -> Option<Self> {
        match closed {
            Closed::LeaseLapsed => Some(Self::Lapsed),
            Closed::HaltedGlobal { .. } | Closed::HaltedNamespace { .. } => Some(Self::Halt),
            Closed::Paused | Closed::Document { .. } | Closed::DiskFloor { .. } => None,
        }
    }
}

/// The acts under way, by the id of their run or delivery.
#[derive(Clone, Default)]
pub struct Running {
    acts: Arc<Mutex<HashMap<Uuid, Entry>>>,
}

struct Entry {
    token: CancellationToken,
    cut: Option<Cut>,
}

/// An act that is under way until this is dropped.
pub struct Act {
    id: Uuid,
    running: Running,
    /// Cancelled when the act must end.
    pub token: CancellationToken,
}

impl Running {
    /// Registers an act.
    pub fn begin(&self, id: Uuid) -> Act {
        let token = CancellationToken::new();
        self.lock().insert(id, Entry { token: token.clone(), cut: None });
        Act { id, running: self.clone(), token }
    }

    /// Ends one act, if it is under way; whether it was.
    pub fn cut(&self, id: Uuid, cut: Cut) -> bool {
        let mut acts = self.lock();
        let entry = acts.get_mut(&id);
        entry.map(|entry| entry.end(cut)).is_some()
    }

    /// Ends every act under way; how many there were.
    pub fn cut_all(&self, cut: Cut) -> usize {
        let mut acts = self.lock();
        acts.values_mut().for_each(|entry| entry.end(cut));
        acts.len()
    }

    /// How many acts are under way.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, Entry>> {
        // The map is whole after any panic: every change to it is a single call.
        self.acts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn end(&mut self, cut: Cut) {
        self.cut.get_or_insert(cut);
        self.token.cancel();
    }
}

impl Act {
    /// Why the act must end, if it must.
    pub fn cut(&self) -> Option<Cut> {
        self.running.lock().get(&self.id).and_then(|entry| entry.cut)
    }
}

impl Drop for Act {
    fn drop(&mut self) {
        self.running.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_cut_counts_and_the_end_is_noticed() {
        let running = Running::default();
        let (one, two) = (running.begin(Uuid::from_u128(1)), running.begin(Uuid::from_u128(2)));
        assert!(running.cut(Uuid::from_u128(1), Cut::Cancelled));
        assert!(!running.cut(Uuid::from_u128(3), Cut::Cancelled));
        assert_eq!((one.cut(), two.cut()), (Some(Cut::Cancelled), None));
        assert_eq!(running.cut_all(Cut::Halt), 2);
        assert_eq!((one.cut(), two.cut()), (Some(Cut::Cancelled), Some(Cut::Halt)));
        assert!(two.token.is_cancelled());
        drop((one, two));
        assert_eq!(running.count(), 0);
    }
}
