//! One run alone, from its trigger to finished, against the sum of its fsyncs as the store's flusher measures them; and against as many bare commits of the bytes that
//! it leaves, which are made between the runs, so that both see the same disk.

use std::path::Path;
use std::time::Instant;

use crate::Effort;
use crate::fsyncs::Fsyncs;
use crate::payload::LARGE_BYTES;
use crate::report::{Better, Measured, Report, bar, median, milliseconds};
use crate::world::{Commits, World};

/// Runs whose bytes are counted.
const COUNTED: usize = 5;
/// The ratio that is aimed at.
const TARGET: f64 = 1.5;

pub(crate) async fn measure(folder: &Path, effort: &Effort, report: &mut Report) -> anyhow::Result<()> {
    let world = World::start(folder, (1, LARGE_BYTES), Commits::Grouped).await?;
    for _ in 0..effort.idle_before {
        world.succeeded(world.fire().await?).await?;
    }
    let bytes_before = world.bytes()?;
    let before = world.written();
    for _ in 0..COUNTED {
        world.succeeded(world.fire().await?).await?;
    }
    let bytes = (world.bytes()? - bytes_before) / before.until(world.written()).commits.max(1);
    let fsyncs = Fsyncs::start(folder)?;
    let bar = bar("idle", effort.idle);
    let (mut runs, mut flushes, mut bare, mut sums) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let started = world.written();
    for _ in 0..effort.idle {
        let before = world.written();
        let began = Instant::now();
        world.succeeded(world.fire().await?).await?;
        runs.push(milliseconds(began.elapsed()));
        let own = before.until(world.written());
        flushes.push(milliseconds(own.flushing));
        let mut sum = 0.0;
        for _ in 0..own.commits {
            let one = milliseconds(fsyncs.commit(bytes)?);
            bare.push(one);
            sum += one;
        }
        sums.push(sum);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let all = started.until(world.written());
    world.stop().await;
    report.say(&format!(
        "one idle run: {} commits with {} transactions and {} records; a bare commit of {bytes} bytes takes {:.3} ms",
        all.commits / effort.idle as u64,
        all.transactions / effort.idle as u64,
        all.records / effort.idle as u64,
        median(&bare),
    ));
    let each = |what: std::time::Duration| milliseconds(what) / effort.idle as f64;
    report.say(&format!(
        "its own commits took {:.3} ms without their flushes, and the writer was busy for {:.3} ms",
        each(all.committing),
        each(all.busy)
    ));
    let value = median(&runs);
    report.add("idle_run", Measured::against(value, "ms", median(&flushes), (TARGET, Better::Lower)));
    let bare = Measured::against(value, "ms", median(&sums), (TARGET, Better::Lower));
    report.add("idle_run_beside_bare_commits", bare.told());
    Ok(())
}
