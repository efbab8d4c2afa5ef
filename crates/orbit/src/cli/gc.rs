//! `orbit gc`: asks for step after step until nothing is left to drop. Between two steps it may be ended without harm.

use orbit_engine::layout::Layout;
use orbit_engine::node::Duty;
use orbit_engine::retention::{Dropped, Step};
use orbit_store::contract::retention::Amount;
use serde_json::json;

use super::args::GcArgs;
use super::compact::compact;
use super::failure::Failure;
use super::output::{either, say};
use super::session::Session;
use crate::control::Command;
use crate::exit;
use crate::render::Terminal;
use crate::render::units::bytes;

/// See the module.
pub async fn gc(layout: &Layout, args: &GcArgs, out: &Terminal, json: bool) -> Result<u8, Failure> {
    if args.compact {
        return compact(layout, args.namespace.as_deref(), out, json).await;
    }
    let mut session = Session::open(layout, Duty::None).await?;
    let mut all = Dropped::default();
    let mut from = 0;
    loop {
        let command = Command::Collect { namespace: args.namespace.clone(), from, dry_run: args.dry_run };
        let step: Step = session.ask_as(command).await?;
        all.extend(step.dropped);
        let Some(next) = step.next else { break };
        from = next;
        if out.progress && step.dropped != Dropped::default() {
            say(&format!("  {} dropped so far", told(all)));
        }
    }
    let value = json!({ "dry_run": args.dry_run, "dropped": all });
    let verb = if args.dry_run { "would be dropped" } else { "dropped" };
    either(&value, json, |_| format!("{verb}: {}\n", told(all)))?;
    Ok(if all == Dropped::default() { exit::NOTHING } else { exit::SUCCEEDED })
}

fn told(all: Dropped) -> String {
    let one = |amount: Amount, what: &str| format!("{} {what} ({})", amount.count, bytes(amount.bytes));
    let kinds =
        [(all.evidence, "bodies of evidence"), (all.artifacts, "artifacts"), (all.files, "stray files")];
    kinds.map(|(amount, what)| one(amount, what)).join(", ")
}
