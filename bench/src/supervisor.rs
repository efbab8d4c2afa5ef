//! What a program costs that is supervised: an attempt of the engine, which starts the real `orbit` as a supervisor, which starts the program; beside a bare
//! spawn of the same program.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use orbit_core::config::Limits;
use orbit_engine::supervisor::{How, Launcher, Program};
use tokio_util::sync::CancellationToken;

use crate::report::{Better, Measured, Report, bar, median, milliseconds};
use crate::{Effort, Place};

/// Does nothing.
const PROGRAM: &str = "/bin/true";
/// The subcommand that makes a supervisor of `orbit`.
const SUPERVISE: &str = "__supervise";
/// Milliseconds above a bare spawn.
const TARGET: f64 = 5.0;

pub(crate) async fn measure(place: &Place<'_>, effort: &Effort, report: &mut Report) -> anyhow::Result<()> {
    let Some(orbit) = place.orbit(report) else { return Ok(()) };
    let launcher = Launcher { program: orbit.to_owned(), args: vec![SUPERVISE.into()] };
    let bar = bar("supervisor", effort.attempts);
    let (mut supervised, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..effort.attempts {
        supervised.push(attempt(&launcher, place.folder).await?);
        bare.push(spawn().await?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let (value, limit) = (median(&supervised), median(&bare));
    let each = Measured::against(value, "ms", limit, (1.0, Better::Lower)).told();
    report.add("supervised_attempt", each);
    let above = Measured::plain(value - limit, "ms", Some(TARGET), Better::Lower);
    report.add("supervisor_above_a_spawn", above);
    Ok(())
}

async fn attempt(launcher: &Launcher, folder: &Path) -> anyhow::Result<f64> {
    let program = Program {
        argv: vec![PROGRAM.to_owned()],
        env: BTreeMap::new(),
        cwd: folder.to_owned(),
        stdin: None,
        stdout: None,
        limits: Limits::default(),
        marker: "bench".to_owned(),
    };
    let began = Instant::now();
    let ended = launcher.run(program, &CancellationToken::new()).await;
    anyhow::ensure!(ended.how == How::Exited { code: 0 }, "{ended:?}");
    Ok(milliseconds(began.elapsed()))
}

#[expect(clippy::disallowed_methods, reason = "what the supervisor is compared with")]
async fn spawn() -> anyhow::Result<f64> {
    let mut command = tokio::process::Command::new(PROGRAM);
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let began = Instant::now();
    let status = command.status().await?;
    anyhow::ensure!(status.success(), "{status}");
    Ok(milliseconds(began.elapsed()))
}
