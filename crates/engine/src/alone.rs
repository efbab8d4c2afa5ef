//! Tests that measure memory: each is played in a process of its own, as the others of one process take memory meanwhile.

/// Plays the ignored test of this path, `module::tests::name`, in a new process, and fails as it does.
#[expect(clippy::disallowed_methods, reason = "a process of the tests, not the engine's")]
pub(crate) fn play(test: &str) {
    let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
    let played = alone.args(["--exact", test, "--ignored", "--nocapture"]).output().unwrap();
    let said = String::from_utf8_lossy(&played.stdout);
    assert!(
        played.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&played.stderr)
    );
}

/// From here on: how much more memory the process holds than now, at the most.
pub(crate) struct Growth {
    before: u64,
}

impl Growth {
    pub(crate) fn begin() -> Self {
        let before = status_bytes("VmRSS:");
        // The most that the process held is counted anew.
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        Self { before }
    }

    pub(crate) fn most_bytes(&self) -> u64 {
        status_bytes("VmHWM:").saturating_sub(self.before)
    }
}

fn status_bytes(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}
