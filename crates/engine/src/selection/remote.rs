//! A source that is a service: its answer to one GET is kept in a file, and then read like any other.
//!
//! Nothing of a listing is used unless all of it came, so that one that broke off never exhausts a source.

use std::path::PathBuf;

use http::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use orbit_core::config::{Completion, HttpSource};
use orbit_core::dispatch::address;
use orbit_core::dispatch::header::render_header;
use orbit_core::dispatch::outcome::retry_after_seconds_of;
use orbit_core::id::traceparent;
use orbit_core::tiers::{Hop, Meaning, RemoteFailure, meaning};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::listing::Listing;
use super::sources::SourceError;
use crate::http::{
    self as client, Answer, Body, Credentials, CredentialsError, Keep, NoOutput, Request, facts,
};
use crate::namespace::Namespace;

/// Asks the service once.
pub(super) async fn list(
    namespace: &Namespace,
    source: &HttpSource,
    act_id: Uuid,
    cancel: &CancellationToken,
) -> Result<Listing, SourceError> {
    let folder = namespace.shared.layout.work(&namespace.name).join(format!("selection-{act_id}"));
    let mut listing = Listing::prepare(folder, source.format).map_err(SourceError::Read)?;
    let request = request(namespace, source, act_id)?;
    let timeout = request.timeout;
    let keep = keep(listing.path(), source);
    let exchange = namespace.shared.client.fetch(request, keep, cancel).await;
    let answer = client::answered(&exchange).map_err(no_listing)?;
    if !is_listing(answer.status) {
        return Err(SourceError::Remote { failure: status(namespace, answer) });
    }
    client::whole(answer, source.limits.output.0, timeout).map_err(no_listing)?;
    listing.told = json!(facts(&exchange));
    Ok(listing)
}

fn keep(path: PathBuf, source: &HttpSource) -> Keep {
    Keep::File { path, bytes_max: source.limits.output.0, wanted: is_listing }
}

fn is_listing(status: u16) -> bool {
    meaning(Hop::First(Completion::Sync), status) == Meaning::Output
}

fn request(namespace: &Namespace, source: &HttpSource, act_id: Uuid) -> Result<Request, SourceError> {
    // A source knows nothing of a run: what looks like a template was refused when the document was read.
    let values = Value::Null;
    let url = address(&source.url, &values).map_err(|error| unsendable(&error))?;
    let mut headers = HeaderMap::new();
    for (name, value) in &source.headers {
        let value = render_header(name, value, &values).map_err(|error| unsendable(&error))?;
        let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|error| unsendable(&error))?;
        headers.append(HeaderName::from_bytes(name.as_bytes()).map_err(|error| unsendable(&error))?, value);
    }
    headers.insert(USER_AGENT, HeaderValue::from_static(client::USER_AGENT));
    let trace = HeaderValue::from_str(&traceparent(act_id, act_id, 1)).map_err(|error| unsendable(&error))?;
    headers.insert("traceparent", trace);
    let whose = (&namespace.name, &*namespace.shared.secrets);
    let credentials = Credentials::of(source.auth.as_ref(), whose).map_err(no_credentials)?;
    headers.extend(credentials.header.map(|(name, value)| (Some(name), value)));
    Ok(Request {
        method: http::Method::GET,
        url,
        headers,
        body: Body::default(),
        timeout: source.timeout.to_duration(),
        allow: source.addresses.allow.clone(),
    })
}

fn status(namespace: &Namespace, answer: &Answer) -> RemoteFailure {
    let asked = answer.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let now = namespace.shared.clock.now();
    let retry_after_seconds = asked.and_then(|text| retry_after_seconds_of(text, now));
    RemoteFailure::Status { status: answer.status, retry_after_seconds }
}

fn no_listing(why: NoOutput) -> SourceError {
    match why {
        NoOutput::Cut => SourceError::Cut,
        NoOutput::Storage { message } => SourceError::Read(std::io::Error::other(message)),
        NoOutput::Remote(failure) => SourceError::Remote { failure },
    }
}

fn no_credentials(error: CredentialsError) -> SourceError {
    match error {
        CredentialsError::Missing { variable } => SourceError::Secret { variable },
        CredentialsError::Unusable { variable, message } => {
            SourceError::Remote { failure: RemoteFailure::SecretUnusable { variable, message } }
        }
        CredentialsError::Header(error) => unsendable(&error),
    }
}

fn unsendable(error: &dyn std::error::Error) -> SourceError {
    SourceError::Remote { failure: RemoteFailure::Unsendable { message: error.to_string() } }
}
