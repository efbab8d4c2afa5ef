//! How far an exchange has come: shared between the one who waits and the body that is sent, so that whatever ends the exchange knows
//! where it was.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use orbit_core::dispatch::outcome::Phase;
use tokio::time::Instant;

/// How long an exchange took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// Milliseconds in each phase that was entered.
    pub phases_ms: BTreeMap<Phase, u64>,
    /// Milliseconds in all.
    pub total_ms: u64,
}

/// See the module.
#[derive(Clone)]
pub(super) struct Progress(Arc<Mutex<State>>);

struct State {
    started: Instant,
    phase: Phase,
    entered: Instant,
    timings: Timings,
    address: Option<SocketAddr>,
    body_bytes_sent: u64,
    unreadable: Option<String>,
}

/// What is known at the end.
pub(super) struct Traces {
    pub(super) address: Option<SocketAddr>,
    pub(super) body_bytes_sent: u64,
    pub(super) timings: Timings,
}

impl Progress {
    /// At the first phase, now.
    pub(super) fn start() -> Self {
        let now = Instant::now();
        Self(Arc::new(Mutex::new(State {
            started: now,
            phase: Phase::Resolve,
            entered: now,
            timings: Timings::default(),
            address: None,
            body_bytes_sent: 0,
            unreadable: None,
        })))
    }

    /// Another phase begins. An answer may begin before the request is sent, so a phase that is past is not entered again.
    pub(super) fn enter(&self, phase: Phase) {
        let mut state = self.lock();
        if phase > state.phase {
            state.leave();
            state.phase = phase;
        }
    }

    /// The phase under way.
    pub(super) fn phase(&self) -> Phase {
        self.lock().phase
    }

    /// This address took the connection.
    pub(super) fn connected(&self, address: SocketAddr) {
        self.lock().address = Some(address);
    }

    /// This many bytes of the body were handed to the connection.
    pub(super) fn sent(&self, bytes: u64) {
        self.lock().body_bytes_sent += bytes;
    }

    /// The body could not be read.
    pub(super) fn set_unreadable(&self, message: String) {
        self.lock().unreadable = Some(message);
    }

    /// Why the body could not be read, if so.
    pub(super) fn unreadable(&self) -> Option<String> {
        self.lock().unreadable.clone()
    }

    /// The exchange is over.
    pub(super) fn finish(&self) -> Traces {
        let mut state = self.lock();
        state.leave();
        state.timings.total_ms = milliseconds(state.started);
        Traces {
            address: state.address,
            body_bytes_sent: state.body_bytes_sent,
            timings: std::mem::take(&mut state.timings),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn leave(&mut self) {
        let spent = milliseconds(self.entered);
        self.timings.phases_ms.insert(self.phase, spent);
        self.entered = Instant::now();
    }
}

fn milliseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
