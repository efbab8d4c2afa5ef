//! What integration tests share: a store that fails to order, a receiver on loopback, and a world in which one full cycle is scripted.
//!
//! A development member: of the four crates only their tests depend on it. `cluster` is a PostgreSQL server of the tests, and
//! `backend` says whether they run on it, and `proxy` is a network in between that fails. `fault` says which call fails and how, `faulty` is the store that obeys, `files`
//! are the files of payloads that do, `deviation` says in what a history with a fault may differ,
//! `world` holds what outlives a process, `incarnation` is one process over it, `script` the cycle, `verdict` what must be true at the end.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::missing_panics_doc,
    reason = "a test's tools fail the test"
)]

pub mod backend;
pub mod cluster;
pub mod deviation;
pub mod fault;
pub mod faulty;
pub mod files;
pub mod incarnation;
pub mod proxy;
pub mod receiver;
pub mod script;
pub mod stored;
pub mod verdict;
pub mod world;
