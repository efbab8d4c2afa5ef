//! The processor that is a program: its arguments, its environment, its streams, and what its end means.

use std::path::PathBuf;
use std::sync::Arc;

use orbit_core::config::{ByteSize, ExecProcessor, InputMode, Millis, NamespaceName, OutputTarget};
use orbit_core::run::Step;
use orbit_core::synthesis::ExecutionRequest;
use orbit_core::template;
use orbit_core::tiers::{Failure, OverLimit};
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use super::processor::{Assignment, Attempted};
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

impl Exec {
    /// Makes one attempt.
    pub(super) async fn process(&self, job: &Assignment, cancel: &CancellationToken) -> Attempted {
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
    fn arguments(&self, job: &Assignment) -> Result<Vec<String>, Failure> {
        let work = &job.work;
        let told = |name: PathName| match name {
            PathName::Input => work.told(&work.input()),
            PathName::Output => work.told(work.output()),
            PathName::Reference => work.told(&work.reference()),
            PathName::Context => work.told(&work.context()),
        };
        let mut argv = render(&self.document.argv, &values(&self.document, (&job.request, job.step), told))?;
        resolve(&self.folder, &mut argv);
        Ok(argv)
    }

    fn environment(&self, job: &Assignment) -> Result<Environment, Failure> {
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

/// The paths that a template can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PathName {
    /// What the program reads.
    Input,
    /// What it writes.
    Output,
    /// The reference asset.
    Reference,
    /// The context line.
    Context,
}

impl PathName {
    /// The word in a template.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
            Self::Reference => "reference",
            Self::Context => "context",
        }
    }
}

/// The arguments of a document over these values, each text that may be one.
pub(crate) fn render(argv: &[String], values: &Value) -> Result<Vec<String>, Failure> {
    let mut rendered = Vec::with_capacity(argv.len());
    for (index, source) in argv.iter().enumerate() {
        let refused = |message: String| Failure::TemplateRefused { index, message };
        let text = template::render(source, values).map_err(|error| refused(error.to_string()))?;
        // A template that begins with a brace begins with a value; literal text is the operator's own.
        if source.starts_with('{') && text.starts_with('-') {
            return Err(Failure::OptionRefused { index });
        }
        if text.contains('\0') {
            return Err(refused("a zero byte cannot be part of an argument".to_owned()));
        }
        rendered.push(text);
    }
    Ok(rendered)
}

/// What templates see: the values of the request, and the paths that this document has, as they are told.
pub(super) fn values(
    document: &ExecProcessor,
    (request, step): (&ExecutionRequest, Step),
    told: impl Fn(PathName) -> String,
) -> Value {
    let mut values = request.template_values();
    let asset = request.step(step).and_then(|step| step.reference.as_ref());
    let paths = [
        (PathName::Input, document.input == InputMode::File),
        (PathName::Output, document.output.to == OutputTarget::File),
        (PathName::Reference, asset.is_some()),
        (PathName::Context, true),
    ];
    if let Value::Object(values) = &mut values {
        let there = paths.into_iter().filter(|(_, is_there)| *is_there);
        values.extend(there.map(|(path, _)| (path.name().to_owned(), Value::String(told(path)))));
    }
    values
}

/// A program whose output the kernel has cut ends in a way of its own choosing; the length of the output tells why.
fn or_output_too_large(failure: Failure, job: &Assignment, limit: ByteSize) -> Failure {
    let by_itself = matches!(failure, Failure::Exit { .. } | Failure::Signal { .. });
    let length = std::fs::symlink_metadata(job.work.output()).map_or(0, |metadata| metadata.len());
    if by_itself && length > limit.0 {
        return Failure::OverLimit { limit: OverLimit::Output };
    }
    failure
}
