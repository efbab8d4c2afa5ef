//! Dispatch at work: deliveries are claimed, sent and committed, each attempt a task of its own.
//!
//! `dispatcher` claims, `attempt` sends one, `compose` and `sign` make its headers, `receipt` writes down what came of it. What an outcome
//! means is decided in `orbit_core::dispatch`.

pub mod attempt;
mod compose;
mod dispatcher;
mod receipt;
mod sign;
#[cfg(test)]
mod tests;

pub use dispatcher::Dispatcher;
