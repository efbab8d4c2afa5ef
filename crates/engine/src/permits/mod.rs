//! Permits: how many runs and programs may work at once, and whose turn it is.
//!
//! `node` hands the node's permits to its namespaces in turn; `namespace` counts what one namespace has at work, over all of it, by profile, run
//! profile and processor. A limit is that of the active snapshot at the moment in which a permit is asked for, so that a change takes effect
//! live: what works already goes on, and nothing new starts until there is room. Permits are counted, never queued for: a run is claimed when
//! all it needs is free.

mod namespace;
mod node;

pub use namespace::{Admission, Count, Permit, Permits, Program, RunPermits};
pub use node::{Asker, NodePermit, NodePermits, Taken};
