//! `/healthz` and `/readyz`: whether the process lives, and whether it can do its work.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use orbit_core::governance::Door;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::engine::Engine;

/// A client gets this long for its request and the answer together.
const CONNECTION_MAX: Duration = Duration::from_secs(10);
/// Connections at a time; more wait in the listener's queue.
const CONNECTIONS_MAX: usize = 64;
/// The pause after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Listens on the configured address until stopped; the address, with the port that was taken.
pub async fn serve(engine: Arc<Engine>, stop: CancellationToken) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(&engine.config.listen.address).await?;
    let address = listener.local_addr()?;
    let routes = Router::new()
        .route("/healthz", get(|| async { Json(json!({ "status": "ok" })) }))
        .route("/readyz", get(ready))
        .with_state(engine);
    tokio::spawn(stop.run_until_cancelled_owned(accept(listener, routes, CONNECTION_MAX)));
    Ok(address)
}

/// Answers one request a connection, and gives none more than this time: a client that sends slowly, or never, holds its place no longer.
async fn accept(listener: TcpListener, routes: Router, connection_max: Duration) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Of one connection, or because the process has no more descriptors: either way it passes.
                tracing::warn!(%error, "a health connection is not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let service = TowerToHyperService::new(routes.clone());
        tokio::spawn(async move {
            let answered =
                http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service);
            // Whether the client heard the answer is its own affair.
            _ = tokio::time::timeout(connection_max, answered).await;
            drop(place);
        });
    }
}

/// Ready: every store answers and no stop was asked for. A closed gate is told and does not make a node unready: it does as it was told.
async fn ready(State(engine): State<Arc<Engine>>) -> (StatusCode, Json<Value>) {
    let mut ready = !engine.node.shared.stopping.is_cancelled();
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    #[tokio::test]
    async fn slow_clients_do_not_keep_others_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new().route("/healthz", get(|| async { "ok" }));
        tokio::spawn(accept(listener, routes, Duration::from_millis(50)));
        let mut slow = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: ").await.unwrap();
            slow.push(stream);
        }
        // On a busy machine the quick client too may be late; then it asks again, as a probe does.
        let mut answer = String::new();
        while !answer.starts_with("HTTP/1.1 200") {
            let mut quick = TcpStream::connect(address).await.unwrap();
            _ = quick.write_all(b"GET /healthz HTTP/1.1\r\nhost: orbit\r\n\r\n").await;
            answer.clear();
            _ = quick.read_to_string(&mut answer).await;
        }
        // The slow ones were let go, without an answer or with a refusal.
        for mut stream in slow {
            let mut answer = Vec::new();
            _ = stream.read_to_end(&mut answer).await;
            assert!(!answer.starts_with(b"HTTP/1.1 200"));
        }
    }
}
