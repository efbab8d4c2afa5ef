//! Ends a run in whatever state it is: durable first, then what is under way for it is cut.

use std::time::Duration;

use orbit_core::run::RunState;
use orbit_store::StoreError;
use uuid::Uuid;

use crate::namespace::Namespace;
use crate::running::Cut;

/// How often an act that was claimed and is not registered yet is looked for: a claim and the task that does it are moments apart.
const LOOKS_MAX: u32 = 10;
/// The pause between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// Ends the run. The state it had; none if there is no such run or it was finished. Its program or the requests under way for it are being cut when the
/// answer is there: a step's end changes nothing any more, and an attempt still gets its one receipt.
pub async fn cancel(
    namespace: &Namespace,
    run_id: Uuid,
    reason: &str,
) -> Result<Option<RunState>, StoreError> {
    let before = namespace.store.cancel_run(run_id, reason, namespace.shared.clock.now()).await?;
    let under_way = match &before {
        Some(RunState::Working { .. }) => vec![run_id],
        Some(RunState::Dispatching { .. }) => sending(namespace, run_id).await?,
        Some(RunState::Ready { .. } | RunState::Waiting { .. } | RunState::Finished { .. }) | None => {
            Vec::new()
        }
    };
    for id in under_way {
        cut(namespace, id).await;
    }
    // Its cycle may be over, and another one wait for that.
    namespace.wake();
    Ok(before)
}

/// The deliveries of a run that have an attempt without a receipt.
async fn sending(namespace: &Namespace, run_id: Uuid) -> Result<Vec<Uuid>, StoreError> {
    let run = namespace.store.run(run_id).await?;
    let deliveries = run.into_iter().flat_map(|run| run.deliveries);
    let unanswered =
        deliveries.filter(|one| usize::try_from(one.attempts).is_ok_and(|made| made > one.receipts.len()));
    Ok(unanswered.map(|one| one.delivery_id).collect())
}

async fn cut(namespace: &Namespace, id: Uuid) {
    for _ in 0..LOOKS_MAX {
        if namespace.running.cut(id, Cut::Cancelled) {
            return;
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}
