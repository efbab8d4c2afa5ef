//! `/healthz` and `/readyz`: whether the process lives, and whether it can do its work.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use orbit_core::governance::Door;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::engine::Engine;

/// Listens on the configured address until stopped; the address, with the port that was taken.
pub async fn serve(engine: Arc<Engine>, stop: CancellationToken) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(&engine.config.listen.address).await?;
    let address = listener.local_addr()?;
    let routes = Router::new()
        .route("/healthz", get(|| async { Json(json!({ "status": "ok" })) }))
        .route("/readyz", get(ready))
        .with_state(engine);
    tokio::spawn(async move {
        let served = axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await;
        if let Err(error) = served {
            tracing::error!(%error, "health is no longer served");
        }
    });
    Ok(address)
}

/// Ready: every store answers and no stop was asked for. A closed gate is told and does not make a node unready: it does as it was told.
async fn ready(State(engine): State<Arc<Engine>>) -> (StatusCode, Json<Value>) {
    let mut ready = !engine.node.stopping().is_cancelled();
    let mut namespaces = Vec::new();
    for namespace in engine.node.namespaces() {
        let answers = namespace.store.halted().await.is_ok();
        ready &= answers;
        namespaces.push(json!({
            "namespace": namespace.name,
            "store": if answers { "ok" } else { "failing" },
            "gate": namespace.ask(Door::Step, &[]).map_or_else(|closed| closed.to_string(), |()| "open".to_owned()),
        }));
    }
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let status = if ready { "ready" } else { "not_ready" };
    (code, Json(json!({ "status": status, "namespaces": namespaces })))
}
