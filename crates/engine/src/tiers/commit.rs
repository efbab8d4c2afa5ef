//! Commits the end of an attempt, and does not give a finished output up because the disk is full for a while.

use std::time::Duration;

use orbit_store::StoreError;
use orbit_store::contract::Claim;
use orbit_store::contract::tiers::{StepCommit, StepCommitted};

use crate::namespace::Namespace;

/// Tries in all: with the pauses below, about five minutes.
const TRIES_MAX: u32 = 64;
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Commits. None if it could not be: then the claim stays until the next start, which counts the attempt as interrupted.
pub(super) async fn commit(namespace: &Namespace, claim: Claim, commit: StepCommit) -> Option<StepCommitted> {
    let mut pause = PAUSE_FIRST;
    for tries in 1..=TRIES_MAX {
        let now = namespace.shared.clock.now();
        let error = match namespace.store.commit_step(claim, commit.clone(), now).await {
            Ok(committed) => return Some(committed),
            Err(error) => error,
        };
        let passing = match &error {
            StoreError::Full { .. } | StoreError::Io { .. } => true,
            StoreError::Newer { .. } | StoreError::Corrupt { .. } | StoreError::Closed { .. } => false,
        };
        if !passing || tries == TRIES_MAX {
            let message = format!("the end of a step of run {} could not be recorded: {error}", claim.id);
            namespace.record_failure("tiers", &message).await;
            return None;
        }
        tracing::warn!(namespace = %namespace.name, run = %claim.id, %error, "a step's end waits to be recorded");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
    None
}
