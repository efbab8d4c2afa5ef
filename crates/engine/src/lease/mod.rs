//! When a node may act: leases, trust, takeover.
//!
//! # The algorithm
//!
//! **Membership.** A process that works in a namespace *joins* its store and is an *incarnation* from then on: a number that no other has had. Everything it claims
//! carries that number in its token. On SQLite the lock of the home is all that is needed, since nobody can join while another process lives. On PostgreSQL any
//! number of processes are members at once, and each has a *lease*.
//!
//! **Two clocks.** The lease is kept by the clock of the database alone: joining and each renewal set its end to the time of their transaction plus the lease's
//! length, and it has ended when the time of another transaction says so. What a node's wall clock says decides nothing. The node itself measures spans with
//! its monotonic clock, which also counts while the machine sleeps. It reads that clock *before* it sends a renewal. The transaction begins later than that, so that
//! the lease ends, by the database, no earlier than its length after the reading.
//!
//! **Trust.** The node trusts its lease for less than its length, from that reading on:
//!
//! ```text
//!     reading      renewal      renewal      renewal     trust ends       programs are gone       lease ends: others take over
//!        |------------|------------|------------|-------------|-----------------------|---------------------------------|
//!        0         lease/3     2 lease/3                      '--- KILL_GRACE --------'-------- margin: lease/8 --------'
//! ```
//!
//! With [`LEASE`](crate::lease::LEASE) that is 15 s − 1.875 s − 1 s = 12.125 s; renewals are sent 5 s apart, over a connection that no other work has, and retried every second, so that a database may be away for 7 s
//! without any work being lost. The *kill grace* is what the supervisor gives a cancelled program between TERM and KILL (at most half a second), and as much again
//! until its tree is reaped. The *margin* covers what clocks differ in speed, and threads that run late.
//!
//! **When trust ends** nothing is claimed, fired or begun any more ([`Closed::LeaseLapsed`](orbit_core::governance::Closed) at all five doors), and everything under way in
//! that namespace is cut: programs through their supervisors, requests by dropping them ([`guard`](crate::lease::guard())). What was finished before is still committed when the store can be reached.
//! As long as nobody has taken the incarnation over, it is a member: a renewal that succeeds gives trust back, and work goes on.
//!
//! **Takeover.** Every node looks after the others ([`Watch`](crate::lease::Watch)): where a lease has ended, one transaction deletes the member and frees what it had, exactly as a restart
//! does. Steps are interrupted, unanswered attempts have the receipt `unknown`, cycles wait again, and a `node_taken_over` record tells. However many nodes try, the
//! database lets one through.
//!
//! **Coming back.** A process that was killed and is started again has nothing to wait for: its home remembers which incarnation it was, and joining ends that lease with
//! the same transaction, if whoever had it is dead for certain ([`Former`](crate::lease::Former) says what proves that). What it had is then free as after a restart on SQLite. Programs of
//! the dead process are swept before. In every other case (another machine, a copy of the home, a reboot) the lease is waited for.
//!
//! **Fencing.** Whatever the one that was taken over still sends finds its tokens used up and changes nothing. A claim reads the membership in its own
//! transaction, and while that lasts nobody else changes the namespace: a claim comes before a takeover, and is freed by it, or after it, and is refused. Its next renewal, or a claim, answers that the incarnation is *lost*. Then the node
//! cuts what it has, waits until nothing is under way any more, and joins anew under another number; nothing of the old one can commit.
//!
//! **Another schema.** A database is migrated while no lease lasts, so that no node is a member then. One that was cut off meanwhile, or waits to join, finds the newer schema with its next
//! renewal, on its next connection, or in the transaction by which it would join. It cuts what it has, writes nothing any more, not even that it stops, and the process ends
//! ([`Superseded`](crate::lease::Superseded)).
//!
//! # Why no two nodes act at once
//!
//! Another node begins to work on a row only after it was freed, thus after the lease has ended by the database's clock. By then the first has, by its own measure, been
//! without trust for the margin and the grace, and its programs are gone. That holds if the database's clock gains no more on the node's than the margin in one lease, and
//! if a node that runs at all runs its guard within the margin. Where it does not hold (the database's clock is set forward, a failover to a server whose clock is ahead, a process
//! that is frozen between the look at its trust and the first byte of a request), rows are still safe by their tokens. What has left for the outside world is not,
//! and there the idempotency key, which is the same for every attempt on every node, is what is left.

mod former;
mod guard;
mod holder;
mod superseded;
#[cfg(test)]
mod tests;
mod trust;
mod watch;

use std::time::Duration;

use orbit_store::StoreError;
use orbit_store::contract::node::{Joined, Joining, NodeStore};

use crate::namespace::Namespace;

pub use former::{Former, Mark};
pub use guard::guard;
pub use holder::Holder;
pub(crate) use holder::is_lost;
pub use superseded::Superseded;
pub use trust::Trust;
pub use watch::Watch;

/// How long a node is believed to be alive without a word of it, unless something else is said.
pub const LEASE: Duration = Duration::from_secs(15);
/// The shortest lease: a shorter one would leave no trust between two renewals. 2 s − 0.25 s − 1 s = 0.75 s, and renewals are 0.67 s apart.
pub const LEASE_MIN: Duration = Duration::from_secs(2);
/// Of a lease, one part in so many is the margin.
const MARGIN_PART: u32 = 8;
/// How long programs may take to be gone once they are cut: twice [`crate::supervisor::CANCEL_GRACE_MAX`].
pub const KILL_GRACE: Duration = Duration::from_secs(1);
/// So many renewals fit into a lease.
const RENEWALS: u32 = 3;
/// After a renewal that failed, the next one comes when this part of the lease has passed: a second of [`LEASE`].
const RETRY_PART: u32 = 15;

/// The process is a new incarnation in the namespace, and what its home was before is none any more.
pub(crate) async fn join(
    namespace: &Namespace,
    store: &(dyn NodeStore + Send + Sync),
) -> Result<Joined, StoreError> {
    let former = namespace.former.as_ref();
    let joining = Joining { former: former.and_then(Former::dead), ..namespace.shared.joining() };
    let joined = store.join(&joining, namespace.shared.clock.now()).await?;
    if let Some(former) = former.filter(|_| joined.expires) {
        former.note(joined.epoch);
    }
    Ok(joined)
}

/// How long a lease is trusted, from the reading of the clock before it was asked for.
fn trusted(lease: Duration) -> Duration {
    lease.saturating_sub(lease / MARGIN_PART).saturating_sub(KILL_GRACE)
}
