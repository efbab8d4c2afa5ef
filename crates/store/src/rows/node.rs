//! What is recorded of nodes.

use serde_json::json;

use super::record::{Facts, facts};
use crate::contract::Recovered;
use crate::contract::node::{Joining, TakenOver};

/// The lease in whole milliseconds.
pub(crate) fn lease_ms(joining: &Joining) -> u64 {
    u64::try_from(joining.lease.as_millis()).unwrap_or(u64::MAX)
}

/// What the record of a node that has joined says.
pub(crate) fn started_facts(joining: &Joining, epoch: i64, recovered: Recovered) -> Facts {
    let Joining { node, version, lease: _, former: _ } = joining;
    facts(json!({ "node": node, "version": version, "epoch": epoch, "recovered": recovered }))
}

/// What the record of a node that was taken over says.
pub(crate) fn taken_over_facts(taken: &TakenOver) -> Facts {
    let TakenOver { epoch, node, ended_ms, recovered } = taken;
    facts(json!({ "node": node, "epoch": epoch, "ended_ms": ended_ms, "recovered": recovered }))
}
