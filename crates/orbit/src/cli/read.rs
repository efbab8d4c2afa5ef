//! Commands that ask and print, and the few that change something at once.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use orbit_core::config::{Snapshot, StorageBackend};
use orbit_core::schedule::{Schedule, preview as firings};
use orbit_engine::clock::{Clock, SystemClock};
use orbit_engine::layout::Layout;
use orbit_engine::node::Duty;
use orbit_store::StoreError;
use orbit_store::contract::rebuild::RebuildMode;
use orbit_store::transfer::TransferError;
use serde_json::{Value, json};
use uuid::Uuid;

use super::args::{Deliveries, IdArgs, ListOnly, ListOrShow, PageArgs, Runs};
use super::database::owner_url;
use super::failure::Failure;
use super::ids::{self, missing};
use super::output;
use super::output::{either, json_line, print, say};
use super::redrive;
use super::session::{Session, is_home};
use crate::config::{Diagnostic, load};
use crate::control::{Command, ConfigQuestion, List, LockError, NamespaceChoice, Thing};
use crate::doctor::{self, rebuild::RebuildError};
use crate::engine::OpenError;
use crate::environment::Environment;
use crate::exit;
use crate::render::{self, Terminal};
use crate::stores::{Whole, backend_of};

/// How often something that is followed or watched is asked after.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// How often a status that is watched is shown.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// Records that one question brings.
const RECORDS_A_QUESTION: u32 = 1000;
/// Records that a story is told from at most; a run has a few dozen.
const RECORDS_MAX: usize = 10_000;

/// `orbit cycles`.
pub async fn cycles(layout: &Layout, verb: &ListOrShow, out: &Terminal, json: bool) -> Result<u8, Failure> {
    match verb {
        ListOrShow::List(page) => list(layout, page, List::Cycles, out, json).await,
        ListOrShow::Show(which) => {
            let cycle = show(layout, which, Thing::Cycle).await?;
            either(&cycle, json, |cycle| render::cycle(cycle, out))?;
            Ok(exit::SUCCEEDED)
        }
    }
}

/// `orbit initiations`.
pub async fn initiations(
    layout: &Layout,
    verb: &ListOnly,
    out: &Terminal,
    json: bool,
) -> Result<u8, Failure> {
    let ListOnly::List(page) = verb;
    list(layout, page, List::Initiations, out, json).await
}

/// `orbit runs`.
pub async fn runs(layout: &Layout, verb: &Runs, out: &Terminal, json: bool) -> Result<u8, Failure> {
    match verb {
        Runs::List { page, cycle } => {
            let cycle_id = ids::whole_if_given(layout, &page.namespace, Thing::Cycle, cycle.as_ref()).await?;
            list(layout, page, List::Runs { cycle_id }, out, json).await
        }
        Runs::Show { which, follow } => story(layout, which, *follow, out, json).await,
        Runs::Cancel { which, reason } => cancel(layout, which, reason, json).await,
        Runs::Retry(wanted) => super::run::retry(layout, wanted, out, json).await,
    }
}

async fn cancel(layout: &Layout, which: &IdArgs, reason: &str, json: bool) -> Result<u8, Failure> {
    let run = show(layout, which, Thing::Run).await?;
    let run_id = ids::whole(layout, &which.namespace, Thing::Run, &which.id).await?;
    if let Some(outcome) = run["outcome"].as_str() {
        return Err(Failure::usage(format!("run `{run_id}` is finished already: {outcome}")).hint(format!(
            "only what is not finished can be cancelled; `orbit runs retry {run_id}` does it again"
        )));
    }
    let command =
        Command::CancelRun { namespace: which.namespace.clone(), run_id, reason: reason.to_owned() };
    let answer = ask(layout, command).await?;
    let was = answer["was"].as_str().unwrap_or_default();
    either(&answer, json, |_| format!("run {run_id} is cancelled; it was {was}\n"))?;
    Ok(exit::SUCCEEDED)
}

/// `orbit deliveries`.
pub async fn deliveries(
    layout: &Layout,
    verb: &Deliveries,
    out: &Terminal,
    json: bool,
) -> Result<u8, Failure> {
    match verb {
        Deliveries::List { page, state } => {
            let state = state.map(|state| state.name().to_owned());
            list(layout, page, List::Deliveries { state }, out, json).await
        }
        Deliveries::Show(which) => {
            let delivery = show(layout, which, Thing::Delivery).await?;
            either(&delivery, json, |delivery| render::delivery(delivery, out))?;
            Ok(exit::SUCCEEDED)
        }
        Deliveries::Redrive { .. } => redrive::redrive(layout, verb, out, json).await,
    }
}

/// `orbit halt`.
pub async fn halt(
    layout: &Layout,
    namespace: Option<String>,
    reason: String,
    json: bool,
) -> Result<u8, Failure> {
    let what = namespace.clone().map_or_else(|| "the node".to_owned(), |name| format!("namespace `{name}`"));
    let with = namespace.as_ref().map(|name| format!(" -n {name}")).unwrap_or_default();
    let answer = ask(layout, Command::Halt { namespace, reason }).await?;
    let already = if answer["changed"] == true { "" } else { " already" };
    either(&answer, json, |_| format!("{what} is{already} halted; `orbit resume{with}` lifts it\n"))?;
    Ok(exit::SUCCEEDED)
}

/// `orbit resume`.
pub async fn resume(layout: &Layout, namespace: Option<String>, json: bool) -> Result<u8, Failure> {
    let what = namespace.clone().map_or_else(|| "the node".to_owned(), |name| format!("namespace `{name}`"));
    let answer = ask(layout, Command::Resume { namespace }).await?;
    let was = if answer["changed"] == true { "is no longer" } else { "was not" };
    either(&answer, json, |_| format!("{what} {was} halted\n"))?;
    Ok(exit::SUCCEEDED)
}

/// `orbit status`.
pub async fn status(layout: &Layout, out: &Terminal, json: bool, watch: bool) -> Result<u8, Failure> {
    let mut session = Session::open(layout, Duty::None).await?;
    loop {
        if let Some(engine) = session.engine() {
            // What would fire next is a matter of the documents; status answers without valid ones too.
            _ = engine.preview();
        }
        let status = session.ask(Command::Status).await?;
        let now = Terminal { now: SystemClock.now(), ..*out };
        match (watch, json) {
            (true, true) => json_line(&status)?,
            // Home and clear: the screen shows one state at a time.
            (true, false) if out.width.is_some() => {
                print(&format!("\x1b[H\x1b[2J{}", render::status(&status, &now)))?;
            }
            (true | false, _) => either(&status, json, |status| render::status(status, &now))?,
        }
        if !watch {
            return Ok(if is_closed(&status) { exit::HALTED } else { exit::SUCCEEDED });
        }
        session.rest(WATCH_EVERY).await;
    }
}

/// Whether a gate is closed, of the node or of any namespace.
fn is_closed(status: &Value) -> bool {
    let mut namespaces = status["namespaces"].as_array().into_iter().flatten();
    matches!(status["state"].as_str(), Some("halted" | "paused"))
        || namespaces.any(|namespace| namespace["state"] == "closed")
}

/// What to preview.
pub struct PreviewArgs<'a> {
    /// Only this run profile.
    pub run_profile: Option<&'a str>,
    /// Only this namespace.
    pub namespace: Option<&'a str>,
    /// Begin after this.
    pub from: Timestamp,
    /// How many a run profile.
    pub count: u32,
}

/// What would fire: of each namespace its name and its configuration, which is what is active where documents do not become that by being there, and else the documents.
async fn previewed(layout: &Layout) -> Result<Vec<(String, Snapshot)>, Failure> {
    let backend = backend_of(layout).map_err(|problems| OpenError::Config { problems })?;
    let loaded = load(layout.home());
    let is_valid = !loaded.problems.iter().any(Diagnostic::is_error);
    let documents = loaded.namespaces.into_iter().map(|one| (one.name.to_string(), one.snapshot));
    match backend {
        StorageBackend::Sqlite if is_valid => Ok(documents.collect()),
        StorageBackend::Sqlite => Err(OpenError::Config { problems: loaded.problems }.into()),
        StorageBackend::Postgres => {
            let mut spaces: BTreeMap<_, _> = documents.filter(|_| is_valid).collect();
            let mut session = Session::open(layout, Duty::None).await?;
            let status = session.ask(Command::Status).await?;
            let names = status["namespaces"].as_array().into_iter().flatten();
            for name in names.filter_map(|one| one["namespace"].as_str()) {
                let question = ConfigQuestion::Show { digest: None };
                let namespace = Some(name.to_owned());
                let mut shown = session.ask(Command::Config { namespace, question }).await?;
                if !shown.is_null() {
                    let active = serde_json::from_value(shown["snapshot"].take());
                    spaces
                        .insert(name.to_owned(), active.map_err(|error| Failure::failed(error.to_string()))?);
                }
            }
            if spaces.is_empty() && !is_valid {
                return Err(OpenError::Config { problems: loaded.problems }.into());
            }
            Ok(spaces.into_iter().collect())
        }
    }
}

/// `orbit schedule preview`.
pub async fn preview(
    layout: &Layout,
    which: &PreviewArgs<'_>,
    out: &Terminal,
    json: bool,
) -> Result<u8, Failure> {
    is_home(layout.home())?;
    let all = previewed(layout).await?;
    let spaces = || all.iter().filter(|(name, _)| which.namespace.is_none_or(|chosen| chosen == name));
    if let Some(name) = which.namespace.filter(|_| spaces().next().is_none()) {
        let names: Vec<_> = all.iter().map(|(name, _)| name.clone()).collect();
        return Err(Failure::usage(format!("there is no namespace `{name}`"))
            .hint(format!("this home has: {}", names.join(", "))));
    }
    let mut items = Vec::new();
    let mut found = false;
    for (namespace, snapshot) in spaces() {
        for run_profile in snapshot.run_profiles.values() {
            let id = run_profile.run_profile_id;
            let named = |name: &str| name == run_profile.label.as_str() || name == id.to_string();
            if which.run_profile.is_some_and(|name| !named(name)) {
                continue;
            }
            found = true;
            let Ok(schedule) = Schedule::compile(&run_profile.execution_policy.schedule, id) else {
                continue;
            };
            for firing in firings(&schedule, which.from, usize::try_from(which.count).unwrap_or(1)) {
                let mut item = json!(firing);
                item["namespace"] = json!(namespace);
                item["run_profile"] = json!(run_profile.label);
                items.push(item);
            }
        }
    }
    if let Some(name) = which.run_profile.filter(|_| !found) {
        let labels: Vec<_> = spaces()
            .flat_map(|(_, snapshot)| snapshot.run_profiles.keys())
            .map(ToString::to_string)
            .collect();
        return Err(Failure::usage(format!("there is no run profile `{name}`"))
            .hint(format!("there are: {}", labels.join(", "))));
    }
    if items.is_empty() {
        return Err(Failure::usage("nothing ever fires")
            .hint("add a document under `run-profiles/`; `orbit check` reads it"));
    }
    items.sort_by_key(|item| item["due"].as_str().and_then(|due| due.parse::<Timestamp>().ok()));
    either(&json!({ "items": items, "next": null }), json, |answer| render::schedule_preview(answer, out))?;
    Ok(exit::SUCCEEDED)
}

/// `orbit doctor`.
pub async fn doctor(layout: &Layout, out: &Terminal, json: bool) -> Result<u8, Failure> {
    let findings = doctor::examine(layout).await;
    let worst = findings.iter().any(doctor::Finding::is_problem);
    either(&json!({ "items": findings, "next": null }), json, |_| doctor::render(&findings, out))?;
    Ok(if worst { exit::FAILED } else { exit::SUCCEEDED })
}

/// `orbit doctor --rebuild`. Rows that are only compared and differ are a failure, as for everything that `doctor` finds.
pub async fn rebuild(layout: &Layout, mode: RebuildMode, out: &Terminal, json: bool) -> Result<u8, Failure> {
    is_home(layout.home())?;
    let stores = rebuilt_where(layout, mode).await?;
    let all = doctor::rebuild::rebuild((layout, &stores), mode, out).await.map_err(|error| match error {
        RebuildError::Lock(error @ LockError::Held { .. }) => Failure::failed(error.to_string())
            .hint("stop `orbit serve` first: a rebuild needs the home for itself"),
        RebuildError::Lock(error @ LockError::Io { .. }) => error.into(),
        RebuildError::Store(error @ StoreError::Corrupt { .. })
        | RebuildError::Database(TransferError::Store(error @ StoreError::Corrupt { .. })) => Failure::failed(error.to_string()).hint(
            "nothing was changed; `orbit log verify` says what is wrong with the log; else restore a backup",
        ),
        RebuildError::Store(error) => error.into(),
        RebuildError::Database(error) => error.into(),
    })?;
    let differs = all.iter().any(|one| !one.applied && one.found.differing() > 0);
    either(&json!({ "items": all, "next": null }), json, |_| doctor::rebuild::render(&all))?;
    Ok(if differs { exit::FAILED } else { exit::SUCCEEDED })
}

/// Rows in a database are only its owner's to make again; whoever serves them may compare.
async fn rebuilt_where(layout: &Layout, mode: RebuildMode) -> Result<Whole, Failure> {
    let backend = backend_of(layout).map_err(|problems| OpenError::Config { problems })?;
    let environment = Environment::load(layout.home()).map_err(OpenError::from)?.0;
    if backend == StorageBackend::Postgres && mode == RebuildMode::Apply {
        return Ok(Whole::Database(owner_url(&environment, "orbit doctor --rebuild")?));
    }
    Ok(Whole::find(layout, backend, &environment).await?)
}

/// `orbit runs show`: the run, and with `--follow` every record that comes until it is finished. As JSON, followed, a line for each record and
/// at the end one for the run.
async fn story(
    layout: &Layout,
    which: &IdArgs,
    follow: bool,
    out: &Terminal,
    json: bool,
) -> Result<u8, Failure> {
    let namespace = which.namespace.clone();
    let id = ids::whole(layout, &namespace, Thing::Run, &which.id).await?;
    let mut session = Session::open(layout, Duty::None).await?;
    let mut after = None;
    let mut first = true;
    loop {
        // The run first: the records that are read then are at least as new, so that none is missed when it is finished.
        let command = Command::Show { namespace: namespace.clone(), thing: Thing::Run, id };
        let run = session.ask(command).await?;
        if run.is_null() {
            return Err(missing(Thing::Run, &id.to_string()));
        }
        let finished = run["state"] == "finished";
        let records = records_of(&mut session, &namespace, &mut after, id).await?;
        match (json, follow, first) {
            (true, false, _) => output::json(&run)?,
            (true, true, _) => {
                records.iter().try_for_each(json_line)?;
                if finished {
                    json_line(&run)?;
                }
            }
            (false, _, true) => print(&render::story(&run, &records, out))?,
            (false, _, false) => {
                let lines = records.iter().filter_map(|record| render::story_line(&run, record, out));
                print(&lines.collect::<String>())?;
                if finished {
                    print(&format!("\n{}", render::story(&run, &[], out)))?;
                }
            }
        }
        first = false;
        if !follow || finished {
            return Ok(exit::SUCCEEDED);
        }
        session.rest(ASK_EVERY).await;
    }
}

/// All records about a run after this position, which moves on.
async fn records_of(
    session: &mut Session,
    namespace: &NamespaceChoice,
    after: &mut Option<u64>,
    run_id: Uuid,
) -> Result<Vec<Value>, Failure> {
    let mut records = Vec::new();
    while records.len() < RECORDS_MAX {
        let command = Command::Records {
            namespace: namespace.clone(),
            after: *after,
            run_id: Some(run_id),
            cycle_id: None,
            limit: RECORDS_A_QUESTION,
        };
        let answer = session.ask(command).await?;
        let page = items(&answer);
        *after = page.last().and_then(|record| record["position"].as_u64()).or(*after);
        records.extend_from_slice(page);
        if u32::try_from(page.len()).is_ok_and(|count| count < RECORDS_A_QUESTION) {
            break;
        }
    }
    Ok(records)
}

/// The items of a list.
pub fn items(answer: &Value) -> &[Value] {
    answer["items"].as_array().map_or(&[], Vec::as_slice)
}

async fn list(
    layout: &Layout,
    page: &PageArgs,
    list: List,
    out: &Terminal,
    json: bool,
) -> Result<u8, Failure> {
    list_in(&mut Session::open(layout, Duty::None).await?, page, list, (out, json)).await
}

/// Prints a page of a list.
pub async fn list_in(
    session: &mut Session,
    page: &PageArgs,
    list: List,
    (out, json): (&Terminal, bool),
) -> Result<u8, Failure> {
    let command = Command::List {
        namespace: page.namespace.clone(),
        list: list.clone(),
        cursor: page.cursor.clone(),
        limit: page.limit,
    };
    let answer = session.ask(command).await?;
    either(&answer, json, |answer| render::list(&list, answer, out))?;
    if let (false, Some(next)) = (json, answer["next"].as_str()) {
        say(&format!("there is more: `--cursor {next}`"));
    }
    Ok(exit::SUCCEEDED)
}

async fn show(layout: &Layout, which: &IdArgs, thing: Thing) -> Result<Value, Failure> {
    let id = ids::whole(layout, &which.namespace, thing, &which.id).await?;
    let answer = ask(layout, Command::Show { namespace: which.namespace.clone(), thing, id }).await?;
    if answer.is_null() { Err(missing(thing, &id.to_string())) } else { Ok(answer) }
}

/// Asks once.
pub async fn ask(layout: &Layout, command: Command) -> Result<Value, Failure> {
    Session::open(layout, Duty::None).await?.ask(command).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_that_is_closed_anywhere_is_told() {
        let check = |node: &str, namespaces: &[&str], expected: bool| {
            let namespaces: Vec<_> = namespaces.iter().map(|state| json!({ "state": state })).collect();
            let status = json!({ "state": node, "namespaces": namespaces });
            assert_eq!(is_closed(&status), expected, "{status}");
        };
        check("running", &[], false);
        check("running", &["open", "open"], false);
        check("stopped", &["open"], false);
        check("running", &["open", "closed"], true);
        check("paused", &["open"], true);
        check("halted", &[], true);
    }
}
