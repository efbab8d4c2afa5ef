//! Tries dead letters again, a bounded number a command.

use orbit_engine::namespace::Namespace;
use orbit_store::contract::dispatch::{RedriveFilter, RedriveFrom};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Refusal;

/// Batches that one command does; who asked asks again, and can tell how far it is.
const BATCHES_A_COMMAND: u32 = 10;
/// Ids that an answer names; there may be more.
pub const IDS_MAX: usize = 1000;

/// What a redrive came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redriven {
    /// What waits again; the first thousand.
    pub redriven: Vec<Uuid>,
    /// How many there are, or would be.
    pub count: u64,
    /// Whether they were only counted.
    pub dry_run: bool,
    /// Where it goes on; null if it is done.
    pub next: Option<RedriveFrom>,
}

impl Redriven {
    /// Adds what came after it.
    pub fn add(&mut self, more: Self) {
        let room = IDS_MAX.saturating_sub(self.redriven.len());
        self.redriven.extend(more.redriven.into_iter().take(room));
        self.count += more.count;
        self.next = more.next;
    }
}

/// The next batches.
pub(super) async fn redrive(
    namespace: &Namespace,
    filter: &RedriveFilter,
    mut from: Option<RedriveFrom>,
) -> Result<Redriven, Refusal> {
    let mut all = Redriven::default();
    for _ in 0..BATCHES_A_COMMAND {
        let batch = namespace.store.redrive(filter.clone(), from, namespace.shared.clock.now()).await?;
        let count = u64::try_from(batch.ids.len()).unwrap_or(u64::MAX);
        all.add(Redriven { redriven: batch.ids, count, dry_run: false, next: batch.next });
        namespace.nudges.dispatch.notify_one();
        from = batch.next;
        if from.is_none() {
            break;
        }
    }
    Ok(all)
}
