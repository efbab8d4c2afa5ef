//! One program for several items: the work folder, the manifest, the run under a supervisor, and the result lines.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::libc::{O_NOFOLLOW, O_NONBLOCK};
use orbit_core::config::{ExecProcessor, Millis};
use orbit_core::limits::BATCH_RESULT_BYTES_MAX;
use orbit_core::normalize::{ManifestItem, OddLines, Results, read_results};
use orbit_core::run::Step;
use orbit_core::tiers::{Failure, OverLimit, Usage};
use orbit_store::blobs::BlobError;
use orbit_store::contract::Artifact;
use orbit_store::payloads::Payloads;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::namespace::Namespace;
use crate::patience::Reader;
use crate::program::{Environment, SecretMissing, resolve};
use crate::supervisor::{self, Program};
use crate::tiers::attempt::{blocking, storage, unread_payload};
use crate::tiers::{Work, exec, output};

/// The file that is told as `{{ manifest }}`.
const MANIFEST: &str = "manifest.jsonl";
/// The file that is the program's standard output.
const RESULTS: &str = "results";

/// What is asked of the program.
pub(super) struct Job {
    /// The processor.
    pub document: ExecProcessor,
    /// Names the work folder and the batch: the batch's id, or that of a run that is done alone.
    pub id: Uuid,
    /// The attempt of the step.
    pub attempt: u32,
    /// How long it may take.
    pub wall: Duration,
    /// One for each run.
    pub items: Vec<Given>,
}

/// An item.
#[derive(Clone)]
pub(super) struct Given {
    /// The idempotency key of its step.
    pub key: Uuid,
    /// Its bytes.
    pub input: Artifact,
}

/// How the program ended.
#[derive(Default)]
pub(super) struct Answer {
    /// For each item the folder in which its output should lie, or why there is none.
    pub items: Vec<Result<Arc<Work>, Failure>>,
    /// Why the batch failed as a whole; then no item counts.
    pub failure: Option<Failure>,
    /// Lines that were passed over.
    pub odd: OddLines,
    /// What was used, as far as it was measured.
    pub usage: Option<Usage>,
    /// The last that the program had to say; no secret is in it.
    pub words: Vec<u8>,
    /// Keeps the folder until the outputs are kept. Dropped after the items, which lie in it.
    pub folder: Option<Arc<Work>>,
}

/// The work folder with everything in it.
struct Prepared {
    folder: Arc<Work>,
    /// Those that cannot be given to the program have a failure.
    items: Vec<Result<Arc<Work>, Failure>>,
}

/// Runs the program over the items.
pub(super) async fn run(namespace: &Namespace, job: Job, cancel: &CancellationToken) -> Answer {
    let base = namespace.shared.layout.work(&namespace.name);
    let job = Arc::new(job);
    let preparing = Arc::clone(&job);
    let reader = Reader { namespace, service: "normalize", cancel };
    let prepared = match reader.payload(move |payloads| prepare(&base, &preparing, payloads)).await {
        Ok(Ok(prepared)) => prepared,
        Ok(Err(failure)) => return Answer::failed(failure),
        Err(unread) => return Answer::failed(unread_payload(&unread)),
    };
    let Prepared { folder, items } = prepared;
    let mut answer = Answer { items, folder: Some(Arc::clone(&folder)), ..Answer::default() };
    if answer.items.iter().all(Result::is_err) {
        return answer;
    }
    let (program, environment) = match program(namespace, &job, &folder) {
        Ok(both) => both,
        Err(failure) => return Answer { failure: Some(failure), ..answer },
    };
    let wall_ms = program.limits.wall.0;
    let ended = namespace.shared.launcher.run(program, cancel).await;
    answer.usage = Some(ended.usage);
    answer.words = environment.redact(&ended.stderr_tail);
    answer.failure = Failure::of_end(ended.how, &job.document.success_exit_codes, wall_ms);
    if answer.failure.is_some() {
        return answer;
    }
    let path = folder.folder().join(RESULTS);
    let bytes_max = BATCH_RESULT_BYTES_MAX.saturating_mul(job.items.len());
    match blocking(move || read(&path, bytes_max)).await {
        Ok(text) => answer.take_results(&job, &text, &environment),
        Err(failure) => answer.failure = Some(failure),
    }
    answer
}

impl Answer {
    /// The program was not even started.
    pub(super) fn failed(failure: Failure) -> Self {
        Self { failure: Some(failure), ..Self::default() }
    }

    fn take_results(&mut self, job: &Job, text: &[u8], environment: &Environment) {
        let given: Vec<usize> = (0..self.items.len()).filter(|place| self.items[*place].is_ok()).collect();
        let keys: Vec<String> = given.iter().map(|place| job.items[*place].key.to_string()).collect();
        let redact = |text: &str| String::from_utf8_lossy(&environment.redact(text.as_bytes())).into_owned();
        let Results { items, heard, odd } = read_results(&keys, text, redact);
        self.odd = odd;
        if !heard {
            self.failure = Some(Failure::ResultMissing);
            return;
        }
        for (place, said) in given.into_iter().zip(items) {
            if let Err(failure) = said {
                self.items[place] = Err(failure);
            }
        }
    }
}

/// The outer error is an input that cannot be read for now: all of it is prepared anew then.
fn prepare(base: &Path, job: &Job, payloads: &Payloads) -> Result<Result<Prepared, Failure>, BlobError> {
    let extension = &job.document.output.extension;
    let folder = match Work::create(base, job.id, Step::Normalize, job.attempt, extension) {
        Ok(folder) => Arc::new(folder),
        Err(error) => return Ok(Err(storage(&error))),
    };
    let mut copied = Vec::with_capacity(job.items.len());
    for (number, given) in (1..).zip(&job.items) {
        let work = match folder.item(number, extension) {
            Ok(work) => work,
            Err(error) => return Ok(Err(storage(&error))),
        };
        // Copies, never links: a program may write into what it is given.
        copied.push(match payloads.copy_to(given.input.digest, &work.input()) {
            Ok(_) => Ok(Arc::new(work)),
            Err(error) if error.passes() => return Err(error),
            Err(error) => Err(output::of_blob(&error)),
        });
    }
    Ok(list(folder, job, copied))
}

/// Tells the program of what was copied.
fn list(folder: Arc<Work>, job: &Job, items: Vec<Result<Arc<Work>, Failure>>) -> Result<Prepared, Failure> {
    let mut manifest = String::new();
    for (given, item) in job.items.iter().zip(&items) {
        let Ok(work) = item else { continue };
        let line = ManifestItem {
            item: given.key.to_string(),
            input: folder.told(&work.input()),
            output: folder.told(work.output()),
            media_type: given.input.media_type.clone(),
        };
        manifest += &line.line();
    }
    std::fs::write(folder.folder().join(MANIFEST), manifest).map_err(|error| storage(&error))?;
    Ok(Prepared { folder, items })
}

fn program(namespace: &Namespace, job: &Job, folder: &Work) -> Result<(Program, Environment), Failure> {
    let document = &job.document;
    let values = json!({ "manifest": folder.told(&folder.folder().join(MANIFEST)) });
    let mut argv = exec::render(&document.argv, &values)?;
    resolve(&namespace.folder(), &mut argv);
    let whose = (&namespace.name, &*namespace.shared.secrets);
    let mut environment = Environment::of(&document.env, folder.folder(), whose)
        .map_err(|SecretMissing(variable)| Failure::SecretMissing { variable })?;
    // What belongs to one run is in the manifest.
    environment.variables.extend([
        ("ORBIT_BATCH_ID".to_owned(), job.id.to_string()),
        ("ORBIT_ATTEMPT".to_owned(), job.attempt.to_string()),
    ]);
    let mut limits = document.limits.clone();
    limits.wall = Millis(u64::try_from(job.wall.as_millis()).unwrap_or(u64::MAX).min(limits.wall.0));
    let program = Program {
        argv,
        env: environment.variables.clone(),
        cwd: folder.folder().to_owned(),
        stdin: None,
        stdout: Some(folder.folder().join(RESULTS)),
        limits,
        marker: supervisor::marker(namespace.shared.layout.home()),
    };
    Ok((program, environment))
}

/// The result lines. More of them than the items can need is a limit overrun, and none of it is looked at.
fn read(path: &PathBuf, bytes_max: usize) -> Result<Vec<u8>, Failure> {
    let unreadable = |error: io::Error| Failure::OutputUnreadable { message: error.to_string() };
    // A link in its place is not followed, and a pipe is not waited for.
    let opened = OpenOptions::new().read(true).custom_flags(O_NOFOLLOW | O_NONBLOCK).open(path);
    let file = opened.map_err(unreadable)?;
    let mut text = Vec::new();
    let bytes_max = u64::try_from(bytes_max).unwrap_or(u64::MAX);
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut text).map_err(unreadable)?;
    if text.len() as u64 > bytes_max {
        return Err(Failure::OverLimit { limit: OverLimit::Output });
    }
    Ok(text)
}
