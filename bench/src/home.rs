//! A home of the real `orbit`, and that program at work in it.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Waits between two looks at a program.
const LOOK: Duration = Duration::from_millis(2);

/// See the module.
pub(crate) struct Home {
    folder: tempfile::TempDir,
    orbit: PathBuf,
}

/// What a program took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Took {
    /// From its start to its end.
    pub(crate) time: Duration,
    /// The most that it had in memory; looked at every few milliseconds.
    pub(crate) most_mib: f64,
}

/// A process that is ended with this.
pub(crate) struct Serving(Child);

impl Serving {
    /// Its id.
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Ok(id) = i32::try_from(self.0.id()) {
            _ = kill(Pid::from_raw(id), Signal::SIGTERM);
        }
        _ = self.0.wait();
    }
}

impl Home {
    /// As `orbit init` makes it.
    pub(crate) fn init(below: &Path, orbit: &Path) -> anyhow::Result<Self> {
        let home = Self { folder: tempfile::tempdir_in(below)?, orbit: orbit.to_owned() };
        home.perform(&["init", &home.path().to_string_lossy()])?;
        home.write("orbit.yaml", "listen: { address: \"127.0.0.1:0\" }\nlimits: { runs_concurrent: 2 }\n")?;
        Ok(home)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// A document or whatever else is to be there.
    pub(crate) fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().context("no folder")?)?;
        std::fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))
    }

    #[expect(clippy::disallowed_methods, reason = "the program that is measured")]
    fn command(&self) -> Command {
        let mut command = Command::new(&self.orbit);
        command.env("ORBIT_HOME", self.path()).stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// Runs a command to its end, which must be a good one.
    pub(crate) fn perform(&self, arguments: &[&str]) -> anyhow::Result<Took> {
        let told = self.folder.path().join("told.txt");
        let mut command = self.command();
        command.args(arguments).stderr(std::fs::File::create(&told)?);
        let began = Instant::now();
        let mut child = command.spawn()?;
        let mut most_mib = 0.0_f64;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            most_mib = most_mib.max(memory_mib(child.id(), "VmHWM:").unwrap_or(0.0));
            std::thread::sleep(LOOK);
        };
        let time = began.elapsed();
        if !status.success() {
            bail!("`orbit {}` ended with {status}: {}", arguments.join(" "), std::fs::read_to_string(told)?);
        }
        Ok(Took { time, most_mib })
    }

    /// Starts `orbit serve`; how long that took until it said that it is ready.
    pub(crate) fn serve(&self) -> anyhow::Result<(Serving, Duration)> {
        let began = Instant::now();
        let mut serving = Serving(self.command().arg("serve").stderr(Stdio::piped()).spawn()?);
        let mut told = BufReader::new(serving.0.stderr.take().context("no standard error")?);
        let mut lines = String::new();
        while told.read_line(&mut lines)? > 0 {
            if lines.contains(" ready ") {
                let took = began.elapsed();
                // Nobody writes to a pipe that is closed.
                std::thread::spawn(move || std::io::copy(&mut told, &mut std::io::sink()));
                return Ok((serving, took));
            }
        }
        bail!("`orbit serve` is not ready: {lines}")
    }
}

/// A line of a process's status, in MiB.
pub(crate) fn memory_mib(process: u32, line: &str) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let found =
        status.lines().find_map(|one| one.strip_prefix(line)).with_context(|| format!("no {line}"))?;
    Ok(found.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}
