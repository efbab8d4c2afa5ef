//! The control socket: every command works the same beside a running `serve` as without one.
//!
//! Whoever holds the home's lock executes commands and listens on an owner-only Unix socket; everybody else connects to it. One JSON
//! line asks, one JSON line answers; to wait or to follow is to ask again.

pub mod command;
pub mod config;
pub mod documents;
pub mod endpoint;
pub mod execute;
pub mod lock;
pub mod log;
pub mod operate;
pub mod redrive;
pub mod socket;

pub use command::{
    Answer, Command, DocumentKind, EndpointTest, Fired, List, NamespaceChoice, Order, Refusal, Thing,
};
pub use config::ConfigQuestion;
pub use execute::execute;
pub use lock::{HomeLock, LockError};
pub use log::{LogQuestion, ProofOf};
pub use redrive::Redriven;
pub use socket::{Connection, SocketError, listen};

/// Longest line in either direction, in bytes.
pub const LINE_BYTES_MAX: u64 = 64 << 20;
/// Connections that are served at once; the next one waits.
pub const CONNECTIONS_MAX: usize = 64;
