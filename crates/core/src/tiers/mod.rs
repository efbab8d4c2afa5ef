//! Tiers: what an attempt of a processor can come to, and what follows from it.
//!
//! Owns the typed failure space of design section 5, the usage of an attempt, the one function that classifies an outcome, the wait before
//! the next attempt, what may start and what held it, and the decisions about an output, none of which looks at what the bytes mean. Never
//! starts anything: programs belong to `orbit_engine::supervisor`, steps to `orbit_engine::tiers`.

mod backoff;
mod failure;
mod follow;
mod how;
mod remote;
mod reuse;
mod room;
mod validate;
mod waits;

pub use backoff::delay;
pub use failure::{Failure, Verdict, classify};
pub use follow::{FailedAttempt, after_failure};
pub use how::{EnforcedBy, How, OverLimit, Usage};
pub use remote::{Hop, Meaning, RemoteFailure, is_passing, meaning};
pub use reuse::Work;
pub use room::{Lane, Room};
pub use validate::{check_differs, check_prefix, check_size, prefix_bytes};
pub use waits::{Account, Fullness, Held, Limit, Waits};
