//! Schedule, acted: the service that turns due firings into cycles.
//!
//! What fires and why is decided in [`orbit_core::schedule`]; here the facts are gathered and the decision is committed.

mod scheduler;

pub use scheduler::Scheduler;
