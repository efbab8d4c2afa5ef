//! Requests of runs that never were: what an operator's test of a processor or an endpoint goes by.

mod endpoint;
mod processor;

pub use endpoint::trial_of_endpoint;
pub use processor::{TrialRequest, profile_with, trial_of_processor};
