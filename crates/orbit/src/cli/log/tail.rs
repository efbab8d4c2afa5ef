//! `orbit log tail`.

use std::time::Duration;

use orbit_engine::layout::Layout;
use orbit_engine::node::Duty;

use crate::cli::args::TailArgs;
use crate::cli::failure::Failure;
use crate::cli::ids;
use crate::cli::output::{json_line, print};
use crate::cli::read::items;
use crate::cli::session::Session;
use crate::control::{Command, Thing};
use crate::{exit, render};

/// How often the engine is asked for records that came since.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// Records in order of position, a line each.
pub(super) async fn tail(layout: &Layout, args: &TailArgs, json: bool) -> Result<u8, Failure> {
    let TailArgs { namespace, after, run, cycle, limit, follow } = args;
    let run_id = ids::whole_if_given(layout, namespace, Thing::Run, run.as_ref()).await?;
    let cycle_id = ids::whole_if_given(layout, namespace, Thing::Cycle, cycle.as_ref()).await?;
    let mut session = Session::open(layout, Duty::None).await?;
    let mut after = *after;
    loop {
        let command =
            Command::Records { namespace: namespace.clone(), after, run_id, cycle_id, limit: *limit };
        let answer = session.ask(command).await?;
        for record in items(&answer) {
            after = record["position"].as_u64().or(after);
            if json { json_line(record)? } else { print(&format!("{}\n", render::record_line(record)))? }
        }
        if !follow {
            return Ok(exit::SUCCEEDED);
        }
        if items(&answer).is_empty() {
            session.rest(ASK_EVERY).await;
        }
    }
}
