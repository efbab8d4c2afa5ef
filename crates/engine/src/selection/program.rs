//! A source that is a program: it is run to its end under the supervisor, and what it printed is then read like a file of JSON Lines.
//!
//! Nothing of a listing is used unless the program ended well, so that a half-printed one never exhausts a source.

use orbit_core::config::{ExecSource, SourceFormat};
use orbit_core::tiers::Failure;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::listing::Listing;
use super::sources::SourceError;
use crate::namespace::Namespace;
use crate::program::{Environment, SecretMissing, resolve};
use crate::supervisor::{self, Program};

/// Bytes of a failed program's standard error that its message repeats: the last ones.
const MESSAGE_TAIL_BYTES_MAX: usize = 400;

/// Runs the program in the namespace's folder, where its data is likely to be.
pub(super) async fn list(
    namespace: &Namespace,
    source: &ExecSource,
    act_id: Uuid,
    cancel: &CancellationToken,
) -> Result<Listing, SourceError> {
    let layout = &namespace.shared.layout;
    let name = source.argv.first().cloned().unwrap_or_default();
    let failed = |message: String| SourceError::Program { program: name.clone(), message };
    let folder = layout.work(&namespace.name).join(format!("selection-{act_id}"));
    let whose = (&namespace.name, &*namespace.shared.secrets);
    let environment = Environment::of(&source.env, &folder, whose)
        .map_err(|SecretMissing(variable)| SourceError::Secret { variable })?;
    let mut argv = source.argv.clone();
    resolve(&namespace.folder(), &mut argv);
    let mut listing = Listing::prepare(folder, SourceFormat::Jsonl)
        .map_err(|error| failed(format!("has no place for its listing in the work folder: {error}")))?;
    let program = Program {
        argv,
        env: environment.variables.clone(),
        cwd: namespace.folder(),
        stdin: None,
        stdout: Some(listing.path()),
        limits: source.limits.clone(),
        marker: supervisor::marker(layout.home()),
    };
    let ended = namespace.shared.launcher.run(program, cancel).await;
    listing.told = json!(ended.usage);
    let Some(failure) = Failure::of_end(ended.how, &[0], source.limits.wall.0) else { return Ok(listing) };
    if failure == Failure::Cancelled {
        return Err(SourceError::Cut);
    }
    // Secrets go before anything is cut off, so that no half of one is left.
    let tail = tail(&environment.redact(&ended.stderr_tail));
    let separator = if tail.is_empty() { "" } else { ": " };
    Err(failed(format!("{failure}{separator}{tail}")))
}

/// The end of what a program complained of, on one line.
fn tail(words: &[u8]) -> String {
    let text = String::from_utf8_lossy(words);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line[line.ceil_char_boundary(line.len().saturating_sub(MESSAGE_TAIL_BYTES_MAX))..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_is_short() {
        let check = |words: &[u8], expected: &str| assert_eq!(tail(words), expected);
        check(b"", "");
        check(b" no such\n table \n", "no such table");
        check(b"refused!\xff", "refused!\u{fffd}");
        let long = tail("é".repeat(1000).as_bytes());
        assert!(long.len() <= MESSAGE_TAIL_BYTES_MAX && long.starts_with('é'));
    }
}
