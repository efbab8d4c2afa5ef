//! Every call of the golden history, crashed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use orbit_core::digest::Digest;
use orbit_store::contract::record::StoredRecord;
use orbit_testkit::backend::is_postgres;
use orbit_testkit::deviation::{Aftermath, differences, unanswered};
use orbit_testkit::fault::{Effect, Fault, Mode, NOTHING, Plan, Point, Repeat, When};
use orbit_testkit::script::play;
use orbit_testkit::verdict::{judge, lost};
use orbit_testkit::world::World;

use crate::children::children;

/// Histories that are played at once.
const THREADS: usize = 8;
/// A golden history with fewer calls would not be the whole cycle.
const POINTS_MIN: usize = 100;
/// Histories whose order of calls is another one may miss their point; more would be a matrix with holes.
const MISSED_MAX: usize = 3;
/// Crashes that are played unless all are asked for. Calls that change something are all crashed in all four ways; of the others so many are drawn.
const CRASHES_MAX: usize = 600;
/// The same on PostgreSQL, where a history takes several times as long; there all of them are drawn.
const CRASHES_MAX_POSTGRES: usize = 150;

/// What is asked for on the command line.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// Only calls of this name.
    pub(crate) only: Option<String>,
    /// Every crash of every call.
    pub(crate) all: bool,
    /// What draws.
    pub(crate) seed: u64,
}

/// The history without a fault.
pub(crate) struct Golden {
    /// Its records.
    pub(crate) records: Vec<StoredRecord>,
    /// Its calls.
    pub(crate) calls: Vec<(Point, Mode)>,
}

/// The whole matrix.
pub(crate) fn all(wanted: &Wanted) -> ExitCode {
    let begun = Instant::now();
    let golden = golden();
    let Golden { records, calls } = &golden;
    let changing = calls.iter().filter(|(_, mode)| *mode == Mode::Write).count();
    println!(
        "golden: {} records, {} calls of which {changing} change something, in {:?}",
        records.len(),
        calls.len(),
        begun.elapsed()
    );
    assert!(calls.len() >= POINTS_MIN, "{calls:?}");
    let (faults, possible) = drawn(calls, wanted);
    println!("{} of {possible} crashes, drawn by --seed={}", faults.len(), wanted.seed);
    let missed = AtomicUsize::new(0);
    let mut wrong = in_parallel(&faults, |fault| {
        let (hit, found) = crash(fault, &golden);
        missed.fetch_add(usize::from(!hit), Ordering::SeqCst);
        found
    });
    let missed = missed.into_inner();
    if missed > MISSED_MAX {
        wrong.push(format!("{missed} faults were not reached"));
    }
    let (mut twice, mut died) = (0, 0);
    if wanted.only.is_none() {
        wrong.extend(mended(&golden));
        let (count, found) = repeated(&golden);
        twice = count;
        wrong.extend(found);
        let (count, found) = children(&golden);
        died = count;
        wrong.extend(found);
    }
    let of = |when, ends| {
        faults.iter().filter(|fault| fault.when == when && (fault.effect == Effect::End) == ends).count()
    };
    println!(
        "crash matrix: {} points; {} errors before and {} after, {} ends before and {} after, {missed} not reached; {died} processes died; {twice} calls twice; {} violations in {:?}",
        calls.len(),
        of(When::Before, false),
        of(When::After, false),
        of(When::Before, true),
        of(When::After, true),
        wrong.len(),
        begun.elapsed()
    );
    ExitCode::from(u8::from(!wrong.is_empty()))
}

/// Every call fails and ends the process, before and after. Of those that change nothing so many are drawn that it does not take too long. And how many
/// there are.
fn drawn(calls: &[(Point, Mode)], wanted: &Wanted) -> (Vec<Fault>, usize) {
    let (mut sure, mut others) = (Vec::new(), Vec::new());
    for (point, mode) in calls {
        if wanted.only.as_ref().is_some_and(|only| only != point.name) {
            continue;
        }
        let faults = [
            (When::Before, Effect::Io),
            (When::After, Effect::Full),
            (When::Before, Effect::End),
            (When::After, Effect::End),
        ];
        let faults = faults.map(|(when, effect)| Fault { point: *point, when, effect });
        if *mode == Mode::Write { sure.extend(faults) } else { others.extend(faults) }
    }
    let possible = sure.len() + others.len();
    if !wanted.all {
        let mut most = CRASHES_MAX;
        if is_postgres() {
            others.append(&mut sure);
            most = CRASHES_MAX_POSTGRES;
        }
        others.sort_by_key(|fault| Digest::of(format!("{} {fault}", wanted.seed).as_bytes()));
        others.truncate(most.saturating_sub(sure.len()));
    }
    sure.extend(others);
    (sure, possible)
}

/// Two defects that were: each is a history with one fault, of which more is true than that nothing is lost.
fn mended(golden: &Golden) -> Vec<String> {
    let io = |point| Fault { point, when: When::Before, effect: Effect::Io };
    let mut wrong = Vec::new();
    // A claimed notice is delivered although the claim after it fails: it is neither lost nor claimed again.
    let is_notice = |(point, mode): &(Point, Mode)| point.name == "claim_notices" && *mode == Mode::Write;
    let first = golden.calls.iter().position(is_notice).unwrap();
    let next = golden.calls[first..].iter().find(|(point, _)| point.name == "claim_deliveries").unwrap();
    let (records, found) = one(io(next.0), golden);
    wrong.extend(found);
    if !unanswered(&records).is_empty() {
        wrong.push(format!("a claimed notice was not delivered: {:?}", unanswered(&records)));
    }
    // A change of the gate that could not be recorded is recorded later.
    let of_gate = |records: &[StoredRecord]| records.iter().filter(|one| one.kind == "gate_closed").count();
    let appends = golden.calls.iter().filter(|(point, _)| point.name == "append");
    for (point, _) in appends {
        let (records, found) = one(io(*point), golden);
        wrong.extend(found);
        if of_gate(&records) != of_gate(&golden.records) {
            wrong.push(format!("the gate is told {} times after {point:?} failed", of_gate(&records)));
        }
    }
    for one in &wrong {
        println!("mended: {one}");
    }
    println!("two mended defects stay mended: {}", wrong.is_empty());
    wrong
}

/// Every call that changes something is made twice: the second one changes nothing. How many those were, and what is wrong.
fn repeated(golden: &Golden) -> (usize, Vec<String>) {
    let (world, plan) = (World::new(), Arc::new(Plan::repeating()));
    play(&world, &plan);
    let (records, mut wrong) = judge(&world);
    let after = Aftermath { processes: 1, failed: false, lost_claim: false, told_again: false };
    wrong.extend(differences(&golden.records, &records, after));
    let repeats = plan.repeats();
    for Repeat { name, first, second } in &repeats {
        let answer = second.strip_prefix("Ok(").and_then(|rest| rest.strip_suffix(')'));
        if !answer.is_some_and(|answer| answer == first || NOTHING.contains(&answer)) {
            wrong.push(format!("{name} answers {first}, and again {second}"));
        }
    }
    for one in &wrong {
        println!("repeated: {one}");
    }
    (repeats.len(), wrong)
}

/// Plays one history for each fault, several at once; what is wrong in them.
pub(crate) fn in_parallel(faults: &[Fault], play: impl Fn(Fault) -> Vec<String> + Sync) -> Vec<String> {
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(fault) = faults.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let played = catch_unwind(AssertUnwindSafe(|| play(*fault)));
                    let found = played.unwrap_or_else(|_| vec!["could not be played to its end".to_owned()]);
                    // Told at once: where the whole takes too long, this says how far it came.
                    for what in &found {
                        println!("{fault}: {what}");
                    }
                    wrong.lock().unwrap().extend(found);
                }
            });
        }
    });
    wrong.into_inner().unwrap()
}

fn golden() -> Golden {
    let (world, plan) = (World::new(), Arc::new(Plan::default()));
    assert_eq!(play(&world, &plan), 1);
    let (records, wrong) = judge(&world);
    assert!(wrong.is_empty(), "{wrong:#?}\n{records:#?}");
    let same = Aftermath { processes: 1, failed: false, lost_claim: false, told_again: false };
    assert_eq!(differences(&records, &records, same), Vec::<String>::new());
    let acknowledged = plan.acknowledged();
    assert!(lost(&world, &acknowledged).is_empty() && acknowledged.len() + 1 >= records.len());
    Golden { records, calls: plan.calls() }
}

/// Calls that may claim something. Where an error comes after one, what it claimed is interrupted and free again.
pub(crate) const CLAIMS: [&str; 8] = [
    "claim_cycles",
    "take_and_admit",
    "claim_steps",
    "claim_batch",
    "claim_deliveries",
    "claim_next_in_order",
    "claim_notices",
    "commit_step",
];

/// Whether the answer to a claim is lost by it and the process goes on.
pub(crate) fn loses_a_claim(fault: Fault) -> bool {
    fault.when == When::After && fault.effect != Effect::End && CLAIMS.contains(&fault.point.name)
}

/// Calls of a start: who is told that one failed does not start.
const AT_START: [&str; 4] = ["active", "halted", "join", "folder_sync"];

/// Plays the cycle with this fault: whether it happened, and what is wrong at the end.
fn crash(fault: Fault, golden: &Golden) -> (bool, Vec<String>) {
    let (world, plan) = (World::new(), Arc::new(Plan::with(fault)));
    let (_, wrong) = played(&world, &plan, fault, golden);
    (plan.was_hit(), wrong)
}

fn one(fault: Fault, golden: &Golden) -> (Vec<StoredRecord>, Vec<String>) {
    let (world, plan) = (World::new(), Arc::new(Plan::with(fault)));
    played(&world, &plan, fault, golden)
}

fn played(
    world: &World,
    plan: &Arc<Plan>,
    fault: Fault,
    golden: &Golden,
) -> (Vec<StoredRecord>, Vec<String>) {
    let processes = play(world, plan);
    let (records, mut wrong) = judge(world);
    let failed = fault.effect != Effect::End;
    let told_again = failed && fault.when == When::After && fault.point.name == "append";
    let after = Aftermath { processes, failed, lost_claim: loses_a_claim(fault), told_again };
    wrong.extend(differences(&golden.records, &records, after));
    wrong.extend(lost(world, &plan.acknowledged()));
    if failed && processes > 1 && !AT_START.contains(&fault.point.name) {
        wrong.push(format!("it took {processes} processes"));
    }
    (records, wrong)
}
