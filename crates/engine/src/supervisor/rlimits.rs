//! The kernel's limits on single processes. The supervisor sets them on itself and the program inherits them.

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};
use orbit_core::config::Limits;

/// Files that one process may have open.
const OPEN_FILES_MAX: rlim_t = 4096;
/// A file may grow this far beyond `limits.output`, so that one that was cut is seen to be longer than allowed.
const FILE_SLACK_BYTES: rlim_t = 4096;
/// A process may use this much more CPU time than the tree before the kernel ends it: sampling is to come first.
const CPU_SLACK_SECONDS: rlim_t = 1;

/// The CPU limit to go back to once the program has started.
pub(super) struct Before {
    cpu: Option<(rlim_t, rlim_t)>,
}

/// Sets the limits. A hard limit of this process that is lower stays as it is.
///
/// The supervisor itself writes no file and opens few, so those limits may hold for it too. It may live for hours, so the CPU limit is only lowered
/// for the moment of the start: the soft one, which needs no privilege to raise again.
pub(super) fn set(limits: &Limits) -> Before {
    lower(Resource::RLIMIT_CORE, 0);
    lower(Resource::RLIMIT_NOFILE, OPEN_FILES_MAX);
    lower(Resource::RLIMIT_FSIZE, limits.output.0.saturating_add(FILE_SLACK_BYTES));
    let cpu = getrlimit(Resource::RLIMIT_CPU).ok();
    if let Some((soft, hard)) = cpu {
        let seconds = limits.cpu.0.div_ceil(1_000).saturating_add(CPU_SLACK_SECONDS);
        _ = setrlimit(Resource::RLIMIT_CPU, seconds.min(soft), hard);
    }
    Before { cpu }
}

impl Before {
    /// The CPU limit of this process is what it was.
    pub(super) fn restore(self) {
        if let Some((soft, hard)) = self.cpu {
            _ = setrlimit(Resource::RLIMIT_CPU, soft, hard);
        }
    }
}

/// Best effort: where a limit cannot be set, sampling holds the tree all the same.
fn lower(resource: Resource, value: rlim_t) {
    if let Ok((_, hard)) = getrlimit(resource) {
        let value = value.min(hard);
        _ = setrlimit(resource, value, value);
    }
}
