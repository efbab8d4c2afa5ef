//! A source that is a program: it is run to its end under the supervisor, and what it printed is then read like a file of JSON Lines.
//!
//! Nothing of a listing is used unless the program ended well, so that a half-printed one never exhausts a source.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, remove_dir_all};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use orbit_core::config::{ExecSource, TextOrSecret};
use orbit_core::tiers::{Failure, Usage};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::sources::SourceError;
use crate::namespace::Namespace;
use crate::supervisor::{self, Program};

/// Where programs are looked for when the document's `env` has no `PATH`.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Bytes of a failed program's standard error that its message repeats: the last ones.
const MESSAGE_TAIL_BYTES_MAX: usize = 400;

/// What a program printed, in a folder that is removed when this is dropped.
pub(super) struct Listing {
    folder: PathBuf,
    usage: Usage,
}

impl Listing {
    /// An empty folder that only this user can enter.
    fn prepare(folder: PathBuf) -> io::Result<Self> {
        match remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        Ok(Self { folder, usage: Usage::default() })
    }

    /// The file of JSON Lines.
    pub(super) fn path(&self) -> PathBuf {
        self.folder.join("listing.jsonl")
    }

    /// What the program used.
    pub(super) fn usage(&self) -> Value {
        json!(self.usage)
    }
}

impl Drop for Listing {
    fn drop(&mut self) {
        // What cannot be removed now is removed before the next listing of the same cycle.
        let _ = remove_dir_all(&self.folder);
    }
}

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
    let (env, secrets) = environment(namespace, &source.env, &folder)?;
    let mut listing = Listing::prepare(folder)
        .map_err(|error| failed(format!("has no place for its listing in the work folder: {error}")))?;
    let program = Program {
        argv: resolved(&namespace.folder(), &source.argv),
        env,
        cwd: namespace.folder(),
        stdin: None,
        stdout: Some(listing.path()),
        limits: source.limits.clone(),
        marker: supervisor::marker(layout.home()),
    };
    let ended = namespace.shared.launcher.run(program, cancel).await;
    listing.usage = ended.usage;
    let Some(failure) = Failure::of_end(ended.how, &[0], source.limits.wall.0) else { return Ok(listing) };
    if failure == Failure::Cancelled {
        return Err(SourceError::Cut);
    }
    let tail = tail(&ended.stderr_tail, &secrets);
    let separator = if tail.is_empty() { "" } else { ": " };
    Err(failed(format!("{failure}{separator}{tail}")))
}

/// The variables with every secret filled in, and the secrets by themselves, the longest first.
fn environment(
    namespace: &Namespace,
    env: &BTreeMap<String, TextOrSecret>,
    folder: &Path,
) -> Result<(BTreeMap<String, String>, Vec<String>), SourceError> {
    let folder = folder.to_string_lossy();
    let base = [("PATH", PATH), ("LANG", "C.UTF-8"), ("HOME", &folder), ("TMPDIR", &folder)];
    let mut filled: BTreeMap<_, _> =
        base.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let mut secrets = Vec::new();
    for (name, value) in env {
        let text = match value {
            TextOrSecret::Text(text) => text.clone(),
            TextOrSecret::Secret(secret) => {
                let missing = || SourceError::Secret { variable: secret.variable(&namespace.name) };
                let text = namespace.shared.secrets.get(&namespace.name, secret).ok_or_else(missing)?;
                secrets.push(text.clone());
                text
            }
        };
        filled.insert(name.clone(), text);
    }
    secrets.sort_unstable_by_key(|secret| std::cmp::Reverse(secret.len()));
    Ok((filled, secrets))
}

/// A program name with a `/` is relative to the namespace's folder; one without is looked up.
fn resolved(folder: &Path, argv: &[String]) -> Vec<String> {
    let mut argv = argv.to_vec();
    if let Some(program) = argv.first_mut().filter(|program| program.contains('/')) {
        *program = folder.join(&*program).to_string_lossy().into_owned();
    }
    argv
}

/// The end of what a program complained of, on one line and without the secrets it was given.
fn tail(stderr: &[u8], secrets: &[String]) -> String {
    let mut text = String::from_utf8_lossy(stderr).into_owned();
    // Before anything is cut off, so that no half of a secret is left.
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        text = text.replace(secret.as_str(), "[secret]");
    }
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line[line.ceil_char_boundary(line.len().saturating_sub(MESSAGE_TAIL_BYTES_MAX))..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_of_the_namespace() {
        let check = |program: &str, expected: &str| {
            let argv = [program.to_owned(), "a/b".to_owned()];
            assert_eq!(resolved(Path::new("/home/n"), &argv), [expected, "a/b"]);
        };
        check("sh", "sh");
        check("programs/list.sh", "/home/n/programs/list.sh");
        check("/bin/sh", "/bin/sh");
    }

    #[test]
    fn a_complaint_is_short_and_holds_no_secret() {
        let check = |stderr: &[u8], expected: &str| {
            assert_eq!(tail(stderr, &["hunter2".to_owned(), String::new()]), expected);
        };
        check(b"", "");
        check(b" no such\n table \n", "no such table");
        check(b"refused hunter2!\xff", "refused [secret]!\u{fffd}");
        let long = tail("é".repeat(1000).as_bytes(), &[]);
        assert!(long.len() <= MESSAGE_TAIL_BYTES_MAX && long.starts_with('é'));
    }
}
