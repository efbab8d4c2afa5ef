//! Answers from the configuration that counts: profiles, run profiles, and where an artifact lies.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use orbit_core::config::{DocName, DocState, Snapshot};
use orbit_core::digest::Digest;
use orbit_engine::namespace::Namespace;
use orbit_store::blobs::BlobError;
use orbit_store::payloads::Content;
use serde::Serialize;
use serde_json::{Value, json};

use super::{DocumentKind, Refusal};
use crate::engine::Engine;

/// Which page of documents.
pub struct DocumentPage {
    /// Those that are archived too.
    pub archived: bool,
    /// The last label of the page before.
    pub cursor: Option<String>,
    /// Items a page.
    pub limit: u32,
}

/// Documents by label.
pub fn list(engine: &Engine, namespace: &Namespace, kind: DocumentKind, page: &DocumentPage) -> Value {
    let Some(snapshot) = engine.snapshot(namespace) else { return json!({ "items": [], "next": null }) };
    let shown = |state: DocState| page.archived || state != DocState::Archived;
    let documents: Vec<(&DocName, Value)> = match kind {
        DocumentKind::Profile => {
            let shown = snapshot.profiles.iter().filter(|(_, one)| shown(one.state));
            shown.map(|(label, one)| (label, json!(one))).collect()
        }
        DocumentKind::RunProfile => {
            let shown = snapshot.run_profiles.iter().filter(|(_, one)| shown(one.state));
            shown.map(|(label, one)| (label, json!(one))).collect()
        }
    };
    let after = |label: &DocName| page.cursor.as_deref().is_none_or(|cursor| label.as_str() > cursor);
    let mut rest = documents.into_iter().filter(|(label, _)| after(label)).peekable();
    let (mut items, mut last) = (Vec::new(), None);
    while let Some((label, document)) =
        rest.next_if(|_| u32::try_from(items.len()).is_ok_and(|count| count < page.limit))
    {
        items.push(document);
        last = Some(label.to_string());
    }
    json!({ "items": items, "next": rest.peek().and(last) })
}

/// A document by label or id; null if there is none.
pub fn show(
    engine: &Engine,
    namespace: &Namespace,
    kind: DocumentKind,
    reference: &str,
) -> Result<Value, Refusal> {
    let Some(snapshot) = engine.snapshot(namespace) else { return Ok(Value::Null) };
    let found = |snapshot: &Snapshot| match kind {
        DocumentKind::Profile => snapshot.profile(reference).map(written),
        DocumentKind::RunProfile => snapshot.run_profile(reference).map(written),
    };
    found(&snapshot).transpose().map(Option::unwrap_or_default)
}

fn written<T: Serialize>(document: &T) -> Result<Value, Refusal> {
    serde_json::to_value(document)
        .map_err(|error| Refusal::failure(format!("the answer cannot be written: {error}")))
}

/// Where the bytes lie, or if they are small the bytes themselves in base64; null if they are not kept.
pub async fn artifact(namespace: &Namespace, digest: Digest) -> Result<Value, Refusal> {
    let payloads = Arc::clone(&namespace.payloads);
    let opened = tokio::task::spawn_blocking(move || payloads.open(digest)).await;
    let opened = opened.map_err(|error| Refusal::failure(format!("the artifact cannot be read: {error}")))?;
    match opened {
        Ok(Content::File(path)) => Ok(json!({ "digest": digest, "path": path })),
        Ok(Content::Memory(bytes)) => Ok(json!({ "digest": digest, "content": STANDARD.encode(bytes) })),
        Err(BlobError::Missing { .. }) => Ok(Value::Null),
        Err(error) => Err(Refusal::failure(error.to_string())),
    }
}
