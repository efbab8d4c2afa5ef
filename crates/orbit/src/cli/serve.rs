//! `orbit serve`: every schedule, until stopped.

use std::sync::Arc;
use std::time::Duration;

use orbit_engine::layout::Layout;
use orbit_engine::node::Duty;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::failure::Failure;
use super::session::Session;
use super::signals::Signals;
use crate::config::watch::Watch;
use crate::control::{LockError, listen};
use crate::engine::{Engine, OpenError};
use crate::{exit, health};

/// How often the home is tried while it is held: by a command that reads, which takes a moment.
const TRIES: u32 = 1_000;
/// The pause between two tries: far less than between two commands of a script that asks again and again, so that it cannot keep the service out.
const PAUSE: Duration = Duration::from_millis(5);

/// Serves; the answer is the exit code.
pub async fn serve(layout: &Layout) -> Result<u8, Failure> {
    if let Some(mut holder) = Session::with_holder(layout).await?
        && let Some(status) = holder.status().await?
    {
        return Err(held(&status));
    }
    // Signals first: a TERM that comes while the home opens is a soft stop too.
    let mut signals = Signals::new()?;
    let engine = open(layout).await?;
    let stop = CancellationToken::new();
    let started = start(&engine, &stop).await;
    if started.is_ok() {
        let mut watch = Watch::start(layout.home());
        loop {
            tokio::select! {
                () = signals.first() => break,
                () = engine.node.shared.superseded.happens() => break,
                () = watch.changed() => { engine.reload().await; }
            }
        }
        if engine.node.shared.superseded.error().is_none() {
            tracing::info!("stopping: what is under way may finish; another signal ends it at once");
        }
    }
    engine.node.stop(engine.config.limits.drain.to_duration(), signals.second()).await;
    stop.cancel();
    let listening = started?;
    // A socket that nobody answers on would look like a crash.
    _ = listening.await;
    if let Some(error) = engine.node.shared.superseded.error() {
        return Err(Failure::failed(format!(
            "{error}: this node has stopped, and wrote nothing there since"
        ))
        .hint("start the newer `orbit` that migrated it in this home"));
    }
    tracing::info!("stopped");
    Ok(exit::SUCCEEDED)
}

/// Answers on the control socket and on the health address.
async fn start(engine: &Arc<Engine>, stop: &CancellationToken) -> Result<JoinHandle<()>, Failure> {
    let listening = listen(Arc::clone(engine), stop.clone()).await?;
    let address = health::serve(Arc::clone(engine), stop.clone()).await.map_err(|error| {
        Failure::failed(format!("cannot listen on `{}`: {error}", engine.config.listen.address))
            .hint("set `listen: { address: \"127.0.0.1:0\" }` in `orbit.yaml` to take a free port")
    })?;
    engine.listening.set(Some(address.to_string()));
    let namespaces = engine.node.namespaces().len();
    tracing::info!(home = %engine.layout.home().display(), %address, namespaces, "ready");
    Ok(listening)
}

async fn open(layout: &Layout) -> Result<Arc<Engine>, Failure> {
    for _ in 1..TRIES {
        match Engine::open(layout.clone(), Duty::Serve).await {
            Err(OpenError::Lock(LockError::Held { .. })) => tokio::time::sleep(PAUSE).await,
            opened => return opened.map_err(Failure::from),
        }
    }
    Ok(Engine::open(layout.clone(), Duty::Serve).await?)
}

/// Another process answers for this home: says which and what it does.
fn held(status: &Value) -> Failure {
    let who = status["pid"].as_u64().map(|pid| format!(" (pid {pid})")).unwrap_or_default();
    if status["serving"] == false {
        return Failure::failed(format!("an `orbit run`{who} holds this home")).hint(
            "start `orbit serve` when it is done, or send it TERM: its cycle goes on under `orbit serve`",
        );
    }
    Failure::failed(format!("another process{who} serves this home already"))
        .hint("`orbit status` asks it; TERM stops it")
}
