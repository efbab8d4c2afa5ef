//! Tiers: runs the steps of a run, each attempt by a processor in a work folder of its own.
//!
//! `workers` claims, `start_permits` lets runs start with their admission, `step` does one step after the other and commits, `attempt` is one attempt from the request to the durable output, `trial` one
//! outside of any run, `exec` is the processor that is a program, `remote` the one that is a service, `embedded` the one that lives in this process,
//! `reuse` finds work that was done before. What a
//! failure means is decided in `orbit_core::tiers`; programs are started in `supervisor` only.

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
mod start_permits;
pub mod step;
pub(crate) mod trial;
mod work;
mod workers;

pub(crate) use checked::CheckedRequests;
pub use processor::{InProcess, Job, Processed, Processor};
pub(crate) use start_permits::StartPermits;
pub use work::Work;
pub use workers::Workers;
