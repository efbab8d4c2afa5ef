//! Exit codes: part of the contract with scripts.

/// It went well.
pub const SUCCEEDED: u8 = 0;
/// It failed.
pub const FAILED: u8 = 1;
/// The command line or the configuration is wrong.
pub const USAGE: u8 = 2;
/// Some of it went well.
pub const PARTIAL: u8 = 3;
/// Work is halted or paused.
pub const HALTED: u8 = 4;
/// There was nothing to do.
pub const NOTHING: u8 = 5;
