//! The request that carries a step's input to a service.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use orbit_core::config::ContextMode;
use orbit_core::digest;
use orbit_core::dispatch::address;
use orbit_core::dispatch::header::render_header;
use orbit_core::id::traceparent;
use orbit_core::limits::HEADER_VALUE_BYTES_MAX;
use orbit_core::tiers::{Failure, RemoteFailure};

use super::processor::Assignment;
use super::remote::Remote;
use crate::http::{self as client, Body, Credentials, Part, Piece, multipart};

/// The header that carries the context.
const CONTEXT_HEADER: &str = "x-orbit-context";
/// The media type of the context, which is also the input of tier 1.
pub(super) const CONTEXT_MEDIA_TYPE: &str = "application/json";
/// The media type of what none is declared for.
const BYTES_MEDIA_TYPE: &str = "application/octet-stream";

/// What is to be sent.
pub(super) struct Outgoing {
    /// Where to.
    pub url: String,
    /// The headers of every request.
    pub headers: HeaderMap,
    /// The further headers of the request with the input.
    pub first: HeaderMap,
    /// Its body.
    pub body: Body,
    /// What must not be written down.
    pub confidential: Vec<String>,
}

/// Makes it, with the secrets as they are now.
pub(super) async fn prepare(remote: &Remote, job: &Assignment) -> Result<Outgoing, Failure> {
    let document = &remote.document;
    let values = job.request.template_values();
    let url = address(&document.url, &values).map_err(|error| unsendable(&error))?;
    let mut headers = HeaderMap::new();
    for (name, source) in &document.headers {
        let value = render_header(name, source, &values).map_err(|error| unsendable(&error))?;
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| unsendable(&error))?;
        headers.append(name, text(&value)?);
    }
    headers.insert(USER_AGENT, HeaderValue::from_static(client::USER_AGENT));
    let trace = traceparent(job.request.run.run_id, job.idempotency_key, job.attempt);
    headers.insert("traceparent", text(&trace)?);
    let credentials = Credentials::of(document.auth.as_ref(), (&remote.namespace, &*remote.secrets))?;
    headers.extend(credentials.header.map(|(name, value)| (Some(name), value)));
    let mut first = HeaderMap::new();
    first.insert("idempotency-key", text(&job.idempotency_key.to_string())?);
    if document.context == ContextMode::Header {
        first.insert(CONTEXT_HEADER, context_header(&job.request.context_line())?);
    }
    let (media_type, body) = body(remote, job).await?;
    first.insert(CONTENT_TYPE, text(&media_type)?);
    Ok(Outgoing { url, headers, first, body, confidential: credentials.confidential })
}

/// The media type of the body, and the body.
async fn body(remote: &Remote, job: &Assignment) -> Result<(String, Body), Failure> {
    let input = file(job.work.input()).await?;
    match remote.document.context {
        ContextMode::None | ContextMode::Header => {
            Ok((remote.input_media_type.clone(), Body { pieces: vec![input] }))
        }
        ContextMode::Part => {
            let part = |name, media_type: &str, is_file, content| Part {
                name,
                media_type: media_type.to_owned(),
                is_file,
                content,
            };
            let context = Piece::Bytes(Bytes::from(job.request.context_line()));
            let mut parts = vec![
                part("context", CONTEXT_MEDIA_TYPE, false, context),
                part("input", &remote.input_media_type, true, input),
            ];
            if job.request.step(job.step).is_some_and(|step| step.reference.is_some()) {
                let reference = file(job.work.reference()).await?;
                parts.push(part("reference", BYTES_MEDIA_TYPE, true, reference));
            }
            let boundary = format!("orbit-{}", &digest::hex(&remote.clock.random())[..32]);
            Ok(multipart(&boundary, parts))
        }
    }
}

async fn file(path: std::path::PathBuf) -> Result<Piece, Failure> {
    let metadata = tokio::fs::metadata(&path).await;
    let metadata = metadata.map_err(|error| Failure::Storage { message: error.to_string() })?;
    Ok(Piece::File { path, bytes: metadata.len() })
}

fn context_header(context: &str) -> Result<HeaderValue, Failure> {
    let encoded = STANDARD.encode(context);
    if encoded.len() > HEADER_VALUE_BYTES_MAX {
        return Err(RemoteFailure::ContextTooLarge { bytes: encoded.len() as u64 }.into());
    }
    text(&encoded)
}

fn text(value: &str) -> Result<HeaderValue, Failure> {
    HeaderValue::from_bytes(value.as_bytes()).map_err(|error| unsendable(&error))
}

fn unsendable(error: &dyn std::error::Error) -> Failure {
    RemoteFailure::Unsendable { message: error.to_string() }.into()
}
