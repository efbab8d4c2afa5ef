//! Real processes that die: before and after the last call of each kind that changed something.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::sync::Arc;

use orbit_testkit::deviation::{Aftermath, differences};
use orbit_testkit::fault::{Acknowledged, Effect, Fault, Mode, Plan, Point, When};
use orbit_testkit::script::play;
use orbit_testkit::verdict::{judge, lost};
use orbit_testkit::world::World;

use crate::points::{Golden, in_parallel};

/// Where a process that is to die notes what was acknowledged.
const NOTES: &str = "acknowledged";

/// The first argument of a process that is to die.
pub(crate) const CHILD: &str = "__child";

/// How many died, and what is wrong.
pub(crate) fn children(golden: &Golden) -> (usize, Vec<String>) {
    let changing = golden.calls.iter().filter(|(_, mode)| *mode == Mode::Write);
    let last: BTreeMap<_, _> = changing.map(|(point, _)| (point.name, *point)).collect();
    let sides =
        |point: Point| [When::Before, When::After].map(|when| Fault { point, when, effect: Effect::Abort });
    let faults: Vec<_> = last.into_values().flat_map(sides).collect();
    let wrong = in_parallel(&faults, |fault| child(fault, golden));
    (faults.len(), wrong)
}

#[expect(clippy::disallowed_methods, reason = "a test stands outside of what it tests")]
fn child(fault: Fault, golden: &Golden) -> Vec<String> {
    let world = World::new();
    let when = if fault.when == When::Before { "before" } else { "after" };
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.arg(CHILD).arg(world.home()).arg(&world.address);
    command.args([fault.point.name, &fault.point.nth.to_string(), when]);
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    let mut wrong = Vec::new();
    if status.code().is_some() {
        wrong.push(format!("the process did not die: {status}"));
    }
    let acknowledged = Acknowledged::read(&world.home().join(NOTES));
    let processes = 1 + play(&world, &Arc::new(Plan::default()));
    let (records, found) = judge(&world);
    wrong.extend(found);
    let after = Aftermath { processes, failed: false, lost_claim: false, told_again: false };
    wrong.extend(differences(&golden.records, &records, after));
    wrong.extend(lost(&world, &acknowledged));
    wrong
}

/// The process that dies.
pub(crate) fn be_a_child(arguments: &[String]) -> ExitCode {
    let [home, address, name, nth, when] = arguments else { panic!("{arguments:?}") };
    let world = World::of_another(Path::new(home), address.clone());
    let when = if when == "before" { When::Before } else { When::After };
    let point = Point { name: name.clone().leak(), nth: nth.parse().unwrap() };
    let plan = Plan::with(Fault { point, when, effect: Effect::Abort });
    play(&world, &Arc::new(plan.noting(world.home().join(NOTES))));
    ExitCode::SUCCESS
}
