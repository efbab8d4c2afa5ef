//! `orbit-engine` acts: the only crate that starts programs or calls endpoints.
//!
//! A stage is a module of the same name as in `orbit-core`; each is a service that claims, decides, acts and commits. `node` holds the namespaces
//! and their services together.

/// From due firings to cycles.
pub mod schedule;

/// From a cycle to its initiation and its runs.
pub mod selection;

/// From an execution request to an artifact.
pub mod tiers;

/// Several runs, one program.
pub mod normalize;

/// From an artifact to receipts.
pub mod dispatch;

/// From records to what others can verify.
pub mod record;

/// From the log to whoever is to be told.
pub mod notify;

/// What ends runs that are overdue, and tells of the gate.
pub mod keeper;

/// What drops what is too old.
pub mod retention;

/// What notes how much space is free, and keeps some aside.
pub mod surveyor;

/// What an operator orders: to end a run, to do it again, to try a processor.
pub mod operator;

/// When a node may act.
pub mod lease;

/// What other nodes have decided.
pub mod follow;

/// What is shared: the node and its namespaces first.
pub mod node;

#[cfg(test)]
mod alone;
pub mod ballast;
pub mod claims;
pub mod clock;
pub mod gate;
pub mod http;
pub mod layout;
pub mod namespace;
mod patience;
pub mod permits;
mod persist;
mod program;
pub mod running;
pub mod secrets;
pub mod service;
pub mod supervisor;
