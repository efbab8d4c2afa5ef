//! Many runs of the real binary with faults of every kind among them: each ends exactly as its faults say.
//!
//! The seed is printed and repeats the run: `ORBIT_SOAK_SEED=… ORBIT_SOAK_CYCLES=… cargo test --workspace --test soak`. A target of its own, so
//! that nothing else runs beside it.
#![expect(unreachable_pub, reason = "nothing outside this binary sees it")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]
#![expect(clippy::disallowed_methods, reason = "tests start the binary and its neighbours themselves")]

mod faults;
#[path = "../it/home.rs"]
#[expect(dead_code, reason = "shared with the other tests, which use more of it")]
mod home;
mod outcome;
#[path = "../it/receiver.rs"]
#[expect(dead_code, reason = "shared with the other tests, which use more of it")]
mod receiver;
mod world;

use std::time::{Duration, Instant};

use faults::{Dice, Plan};
use world::World;

/// Profiles of a cycle.
const PROFILES: usize = 50;
/// Cycles, unless the environment says otherwise: 10,000 runs.
const CYCLES: usize = 200;
/// So long may nothing at all happen before something is wrong, however slow the machine is.
const STANDSTILL_MAX: Duration = Duration::from_mins(3);
/// What the process may grow by between a fifth of the runs and all of them, in KiB.
const GROWTH_KIB_MAX: u64 = 32 * 1024;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn ten_thousand_runs_with_faults_end_as_their_faults_say() {
    let seed = number("ORBIT_SOAK_SEED").unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        u64::from(now.subsec_nanos()) ^ now.as_secs()
    });
    let cycles = number("ORBIT_SOAK_CYCLES").and_then(|n| usize::try_from(n).ok()).unwrap_or(CYCLES);
    eprintln!("ORBIT_SOAK_SEED={seed} ORBIT_SOAK_CYCLES={cycles}");
    let plan = Plan::new(&mut Dice(seed), cycles, PROFILES);
    let world = World::new(plan, cycles);
    let serving = world.home.serve();
    let before = world::open_files(&serving);
    let began = Instant::now();
    world.fire(cycles);
    let total = cycles * PROFILES;
    let early = world.wait_for(total / 5);
    let memory_early = world::resident_kib(&serving);
    world.wait_for(total);
    let memory = world::resident_kib(&serving);
    eprintln!(
        "{total} runs in {:.1} s ({early} of them at {memory_early} KiB, all at {memory} KiB)",
        began.elapsed().as_secs_f64()
    );
    outcome::check(&world, total);
    world.nothing_is_left(&serving, before);
    assert!(memory <= memory_early + GROWTH_KIB_MAX, "{memory_early} KiB became {memory} KiB");
    assert_eq!(serving.stop(), 0);
    assert!(world.home.processes().is_empty(), "left behind: {:?}", world.home.processes());
}
