//! Memory: of the real `orbit serve` that has nothing to do, and of an engine that does one run after the other.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Effort;
use crate::payload::SMALL_BYTES;
use crate::report::{Better, Measured, Report, bar};
use crate::world::{Commits, World};

/// What an idle `serve` may hold.
const IDLE_TARGET_MIB: f64 = 24.0;
/// The last fifth against the second: what caches take is taken by then.
const GROWTH_TARGET: f64 = 1.1;
const FIFTHS: u64 = 5;
const IN_FLIGHT: usize = 64;
/// How long a node is left alone before its memory is looked at.
const SETTLES: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(50);
const LOOKS_MAX: usize = 400;

pub(crate) async fn measure(
    folder: &Path,
    effort: &Effort,
    orbit: Option<&Path>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let beside = std::env::current_exe()?.with_file_name("orbit");
    let orbit = orbit.map_or(beside, PathBuf::from);
    if orbit.is_file() {
        let mib = serve(folder, &orbit).await?;
        report.add("memory_idle", Measured::plain(mib, "MiB", Some(IDLE_TARGET_MIB), Better::Lower));
    } else {
        report.say(&format!("there is no `{}`: the memory of `serve` is not measured", orbit.display()));
    }
    let world = World::start(folder, (IN_FLIGHT, SMALL_BYTES), Commits::Grouped).await?;
    let bar = bar("memory", usize::try_from(FIFTHS)?);
    let mut sizes = Vec::new();
    for _ in 0..FIFTHS {
        world.run((effort.memory / FIFTHS).max(1)).await?;
        sizes.push(resident_mib(std::process::id())?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    world.stop().await;
    let told: Vec<_> = sizes.iter().map(|size| format!("{size:.1}")).collect();
    report.say(&format!("{} runs: {} MiB after each fifth", effort.memory, told.join(", ")));
    let (Some(second), Some(last)) = (sizes.get(1), sizes.last()) else { bail!("nothing was measured") };
    let growth = Measured::against(*last, "MiB", *second, (GROWTH_TARGET, Better::Lower));
    report.add("memory_over_runs", growth);
    Ok(())
}

/// A process that is ended with this.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        if let Ok(id) = i32::try_from(self.0.id()) {
            _ = kill(Pid::from_raw(id), Signal::SIGTERM);
        }
        _ = self.0.wait();
    }
}

#[expect(clippy::disallowed_methods, reason = "the program that is measured")]
async fn serve(below: &Path, orbit: &Path) -> anyhow::Result<f64> {
    let folder = tempfile::tempdir_in(below)?;
    let home = folder.path().join("home");
    let made = Command::new(orbit).arg("init").arg(&home).stdout(Stdio::null()).status()?;
    if !made.success() {
        bail!("`orbit init` failed: {made}");
    }
    let mut serve = Command::new(orbit);
    serve.arg("--home").arg(&home).arg("serve").stdout(Stdio::null()).stderr(Stdio::null());
    let serving = Serving(serve.spawn()?);
    let socket = home.join("run/orbit.sock");
    for _ in 0..LOOKS_MAX {
        if socket.exists() {
            tokio::time::sleep(SETTLES).await;
            return resident_mib(serving.0.id());
        }
        tokio::time::sleep(LOOK).await;
    }
    bail!("`orbit serve` is not ready")
}

fn resident_mib(process: u32) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}
