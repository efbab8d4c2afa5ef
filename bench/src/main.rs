//! `orbit-bench` measures ORBIT against the limit of the machine it runs on: every scenario runs what it is compared with in the same minutes,
//! so that a ratio means the same on a fast machine and on a busy one.
//!
//! Results go to `target/bench/latest.json`; see `report`. Progress is a bar on a terminal and plain lines otherwise.

#![expect(clippy::cast_precision_loss, reason = "what is measured is not known to sixteen digits")]

mod bare;
mod beside;
mod check;
mod crash;
mod deliveries;
mod ffmpeg;
mod fsyncs;
mod home;
mod idle;
mod log;
mod memory;
mod page;
mod payload;
mod postgres;
mod receiver;
mod report;
mod runs;
mod schedules;
mod selection;
mod start;
mod supervisor;
mod threshold;
mod world;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::{Parser, Subcommand, ValueEnum};

use report::Report;

/// What is measured, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// The memory of `orbit serve` that has nothing to do, and of an engine that does one run after the other; while nothing else has grown in this process.
    Memory,
    /// One run alone, from trigger to finished, against the sum of its fsyncs.
    Idle,
    /// Payloads in the store against payloads as files.
    Threshold,
    /// Runs a second, against a bare program that commits the same rows, and against one transaction a step.
    Runs,
    /// Deliveries a second from a durable queue, against a bare client.
    Deliveries,
    /// What a supervised program costs beside a bare spawn of it.
    Supervisor,
    /// A batch of FFmpeg's work, against `xargs` with the same commands.
    Ffmpeg,
    /// From the start of `orbit serve` to the word that it is ready; and the size of `orbit`.
    Start,
    /// `orbit check` of a home with very many profiles.
    Check,
    /// One selection from very many candidates, against a bare hash of the same file.
    Selection,
    /// How late very many schedules fire that are due within a minute.
    Schedules,
    /// `kill -9` with very many runs in flight: what is lost, what comes twice, and when everything is there.
    Crash,
    /// Runs a second on PostgreSQL, of one node against a bare program, and of several nodes against one.
    Postgres,
    /// Records appended, verified against a bare SHA-256, and proved.
    Log,
}

/// Where it is measured, and what.
struct Place<'a> {
    /// The folder on the disk that is measured.
    folder: &'a Path,
    /// The real program, if there is one.
    orbit: Option<&'a Path>,
}

impl Place<'_> {
    /// The real program; without it, that part of the scenario is left out, and this is said.
    fn orbit(&self, report: &Report) -> Option<&Path> {
        if self.orbit.is_none() {
            report.say("there is no `orbit` beside this program: what it takes is not measured");
        }
        self.orbit
    }
}

/// What is done besides measuring.
#[derive(Debug, Subcommand)]
enum Verb {
    /// The node of the crash scenario.
    #[command(hide = true)]
    Node(crash::Arguments),
    /// Write the page that tells what was measured, with its plots.
    Page {
        /// What was measured.
        #[arg(long, default_value = "target/bench/latest.json")]
        from: PathBuf,
        /// Where the page is.
        #[arg(long, default_value = "docs/operate/performance.md")]
        to: PathBuf,
    },
    /// The receiver and the server that the peers are measured with.
    #[command(hide = true)]
    Beside {
        /// The disk that is measured.
        folder: PathBuf,
    },
}

/// Measures ORBIT against the limit of this machine.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
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
    /// Schedules of that scenario.
    #[arg(long)]
    schedules: Option<usize>,
    /// The `orbit` that is measured; the one beside this program if nothing is said.
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
    /// Deliveries of one measurement.
    pub(crate) deliveries: u64,
    /// Attempts of the supervisor.
    pub(crate) attempts: usize,
    /// Items of FFmpeg's batch, and seconds that each lasts when it is played.
    pub(crate) clips: usize,
    /// See above.
    pub(crate) clip_seconds: u32,
    /// Starts of `orbit serve`.
    pub(crate) starts: usize,
    /// Profiles that are checked.
    pub(crate) profiles: usize,
    /// Candidates of the selection.
    pub(crate) candidates: u64,
    /// Schedules, and within which time they are due.
    pub(crate) schedules: (usize, Duration),
    /// Runs in flight when the node is killed.
    pub(crate) crash_runs: usize,
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
                deliveries: 100,
                attempts: 5,
                clips: 2,
                clip_seconds: 1,
                starts: 2,
                profiles: 1_500,
                candidates: 2_000,
                schedules: (100, Duration::from_secs(1)),
                crash_runs: 30,
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
                deliveries: 2_000,
                attempts: 200,
                clips: 8,
                clip_seconds: 4,
                starts: 20,
                profiles: 100_000,
                candidates: 1_000_000,
                schedules: (100_000, Duration::from_mins(1)),
                crash_runs: 200,
            }
        };
        let asked: Vec<usize> = arguments.in_flight.iter().map(|&number| number.into()).collect();
        Self {
            in_flight: if asked.is_empty() { effort.in_flight } else { asked },
            memory: arguments.runs.unwrap_or(effort.memory),
            records: arguments.records.unwrap_or(effort.records),
            schedules: (arguments.schedules.unwrap_or(effort.schedules.0), effort.schedules.1),
            ..effort
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.verb {
        Some(Verb::Page { from, to }) => Report::read(from).and_then(|report| page::write(&report, to)),
        Some(Verb::Beside { folder }) => {
            runtime().and_then(|runtime| runtime.block_on(beside::serve(folder)))
        }
        Some(Verb::Node(of)) => runtime().and_then(|runtime| runtime.block_on(crash::work(of))),
        None => measure(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    std::fs::create_dir_all(&arguments.folder)
        .with_context(|| format!("cannot make `{}`", arguments.folder.display()))?;
    let folder = arguments.folder.canonicalize()?;
    let beside = std::env::current_exe()?.with_file_name("orbit");
    let orbit = arguments.orbit.clone().unwrap_or(beside);
    let place = Place { folder: &folder, orbit: orbit.is_file().then_some(orbit.as_path()) };
    let effort = Effort::of(arguments);
    let runtime = runtime()?;
    let path = folder.join(if arguments.quick { "quick.json" } else { "latest.json" });
    let mut report = Report::new();
    report.keep(&path);
    // One that fails leaves the others.
    let mut failed = Vec::new();
    for scenario in Scenario::value_variants().iter().copied() {
        if arguments.scenarios.is_empty() || arguments.scenarios.contains(&scenario) {
            let began = Instant::now();
            if let Err(error) = runtime.block_on(one(scenario, &place, &effort, &mut report)) {
                report.say(&format!("error: {scenario:?}: {error:#}"));
                failed.push(format!("{scenario:?}"));
            }
            report.say(&format!("{scenario:?} took {:.0} s", began.elapsed().as_secs_f64()));
            report.write(&path)?;
        }
    }
    report.say(&format!("written to {}", path.display()));
    anyhow::ensure!(failed.is_empty(), "these could not be measured: {}", failed.join(", "));
    Ok(())
}

async fn one(
    scenario: Scenario,
    place: &Place<'_>,
    effort: &Effort,
    report: &mut Report,
) -> anyhow::Result<()> {
    let folder = place.folder;
    match scenario {
        Scenario::Memory => memory::measure(place, effort, report).await,
        Scenario::Idle => idle::measure(folder, effort, report).await,
        Scenario::Threshold => threshold::measure(folder, effort, report).await,
        Scenario::Runs => runs::measure(folder, effort, report).await,
        Scenario::Deliveries => deliveries::measure(folder, effort, report).await,
        Scenario::Supervisor => supervisor::measure(place, effort, report).await,
        Scenario::Ffmpeg => ffmpeg::measure(place, effort, report),
        Scenario::Start => start::measure(place, effort, report),
        Scenario::Check => check::measure(place, effort, report),
        Scenario::Selection => selection::measure(place, effort, report),
        Scenario::Schedules => schedules::measure(folder, effort, report).await,
        Scenario::Crash => crash::measure(folder, effort, report).await,
        Scenario::Postgres => postgres::measure(folder, effort, report).await,
        Scenario::Log => log::measure(folder, effort, report).await,
    }
}
