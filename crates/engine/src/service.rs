//! The loop that every service is: wake by nudge or timer, take no input, do one bounded turn, report.
//!
//! A nudge may be lost; the timer makes it right. A turn that fails or panics is reported and tried again after a pause, and no other
//! service notices.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::notify::Pulse;

/// A service sleeps no longer than this, whatever it believes.
pub const POLL_MAX: Duration = Duration::from_secs(5);
/// The pause after the first failed turn; it doubles up to [`POLL_MAX`].
pub const FAILURE_PAUSE: Duration = Duration::from_millis(250);

/// What a turn came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Things done.
    pub done: usize,
    /// Whether another turn may find more at once.
    pub more: bool,
    /// When there is something to do again; none if only a nudge can tell.
    pub next: Option<Timestamp>,
}

impl Turn {
    /// A turn after which another one may find more if it did anything.
    pub const fn did(done: usize, next: Option<Timestamp>) -> Self {
        Self { done, more: done > 0, next }
    }

    /// A turn with nothing to do until then.
    pub const fn idle(next: Option<Timestamp>) -> Self {
        Self { done: 0, more: false, next }
    }
}

/// A turn that failed as a whole. What failed for one cycle, run or delivery is not this.
#[derive(Debug, thiserror::Error)]
pub enum TurnError {
    /// The store could not be read or written.
    #[error(transparent)]
    Store(#[from] orbit_store::StoreError),
    /// The turn panicked: a defect.
    #[error("the turn panicked: {message}")]
    Panicked {
        /// What the panic said.
        message: String,
    },
}

/// See the module.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    /// The word used in reports.
    fn name(&self) -> &'static str;
    /// Does what is due now, a bounded amount.
    async fn turn(&self) -> Result<Turn, TurnError>;
    /// Is told of a turn that failed.
    async fn failed(&self, error: &TurnError);
}

/// Runs a service until it is stopped. A turn under way is finished first.
pub async fn run(
    service: Arc<dyn Service>,
    nudge: Arc<Notify>,
    clock: Arc<dyn Clock>,
    pulse: Arc<Pulse>,
    stop: CancellationToken,
) {
    let mut pause = FAILURE_PAUSE;
    while !stop.is_cancelled() {
        // A turn is its own task, so that a panic ends the turn and not the service.
        let turning = Arc::clone(&service);
        let turn = match tokio::spawn(async move { turning.turn().await }).await {
            Ok(turn) => turn,
            Err(error) => Err(TurnError::Panicked { message: panic_message(error) }),
        };
        pulse.turned();
        let sleep = match turn {
            Ok(Turn { more: true, .. }) => {
                pause = FAILURE_PAUSE;
                Duration::ZERO
            }
            Ok(Turn { next, .. }) => {
                pause = FAILURE_PAUSE;
                until(next, clock.now())
            }
            Err(error) => {
                service.failed(&error).await;
                pause = (pause * 2).min(POLL_MAX);
                pause
            }
        };
        tokio::select! {
            () = stop.cancelled() => break,
            () = nudge.notified(), if !sleep.is_zero() => {}
            () = tokio::time::sleep(sleep) => {}
        }
    }
}

/// The text of a task's panic, as far as it has one.
pub fn panic_message(error: tokio::task::JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => panic_text(&*panic),
        Err(_) => "the task was cancelled".to_owned(),
    }
}

/// The text of a panic, as far as it has one.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

fn until(next: Option<Timestamp>, now: Timestamp) -> Duration {
    let wait = next.map(|next| Duration::try_from(next.duration_since(now)).unwrap_or_default());
    // One millisecond past the instant, so that a timer that is a little early does not make an empty turn.
    wait.map_or(POLL_MAX, |wait| (wait + Duration::from_millis(1)).min(POLL_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::notify::Vitals;
    use orbit_core::config::NamespaceName;
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct Faulty {
        turns: AtomicUsize,
        failures: AtomicUsize,
        stop: CancellationToken,
    }

    #[async_trait]
    impl Service for Faulty {
        fn name(&self) -> &'static str {
            "faulty"
        }

        async fn turn(&self) -> Result<Turn, TurnError> {
            match self.turns.fetch_add(1, Ordering::SeqCst) {
                0 => panic!("first"),
                1 => Ok(Turn::did(1, None)),
                _ => {
                    self.stop.cancel();
                    Ok(Turn::default())
                }
            }
        }

        async fn failed(&self, error: &TurnError) {
            assert_eq!(error.to_string(), "the turn panicked: first");
            self.failures.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_ends_the_turn_and_not_the_service() {
        let stop = CancellationToken::new();
        let service = Arc::new(Faulty { turns: 0.into(), failures: 0.into(), stop: stop.clone() });
        let pulse = Vitals::default().pulse(&NamespaceName::system(), "faulty");
        run(service.clone(), Arc::default(), Arc::new(SystemClock), pulse, stop).await;
        assert_eq!(service.turns.load(Ordering::SeqCst), 3);
        assert_eq!(service.failures.load(Ordering::SeqCst), 1);
    }
}
