//! The scripted cycle: what an operator does, and between it what the services do. An act that was not acknowledged is ordered again.

use std::fs;
use std::sync::Arc;

use orbit_core::id::{Trigger, cycle_id};
use orbit_engine::clock::Clock as _;
use orbit_store::StoreError;
use orbit_store::contract::dispatch::RedriveFilter;
use orbit_store::contract::schedule::NewCycle;
use serde_json::{Value, json};

use crate::fault::{Ended, Plan};
use crate::incarnation::Incarnation;
use crate::world::{RUN_PROFILE, World, namespace};

/// Processes that one history may need before it has gone wrong.
const PROCESSES_MAX: usize = 5;
/// How often an act is ordered before it has gone wrong.
const ORDERS_MAX: usize = 3;

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scene {
    Activate,
    Fire,
    WorkUntilARetry,
    Halt,
    Stand,
    Resume,
    Work,
    Redrive,
    Finish,
    Over,
}

const SCENES: [Scene; 10] = [
    Scene::Activate,
    Scene::Fire,
    Scene::WorkUntilARetry,
    Scene::Halt,
    Scene::Stand,
    Scene::Resume,
    Scene::Work,
    Scene::Redrive,
    Scene::Finish,
    Scene::Over,
];

/// Plays the whole cycle in a world, in as many processes as it takes; how many that were.
pub fn play(world: &World, plan: &Arc<Plan>) -> usize {
    world.clock.read();
    for process in 1..=PROCESSES_MAX {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let ended = Ended::new();
        let over = runtime.block_on(async {
            tokio::select! {
                biased;
                () = ended.cancelled() => false,
                over = live(world, plan, &ended) => over,
            }
        });
        // With the runtime every task of the process is gone, and with the last of them its store.
        drop(runtime);
        if over {
            return process;
        }
    }
    panic!("the cycle is not over after {PROCESSES_MAX} processes");
}

/// One process, from its start to the end of the script; false if it could not start, or if it holds something that it knows nothing of: a claim
/// whose answer was lost. Such a claim is free again at the next start.
async fn live(world: &World, plan: &Arc<Plan>, ended: &Ended) -> bool {
    let Ok(process) = Incarnation::start(world, plan, ended).await else { return false };
    let mut scene = fs::read_to_string(world.scene()).map_or(0, |text| text.parse().unwrap());
    while SCENES[scene] != Scene::Over {
        for order in 1.. {
            match act(world, &process, SCENES[scene]).await {
                Ok(()) => break,
                Err(error) => assert!(order < ORDERS_MAX, "{:?}: {error}", SCENES[scene]),
            }
        }
        if matches!(SCENES[scene], Scene::Work | Scene::Finish) && holds_something(&process).await {
            return false;
        }
        scene += 1;
        fs::write(world.scene(), scene.to_string()).unwrap();
    }
    true
}

/// Whether something is under way by the rows when nothing is.
async fn holds_something(process: &Incarnation) -> bool {
    let counts = process.alive.counts().await;
    let of = |map: &std::collections::BTreeMap<String, u64>, state: &str| {
        map.get(state).is_some_and(|count| *count > 0)
    };
    of(&counts.cycles, "selecting") || of(&counts.runs, "working") || of(&counts.deliveries, "sending")
}

async fn act(world: &World, process: &Incarnation, scene: Scene) -> Result<(), StoreError> {
    let Incarnation { node, namespace, .. } = process;
    match scene {
        Scene::Activate => _ = namespace.activate(world.snapshot()).await?,
        Scene::Fire => fire(process).await?,
        Scene::WorkUntilARetry => {
            let until = async |_: &Incarnation| {
                world.alive.records().await.iter().any(|record| record.kind == "step_failed")
            };
            process.go(true, until).await;
        }
        Scene::Halt => _ = node.halt_namespace(namespace, "a test").await?,
        Scene::Stand => stand(world, process).await,
        Scene::Resume => _ = node.resume_namespace(namespace).await?,
        Scene::Work | Scene::Finish => process.go(true, async |_| false).await,
        Scene::Redrive => redrive(world, process).await?,
        Scene::Over => {}
    }
    Ok(())
}

async fn fire(process: &Incarnation) -> Result<(), StoreError> {
    let namespace = &process.namespace;
    let now = namespace.shared.clock.now();
    let trigger = Trigger::Manual { key: "1".to_owned() };
    let new = NewCycle {
        cycle_id: cycle_id(&self::namespace(), RUN_PROFILE, &trigger, now),
        run_profile_id: RUN_PROFILE,
        run_profile: "daily".to_owned(),
        trigger: trigger.to_string(),
        nominal: now,
        snapshot: namespace.active().unwrap().digest(),
        queued: false,
        preset: Value::Null,
        detail: json!({}),
    };
    namespace.store.fire(new, now).await.map(drop)
}

/// While the namespace is halted no step starts.
async fn stand(world: &World, process: &Incarnation) {
    let started = async || {
        let records = world.alive.records().await;
        records.iter().filter(|record| record.kind == "step_started").count()
    };
    let before = started().await;
    process.go(false, async |_| false).await;
    assert_eq!(started().await, before, "a step started during a halt");
}

async fn redrive(world: &World, process: &Incarnation) -> Result<(), StoreError> {
    fs::write(world.mended(), "").unwrap();
    let store = &process.namespace.store;
    let filter = RedriveFilter { endpoint: Some("beta".to_owned()), ..RedriveFilter::default() };
    let mut from = None;
    loop {
        from = store.redrive(filter.clone(), from, world.clock.now()).await?.next;
        if from.is_none() {
            return Ok(());
        }
    }
}
