//! A test of an endpoint, in the process that holds the home.

use orbit_core::governance::Door;
use orbit_engine::dispatch::probe::{Payload, ProbeError, probe};
use orbit_store::blobs::BlobError;
use serde_json::Value;

use super::execute::{choose, refused};
use super::{EndpointTest, Refusal};
use crate::engine::Engine;

/// Sends one request as a delivery would, marked as a test; the account of it. Refused while nothing may be dispatched.
pub async fn test(engine: &Engine, asked: &EndpointTest) -> Result<Value, Refusal> {
    let namespace = choose(engine, asked.namespace.as_deref())?;
    let (name, input) = (asked.endpoint.as_str(), asked.input.as_deref());
    let snapshot = engine.snapshot(&namespace).ok_or_else(|| {
        Refusal::usage(
            format!("namespace `{}` has no configuration yet", namespace.name),
            "see `orbit check`",
        )
    })?;
    let Some(endpoint) = snapshot.endpoints.get(name) else {
        let names: Vec<_> = snapshot.endpoints.keys().map(ToString::to_string).collect();
        let hint = if names.is_empty() {
            "add one under `endpoints/`".to_owned()
        } else {
            format!("there are: {}", names.join(", "))
        };
        return Err(Refusal::usage(format!("there is no endpoint `{name}`"), hint));
    };
    namespace.ask(Door::Dispatch, &[]).map_err(|closed| refused(&namespace, &closed))?;
    let payload = Payload { file: input, media_type: asked.media_type.as_deref() };
    probe(&namespace, &snapshot, endpoint, payload).await.map_err(|error| match error {
        ProbeError::Payload(BlobError::Io { .. }) if input.is_some() => Refusal::usage(
            format!("the input cannot be read: {error}"),
            "the process that serves the home must be able to read the file",
        ),
        ProbeError::Store(_) | ProbeError::Payload(_) | ProbeError::Panicked(_) => {
            Refusal::failure(error.to_string())
        }
    })
}
