//! Runs a second, for several numbers of runs in flight: the engine, the bare program of `bare`, and the same engine with one transaction a commit,
//! one after the other and all of it several times.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::Effort;
use crate::bare::Rows;
use crate::payload::LARGE_BYTES;
use crate::report::{Better, Measured, Report, bar, median};
use crate::world::{Commits, World};

/// Durable stages of a run: select, three tiers, normalize, dispatch.
pub(crate) const STAGES: usize = 6;
/// Runs for each that is in flight.
const RUNS_EACH: usize = 64;
/// With one transaction a commit as many runs would take minutes.
const SINGLE_PART: usize = 8;
/// Of the bare program's speed.
const TARGET: f64 = 0.5;
/// Of the speed with one transaction a commit.
const TARGET_SINGLE: f64 = 10.0;

/// What was measured with so many in flight, in runs a second.
#[derive(Default)]
struct Speeds {
    grouped: Vec<f64>,
    bare: Vec<f64>,
    single: Vec<f64>,
}

pub(crate) async fn measure(folder: &Path, effort: &Effort, report: &mut Report) -> anyhow::Result<()> {
    let bar = bar("runs", effort.in_flight.len() * effort.repeats * 3);
    let (mut best, mut best_single) = (None::<(f64, f64)>, None::<f64>);
    for in_flight in effort.in_flight.iter().copied() {
        let runs = (in_flight * RUNS_EACH).clamp(effort.runs.0, effort.runs.1);
        let mut speeds = Speeds::default();
        for _ in 0..effort.repeats {
            let (grouped, rows) = engine(folder, (in_flight, runs), Commits::Grouped, report).await?;
            speeds.grouped.push(grouped);
            bar.inc(1);
            // Runs that are in flight together share a commit a stage.
            let commits = (runs * STAGES).div_ceil(in_flight);
            speeds.bare.push(runs as f64 / rows.commit(folder, commits)?.as_secs_f64());
            drop(rows);
            bar.inc(1);
            let few = (runs / SINGLE_PART).max(in_flight.min(effort.runs.0));
            speeds.single.push(engine(folder, (in_flight, few), Commits::Single, report).await?.0);
            bar.inc(1);
        }
        let (grouped, bare) = (median(&speeds.grouped), median(&speeds.bare));
        let measured = Measured::against(grouped, "runs/s", bare, (TARGET, Better::Higher)).told();
        report.add(&format!("runs_in_flight_{in_flight}"), measured);
        if best.is_none_or(|(value, _)| grouped > value) {
            best = Some((grouped, bare));
        }
        let single = median(&speeds.single);
        best_single = Some(best_single.map_or(single, |best: f64| best.max(single)));
    }
    bar.finish_and_clear();
    if let Some((value, limit)) = best {
        report.add("runs", Measured::against(value, "runs/s", limit, (TARGET, Better::Higher)));
        let single = best_single.unwrap_or(f64::NAN);
        report.add(
            "runs_beside_single_commits",
            Measured::against(value, "runs/s", single, (TARGET_SINGLE, Better::Higher)),
        );
    }
    Ok(())
}

/// Runs a second of the engine, and the rows that it left.
async fn engine(
    folder: &Path,
    (in_flight, runs): (usize, usize),
    commits: Commits,
    report: &Report,
) -> anyhow::Result<(f64, Rows)> {
    let world = World::start(folder, (in_flight, LARGE_BYTES), commits).await?;
    world.run(u64::try_from(in_flight)?).await?;
    let before = (world.written(), bytes_written()?);
    let began = Instant::now();
    world.run(u64::try_from(runs)?).await?;
    let took = began.elapsed().as_secs_f64();
    let speed = runs as f64 / took;
    let (written, bytes) = (before.0.until(world.written()), bytes_written()? - before.1);
    let database = world.database();
    let folder = world.stop().await;
    let rows = Rows::read(&database)?;
    drop(folder);
    let each = |count: u64| count as f64 / runs as f64;
    let share = |part: Duration| 100.0 * part.as_secs_f64() / took;
    report.say(&format!(
        "{in_flight} in flight, {commits:?}: {speed:.0} runs/s; a run is {:.2} commits, {:.1} transactions, {:.1} records, {:.1} rows, {:.0} KiB written; the writer is busy {:.0} % of the time and commits {:.0} %, the flusher flushes {:.0} %",
        each(written.commits),
        each(written.transactions),
        each(written.records),
        rows.count() as f64 / (runs + in_flight) as f64,
        each(bytes) / 1024.0,
        share(written.busy),
        share(written.committing),
        share(written.flushing),
    ));
    Ok((speed, rows))
}

/// What this process has written so far, whether or not it has reached the disk; `wchar` of proc(5).
pub(crate) fn bytes_written() -> anyhow::Result<u64> {
    let io = std::fs::read_to_string("/proc/self/io")?;
    let line = io.lines().find_map(|line| line.strip_prefix("wchar: ")).context("no wchar")?;
    Ok(line.trim().parse()?)
}
