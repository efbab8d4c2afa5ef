//! Which configuration is active, how documents differ from it, and that they become it.

use std::sync::Arc;

use orbit_core::digest::Digest;
use orbit_store::contract::view::PageRequest;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::execute::{choose, value};
use super::{NamespaceChoice, Refusal};
use crate::config::LoadedNamespace;
use crate::engine::Engine;

/// A question about the configuration, or the order to activate the documents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "config", rename_all = "snake_case")]
pub enum ConfigQuestion {
    /// A page of the activations, newest first.
    History {
        /// `next` of the page before.
        cursor: Option<String>,
        /// Items a page.
        limit: u32,
    },
    /// A snapshot; null if there is no such one.
    Show {
        /// The active one if nothing is said.
        digest: Option<Digest>,
    },
    /// How the documents of the home differ from what is active; of every namespace if none is said.
    Diff,
    /// Activates the documents of the home; of every namespace if none is said.
    Apply {
        /// The snapshot whose place they take; the one that they come from if nothing is said.
        expect: Option<Digest>,
    },
}

/// Answers it.
pub(super) async fn answer(
    engine: &Engine,
    namespace: NamespaceChoice,
    question: ConfigQuestion,
) -> Result<Value, Refusal> {
    let only = namespace.as_deref();
    match question {
        ConfigQuestion::History { cursor, limit } => {
            value(&choose(engine, only)?.store.activations(PageRequest { cursor, limit }).await?)
        }
        ConfigQuestion::Show { digest } => show(engine, only, digest).await,
        ConfigQuestion::Diff => {
            let mut items = Vec::new();
            for loaded in documents(engine, only)? {
                items.push(engine.difference(&loaded).await?);
            }
            Ok(json!({ "items": items }))
        }
        ConfigQuestion::Apply { expect } => apply(engine, only, expect).await,
    }
}

async fn show(engine: &Engine, only: Option<&str>, digest: Option<Digest>) -> Result<Value, Refusal> {
    let namespace = choose(engine, only)?;
    namespace.follow().await?;
    let active = namespace.active();
    let active_digest = active.as_ref().map(|active| active.digest());
    let found = match digest {
        None => active,
        Some(digest) => namespace.store.snapshot(digest).await?.map(Arc::new),
    };
    let Some(snapshot) = found else { return Ok(Value::Null) };
    let digest = snapshot.digest();
    Ok(json!({ "digest": digest, "active": active_digest == Some(digest), "snapshot": &*snapshot }))
}

async fn apply(engine: &Engine, only: Option<&str>, expect: Option<Digest>) -> Result<Value, Refusal> {
    let documents = documents(engine, only)?;
    if expect.is_some() && documents.len() > 1 {
        let message = "the home has several namespaces, and a base is one namespace's";
        return Err(Refusal::usage(message, "name the namespace with `-n`"));
    }
    let mut items = Vec::new();
    for loaded in documents {
        items.push(engine.apply(loaded, expect).await?);
    }
    Ok(json!({ "items": items }))
}

/// Those of this namespace, or of all; every document of the home must be valid.
fn documents(engine: &Engine, only: Option<&str>) -> Result<Vec<LoadedNamespace>, Refusal> {
    let mut documents = engine.read_documents()?;
    documents.retain(|one| only.is_none_or(|only| one.name.as_str() == only));
    match (only, documents.is_empty()) {
        (_, false) => Ok(documents),
        (None, true) => Err(Refusal::usage("this home has no namespace", "make one with `orbit init`")),
        (Some(name), true) => Err(Refusal::usage(
            format!("this home has no documents of a namespace `{name}`"),
            "`orbit check` lists those that it has",
        )),
    }
}
