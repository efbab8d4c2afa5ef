//! The log's mathematics against implementations of others.

#![expect(clippy::unwrap_used, reason = "a test fails where it panics")]

mod peer;
mod program;
mod tree;
