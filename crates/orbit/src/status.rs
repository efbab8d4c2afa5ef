//! What the node is doing, in one JSON document.

use orbit_core::config::{NamespaceName, Snapshot, settings_digest};
use orbit_core::governance::forecast::{Forecast, forecast};
use orbit_core::governance::{DiskFacts, Door};
use orbit_core::schedule::Schedule;
use orbit_core::tiers::Limit;
use orbit_engine::namespace::Namespace;
use orbit_engine::node::Duty;
use orbit_engine::permits::Count;
use orbit_engine::surveyor;
use orbit_store::Store;
use orbit_store::contract::quarantine::Quarantine;
use orbit_store::contract::view::COUNT_MAX;
use serde_json::{Value, json};

use crate::control::Refusal;
use crate::engine::Engine;

/// See the module.
pub async fn status(engine: &Engine) -> Result<Value, Refusal> {
    let mut namespaces = Vec::new();
    for namespace in engine.node.namespaces() {
        namespaces.push(of_namespace(engine, &namespace).await?);
    }
    let shared = &engine.node.shared;
    let serving = engine.duty == Duty::Serve;
    let halt = shared.halted.get();
    let paused = shared.paused.get();
    let state = match (&halt, paused, engine.duty) {
        (Some(_), _, _) => "halted",
        (None, true, _) => "paused",
        (None, false, Duty::None) => "stopped",
        (None, false, Duty::Serve | Duty::RunOnly) => "running",
    };
    Ok(json!({
        "node": engine.node_name(),
        "version": env!("CARGO_PKG_VERSION"),
        "home": engine.layout.home(),
        "storage": engine.stores.backend(),
        "state": state,
        "serving": serving,
        "pid": (engine.duty != Duty::None).then(std::process::id),
        "started_at": (engine.duty != Duty::None).then(|| engine.started_at.to_string()),
        "listen": engine.listening.get(),
        "halt": halt,
        "paused": paused,
        "permits": permits_of_node(engine),
        "heartbeat": engine.config.heartbeat.as_ref().map(|_| engine.node.vitals.beat.get()),
        "log": log(engine, &NamespaceName::system(), &*engine.node.system).await?,
        "namespaces": namespaces,
    }))
}

async fn of_namespace(engine: &Engine, namespace: &Namespace) -> Result<Value, Refusal> {
    let closed = namespace.ask(Door::Step, &[]).err();
    let snapshot = namespace.active();
    let disk_free = namespace.shared.disk.free_bytes(&namespace.shared.layout.data(&namespace.name));
    let disk_floor = snapshot.as_ref().map(|snapshot| snapshot.config.disk_floor.0);
    Ok(json!({
        "namespace": namespace.name,
        "schema": engine.stores.schema(),
        "snapshot": snapshot.as_ref().map(|snapshot| snapshot.digest()),
        // What the documents of this home came to when they were last read; null where they were not, or were not valid.
        "documents": engine.documents(&namespace.name),
        "state": if closed.is_some() { "closed" } else { "open" },
        "halt": namespace.halted(),
        "closed": closed.map(|closed| closed.to_string()),
        "disk_free_bytes": disk_free,
        "disk_floor_bytes": disk_floor,
        "disk_forecast": disk_free.zip(disk_floor).map(|disk| disk_forecast(namespace, disk)),
        "counts": namespace.store.counts().await?,
        // From here on a count means so many or more.
        "counts_max": COUNT_MAX,
        "notices_waiting": namespace.store.notices_waiting().await?,
        "running": namespace.running.count(),
        "nodes": namespace.store.nodes(namespace.shared.clock.now()).await?,
        "permits": permits_of(engine, namespace),
        "quarantined": quarantined(engine, namespace).await?,
        "next_firings": next_firings(engine, namespace),
        "log": log(engine, &namespace.name, &*namespace.store).await?,
    }))
}

/// When free space will have come down to the floor.
fn disk_forecast(namespace: &Namespace, (free_bytes, floor_bytes): (u64, u64)) -> Forecast {
    let shared = &namespace.shared;
    let known = surveyor::samples(&shared.layout.free_space(&namespace.name));
    forecast(&known, DiskFacts { free_bytes, floor_bytes }, shared.clock.now())
}

/// How far a log is signed, and copied elsewhere.
async fn log(engine: &Engine, name: &NamespaceName, store: &dyn Store) -> Result<Value, Refusal> {
    let state = store.log_state().await?;
    let checkpoint = state.newest.as_ref().map(|newest| {
        json!({ "number": newest.number, "size": newest.size, "covered_until": state.covered_until })
    });
    Ok(json!({
        "size": state.size,
        "checkpoint": checkpoint,
        "anchor": engine.node.sequencer(name).and_then(|sequencer| sequencer.anchored()),
    }))
}

/// Runs and programs at work on the node, and how many may be; null where none can be.
fn permits_of_node(engine: &Engine) -> Value {
    let (used, limit) = engine.node.shared.runs.count();
    if engine.duty == Duty::None { Value::Null } else { json!({ "used": used, "limit": limit }) }
}

/// The same of a namespace, whose limit may be null, and its documents of which all permits are taken.
fn permits_of(engine: &Engine, namespace: &Namespace) -> Value {
    if engine.duty == Duty::None {
        return Value::Null;
    }
    let counts = namespace.permits.counts();
    let whole = counts.iter().find(|count| count.limit == Limit::Namespace);
    let snapshot = namespace.active();
    let full = |count: &Count| {
        let name = match &count.limit {
            Limit::Processor(name) => name.clone(),
            Limit::RunProfile(id) => snapshot.as_ref()?.run_profile_of(*id)?.label.to_string(),
            Limit::Profile(id) => snapshot.as_ref()?.profile_of(*id)?.label.to_string(),
            Limit::Gate | Limit::Namespace | Limit::Node => return None,
        };
        Some(json!({ "limit": count.limit.name(), "name": name, "used": count.used, "most": count.most }))
    };
    json!({
        "used": whole.map(|count| count.used),
        "limit": whole.and_then(|count| count.most),
        "full": counts.iter().filter_map(full).collect::<Vec<_>>(),
    })
}

/// Quarantines of what the documents say now; those of earlier ones concern only runs that are pinned to them.
async fn quarantined(engine: &Engine, namespace: &Namespace) -> Result<Vec<Quarantine>, Refusal> {
    let all = namespace.store.quarantined().await?;
    let Some(snapshot) = engine.snapshot(namespace) else { return Ok(all) };
    Ok(all.into_iter().filter(|one| concerns(one, &snapshot)).collect())
}

/// Whether a quarantine is of what the snapshot says of the processor.
pub fn concerns(quarantine: &Quarantine, snapshot: &Snapshot) -> bool {
    let document = snapshot.processors.get(quarantine.processor.as_str());
    document.is_some_and(|document| settings_digest(document) == quarantine.settings)
}

fn next_firings(engine: &Engine, namespace: &Namespace) -> Vec<Value> {
    let Some(snapshot) = engine.snapshot(namespace) else { return Vec::new() };
    let now = namespace.shared.clock.now();
    let next = |run_profile: &orbit_core::config::RunProfile| {
        let schedule =
            Schedule::compile(&run_profile.execution_policy.schedule, run_profile.run_profile_id).ok()?;
        let next = schedule.after(now)?;
        Some(json!({ "run_profile": run_profile.label, "nominal": next.nominal, "due": next.due }))
    };
    let enabled = |run_profile: &&orbit_core::config::RunProfile| {
        run_profile.state == orbit_core::config::DocState::Enabled
    };
    snapshot.run_profiles.values().filter(enabled).filter_map(next).collect()
}
