//! What an operator orders, beside what runs by itself: to end a run, to do it again, to try a processor.
//!
//! Each order is a function that answers when it is durable, or says why it is not done. None of them goes around a stage: a retry is a cycle
//! like every other, and a trial is one attempt as the tiers make it.

mod cancel;
mod retry;
mod trial;

pub use cancel::cancel;
pub use retry::{Retried, Retry, RetryError, retry};
pub use trial::{Trial, TrialError, trial};
