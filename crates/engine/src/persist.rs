//! Keeps what is known until the store takes it.
//!
//! A disk that is full for an hour is no reason to lose the end of a step, a receipt or a cycle: who brings them waits, and so does the work
//! that would have followed. What never passes, a store that is closed or damaged, is given back at once.

use std::time::Duration;

use orbit_core::config::NamespaceName;
use orbit_store::StoreError;

/// The pause after the first failure; it doubles up to [`PAUSE_MAX`].
const PAUSE_FIRST: Duration = Duration::from_millis(50);
/// The longest pause, and so the longest time for which neither free space nor an order to give up is noticed.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Calls the store until it answers. The error is one that does not pass, or the last one before it was given up.
pub(crate) async fn persist<T, F>(
    namespace: &NamespaceName,
    what: &str,
    gives_up: impl Fn() -> bool,
    mut call: impl FnMut() -> F,
) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut pause = PAUSE_FIRST;
    loop {
        let error = match call().await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        if !passes(&error) || gives_up() {
            return Err(error);
        }
        if pause == PAUSE_FIRST {
            tracing::warn!(%namespace, %error, "{what} waits to be recorded");
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Whether the same call may succeed later.
pub(crate) fn passes(error: &StoreError) -> bool {
    match error {
        StoreError::Full { .. }
        | StoreError::Io { .. }
        | StoreError::Unknown { .. }
        | StoreError::Rewound { .. } => true,
        StoreError::Newer { .. }
        | StoreError::Older { .. }
        | StoreError::NoRoom { .. }
        | StoreError::Corrupt { .. }
        | StoreError::Refused { .. }
        | StoreError::NotJoined { .. }
        | StoreError::Closed { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_passes_is_waited_for_and_nothing_else() {
        let namespace = NamespaceName::parse("lab").unwrap();
        let place = || "store.db".to_owned();
        let check = async |error: StoreError, failures: u32, gives_up_after: u32, expected: (bool, u32)| {
            let calls = Cell::new(0);
            let call = || {
                calls.set(calls.get() + 1);
                std::future::ready(if calls.get() > failures { Ok(()) } else { Err(error.clone()) })
            };
            let gives_up = || calls.get() >= gives_up_after;
            let answer = persist(&namespace, "a test", gives_up, call).await;
            assert_eq!((answer.is_ok(), calls.get()), expected, "{error}");
        };
        // Half a day without space is 8640 pauses.
        check(StoreError::Full { place: place() }, 10_000, u32::MAX, (true, 10_001)).await;
        check(StoreError::Full { place: place() }, 10_000, 7, (false, 7)).await;
        check(StoreError::Closed { place: place() }, 1, u32::MAX, (false, 1)).await;
    }
}
