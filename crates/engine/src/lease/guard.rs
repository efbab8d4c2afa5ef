//! Ends what is under way when trust has ended.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::namespace::Namespace;
use crate::running::Cut;

/// A timer does not count while the machine sleeps, so that the clock is read again at least this often.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Watches the trust of a namespace until it is stopped. It asks nobody for anything, so that nothing can hold it up.
pub async fn guard(namespace: Arc<Namespace>, stop: CancellationToken) {
    let mut is_given = true;
    while let Some(left) = namespace.trust.left(namespace.shared.clock.monotonic()) {
        if left.is_zero() {
            // Again at every look: an act may have begun while the last one was made.
            let cut = namespace.running.cut_all(Cut::Lapsed);
            if std::mem::replace(&mut is_given, false) {
                tracing::warn!(namespace = %namespace.name, cut, "the lease is not trusted any more: work under way is ended");
            }
        } else {
            is_given = true;
        }
        let pause = if left.is_zero() { LOOK_EVERY } else { left.min(LOOK_EVERY) };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
    }
}
