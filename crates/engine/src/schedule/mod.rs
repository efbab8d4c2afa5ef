//! Schedule, acted: the service that turns due firings into cycles.
//!
//! What fires and why is decided in [`orbit_core::schedule`]; here the facts are gathered and the decision is committed. `scheduler` is the service,
//! `agenda` whom a turn looks at, `compiled` the schedules of a snapshot, `decision` what is to be done about one run profile.

mod agenda;
mod compiled;
mod decision;
mod scheduler;
#[cfg(test)]
mod tests;

pub use scheduler::Scheduler;
