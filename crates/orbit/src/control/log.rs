//! What verifies a log: its pages, its checkpoints, and proofs.

use orbit_core::digest::hex;
use orbit_core::record::{Bundle, Note};
use orbit_store::Store;
use orbit_store::contract::log::{Entry, LogSigner, StoredCheckpoint};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::Refusal;

/// A question about a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "log", rename_all = "snake_case")]
pub enum LogQuestion {
    /// The entries from one position up to another, as many as a page holds.
    Page {
        /// The first one.
        from: u64,
        /// The one after the last; the end of the log if nothing is said.
        to: Option<u64>,
    },
    /// A checkpoint and the key that signed it.
    Checkpoint {
        /// Its number; the newest if nothing is said.
        number: Option<u64>,
    },
    /// The key in force.
    Key,
    /// That a record is in the log.
    Proof(ProofOf),
}

/// Which record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "of", rename_all = "snake_case")]
pub enum ProofOf {
    /// The one at this position.
    Position {
        /// From 0.
        position: u64,
    },
    /// The last one about this run.
    Run {
        /// The run.
        run_id: Uuid,
    },
}

/// Answers it.
pub async fn answer(store: &dyn Store, question: LogQuestion) -> Result<Value, Refusal> {
    match question {
        LogQuestion::Page { from, to } => {
            let page = store.page(from, to.unwrap_or(u64::MAX)).await?;
            let items: Vec<_> = page.entries.iter().map(entry).collect();
            Ok(json!({ "items": items, "size": page.size }))
        }
        LogQuestion::Checkpoint { number } => checkpoint(store, number).await,
        LogQuestion::Key => {
            let signers = store.signers().await?;
            let signer = signers.last().ok_or_else(not_signed)?;
            Ok(json!({ "origin": signer.origin, "vkey": signer.vkey }))
        }
        LogQuestion::Proof(of) => proof(store, of).await,
    }
}

/// Leaf and body as texts, so that nothing on the way writes them in another form.
fn entry(entry: &Entry) -> Value {
    json!({
        "position": entry.position,
        "leaf": entry.header,
        "body": entry.body,
        "salt": entry.salt.as_ref().map(|salt| hex(salt)),
    })
}

async fn checkpoint(store: &dyn Store, number: Option<u64>) -> Result<Value, Refusal> {
    let found = match number {
        Some(number) => store.checkpoint_numbered(number).await?,
        None => store.log_state().await?.newest,
    };
    let Some(found) = found else { return Err(no_checkpoint(store, number).await?) };
    with_key(store, &found).await
}

async fn with_key(store: &dyn Store, found: &StoredCheckpoint) -> Result<Value, Refusal> {
    let signers = store.signers().await?;
    let signer = signer_of(&signers, found.size).ok_or_else(not_signed)?;
    Ok(json!({
        "number": found.number,
        "origin": signer.origin,
        "size": found.size,
        "root": found.root,
        "vkey": signer.vkey,
        "note": found.note,
    }))
}

/// Whose key signs the checkpoint of a tree of this size.
fn signer_of(signers: &[LogSigner], size: u64) -> Option<&LogSigner> {
    signers.iter().rev().find(|signer| signer.size < size)
}

async fn no_checkpoint(store: &dyn Store, number: Option<u64>) -> Result<Refusal, Refusal> {
    let newest = store.log_state().await?.newest;
    Ok(match (number, newest) {
        (Some(number), Some(newest)) => Refusal::usage(
            format!("there is no checkpoint {number}"),
            format!("the newest is number {}; `orbit log checkpoint` prints it", newest.number),
        ),
        (_, None) | (None, Some(_)) => not_signed(),
    })
}

fn not_signed() -> Refusal {
    Refusal::usage(
        "the log has no checkpoint yet",
        "`orbit serve` and `orbit run` sign it; a checkpoint follows within a second of its first record",
    )
}

async fn proof(store: &dyn Store, of: ProofOf) -> Result<Value, Refusal> {
    let position = match of {
        ProofOf::Position { position } => position,
        ProofOf::Run { run_id } => store.last_of_run(run_id).await?.ok_or_else(|| {
            Refusal::usage(format!("no record is about run `{run_id}`"), "`orbit runs list` shows the runs")
        })?,
    };
    let Some(found) = store.inclusion(position).await? else {
        return Err(not_covered(store, position).await?);
    };
    let note = Note::parse(&found.checkpoint.note).map_err(|error| {
        Refusal::failure(format!("checkpoint {} cannot be read: {error}", found.checkpoint.number))
    })?;
    let extra = Some(found.entry.header.clone().into_bytes());
    let bundle = Bundle { extra, index: position, path: found.path, checkpoint: note };
    let mut answer = entry(&found.entry);
    answer["checkpoint"] = with_key(store, &found.checkpoint).await?;
    answer["proof"] = json!(bundle.to_string());
    Ok(answer)
}

async fn not_covered(store: &dyn Store, position: u64) -> Result<Refusal, Refusal> {
    let state = store.log_state().await?;
    if position >= state.size {
        return Ok(Refusal::usage(
            format!("there is no record at position {position}"),
            format!("the log has {} records, the first of them at position 0", state.size),
        ));
    }
    Ok(Refusal::usage(
        format!("no checkpoint covers position {position} yet"),
        "while `orbit serve` runs one follows within a second; ask again",
    ))
}
