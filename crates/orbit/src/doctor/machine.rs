//! Free space, the clock, root certificates, and what the supervisor needs of the kernel.

use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use orbit_core::config::NamespaceName;
use orbit_engine::layout::Layout;

use super::Finding;
use crate::render::units::{bytes, duration, instant};

/// Before this instant no version existed: 2026-01-01 in Unix seconds.
const EARLIEST: i64 = 1_767_225_600;
/// A file that was written this far in the future was written by another clock.
const AHEAD_MAX: SignedDuration = SignedDuration::from_secs(60);
/// Free space below this many times the floor is worth a look.
const FLOOR_NEAR: u64 = 2;

/// Free space and its floor.
pub(super) fn space(namespace: &str, free: Option<u64>, floor: u64) -> Finding {
    let Some(free) = free else {
        let hint = "the gate treats it as enough; look at the file system";
        return Finding::warning("disk", format!("the free space for `{namespace}` cannot be told"), hint);
    };
    let message = format!("{} free for `{namespace}`, floor {}", bytes(free), bytes(floor));
    if free < floor {
        return Finding::problem(
            "disk",
            message,
            "nothing new starts; free some space, or lower `disk_floor`",
        );
    }
    if free < floor.saturating_mul(FLOOR_NEAR) {
        return Finding::warning("disk", message, "free some space before the floor is reached");
    }
    Finding::ok("disk", message)
}

/// Whether the clock can be right.
pub(super) fn clock(now: Timestamp, newest_write: Option<Timestamp>) -> Finding {
    if now.as_second() < EARLIEST {
        let hint = "set it; schedules, signatures and certificates depend on it";
        return Finding::problem("clock", format!("the clock says {}", instant(now)), hint);
    }
    match newest_write.map(|written| written.duration_since(now)).filter(|ahead| *ahead > AHEAD_MAX) {
        Some(ahead) => {
            let message = format!("the clock is {} behind what was written here", duration(ahead));
            Finding::warning(
                "clock",
                message,
                "it went back; nothing fires twice, but schedules wait until it catches up",
            )
        }
        None => Finding::ok("clock", instant(now)),
    }
}

/// When a store was last written.
pub(super) fn newest_write(layout: &Layout, names: &[NamespaceName]) -> Option<Timestamp> {
    let written = |name: &NamespaceName| {
        let modified = std::fs::metadata(layout.database(name)).ok()?.modified().ok()?;
        Timestamp::try_from(modified).ok()
    };
    names.iter().filter_map(written).max()
}

/// The nearest folder above that exists.
pub(super) fn existing(path: &Path) -> PathBuf {
    path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/")).to_owned()
}

/// Whether the machine knows whom to trust.
pub(super) fn roots() -> Finding {
    let found = rustls_native_certs::load_native_certs();
    match (found.certs.len(), found.errors.first()) {
        (0, error) => {
            let why = error.map(|error| format!(": {error}")).unwrap_or_default();
            let hint =
                "install them (on Debian `ca-certificates`); no `https` endpoint can be reached without";
            Finding::problem("tls", format!("there are no root certificates{why}"), hint)
        }
        (count, _) => Finding::ok("tls", format!("{count} root certificates")),
    }
}

/// What the supervisor needs.
pub(super) fn kernel() -> Vec<Finding> {
    let mut findings = Vec::new();
    if std::fs::read_to_string("/proc/self/stat").is_err() {
        let hint = "mount `/proc`: a program's descendants cannot be found and ended without";
        findings.push(Finding::problem("kernel", "`/proc` is not mounted", hint));
    }
    if let Err(error) = nix::sys::prctl::get_child_subreaper() {
        let hint = "use Linux 3.4 or newer, and allow `prctl` in the container";
        findings.push(Finding::problem(
            "kernel",
            format!("no process can be a subreaper: {}", error.desc()),
            hint,
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::ok("kernel", "process trees can be supervised"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    #[test]
    fn free_space() {
        let check =
            |free: Option<u64>, expected: Level| assert_eq!(space("studio", free, 100).level, expected);
        check(None, Level::Warning);
        check(Some(99), Level::Problem);
        check(Some(100), Level::Warning);
        check(Some(200), Level::Ok);
        assert_eq!(space("studio", Some(2048), 1024).message, "2.0 KiB free for `studio`, floor 1.0 KiB");
    }

    #[test]
    fn clocks() {
        let now: Timestamp = "2026-11-25T12:00:00Z".parse().unwrap();
        let check = |now: Timestamp, written: Option<&str>, expected: Level| {
            assert_eq!(clock(now, written.map(|at| at.parse().unwrap())).level, expected);
        };
        check(now, None, Level::Ok);
        check(now, Some("2026-11-25T12:00:59Z"), Level::Ok);
        check(now, Some("2026-11-26T12:00:00Z"), Level::Warning);
        check(Timestamp::UNIX_EPOCH, None, Level::Problem);
        check("2026-01-01T00:00:00Z".parse().unwrap(), None, Level::Ok);
    }

    #[test]
    fn the_folder_that_exists() {
        assert_eq!(existing(Path::new("/proc/self/nothing/below")), Path::new("/proc/self"));
    }
}
