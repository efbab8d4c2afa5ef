//! What turns bytes into bytes: a program, a service, or something that lives in this process.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use orbit_core::run::Step;
use orbit_core::synthesis::ExecutionRequest;
use orbit_core::tiers::{Failure, Usage};
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::work::Work;
use crate::service::panic_message;

/// One attempt of a step.
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
    /// Its folder: the input lies there, and the output is expected there.
    pub work: Arc<Work>,
}

/// How an attempt ended. The output, if there is one, lies in [`Work::output`] and is not yet looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempted {
    /// Whether there is an output, or why not.
    pub result: Result<(), Failure>,
    /// What was used, as far as it was measured.
    pub usage: Option<Usage>,
    /// The last that it had to say; no secret is in it.
    pub words: Vec<u8>,
    /// Further facts for the record of the step; no secret is in them.
    pub facts: Map<String, Value>,
    /// What a service answered in the place of an output; no secret is in it.
    pub answer: Option<Value>,
}

/// See the module. One that lives in this process is registered under the name of a processor document and takes the place of its program; the
/// document's rules for output, validation, retry and concurrency hold for it too.
#[async_trait]
pub trait Processor: Send + Sync {
    /// Makes one attempt. It should end soon after `cancel`, and is dropped if it does not; a panic is a failure of the attempt.
    async fn process(&self, job: &Job, cancel: &CancellationToken) -> Attempted;
}

/// A processor that is a function from all of the input to all of the output. It may block; it runs on a thread of its own.
pub struct InProcess<F> {
    function: Arc<F>,
}

impl<F> InProcess<F>
where
    F: Fn(&Job, Vec<u8>) -> Result<Vec<u8>, Failure> + Send + Sync + 'static,
{
    /// A processor that calls this function.
    pub fn new(function: F) -> Self {
        Self { function: Arc::new(function) }
    }
}

#[async_trait]
impl<F> Processor for InProcess<F>
where
    F: Fn(&Job, Vec<u8>) -> Result<Vec<u8>, Failure> + Send + Sync + 'static,
{
    async fn process(&self, job: &Job, cancel: &CancellationToken) -> Attempted {
        let (function, job) = (Arc::clone(&self.function), job.clone());
        let called = tokio::task::spawn_blocking(move || {
            let storage = |error: std::io::Error| Failure::Storage { message: error.to_string() };
            let input = std::fs::read(job.work.input()).map_err(storage)?;
            let output = function(&job, input)?;
            std::fs::write(job.work.output(), output).map_err(storage)
        });
        let result = tokio::select! {
            called = called => called.unwrap_or_else(|error| Err(Failure::Panicked { message: panic_message(error) })),
            () = cancel.cancelled() => Err(Failure::Cancelled),
        };
        Attempted::of(result)
    }
}

impl Attempted {
    /// An end of which nothing was measured.
    pub fn of(result: Result<(), Failure>) -> Self {
        Self { result, usage: None, words: Vec::new(), facts: Map::new(), answer: None }
    }
}
