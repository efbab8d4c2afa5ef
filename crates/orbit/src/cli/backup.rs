//! `orbit backup` and `orbit restore`.

use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use orbit_engine::clock::{Clock, SystemClock};
use orbit_engine::layout::Layout;
use orbit_engine::node::Duty;
use serde_json::json;

use super::failure::Failure;
use super::output::either;
use super::session::Session;
use crate::backup::{self, BackupError, Made, NamespaceEntry, Restored, Stage};
use crate::control::Command;
use crate::doctor::missing_secrets;
use crate::exit;
use crate::render::Terminal;
use crate::render::units::{bytes, counted, instant};

/// How often a backup is asked after.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// `orbit backup`: the process that holds the home makes it.
pub async fn make(
    layout: &Layout,
    folder: &Path,
    with_secrets: bool,
    (out, json): (&Terminal, bool),
) -> Result<u8, Failure> {
    let folder = absolute(folder)?;
    let mut session = Session::open(layout, Duty::None).await?;
    let mut stage: Stage = session.ask_as(Command::Backup { folder, with_secrets }).await?;
    let bar = Bar::new(out);
    let made = loop {
        match stage {
            Stage::Running { what, done, total } => bar.show(&what, done, total),
            Stage::Done(made) => break made,
            Stage::Failed { message, hint } => {
                bar.end();
                return Err(Failure::failed(message).hint(hint));
            }
            Stage::Idle => {
                return Err(Failure::failed("the process that made the backup is another one now"));
            }
        }
        tokio::time::sleep(ASK_EVERY).await;
        stage = session.ask_as(Command::BackupStage).await?;
    };
    bar.end();
    either(&json!(made), json, |_| told(&made))?;
    Ok(exit::SUCCEEDED)
}

fn told(made: &Made) -> String {
    let secrets = if made.with_secrets { "with `.env`: keep it safe" } else { "without `.env`" };
    format!(
        "{}: {}, {secrets}\n{}{}",
        made.folder.display(),
        bytes(made.bytes),
        made.namespaces.iter().map(namespace).collect::<String>(),
        in_bucket(made.bucket.as_deref())
    )
}

/// What a backup does not hold.
fn in_bucket(bucket: Option<&str>) -> String {
    bucket.map_or_else(String::new, |bucket| {
        format!("  payload files stay in the bucket `{bucket}` and are not in the backup\n")
    })
}

fn namespace(entry: &NamespaceEntry) -> String {
    let count = |count: u64, what| counted(usize::try_from(count).unwrap_or(usize::MAX), what);
    format!(
        "  {}: {}, {} ({})\n",
        entry.namespace,
        count(entry.log_size, "record"),
        count(entry.payloads, "payload file"),
        bytes(entry.payload_bytes)
    )
}

/// `orbit restore --check`.
pub async fn check(folder: &Path, out: &Terminal, json: bool) -> Result<u8, Failure> {
    let folder = absolute(folder)?;
    let bar = Bar::new(out);
    let checked = blocking(move || backup::check(&folder, &mut bar.progress())).await?;
    let manifest = checked.manifest;
    either(&json!({ "whole": true, "backup": manifest }), json, |_| {
        format!(
            "the backup of {} is whole\n{}{}",
            instant(manifest.made_at),
            manifest.namespaces.iter().map(namespace).collect::<String>(),
            in_bucket(manifest.bucket.as_deref())
        )
    })?;
    Ok(exit::SUCCEEDED)
}

/// `orbit restore`.
pub async fn restore(folder: &Path, home: &Path, out: &Terminal, json: bool) -> Result<u8, Failure> {
    let (folder, home) = (absolute(folder)?, absolute(home)?);
    let bar = Bar::new(out);
    let now = SystemClock.now();
    let restored = blocking(move || backup::restore(&folder, &home, now, &mut bar.progress())).await?;
    let missing = missing_secrets(&restored.home);
    let mut value = json!(restored);
    value["missing_secrets"] = json!(missing);
    either(&value, json, |_| next_steps(&restored, &missing))?;
    Ok(exit::SUCCEEDED)
}

fn next_steps(restored: &Restored, missing: &[String]) -> String {
    let home = restored.home.display();
    let mut text = format!("{home} holds the backup of {} and is halted\n", instant(restored.made_at));
    for one in &restored.namespaces {
        text += &namespace(&one.entry);
    }
    text += "\nwhat to do next:\n";
    for what in missing {
        _ = writeln!(text, "  - {what}: set it in `.env`");
    }
    text += "  - make sure that the home it was made of does not run any more: both would send\n";
    if let Some(bucket) = &restored.bucket {
        _ = writeln!(
            text,
            "  - its payload files are those in the bucket `{bucket}`: two homes must not share them, because each removes what it does not name"
        );
    }
    for one in restored.namespaces.iter().filter(|one| one.owed.count > 0) {
        _ = writeln!(
            text,
            "  - {} of `{}` waited when the backup was made and may have been sent since; they are sent again with the same `Idempotency-Key`:",
            one.owed.count, one.entry.namespace
        );
        for delivery in &one.owed.deliveries {
            _ = writeln!(
                text,
                "      {} to {} ({})",
                delivery.delivery_id, delivery.endpoint, delivery.state
            );
        }
    }
    text + &format!("  - `orbit --home {home} doctor`, then `orbit --home {home} resume` lifts the halt\n")
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BackupError> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Failure::failed(error.to_string()))?.map_err(Failure::from)
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        let failure = match &error {
            BackupError::Folder { .. } => Self::usage(error.to_string()),
            BackupError::Store(_)
            | BackupError::Payload { .. }
            | BackupError::Io { .. }
            | BackupError::Damaged { .. }
            | BackupError::Ended => Self::failed(error.to_string()),
        };
        failure.hint(error.hint())
    }
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|error| Failure::usage(format!("`{}` is no path: {error}", path.display())))
}

/// Progress on a terminal; nothing elsewhere.
struct Bar(Option<ProgressBar>);

impl Bar {
    fn new(out: &Terminal) -> Self {
        let style = ProgressStyle::with_template("  {msg} {wide_bar} {pos}/{len}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        Self(out.progress.then(|| ProgressBar::new(0).with_style(style)))
    }

    fn show(&self, what: &str, done: u64, total: u64) {
        if let Some(bar) = &self.0 {
            bar.set_length(total);
            bar.set_position(done);
            bar.set_message(what.to_owned());
        }
    }

    fn progress(&self) -> impl FnMut(&str, u64, u64) -> ControlFlow<()> + '_ {
        |what, done, total| {
            self.show(what, done, total);
            ControlFlow::Continue(())
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.end();
    }
}
