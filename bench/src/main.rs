//! `orbit-bench` measures ORBIT against the limit of the machine it runs on: every scenario runs what it is compared with in the same minutes,
//! so that a ratio means the same on a fast machine and on a busy one.
//!
//! Results go to `target/bench/latest.json`; see `report`. Progress is a bar on a terminal and plain lines otherwise.

#![expect(clippy::cast_precision_loss, reason = "what is measured is not known to sixteen digits")]

mod bare;
mod fsyncs;
mod idle;
mod log;
mod memory;
mod payload;
mod receiver;
mod report;
mod runs;
mod threshold;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, ValueEnum};

use report::Report;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// Runs a second, against a bare program that commits the same rows, and against one transaction a step.
    Runs,
    /// One run alone, from trigger to finished, against the sum of its fsyncs.
    Idle,
    /// The memory of `orbit serve` that has nothing to do, and of an engine that does one run after the other.
    Memory,
    /// Payloads in the store against payloads as files.
    Threshold,
    /// Records appended, verified against a bare SHA-256, and proved.
    Log,
}

/// Measures ORBIT against the limit of this machine.
#[derive(Debug, Parser)]
struct Arguments {
    /// Which scenarios; all of them if none is named.
    scenarios: Vec<Scenario>,
    /// Seconds instead of minutes: shows that everything works, not how fast.
    #[arg(long)]
    quick: bool,
    /// Where the databases are made: the disk that is measured.
    #[arg(long, default_value = "target/bench")]
    folder: PathBuf,
    /// Runs in flight of the runs scenario; several are separated by commas.
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=1024))]
    in_flight: Vec<u16>,
    /// Runs of the memory scenario.
    #[arg(long)]
    runs: Option<u64>,
    /// Records of the log scenario.
    #[arg(long)]
    records: Option<u64>,
    /// The `orbit` whose memory is measured; beside this program if nothing is said.
    #[arg(long)]
    orbit: Option<PathBuf>,
}

/// How much is done.
#[derive(Clone, Debug)]
pub(crate) struct Effort {
    /// Runs in flight.
    pub(crate) in_flight: Vec<usize>,
    /// Runs of one measurement, for each in flight, within these bounds.
    pub(crate) runs: (usize, usize),
    /// How often each is measured; the median counts.
    pub(crate) repeats: usize,
    /// Idle runs.
    pub(crate) idle: usize,
    /// Runs before them: statements are prepared, connections open, and the log ahead has been copied into the file, so that it grows no more.
    pub(crate) idle_before: usize,
    /// Runs of the memory scenario.
    pub(crate) memory: u64,
    /// Records of the log scenario.
    pub(crate) records: u64,
}

impl Effort {
    fn of(arguments: &Arguments) -> Self {
        let effort = if arguments.quick {
            Self {
                in_flight: vec![1, 16],
                runs: (16, 64),
                repeats: 1,
                idle: 5,
                idle_before: 5,
                memory: 100,
                records: 20_000,
            }
        } else {
            Self {
                in_flight: vec![1, 16, 64, 256],
                runs: (200, 4_000),
                repeats: 3,
                idle: 60,
                idle_before: 700,
                memory: 20_000,
                records: 1_000_000,
            }
        };
        let asked: Vec<usize> = arguments.in_flight.iter().map(|&number| number.into()).collect();
        Self {
            in_flight: if asked.is_empty() { effort.in_flight } else { asked },
            memory: arguments.runs.unwrap_or(effort.memory),
            records: arguments.records.unwrap_or(effort.records),
            ..effort
        }
    }
}

fn main() -> ExitCode {
    match measure(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    std::fs::create_dir_all(&arguments.folder)
        .with_context(|| format!("cannot make `{}`", arguments.folder.display()))?;
    let folder = arguments.folder.canonicalize()?;
    let effort = Effort::of(arguments);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut report = Report::new();
    let is_wanted = |one| arguments.scenarios.is_empty() || arguments.scenarios.contains(&one);
    // First, while nothing else has grown in this process.
    if is_wanted(Scenario::Memory) {
        runtime.block_on(memory::measure(&folder, &effort, arguments.orbit.as_deref(), &mut report))?;
    }
    if is_wanted(Scenario::Idle) {
        runtime.block_on(idle::measure(&folder, &effort, &mut report))?;
    }
    if is_wanted(Scenario::Threshold) {
        runtime.block_on(threshold::measure(&folder, &effort, &mut report))?;
    }
    if is_wanted(Scenario::Runs) {
        runtime.block_on(runs::measure(&folder, &effort, &mut report))?;
    }
    if is_wanted(Scenario::Log) {
        runtime.block_on(log::measure(&folder, &effort, &mut report))?;
    }
    let path = folder.join("latest.json");
    report.write(&path)?;
    report.say(&format!("written to {}", path.display()));
    Ok(())
}
