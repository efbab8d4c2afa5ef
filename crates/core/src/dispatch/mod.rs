//! Dispatch: what is decided about a delivery before and after anything is sent.
//!
//! Owns which addresses and headers an endpoint may have, which network addresses may be dialed, what a signature covers, what follows from
//! an attempt, and how an endpoint does. Never sends: the engine's `dispatch` and `http` do.

pub mod breaker;
pub mod guard;
pub mod header;
pub mod metadata;
pub mod outcome;
pub mod rate;
pub mod retry;
pub mod signature;
pub mod special;
mod target;

pub use target::{TargetError, check_url, target_url};
