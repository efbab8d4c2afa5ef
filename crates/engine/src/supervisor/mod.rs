//! The supervisor: a small process of its own between the engine and every program, so that a program's whole process tree ends with it.
//!
//! The engine never starts a program itself. It starts its own binary again as a hidden subcommand, writes one JSON line (the program, its
//! limits) to that process and keeps the pipe open; when the tree is gone, the supervisor answers with one JSON line and ends. The pipe is
//! the control line: a byte means "end it now", and its end, which the kernel brings about however the engine dies, means the same.
//!
//! `launch` is the engine's side and `watch` the supervisor's, which is synchronous and has one thread. As subreaper the supervisor becomes
//! the parent of every orphan below it, so a process that forked away or took a session of its own is still found, ended and reaped.
//!
//! The tree as a whole is held to its limits by looking at it every 100 ms, single processes also by the kernel's resource limits. What stays
//! out of reach: children of a daemon that the program only talks to (a container engine, `at`, `systemd-run`), and processes of another user that
//! this one may not signal. Control groups are not used.

mod control;
mod launch;
mod meter;
mod pipes;
mod protocol;
mod rlimits;
mod start;
mod tree;
mod watch;

use std::path::Path;
use std::time::Duration;

pub use launch::Launcher;
pub use orbit_core::tiers::{EnforcedBy, How, OverLimit, Usage};
pub use protocol::{Ended, Program};
pub use tree::sweep;
pub use watch::main;

/// Set in the environment of every program, to the mark of the home that it works for.
pub const HOME_MARK: &str = "ORBIT_HOME_MARK";
/// Set in the environment of every program, to a text that no other attempt of a living engine has.
pub const ATTEMPT_MARK: &str = "ORBIT_ATTEMPT_MARK";
/// How often a process tree is looked at.
pub const SAMPLE_EVERY: Duration = Duration::from_millis(100);
/// A program that is cancelled by a living engine gets this long after TERM, if its own grace is not shorter: a halt must be quiet within a second.
pub const CANCEL_GRACE_MAX: Duration = Duration::from_millis(500);
/// How long the supervisor tries to kill what does not die, such as a process in an uninterruptible system call.
pub const KILL_WAIT_MAX: Duration = Duration::from_secs(10);

/// The mark of a home, which tells the programs of one home from those of another.
pub fn marker(home: &Path) -> String {
    orbit_core::digest::Digest::of(home.as_os_str().as_encoded_bytes()).hex()[..16].to_owned()
}
