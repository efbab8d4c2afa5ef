//! `orbit log verify`: reads the stores themselves, whoever serves them meanwhile, and trusts nobody's word about them.

use std::fmt::Write;
use std::fs::ReadDir;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use orbit_core::config::NamespaceName;
use orbit_core::record::Verifier;
use orbit_engine::layout::Layout;
use orbit_store::blobs::Blobs;
use orbit_store::sqlite::verify::{Against, Notes, Progress, Report, Request, Taking, Vouched, verify};
use orbit_store::transfer::{Frozen, Progress as Copying};
use serde_json::{Value, json};

use super::verify::verifier;
use crate::bucket::Place;
use crate::cli::failure::Failure;
use crate::cli::output::either;
use crate::cli::session::is_home;
use crate::cli::shown::Shown;
use crate::config;
use crate::engine::OpenError;
use crate::environment::Environment;
use crate::exit;
use crate::render::Terminal;
use crate::render::text::clean_lines;
use crate::render::units::{bytes, counted};
use crate::stores::{Whole as Stores, backend_of};

/// A checkpoint is a few hundred bytes; a file that is larger than this is none.
const CHECKPOINT_BYTES_MAX: u64 = 64 * 1024;
/// An anchor has three below it; a folder that holds itself by a link has no end.
const FOLDERS_DEEP_MAX: usize = 32;
/// Faults that are shown; the JSON has more.
const FAULTS_SHOWN: usize = 50;

/// What is verified.
pub(super) struct Whole<'a> {
    /// Only this namespace.
    pub namespace: Option<&'a str>,
    /// A checkpoint that was kept elsewhere, or a folder of them.
    pub against: Option<&'a Path>,
    /// The key that signs the log, or a file with it.
    pub key: Option<&'a str>,
}

/// See the module.
pub(super) async fn whole(
    layout: &Layout,
    what: &Whole<'_>,
    out: &Terminal,
    as_json: bool,
) -> Result<u8, Failure> {
    is_home(layout.home())?;
    let backend = backend_of(layout).map_err(|problems| OpenError::Config { problems })?;
    let environment = Environment::load(layout.home()).map_err(OpenError::from)?.0;
    let stores = Stores::find(layout, backend, &environment).await?;
    let names = chosen(stores.names(layout).await?, what.namespace)?;
    let against = what.against.map(checkpoints).transpose()?.map(Arc::new);
    let key = what.key.map(verifier).transpose()?;
    let place = Place::new(&config::node(layout.home()).artifacts, &environment).map_err(OpenError::from)?;
    let mut answers = Vec::new();
    let mut faults = 0;
    for name in names {
        let asked = Asked {
            blobs: place.reading(layout, &name),
            against: against.clone(),
            namespace: name.clone(),
            key: key.clone(),
        };
        let shown = Shown::new(name.as_str(), out.progress);
        let report = match &stores {
            Stores::Files => of_file(layout.database(&name), asked, shown).await?,
            Stores::Database(url) => {
                of_database((url.expose(), &name), &layout.scratch(&name), asked, shown).await?
            }
        };
        faults += report.faults.count;
        answers.push(answer(&name, &report));
    }
    either(&json!({ "items": answers, "next": null }), as_json, text)?;
    Ok(if faults == 0 { exit::SUCCEEDED } else { exit::FAILED })
}

/// What a namespace is held against.
struct Asked {
    blobs: Blobs,
    against: Option<Arc<Notes>>,
    namespace: NamespaceName,
    key: Option<Verifier>,
}

impl Asked {
    fn against(&self) -> Option<Against<'_>> {
        self.against.as_deref().map(|notes| Against { notes, namespace: &self.namespace })
    }
}

async fn of_file(database: PathBuf, asked: Asked, mut shown: Shown) -> Result<Report, Failure> {
    let begun = Instant::now();
    let verified = tokio::task::spawn_blocking(move || {
        let (blobs, against, key) = (Some(&asked.blobs), asked.against(), asked.key.clone());
        let request = Request { database: &database, blobs, against, key, positioned: None };
        let report = verify(&request, &mut |progress| tell(&mut shown, begun, progress));
        shown.finish();
        report
    });
    Ok(verified.await.map_err(|error| Failure::failed(error.to_string()))??)
}

/// Rows of a database are copied into a file first, as they are at one moment.
async fn of_database(
    (url, name): (&str, &NamespaceName),
    scratch: &Path,
    asked: Asked,
    mut shown: Shown,
) -> Result<Report, Failure> {
    let mut copying = |progress: Copying| {
        let counted = (progress.done, progress.total);
        shown.tell(&format!("rows of `{}`", progress.table), counted, progress.stage);
    };
    let frozen = Frozen::of(url, name, scratch, &mut copying).await?;
    let begun = Instant::now();
    let verified = tokio::task::spawn_blocking(move || {
        let (blobs, against, key) = (Some(&asked.blobs), asked.against(), asked.key.clone());
        let report = frozen.verify(blobs, (against, key), &mut |progress| tell(&mut shown, begun, progress));
        shown.finish();
        report
    });
    Ok(verified.await.map_err(|error| Failure::failed(error.to_string()))??)
}

/// Every namespace that has a store, the node's own included, or the one that is named.
fn chosen(found: Vec<NamespaceName>, named: Option<&str>) -> Result<Vec<NamespaceName>, Failure> {
    match named {
        None if found.is_empty() => {
            Err(Failure::failed("this home has no log yet").hint("`orbit run` or `orbit serve` begins one"))
        }
        None => Ok(found),
        Some(named) => found
            .into_iter()
            .find(|name| name.as_str() == named)
            .map(|name| vec![name])
            .ok_or_else(|| Failure::usage(format!("namespace `{named}` has no log in this home"))),
    }
}

/// The checkpoints in a file, or in a folder with all those below it. However many they are, no more than one of them is in memory.
fn checkpoints(path: &Path) -> Result<Notes, Failure> {
    let notes = Notes::gather(|take| {
        let mut folders = Vec::new();
        look(path.to_owned(), &mut folders, take)?;
        while let Some((folder, entries)) = folders.last_mut() {
            let entry = entries.next().transpose().map_err(|error| unreadable(folder, &error))?;
            match entry.map(|entry| entry.path()) {
                // A copy that is being made, or that a crash left unfinished.
                Some(path) if path.extension().is_some_and(|extension| extension == "unfinished") => {}
                Some(path) => look(path, &mut folders, take)?,
                None => drop(folders.pop()),
            }
        }
        Ok::<_, Failure>(())
    })?;
    if notes.count() == 0 {
        return Err(Failure::usage(format!("there is no checkpoint in `{}`", path.display())));
    }
    Ok(notes)
}

/// A folder that is looked through, and what of it is still to come.
type Looking = (PathBuf, ReadDir);

/// Takes what lies there, or begins with it if it is a folder.
fn look(path: PathBuf, folders: &mut Vec<Looking>, take: &mut Taking<'_>) -> Result<(), Failure> {
    let metadata = std::fs::metadata(&path).map_err(|error| unreadable(&path, &error))?;
    if metadata.is_dir() {
        if folders.len() >= FOLDERS_DEEP_MAX {
            return Err(unreadable(&path, &format!("it lies more than {FOLDERS_DEEP_MAX} folders deep")));
        }
        let entries = std::fs::read_dir(&path).map_err(|error| unreadable(&path, &error))?;
        folders.push((path, entries));
        return Ok(());
    }
    if metadata.len() > CHECKPOINT_BYTES_MAX {
        return Err(unreadable(&path, &"it is too large to be one"));
    }
    let text = std::fs::read_to_string(&path).map_err(|error| unreadable(&path, &error))?;
    Ok(take(&path.display().to_string(), &text)?)
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::usage(format!("cannot read the checkpoint `{}`: {error}", path.display()))
}

/// What stays unchecked where no checkpoint from elsewhere is given.
const WITHOUT_OTHERS: &str =
    "whether records were removed from the end, or the whole log was written anew by somebody with its key";

fn answer(name: &NamespaceName, report: &Report) -> Value {
    let mut unchecked = Vec::new();
    if report.outside == 0 {
        unchecked.push(WITHOUT_OTHERS.to_owned());
    }
    unchecked.extend(report.vouched.as_ref().and_then(|vouched| beyond(vouched, report.size)));
    if report.unfollowed > 0 {
        let count = report.unfollowed;
        unchecked.push(format!(
            "rows that {count} records of notices and endpoints tell of, because too many are open at once: `orbit doctor --rebuild --dry-run` compares them"
        ));
    }
    json!({ "namespace": name, "verified": report.faults.count == 0, "report": report, "unchecked": unchecked })
}

/// What the key that was given does not vouch for.
fn beyond(vouched: &Vouched, size: u64) -> Option<String> {
    let Vouched { size: covered, other, .. } = vouched;
    let told = match other {
        _ if *covered >= size => return None,
        Some((position, vkey)) => {
            format!(
                "at position {position} the log goes on with the key `{vkey}`, as after a restore: give that one"
            )
        }
        None => "the next checkpoint covers them".to_owned(),
    };
    Some(format!(
        "who signed the records from position {covered} on: the key that was given does not vouch for them; {told}"
    ))
}

fn text(answer: &Value) -> String {
    let mut text = String::new();
    for one in answer["items"].as_array().into_iter().flatten() {
        let report = &one["report"];
        let number = |name: &str| usize::try_from(report[name].as_u64().unwrap_or(0)).unwrap_or(usize::MAX);
        let name = one["namespace"].as_str().unwrap_or_default();
        let faults = report["faults"]["count"].as_u64().unwrap_or(0);
        let verdict = match faults {
            0 => "as it was written".to_owned(),
            count => counted(usize::try_from(count).unwrap_or(usize::MAX), "fault"),
        };
        _ = writeln!(
            text,
            "{name}: {verdict}: {}, {}, {}, {} ({})",
            counted(number("size"), "record"),
            counted(number("checkpoints"), "checkpoint"),
            counted(number("runs"), "run"),
            counted(number("payloads"), "payload"),
            bytes(report["bytes"].as_u64().unwrap_or(0)),
        );
        if let Some(pending @ 1..) = report["pending"].as_u64() {
            _ = writeln!(text, "  and {pending} that wait for their position");
        }
        if let Some(root) = report["root"].as_str() {
            _ = writeln!(text, "  root {root}");
        }
        if let Some(covered) = report["vouched"]["size"].as_u64() {
            let covered = counted(usize::try_from(covered).unwrap_or(usize::MAX), "record");
            _ = writeln!(text, "  the key that was given vouches for the first {covered}");
        }
        let kept = report["faults"]["kept"].as_array();
        for fault in kept.into_iter().flatten().take(FAULTS_SHOWN) {
            let part = |name: &str| fault[name].as_str().unwrap_or_default();
            _ = writeln!(text, "  {}, {}: {}", part("table"), part("row"), part("difference"));
        }
        if let Some(more @ 1..) = usize::try_from(faults).ok().map(|all| all.saturating_sub(FAULTS_SHOWN)) {
            _ = writeln!(text, "  and {more} more; --json shows the first {}", 1000);
        }
        for unchecked in one["unchecked"].as_array().into_iter().flatten() {
            let unchecked = unchecked.as_str().unwrap_or_default();
            _ = writeln!(text, "  not checked: {unchecked}");
            if unchecked == WITHOUT_OTHERS {
                _ = writeln!(text, "    hint: `--against` a checkpoint that was kept elsewhere");
            }
        }
    }
    clean_lines(&text) + "\n"
}

/// Shows how far it is and how fast.
fn tell(shown: &mut Shown, begun: Instant, progress: Progress) {
    let rate = per_second(progress.bytes, begun.elapsed().as_secs_f64().max(0.001));
    shown.tell(progress.stage, (progress.done, progress.total), &format!("{} a second", bytes(rate)));
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate that is shown with one decimal"
)]
fn per_second(count: u64, seconds: f64) -> u64 {
    (count as f64 / seconds) as u64
}
