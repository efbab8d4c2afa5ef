//! Dispatch at work: deliveries are claimed, sent and committed, each attempt a task of its own.
//!
//! `dispatcher` claims, `send_permits` lets first attempts be claimed with the end of a step, `lanes` has what bounds the attempts at an endpoint, `attempt` sends one, `compose` and `sign` make its headers, `envelope` its body, `receipt` writes down what came of
//! it; `notice` does the same for a notice, which has no run, and `probe` for an operator's test. What an outcome means is decided in
//! `orbit_core::dispatch`.

pub mod attempt;
mod compose;
mod dispatcher;
mod envelope;
pub(crate) mod lanes;
#[cfg(test)]
mod large;
mod notice;
pub mod probe;
mod receipt;
mod send_permits;
mod sign;
#[cfg(test)]
mod tests;

pub use dispatcher::Dispatcher;
pub(crate) use send_permits::SendPermits;
