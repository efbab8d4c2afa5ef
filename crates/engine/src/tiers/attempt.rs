//! One attempt of a step: from the request to the durable output, and nothing left in the work folder.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use orbit_core::config::{Processor as Document, Snapshot, StepRetry};
use orbit_core::digest::Digest;
use orbit_core::id;
use orbit_core::run::Then;
use orbit_core::synthesis::ExecutionRequest;
use orbit_core::tiers::{Failure, Usage};
use orbit_store::StoreError;
use orbit_store::blobs::BlobError;
use orbit_store::contract::Artifact;
use orbit_store::contract::dispatch::NewDelivery;
use orbit_store::contract::tiers::ClaimedStep;
use orbit_store::payloads::{Kept, Payloads};
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use super::exec::Exec;
use super::processor::{Assignment, Attempted};
use super::remote::Remote;
use super::remote_request::CONTEXT_MEDIA_TYPE;
use super::reuse;
use super::work::Work;
use super::{embedded, output};
use crate::namespace::Namespace;
use crate::patience::{Reader, Unread};
use crate::service::panic_message;
use crate::supervisor;

/// How often an output is offered to a disk that takes nothing: for about five minutes. Then the attempt has failed.
const KEEP_TRIES_MAX: u32 = 600;
/// The pause between two offers.
const KEEP_PAUSE: Duration = Duration::from_millis(500);

/// An attempt that is over.
pub(crate) struct Finished {
    /// The output and what follows, or why there is none.
    pub result: Result<Made, Failure>,
    /// What was used, as far as it was measured.
    pub usage: Option<Usage>,
    /// The last that the processor had to say.
    pub words: Vec<u8>,
    /// Further facts for the record.
    pub facts: Map<String, Value>,
    /// What a service answered in the place of an output.
    pub answer: Option<Value>,
    /// When a failed attempt is tried again.
    pub retry: StepRetry,
    /// Whether the batch failed as a whole, which is not this run's fault.
    pub batch_failed: bool,
}

/// An output that is kept, and what follows from it.
pub(crate) struct Made {
    /// The output.
    pub artifact: Artifact,
    /// Its bytes, if they are kept by the commit of the step.
    pub content: Option<Bytes>,
    /// The next step, or dispatch.
    pub then: Then,
    /// What is owed after the last step.
    pub deliveries: Vec<NewDelivery>,
    /// The name of the work, if it is to be found again.
    pub work: Option<Digest>,
    /// Who did the same work before, if it was not done again.
    pub reused: Option<Value>,
}

/// What the request says about the step, checked against its snapshot.
pub(crate) struct Plan {
    /// The request.
    pub request: Arc<ExecutionRequest>,
    /// The processor.
    pub document: Document,
    /// What follows.
    pub then: Then,
    /// What is owed then.
    pub deliveries: Vec<NewDelivery>,
    /// The reference asset.
    pub reference: Option<Digest>,
}

impl Made {
    /// The output of work that was done now.
    pub(crate) fn of(kept: Kept, media_type: String, (then, deliveries): (Then, Vec<NewDelivery>)) -> Self {
        let Kept { digest, bytes, content } = kept;
        let artifact = Artifact { digest, bytes, media_type };
        Self { artifact, content, then, deliveries, work: None, reused: None }
    }
}

impl Finished {
    /// An attempt that came to nothing before a processor was asked.
    pub(crate) fn failed(failure: Failure) -> Self {
        Self {
            result: Err(failure),
            usage: None,
            words: Vec::new(),
            facts: Map::new(),
            answer: None,
            retry: StepRetry::default(),
            batch_failed: false,
        }
    }
}

/// Makes the attempt.
pub(super) async fn make(
    namespace: Arc<Namespace>,
    claimed: ClaimedStep,
    cancel: CancellationToken,
) -> Finished {
    let reader = Reader { namespace: &namespace, service: "tiers", cancel: &cancel };
    let plan = match plan(reader, &claimed).await {
        Ok(plan) => plan,
        Err(failure) => return Finished::failed(failure),
    };
    let retry = plan.document.retry().clone();
    match perform(&namespace, &claimed, plan, &cancel).await {
        Ok((result, Attempted { usage, words, facts, answer, .. })) => {
            Finished { result, usage, words, facts, answer, retry, batch_failed: false }
        }
        Err(failure) => Finished { retry, ..Finished::failed(failure) },
    }
}

pub(crate) async fn plan(reader: Reader<'_>, claimed: &ClaimedStep) -> Result<Plan, Failure> {
    let namespace = reader.namespace;
    let refused = |message: String| Failure::RequestRefused { message };
    let snapshot = reader.snapshot(claimed.snapshot).await.map_err(|unread| unread_row(&unread))?;
    let snapshot = snapshot.ok_or_else(|| refused(format!("there is no snapshot {}", claimed.snapshot)))?;
    let request = namespace.requests.checked(claimed, &snapshot).map_err(refused)?;
    if let Some(quarantine) = &claimed.quarantine {
        let (processor, crashes) = (quarantine.processor.clone(), quarantine.crashes);
        return Err(Failure::Quarantined { processor, crashes });
    }
    let document =
        request.processor(claimed.step, &snapshot).map_err(|error| refused(error.to_string()))?.clone();
    let asset = request.step(claimed.step).and_then(|step| step.reference.as_ref());
    let reference = asset.and_then(|name| request.assets.get(name)).map(|asset| asset.digest);
    let (then, deliveries) = if let Some(step) = request.step_after(claimed.step) {
        (Then::Step { step }, Vec::new())
    } else {
        let owed = deliveries(&request, &snapshot)?;
        (Then::Dispatch { deliveries: u32::try_from(owed.len()).unwrap_or(u32::MAX) }, owed)
    };
    Ok(Plan { request, document, then, deliveries, reference })
}

/// What the run owes once it has its artifact. Made before the last step runs: an address that cannot be rendered costs no work then.
fn deliveries(request: &ExecutionRequest, snapshot: &Snapshot) -> Result<Vec<NewDelivery>, Failure> {
    let values = request.template_values();
    let deliver = |name: &str| -> Result<NewDelivery, String> {
        let endpoint = request.endpoint(name, snapshot).map_err(|error| error.to_string())?;
        let url = orbit_core::dispatch::target_url(endpoint, &values).map_err(|error| error.to_string())?;
        let delivery_id = id::delivery_id(request.run.run_id, name);
        Ok(NewDelivery { delivery_id, endpoint: name.to_owned(), url })
    };
    let refused =
        |name: &str, error| Failure::RequestRefused { message: format!("endpoint `{name}`: {error}") };
    let names = request.targets.iter().map(|target| target.name.as_str());
    names.map(|name| deliver(name).map_err(|error| refused(name, error))).collect()
}

/// The outer failure is one in which no processor was asked.
async fn perform(
    namespace: &Namespace,
    claimed: &ClaimedStep,
    plan: Plan,
    cancel: &CancellationToken,
) -> Result<(Result<Made, Failure>, Attempted), Failure> {
    // Once the node is to stop no program is started any more; the step is for the next start.
    if cancel.is_cancelled() || namespace.shared.stopping.is_cancelled() {
        return Err(Failure::Cancelled);
    }
    let asked = reuse::ask(namespace, claimed, (&plan, cancel)).await?;
    if let Some(done) = asked.as_ref().and_then(|asked| asked.done_before.clone()) {
        return Ok((Ok(reuse::made(plan, done)), Attempted::of(Ok(()))));
    }
    let wall = time_left(namespace, claimed.deadline_at).min(plan.document.wall().to_duration());
    if wall.is_zero() {
        return Err(Failure::TimedOut { wall_ms: 0 });
    }
    if let Some(processor) = namespace.shared.embedded.get(plan.document.name()) {
        return embedded::perform(namespace, claimed, plan, (&**processor, wall), cancel).await;
    }
    let work = prepare(namespace, claimed, &plan, cancel).await?;
    let Plan { request, document, then, deliveries, reference: _ } = plan;
    let idempotency_key = id::step_key(request.run.run_id, claimed.step);
    let job = Assignment {
        request,
        step: claimed.step,
        attempt: claimed.attempt,
        idempotency_key,
        wall,
        work: Arc::clone(&work),
    };
    let declared = claimed.input.as_ref().map(|input| input.media_type.as_str());
    let attempted = ask(namespace, &document, declared, (&job, cancel)).await;
    drop(job);
    let media_type = document.media_type().to_owned();
    let input = claimed.input.as_ref().map(|input| input.digest);
    let kept = match attempted.result.clone() {
        Ok(()) => keep(namespace, &work, (document, input), cancel).await,
        Err(failure) => Err(failure),
    };
    // The folder goes with the last hold on it, which takes a while: not between other tasks.
    let drop_it = move || {
        drop(work);
        Ok(())
    };
    blocking(drop_it).await?;
    let made = kept.map(|kept| Made {
        work: asked.map(|asked| asked.key),
        ..Made::of(kept, media_type, (then, deliveries))
    });
    Ok((made, attempted))
}

/// The work folder with the run's context and input in it.
async fn prepare(
    namespace: &Namespace,
    claimed: &ClaimedStep,
    plan: &Plan,
    cancel: &CancellationToken,
) -> Result<Arc<Work>, Failure> {
    let Plan { request, document, .. } = plan;
    let filling = Filling {
        base: namespace.shared.layout.work(&namespace.name),
        context: request.context_line(),
        is_input: document.takes_input() && claimed.input.is_none(),
    };
    let input = claimed.input.as_ref().map(|input| input.digest).filter(|_| document.takes_input());
    let copies = Copies { input, reference: plan.reference };
    let of = (request.run.run_id, claimed.step, claimed.attempt);
    let extension = document.extension().to_owned();
    let work = blocking(move || {
        let work =
            Work::create(&filling.base, of.0, of.1, of.2, &extension).map_err(|error| storage(&error))?;
        filling.write(&work).map(|()| Arc::new(work))
    })
    .await?;
    let filled = Arc::clone(&work);
    let reader = Reader { namespace, service: "tiers", cancel };
    reader
        .payload(move |payloads| copies.fill(&filled, payloads))
        .await
        .map_err(|unread| unread_payload(&unread))?;
    Ok(work)
}

/// Keeps the output. While the disk takes nothing it waits, so that an hour of work is not lost to a minute without space.
pub(crate) async fn keep(
    namespace: &Namespace,
    work: &Arc<Work>,
    (document, input): (Document, Option<Digest>),
    cancel: &CancellationToken,
) -> Result<Kept, Failure> {
    let (work, payloads) = (Arc::clone(work), Arc::clone(&namespace.payloads));
    let offer = move || output::keep(&work, &document, input, &payloads);
    offered(namespace, Arc::new(offer), cancel).await
}

/// Offers an output until the disk takes it.
pub(super) async fn offered(
    namespace: &Namespace,
    offer: Arc<impl Fn() -> Result<Kept, Failure> + Send + Sync + 'static>,
    cancel: &CancellationToken,
) -> Result<Kept, Failure> {
    let mut tries = 1;
    loop {
        let offer = Arc::clone(&offer);
        match blocking(move || offer()).await {
            Err(Failure::Storage { message }) if tries < KEEP_TRIES_MAX => {
                if tries == 1 {
                    tracing::warn!(namespace = %namespace.name, "an output waits to be kept: {message}");
                }
            }
            kept => return kept,
        }
        tries += 1;
        tokio::select! {
            () = tokio::time::sleep(KEEP_PAUSE) => {}
            () = cancel.cancelled() => return Err(Failure::Cancelled),
        }
    }
}

/// What is written into the work folder before a processor is asked.
struct Filling {
    base: std::path::PathBuf,
    context: String,
    /// The first step has nothing else to read.
    is_input: bool,
}

impl Filling {
    fn write(&self, work: &Work) -> Result<(), Failure> {
        let line = format!("{}\n", self.context);
        std::fs::write(work.context(), &line).map_err(|error| storage(&error))?;
        if self.is_input {
            std::fs::write(work.input(), &line).map_err(|error| storage(&error))
        } else {
            Ok(())
        }
    }
}

/// What is copied into it, never linked: a program may write into what it is given.
struct Copies {
    input: Option<Digest>,
    reference: Option<Digest>,
}

impl Copies {
    fn fill(&self, work: &Work, payloads: &Payloads) -> Result<(), BlobError> {
        if let Some(reference) = self.reference {
            payloads.copy_to(reference, &work.reference())?;
        }
        self.input.map_or(Ok(()), |input| payloads.copy_to(input, &work.input()).map(drop))
    }
}

/// What a payload that was not read means for the attempt.
pub(crate) fn unread_payload(unread: &Unread<BlobError>) -> Failure {
    match unread {
        Unread::Cut => Failure::Cancelled,
        Unread::Failed(error) => output::of_blob(error),
    }
}

/// The same of what the store keeps.
pub(crate) fn unread_row(unread: &Unread<StoreError>) -> Failure {
    match unread {
        Unread::Cut => Failure::Cancelled,
        Unread::Failed(error) => Failure::Storage { message: error.to_string() },
    }
}

/// One attempt by the program or the service of this document, in the folder of the assignment. The output is not looked at. The input has this media
/// type; the context line if it has none.
pub(super) async fn ask(
    namespace: &Namespace,
    document: &Document,
    media_type: Option<&str>,
    (job, cancel): (&Assignment, &CancellationToken),
) -> Attempted {
    let shared = &namespace.shared;
    match document.clone() {
        Document::Exec(document) => {
            let exec = Exec {
                document,
                namespace: namespace.name.clone(),
                folder: namespace.folder(),
                marker: supervisor::marker(shared.layout.home()),
                launcher: shared.launcher.clone(),
                secrets: Arc::clone(&shared.secrets),
            };
            exec.process(job, cancel).await
        }
        Document::Http(document) => {
            let remote = Remote {
                document,
                input_media_type: media_type.unwrap_or(CONTEXT_MEDIA_TYPE).to_owned(),
                namespace: namespace.name.clone(),
                secrets: Arc::clone(&shared.secrets),
                client: shared.client.clone(),
                clock: Arc::clone(&shared.clock),
            };
            remote.process(job, cancel).await
        }
    }
}

/// Until the run's deadline; zero once it has passed.
pub(crate) fn time_left(namespace: &Namespace, deadline_at: Timestamp) -> Duration {
    let left = deadline_at.duration_since(namespace.shared.clock.now());
    Duration::try_from(left).unwrap_or_default()
}

/// Does what may block on a thread that may.
pub(crate) async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(act).await;
    done.unwrap_or_else(|error| Err(Failure::Panicked { message: panic_message(error) }))
}

/// A file of the attempt that cannot be read or written.
pub(crate) fn storage(error: &std::io::Error) -> Failure {
    Failure::Storage { message: error.to_string() }
}
