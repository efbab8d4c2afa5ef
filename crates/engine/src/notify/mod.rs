//! Telling people: the notifier makes notices of what the log says, and the heartbeat tells a watcher that the node lives.
//!
//! Neither is in the way of work: the notifier only reads the log that work has written, and what it makes is sent by the dispatcher. What is
//! told of, and in which words, is decided in `orbit_core::notify`.

mod heartbeat;
mod notifier;
mod vitals;

pub use heartbeat::{Beat, Heartbeat};
pub use notifier::Notifier;
pub use vitals::{Pulse, Vitals};
