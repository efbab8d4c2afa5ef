//! What turns bytes into bytes: a program, a service, or something that lives in this process.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use orbit_core::run::Step;
use orbit_core::synthesis::ExecutionRequest;
use orbit_core::tiers::{Failure, Usage};
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::work::Work;
use crate::service::panic_message;

/// One attempt of a step by a processor of this process: everything in memory, and no folder is made for it.
#[derive(Clone)]
pub struct Job {
    /// What the run executes.
    pub request: Arc<ExecutionRequest>,
    /// The step.
    pub step: Step,
    /// Its attempt, from 1.
    pub attempt: u32,
    /// The same for every attempt of the step.
    pub idempotency_key: Uuid,
    /// How long it may take: what is left to the run's deadline, if that is less than the document's limit.
    pub wall: Duration,
    /// The bytes of the step before; for tier 1 the context line.
    pub input: Bytes,
    /// The asset that the step is given, if it is given one: a stored file, which must not be changed.
    pub reference: Option<PathBuf>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Processed {
    /// The output, or why there is none.
    pub result: Result<Bytes, Failure>,
    /// The last that it had to say; no secret is in it.
    pub words: Vec<u8>,
    /// Further facts for the record of the step; no secret is in them.
    pub facts: Map<String, Value>,
}

/// See the module. One that lives in this process is registered under the name of a processor document and takes the place of its program; the
/// document's rules for output, validation, retry and concurrency hold for it too.
#[async_trait]
pub trait Processor: Send + Sync {
    /// Makes one attempt. It must not block; it should end soon after `cancel`, and is dropped if it does not. A panic is a failure of the attempt.
    async fn process(&self, job: &Job, cancel: &CancellationToken) -> Processed;
}

/// A processor that is a function from all of the input to all of the output. It may block; it runs on a thread of its own.
pub struct InProcess<F> {
    function: Arc<F>,
}

impl<F> InProcess<F>
where
    F: Fn(&Job, &[u8]) -> Result<Vec<u8>, Failure> + Send + Sync + 'static,
{
    /// A processor that calls this function.
    pub fn new(function: F) -> Self {
        Self { function: Arc::new(function) }
    }
}

#[async_trait]
impl<F> Processor for InProcess<F>
where
    F: Fn(&Job, &[u8]) -> Result<Vec<u8>, Failure> + Send + Sync + 'static,
{
    async fn process(&self, job: &Job, cancel: &CancellationToken) -> Processed {
        let (function, job) = (Arc::clone(&self.function), job.clone());
        let called = tokio::task::spawn_blocking(move || function(&job, &job.input).map(Bytes::from));
        let result = tokio::select! {
            called = called => called.unwrap_or_else(|error| Err(Failure::Panicked { message: panic_message(error) })),
            () = cancel.cancelled() => Err(Failure::Cancelled),
        };
        Processed::of(result)
    }
}

impl Processed {
    /// An end of which there is no more to tell.
    pub fn of(result: Result<Bytes, Failure>) -> Self {
        Self { result, words: Vec::new(), facts: Map::new() }
    }
}

/// One attempt of a step by a program or a service.
#[derive(Clone)]
pub(super) struct Assignment {
    /// What the run executes.
    pub(super) request: Arc<ExecutionRequest>,
    /// The step.
    pub(super) step: Step,
    /// Its attempt, from 1.
    pub(super) attempt: u32,
    /// The same for every attempt of the step.
    pub(super) idempotency_key: Uuid,
    /// As that of a [`Job`].
    pub(super) wall: Duration,
    /// Its folder: the input lies there, and the output is expected there.
    pub(super) work: Arc<Work>,
}

/// How an attempt ended. The output of a program or a service lies in [`Work::output`] then and is not yet looked at.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Attempted {
    /// Whether there is an output, or why not.
    pub(super) result: Result<(), Failure>,
    /// What was used, as far as it was measured.
    pub(super) usage: Option<Usage>,
    /// The last that it had to say; no secret is in it.
    pub(super) words: Vec<u8>,
    /// Further facts for the record of the step; no secret is in them.
    pub(super) facts: Map<String, Value>,
    /// What a service answered in the place of an output; no secret is in it.
    pub(super) answer: Option<Value>,
}

impl Attempted {
    /// An end of which nothing was measured.
    pub(super) fn of(result: Result<(), Failure>) -> Self {
        Self { result, usage: None, words: Vec::new(), facts: Map::new(), answer: None }
    }
}
