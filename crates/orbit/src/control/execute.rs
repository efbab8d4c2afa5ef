//! Does what a command says, in the process that holds the home.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use orbit_core::config::{RunProfile, Snapshot, StorageBackend};
use orbit_core::governance::{Closed, Door};
use orbit_core::id::{Trigger, cycle_id};
use orbit_engine::namespace::Namespace;
use orbit_engine::node::Duty;
use orbit_engine::retention;
use orbit_engine::selection::dry_run;
use orbit_store::contract::dispatch::RedriveFilter;
use orbit_store::contract::record::RecordFilter;
use orbit_store::contract::schedule::NewCycle;
use orbit_store::contract::view::PageRequest;
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::documents::{self, DocumentPage};
use super::operate;
use super::redrive::{self, Redriven};
use super::{Command, DocumentKind, Fired, List, Refusal, Thing};
use crate::backup::Job;
use crate::engine::Engine;
use crate::exit;
use crate::stores::FileWork;

/// Does it; the answer is what `--json` prints.
pub async fn execute(engine: &Engine, command: Command) -> Result<Value, Refusal> {
    match command {
        Command::Status => crate::status::status(engine).await,
        Command::Run { namespace, run_profile, key, requests } => {
            let namespace = choose(engine, namespace.as_deref())?;
            fire(&namespace, run_profile.as_deref(), key, requests).await
        }
        Command::DryRun { namespace, run_profile, key } => {
            let namespace = choose(engine, namespace.as_deref())?;
            let (snapshot, run_profile) =
                run_profile_of(&namespace, engine.snapshot(&namespace), run_profile.as_deref())?;
            let cycle_id = identity(&namespace, &run_profile, &Trigger::Manual { key });
            let requests = dry_run(&namespace, &snapshot, &run_profile, cycle_id)
                .await
                .map_err(|error| Refusal::failure(error.to_string()))?;
            Ok(json!({ "items": requests }))
        }
        Command::List { namespace, list, cursor, limit } => {
            let namespace = choose(engine, namespace.as_deref())?;
            lists(engine, &namespace, list, PageRequest { cursor, limit }).await
        }
        Command::Show { namespace, thing, id } => {
            show(&*choose(engine, namespace.as_deref())?, thing, id).await
        }
        Command::Document { namespace, kind, reference } => {
            documents::show(engine, &*choose(engine, namespace.as_deref())?, kind, &reference)
        }
        Command::Artifact { namespace, digest } => {
            documents::artifact(&*choose(engine, namespace.as_deref())?, digest).await
        }
        Command::Records { namespace, after, run_id, cycle_id, limit } => {
            let store = store_of(engine, namespace.as_deref())?;
            let records = store.records(RecordFilter { after, run_id, cycle_id }, limit).await?;
            value(&json!({ "items": records }))
        }
        Command::Log { namespace, question } => {
            super::log::answer(&*store_of(engine, namespace.as_deref())?, question).await
        }
        Command::Config { namespace, question } => super::config::answer(engine, namespace, question).await,
        Command::CancelRun { namespace, run_id, reason } => {
            operate::cancel(&*choose(engine, namespace.as_deref())?, run_id, &reason).await
        }
        Command::Find { namespace, thing, beginning } => {
            operate::find(&*choose(engine, namespace.as_deref())?, thing, &beginning).await
        }
        Command::Operate { namespace, order } => {
            operate::operate(engine, &*choose(engine, namespace.as_deref())?, order).await
        }
        Command::Redrive { namespace, delivery_id, run_id, endpoint, since, until, dry_run, from } => {
            let namespace = choose(engine, namespace.as_deref())?;
            let filter = RedriveFilter { delivery_id, run_id, endpoint, since, until };
            if dry_run {
                let count = namespace.store.count_redrivable(filter).await?;
                return value(&Redriven { count, dry_run, ..Redriven::default() });
            }
            value(&redrive::redrive(&namespace, &filter, from).await?)
        }
        Command::TestEndpoint(test) => super::endpoint::test(engine, &test).await,
        Command::Backup { folder, with_secrets } => begin_backup(engine, folder, with_secrets),
        Command::BackupStage => value(&engine.backups.get()),
        Command::Collect { namespace, from, dry_run } => {
            let namespace = choose(engine, namespace.as_deref())?;
            value(&collect(&namespace, from, dry_run).await?)
        }
        Command::Halt { namespace, reason } => halt(engine, namespace.as_deref(), &reason).await,
        Command::Resume { namespace } => resume(engine, namespace.as_deref()).await,
    }
}

/// It goes on whether anybody asks after it or not.
fn begin_backup(engine: &Engine, folder: PathBuf, with_secrets: bool) -> Result<Value, Refusal> {
    if engine.stores.backend() == StorageBackend::Postgres {
        let (message, hint) = FileWork::Backup.refusal();
        return Err(Refusal::usage(message, hint));
    }
    if !engine.backups.begin() {
        return Err(Refusal {
            hint: Some("wait until it is done; one is made at a time".to_owned()),
            ..Refusal::failure("a backup is being made already")
        });
    }
    let job = Job {
        layout: engine.layout.clone(),
        shared: Arc::clone(&engine.node.shared),
        namespaces: engine.node.namespaces(),
        system: Arc::clone(&engine.node.system),
        folder,
        with_secrets,
        bucket: engine.place.bucket(),
    };
    tokio::spawn(job.run(Arc::clone(&engine.backups)));
    value(&engine.backups.get())
}

async fn halt(engine: &Engine, namespace: Option<&str>, reason: &str) -> Result<Value, Refusal> {
    let changed = match namespace {
        None => engine.node.halt(reason).await?,
        Some(name) => engine.node.halt_namespace(&*choose(engine, Some(name))?, reason).await?,
    };
    Ok(json!({ "halted": true, "changed": changed }))
}

async fn resume(engine: &Engine, namespace: Option<&str>) -> Result<Value, Refusal> {
    let changed = match namespace {
        None => engine.node.resume().await?,
        Some(name) => engine.node.resume_namespace(&*workable(engine, name)?).await?,
    };
    Ok(json!({ "halted": false, "changed": changed }))
}

/// A namespace whose log can be signed: an operator's word does not open another.
fn workable(engine: &Engine, name: &str) -> Result<Arc<Namespace>, Refusal> {
    let namespace = choose(engine, Some(name))?;
    if engine.duty == Duty::None || namespace.signer.is_some() {
        return Ok(namespace);
    }
    let why = namespace.halted().map(|halt| halt.reason).unwrap_or_default();
    Err(Refusal::usage(why, "set the seeds in `.env` right and start `orbit serve` again"))
}

async fn show(namespace: &Namespace, thing: Thing, id: Uuid) -> Result<Value, Refusal> {
    match thing {
        Thing::Cycle => value(&namespace.store.cycle(id).await?),
        Thing::Run => value(&namespace.store.run(id).await?),
        Thing::Delivery => value(&namespace.store.delivery(id).await?),
    }
}

/// As it goes over the wire.
pub(super) fn value<T: Serialize>(of: &T) -> Result<Value, Refusal> {
    serde_json::to_value(of)
        .map_err(|error| Refusal::failure(format!("the answer cannot be written: {error}")))
}

/// The namespace of that name, or the only one.
pub(super) fn choose(engine: &Engine, name: Option<&str>) -> Result<Arc<Namespace>, Refusal> {
    let all = engine.node.namespaces();
    let names = || all.iter().map(|one| one.name.as_str().to_owned()).collect::<Vec<_>>().join(", ");
    match (name, all.as_slice()) {
        (Some(name), _) => engine.node.namespace(name).ok_or_else(|| {
            Refusal::usage(format!("there is no namespace `{name}`"), format!("this home has: {}", names()))
        }),
        (None, [only]) => Ok(Arc::clone(only)),
        (None, []) => Err(Refusal::usage("this home has no namespace", "make one with `orbit init`")),
        (None, _) => Err(Refusal::usage(
            "this home has several namespaces",
            format!("name one of them with `-n`: {}", names()),
        )),
    }
}

fn store_of(engine: &Engine, name: Option<&str>) -> Result<Arc<dyn orbit_store::Store>, Refusal> {
    if name == Some(orbit_core::config::NamespaceName::SYSTEM) {
        return Ok(Arc::clone(&engine.node.system));
    }
    choose(engine, name).map(|namespace| Arc::clone(&namespace.store))
}

fn run_profile_of(
    namespace: &Namespace,
    snapshot: Option<Arc<Snapshot>>,
    name: Option<&str>,
) -> Result<(Arc<Snapshot>, RunProfile), Refusal> {
    let snapshot = snapshot.ok_or_else(|| {
        Refusal::usage(
            format!("namespace `{}` has no configuration yet", namespace.name),
            "see `orbit check`",
        )
    })?;
    let labels = || snapshot.run_profiles.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let found = match name {
        Some(name) => snapshot.run_profile(name).cloned().ok_or_else(|| {
            Refusal::usage(format!("there is no run profile `{name}`"), format!("there are: {}", labels()))
        })?,
        None => match snapshot.run_profiles.values().collect::<Vec<_>>().as_slice() {
            [only] => (*only).clone(),
            [] => {
                return Err(Refusal::usage(
                    format!("namespace `{}` has no run profile", namespace.name),
                    "add one under `run-profiles/`",
                ));
            }
            _ => {
                return Err(Refusal::usage(
                    format!("namespace `{}` has several run profiles", namespace.name),
                    format!("name one of them: {}", labels()),
                ));
            }
        },
    };
    Ok((snapshot, found))
}

/// A manual firing is identified by its key alone, so that the same key never runs twice.
fn identity(namespace: &Namespace, run_profile: &RunProfile, trigger: &Trigger) -> Uuid {
    cycle_id(&namespace.name, run_profile.run_profile_id, trigger, Timestamp::UNIX_EPOCH)
}

async fn fire(
    namespace: &Namespace,
    run_profile: Option<&str>,
    key: String,
    requests: Value,
) -> Result<Value, Refusal> {
    let (snapshot, run_profile) = run_profile_of(namespace, namespace.active(), run_profile)?;
    let label = format!("run profile `{}`", run_profile.label);
    namespace
        .ask(Door::Tick, &[(&label, run_profile.state)])
        .map_err(|closed| refused(namespace, &closed))?;
    let trigger = Trigger::Manual { key };
    let cycle = NewCycle {
        cycle_id: identity(namespace, &run_profile, &trigger),
        run_profile_id: run_profile.run_profile_id,
        run_profile: run_profile.label.to_string(),
        trigger: trigger.to_string(),
        nominal: namespace.shared.clock.now(),
        snapshot: snapshot.digest(),
        queued: false,
        preset: requests,
        detail: json!({ "reason": "by hand" }),
    };
    let cycle_id = cycle.cycle_id;
    let new = namespace.store.fire(cycle, namespace.shared.clock.now()).await?;
    namespace.nudges.selection.notify_one();
    value(&Fired { namespace: namespace.name.to_string(), cycle_id, snapshot: snapshot.digest(), new })
}

/// A closed gate, what opens it, and the exit code that goes with it.
pub(super) fn refused(namespace: &Namespace, closed: &Closed) -> Refusal {
    let (hint, exit) = match closed {
        Closed::HaltedGlobal { .. } => ("`orbit resume` lifts the halt".to_owned(), exit::HALTED),
        Closed::HaltedNamespace { .. } => {
            (format!("`orbit resume -n {}` lifts the halt", namespace.name), exit::HALTED)
        }
        Closed::LeaseLapsed => {
            ("look whether the database answers; see `orbit doctor`".to_owned(), exit::FAILED)
        }
        Closed::Paused => {
            ("set `ORBIT_PAUSED=false` in `.env` and in the environment".to_owned(), exit::HALTED)
        }
        Closed::Document { .. } => ("set `state: enabled` in the document".to_owned(), exit::HALTED),
        Closed::DiskFloor { .. } => {
            ("free some space, or lower `disk_floor` in `namespace.yaml`".to_owned(), exit::FAILED)
        }
    };
    Refusal { message: format!("nothing is started: {closed}"), hint: Some(hint), exit }
}

async fn lists(
    engine: &Engine,
    namespace: &Namespace,
    list: List,
    page: PageRequest,
) -> Result<Value, Refusal> {
    let store = &namespace.store;
    match list {
        List::Cycles => value(&store.cycles(page).await?),
        List::Initiations => value(&store.initiations(page).await?),
        List::Runs { cycle_id } => value(&store.runs(cycle_id, page).await?),
        List::Deliveries { state } => value(&store.deliveries(state, page).await?),
        List::Profiles { archived } => {
            Ok(document_list(engine, namespace, DocumentKind::Profile, (archived, page)))
        }
        List::RunProfiles { archived } => {
            Ok(document_list(engine, namespace, DocumentKind::RunProfile, (archived, page)))
        }
    }
}

fn document_list(
    engine: &Engine,
    namespace: &Namespace,
    kind: DocumentKind,
    (archived, page): (bool, PageRequest),
) -> Value {
    let page = DocumentPage { archived, cursor: page.cursor, limit: page.limit };
    documents::list(engine, namespace, kind, &page)
}

async fn collect(
    namespace: &Namespace,
    from: u16,
    dry_run: bool,
) -> Result<retention::Step, orbit_store::StoreError> {
    if dry_run { retention::preview(namespace).await } else { retention::step(namespace, from).await }
}
