//! The processor that is a program: its arguments, its environment, its streams, and what its end means.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use orbit_core::config::{ByteSize, ExecProcessor, InputMode, Millis, NamespaceName, OutputTarget};
use orbit_core::template;
use orbit_core::tiers::{Failure, OverLimit};
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use super::processor::{Attempted, Job, Processor};
use crate::program::{Environment, SecretMissing, resolve};
use crate::secrets::Secrets;
use crate::supervisor::{Launcher, Program};

/// See the module.
pub(super) struct Exec {
    /// What the operator wrote.
    pub document: ExecProcessor,
    /// Whose secrets it may be given.
    pub namespace: NamespaceName,
    /// The namespace's folder, to which a program name with a `/` is relative.
    pub folder: PathBuf,
    /// The mark of the home.
    pub marker: String,
    /// Starts it.
    pub launcher: Launcher,
    /// Looks its secrets up.
    pub secrets: Arc<dyn Secrets>,
}

#[async_trait]
impl Processor for Exec {
    async fn process(&self, job: &Job, cancel: &CancellationToken) -> Attempted {
        let (argv, environment) =
            match self.arguments(job).and_then(|argv| Ok((argv, self.environment(job)?))) {
                Ok(both) => both,
                Err(failure) => return Attempted::of(Err(failure)),
            };
        let mut limits = self.document.limits.clone();
        let wall_ms = u64::try_from(job.wall.as_millis()).unwrap_or(u64::MAX).min(limits.wall.0);
        limits.wall = Millis(wall_ms);
        let program = Program {
            argv,
            env: environment.variables.clone(),
            cwd: job.work.folder().to_owned(),
            stdin: (self.document.input == InputMode::Stdin).then(|| job.work.input()),
            stdout: (self.document.output.to == OutputTarget::Stdout).then(|| job.work.output().to_owned()),
            limits,
            marker: self.marker.clone(),
        };
        let ended = self.launcher.run(program, cancel).await;
        let failure = Failure::of_end(ended.how, &self.document.success_exit_codes, wall_ms);
        Attempted {
            result: failure.map_or(Ok(()), |failure| {
                Err(or_output_too_large(failure, job, self.document.limits.output))
            }),
            usage: Some(ended.usage),
            words: environment.redact(&ended.stderr_tail),
            facts: Map::new(),
            answer: None,
        }
    }
}

impl Exec {
    fn arguments(&self, job: &Job) -> Result<Vec<String>, Failure> {
        let values = self.values(job);
        let mut argv = Vec::with_capacity(self.document.argv.len());
        for (index, source) in self.document.argv.iter().enumerate() {
            let refused = |message: String| Failure::TemplateRefused { index, message };
            let text = template::render(source, &values).map_err(|error| refused(error.to_string()))?;
            // A template that begins with a brace begins with a value; literal text is the operator's own.
            if source.starts_with('{') && text.starts_with('-') {
                return Err(Failure::OptionRefused { index });
            }
            if text.contains('\0') {
                return Err(refused("a zero byte cannot be part of an argument".to_owned()));
            }
            argv.push(text);
        }
        resolve(&self.folder, &mut argv);
        Ok(argv)
    }

    /// What templates see: the values of the request, and the paths that this document has.
    fn values(&self, job: &Job) -> Value {
        let mut values = job.request.template_values();
        let told = |path: PathBuf| Value::String(job.work.told(&path));
        let asset = job.request.step(job.step).and_then(|step| step.reference.as_ref());
        let paths = [
            ("input", (self.document.input == InputMode::File).then(|| told(job.work.input()))),
            (
                "output",
                (self.document.output.to == OutputTarget::File).then(|| told(job.work.output().to_owned())),
            ),
            ("reference", asset.map(|_| told(job.work.reference()))),
            ("context", Some(told(job.work.context()))),
        ];
        if let Value::Object(values) = &mut values {
            values.extend(paths.into_iter().filter_map(|(name, path)| Some((name.to_owned(), path?))));
        }
        values
    }

    fn environment(&self, job: &Job) -> Result<Environment, Failure> {
        let whose = (&self.namespace, &*self.secrets);
        let mut environment = Environment::of(&self.document.env, job.work.folder(), whose)
            .map_err(|SecretMissing(variable)| Failure::SecretMissing { variable })?;
        environment.variables.extend([
            ("ORBIT_RUN_ID".to_owned(), job.request.run.run_id.to_string()),
            ("ORBIT_ATTEMPT".to_owned(), job.attempt.to_string()),
            ("ORBIT_IDEMPOTENCY_KEY".to_owned(), job.idempotency_key.to_string()),
        ]);
        Ok(environment)
    }
}

/// A program whose output the kernel has cut ends in a way of its own choosing; the length of the output tells why.
fn or_output_too_large(failure: Failure, job: &Job, limit: ByteSize) -> Failure {
    let by_itself = matches!(failure, Failure::Exit { .. } | Failure::Signal { .. });
    let length = std::fs::symlink_metadata(job.work.output()).map_or(0, |metadata| metadata.len());
    if by_itself && length > limit.0 {
        return Failure::OverLimit { limit: OverLimit::Output };
    }
    failure
}
