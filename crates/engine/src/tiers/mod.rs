//! Tiers: runs the steps of a run, each attempt by a processor in a work folder of its own.
//!
//! `workers` claims, `at_once` lets runs start with their admission, `step` does one step after the other and commits, `attempt` is one attempt from the request to the durable output, `trial` one
//! outside of any run, `exec` is the processor that is a program, `remote` the one that is a service, `embedded` the one that lives in this process,
//! `reuse` finds work that was done before. What a
//! failure means is decided in `orbit_core::tiers`; programs are started in `supervisor` only.

mod at_once;
pub(crate) mod attempt;
mod checked;
mod embedded;
pub(crate) mod exec;
pub(crate) mod output;
mod processor;
mod remote;
mod remote_request;
#[cfg(test)]
mod remote_tests;
mod reuse;
pub mod step;
pub(crate) mod trial;
mod work;
mod workers;

pub(crate) use at_once::AtOnce;
pub(crate) use checked::CheckedRequests;
pub use processor::{InProcess, Job, Processed, Processor};
pub use work::Work;
pub use workers::Workers;
