//! TERM and INT: the first asks for a soft stop, the second for a hard one.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::failure::Failure;

/// See the module.
pub struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    /// Takes both over from the system's default.
    pub fn new() -> Result<Self, Failure> {
        let take =
            |kind| signal(kind).map_err(|error| Failure::failed(format!("cannot handle signals: {error}")));
        Ok(Self { term: take(SignalKind::terminate())?, int: take(SignalKind::interrupt())? })
    }

    /// The next of either.
    pub async fn first(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }

    /// A token that the next one cancels.
    pub fn second(mut self) -> CancellationToken {
        let token = CancellationToken::new();
        let cancelled = token.clone();
        tokio::spawn(async move {
            self.first().await;
            cancelled.cancel();
        });
        token
    }
}
