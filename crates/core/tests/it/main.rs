//! The log's mathematics against implementations of others.

mod peer;
mod program;
mod tree;
