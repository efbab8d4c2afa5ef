//! The engine's side: starts a supervisor, asks it for the end when it must, and reads its answer.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use orbit_core::config::Limits;
use orbit_core::tiers::How;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio_util::sync::CancellationToken;

use super::protocol::{ENDED_BYTES_MAX, Ended, Program, STOP};
use super::{ATTEMPT_MARK, KILL_WAIT_MAX, tree};

/// A supervisor that is this much later than it could be is taken for dead.
const ANSWER_SLACK: Duration = Duration::from_secs(20);

/// Starts programs, each under a supervisor of its own.
#[derive(Clone, Debug)]
pub struct Launcher {
    /// The binary that is a supervisor when it is given `args`: the engine's own.
    pub program: PathBuf,
    /// What makes it one.
    pub args: Vec<OsString>,
}

impl Launcher {
    /// Runs a program to its end. When this returns, its process tree is gone.
    ///
    /// A cancelled token ends the program with TERM and, after at most [`super::CANCEL_GRACE_MAX`], KILL. Dropping the future ends it too, with the whole of
    /// its grace, but then nobody waits for it.
    pub async fn run(&self, program: Program, cancel: &CancellationToken) -> Ended {
        if cancel.is_cancelled() {
            return Ended::only(How::Cancelled);
        }
        let mark = attempt_mark(&program.marker);
        let limit = answer_limit(&program.limits);
        let could_not_start = |message: String| Ended::only(How::CouldNotStart { message });
        let line = match line(program, &mark) {
            Ok(line) => line,
            Err(error) => return could_not_start(format!("the program cannot be described: {error}")),
        };
        let mut supervisor = match self.start() {
            Ok(supervisor) => supervisor,
            Err(error) => {
                return could_not_start(format!("the supervisor `{}`: {error}", self.program.display()));
            }
        };
        match tokio::time::timeout(limit, converse(&mut supervisor, &line, cancel)).await {
            Ok(Ok(ended)) => ended,
            Ok(Err(message)) => lost(supervisor, mark, message).await,
            Err(_) => lost(supervisor, mark, "the supervisor gave no answer in time".to_owned()).await,
        }
    }

    /// The supervisor inherits nothing: not the engine's environment, which may hold secrets, and no file but its two pipes.
    ///
    /// It is not killed when it is dropped. The end of its control pipe makes it end the tree first, which a kill would leave behind.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that starts programs")]
    fn start(&self) -> std::io::Result<Child> {
        Command::new(&self.program)
            .args(&self.args)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
    }
}

/// Tells the supervisor what to run and waits for its answer and its end.
async fn converse(supervisor: &mut Child, line: &[u8], cancel: &CancellationToken) -> Result<Ended, String> {
    let (Some(mut control), Some(answer)) = (supervisor.stdin.take(), supervisor.stdout.take()) else {
        return Err("the supervisor has no pipes".to_owned());
    };
    let text = ask(&mut control, answer, line, cancel).await;
    // The pipe must stay open until here: its end is a request to stop.
    drop(control);
    let status = supervisor.wait().await.map_err(|error| error.to_string())?;
    let text =
        text.map_err(|error| format!("the supervisor could not be asked ({error}); it ended with {status}"))?;
    serde_json::from_slice(&text)
        .map_err(|_| format!("the supervisor gave no answer; it ended with {status}"))
}

async fn ask(
    control: &mut ChildStdin,
    answer: ChildStdout,
    line: &[u8],
    cancel: &CancellationToken,
) -> std::io::Result<Vec<u8>> {
    control.write_all(line).await?;
    let mut text = Vec::new();
    let mut answer = answer.take(ENDED_BYTES_MAX);
    let reading = answer.read_to_end(&mut text);
    tokio::pin!(reading);
    let read = tokio::select! {
        read = &mut reading => read,
        () = cancel.cancelled() => {
            // A supervisor that ended at this very moment no longer reads; its answer is in the pipe.
            _ = control.write_all(STOP).await;
            reading.await
        }
    };
    read.map(|_| text)
}

/// Whoever is left of the tree is found by the attempt's mark: nobody else can end it now.
async fn lost(mut supervisor: Child, mark: String, message: String) -> Ended {
    _ = supervisor.kill().await;
    if let Err(error) = tokio::task::spawn_blocking(move || tree::sweep_attempt(&mark)).await {
        tracing::error!(%error, "the sweep of a lost attempt failed");
    }
    Ended::only(How::Lost { message })
}

fn line(mut program: Program, mark: &str) -> serde_json::Result<Vec<u8>> {
    program.env.insert(ATTEMPT_MARK.to_owned(), mark.to_owned());
    let mut line = serde_json::to_vec(&program)?;
    line.push(b'\n');
    Ok(line)
}

/// The process number tells engines apart that are alive, the counter the attempts of one engine.
fn attempt_mark(marker: &str) -> String {
    static ATTEMPTS: AtomicU64 = AtomicU64::new(0);
    let number = ATTEMPTS.fetch_add(1, Ordering::Relaxed);
    format!("{marker}-{}-{number}", std::process::id())
}

fn answer_limit(limits: &Limits) -> Duration {
    [limits.wall.to_duration(), limits.grace.to_duration(), KILL_WAIT_MAX, ANSWER_SLACK]
        .into_iter()
        .fold(Duration::ZERO, Duration::saturating_add)
}
