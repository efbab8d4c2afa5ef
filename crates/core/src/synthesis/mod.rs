//! Synthesis: from a snapshot, a profile, a run profile and an initiation to the execution request of a run.
//!
//! Owns the instruction and the request, which is the bridge to execution: it names everything by name and settings digest of one snapshot
//! and never carries an argv, an address or a secret.

mod build;
mod request;
#[cfg(test)]
pub(crate) mod sample;
mod trial;

pub use build::{SynthesisError, synthesize};
pub use request::{
    AssetReference, CycleIdentity, ExecutionRequest, InitiationView, Instruction, ProfileIdentity, Reference,
    RequestError, RunIdentity, RunProfileIdentity, StepRequest, named_processor,
};
pub use trial::{TrialRequest, profile_with, trial_of_endpoint, trial_of_processor};
