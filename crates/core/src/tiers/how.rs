//! How a program ended, and what its whole process tree used.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a program ended. Its process tree is gone in every case but [`How::Lost`], where what can be found of it is swept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum How {
    /// No process came to be.
    CouldNotStart {
        /// What the system said, naming what it was about.
        message: String,
    },
    /// The program ended by itself.
    Exited {
        /// Its exit code, 0 to 255.
        code: i32,
    },
    /// A signal that the supervisor did not send ended it.
    Signalled {
        /// The signal's number.
        signal: i32,
    },
    /// It was ended because `limits.wall` had passed.
    TimedOut,
    /// It was ended because the engine asked for it, or was gone.
    Cancelled,
    /// It was ended because its tree used too much.
    OverLimit {
        /// Of what.
        limit: OverLimit,
    },
    /// The supervisor ended without an answer: nobody knows how the program ended.
    Lost {
        /// What is known of it.
        message: String,
    },
}

/// The limits that a process tree can exceed, by their keys in a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OverLimit {
    /// `limits.cpu`.
    Cpu,
    /// `limits.memory`.
    Memory,
    /// `limits.output`.
    Output,
    /// `limits.processes`.
    Processes,
}

/// What holds a process tree to its limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EnforcedBy {
    /// The tree is looked at every 100 ms.
    #[default]
    Sampling,
    /// The kernel held a single process to its resource limit before a sample saw it.
    Rlimit,
    /// The kernel holds the tree as a whole.
    Cgroup,
}

/// What an attempt's process tree used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// From the start to the end of the last process, in milliseconds.
    pub wall_ms: u64,
    /// User and system time of every process, in milliseconds.
    pub cpu_ms: u64,
    /// The highest sum of resident memory that a sample saw, or the highest of one process if that is more. Zero when the tree was too
    /// short-lived to be seen.
    pub memory_peak_bytes: u64,
    /// The most processes that a sample saw alive at once; at least one.
    pub processes_peak: u32,
    /// Bytes on standard output.
    pub output_bytes: u64,
    /// Processes that were still there when the program had ended, and were ended too.
    pub survivors: u32,
    /// What held the tree to its limits.
    pub enforced_by: EnforcedBy,
}

impl OverLimit {
    /// The key in a document's `limits`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Output => "output",
            Self::Processes => "processes",
        }
    }
}

impl fmt::Display for OverLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`limits.{}`", self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tags_at_the_wire() {
        let check = |how: How, expected: serde_json::Value| {
            assert_eq!(serde_json::to_value(&how).unwrap(), expected);
            assert_eq!(serde_json::from_value::<How>(expected).unwrap(), how);
        };
        check(How::Exited { code: 3 }, json!({"how": "exited", "code": 3}));
        check(How::TimedOut, json!({"how": "timed_out"}));
        check(How::OverLimit { limit: OverLimit::Memory }, json!({"how": "over_limit", "limit": "memory"}));
        assert_eq!(serde_json::to_value(EnforcedBy::Rlimit).unwrap(), json!("rlimit"));
    }
}
