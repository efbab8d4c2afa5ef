//! `kill -9` of a node with very many runs in flight, and the start of another one over what it has left: how long until everything is delivered, what is lost,
//! and what came twice.
//!
//! The node is this program again; the receiver is here, and tells deliveries by their key.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use orbit_engine::node::Duty;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::Effort;
use crate::payload::LARGE_BYTES;
use crate::receiver::Receiver;
use crate::report::{Better, Measured, Report, bar, median};
use crate::world::{Commits, blobs, cycle, files, fire, node, snapshot};

/// Of the runs, how many are delivered when the node is killed.
const DELIVERED_PART: usize = 3;
/// Seconds from the start of the other node.
const TARGET: f64 = 1.0;
/// How often it is looked what has come.
const LOOK: Duration = Duration::from_millis(1);
/// What has not come by then is lost.
const PATIENCE: Duration = Duration::from_mins(1);
/// What comes again comes within this.
const AFTERWARDS: Duration = Duration::from_millis(300);

/// A node in a process of its own, until it is killed.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Its home.
    home: PathBuf,
    /// Where it delivers to.
    url: String,
    /// Runs in flight.
    runs: usize,
    /// Whether it fires them.
    #[arg(long)]
    fires: bool,
}

pub(crate) async fn measure(folder: &Path, effort: &Effort, report: &mut Report) -> anyhow::Result<()> {
    let bar = bar("crash", effort.repeats);
    let (mut times, mut lost, mut again) = (Vec::new(), 0, Vec::new());
    for _ in 0..effort.repeats {
        let crashed = crash(folder, effort.crash_runs).await?;
        report.say(&format!(
            "killed with {} of {} delivered: {:.3} s, {} lost, {} again",
            crashed.before,
            effort.crash_runs,
            crashed.took.as_secs_f64(),
            crashed.lost,
            crashed.again
        ));
        times.push(crashed.took.as_secs_f64());
        lost += crashed.lost;
        again.push(crashed.again as f64);
        bar.inc(1);
    }
    bar.finish_and_clear();
    report.add("crash_delivered", Measured::plain(median(&times), "s", Some(TARGET), Better::Lower));
    report.add("crash_lost", Measured::plain(lost as f64, "deliveries", Some(0.0), Better::Lower));
    report.add("crash_repeats", Measured::plain(median(&again), "deliveries", None, Better::Lower));
    Ok(())
}

/// What came of one crash.
struct Crashed {
    /// Delivered before the kill.
    before: usize,
    /// From the start of the other node until everything was delivered.
    took: Duration,
    /// What was not delivered.
    lost: usize,
    /// What came although it had come.
    again: u64,
}

/// A process that is killed with this.
struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

impl Node {
    #[expect(clippy::disallowed_methods, reason = "the node that is killed")]
    fn start(home: &Path, url: &str, runs: usize, fires: bool) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("node").arg(home).arg(url).arg(runs.to_string());
        if fires {
            command.arg("--fires");
        }
        Ok(Self(command.stdin(Stdio::null()).spawn()?))
    }
}

async fn crash(below: &Path, runs: usize) -> anyhow::Result<Crashed> {
    let folder = tempfile::tempdir_in(below)?;
    let receiver = Receiver::start(Arc::new(Semaphore::new(0))).await?;
    receiver.tell_apart();
    let first = Node::start(folder.path(), &receiver.url, runs, true)?;
    if !until(|| receiver.keys().0 >= runs / DELIVERED_PART).await {
        bail!("nothing is delivered");
    }
    drop(first);
    let (before, _) = receiver.keys();
    let began = Instant::now();
    let second = Node::start(folder.path(), &receiver.url, runs, false)?;
    until(|| receiver.keys().0 >= runs).await;
    let took = began.elapsed();
    tokio::time::sleep(AFTERWARDS).await;
    drop(second);
    let (different, again) = receiver.keys();
    Ok(Crashed { before, took, lost: runs.saturating_sub(different), again })
}

/// Waits until it is so; whether it came to that.
async fn until(is_so: impl Fn() -> bool) -> bool {
    let began = Instant::now();
    while !is_so() {
        if began.elapsed() > PATIENCE {
            return false;
        }
        tokio::time::sleep(LOOK).await;
    }
    true
}

/// The other process.
pub(crate) async fn work(arguments: &Arguments) -> anyhow::Result<()> {
    let (_store, stores) = files(&arguments.home, Commits::Grouped)?;
    let snapshot = snapshot(&stores.name, arguments.runs, &arguments.url)?;
    let (run_profiles, digest) = (snapshot.run_profiles.clone(), snapshot.digest());
    let blobs = blobs(&arguments.home, &stores.name)?;
    let work = (snapshot, LARGE_BYTES);
    let (node, namespace) = node((&arguments.home, 0), stores, blobs, work, Duty::RunOnly).await?;
    if arguments.fires {
        let fires = run_profiles.values().map(|one| fire(&namespace, cycle(&namespace.name, one, digest)));
        futures_util::future::try_join_all(fires).await?;
    }
    tokio::time::sleep(PATIENCE * 2).await;
    node.stop(Duration::ZERO, CancellationToken::new()).await;
    Err(anyhow::anyhow!("nobody killed this node")).context("the measurement is gone")
}
