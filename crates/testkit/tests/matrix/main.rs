//! The crash matrix. This binary is its own supervisor, as `orbit` is; it therefore has a `main` of its own.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy does not know a test without the standard harness"
)]

mod children;
mod points;

use std::process::ExitCode;
use std::time::Duration;

/// A test that hangs must not hang whoever waits for the tests.
const ALL_TESTS_MAX: Duration = Duration::from_mins(20);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "__supervise") {
        return ExitCode::from(orbit_engine::supervisor::main());
    }
    if arguments.first().is_some_and(|first| first == children::CHILD) {
        return children::be_a_child(&arguments[1..]);
    }
    if arguments.iter().any(|argument| argument == "--list") {
        println!("matrix: test");
        return ExitCode::SUCCESS;
    }
    let wanted = |argument: &&String| !argument.starts_with('-');
    if arguments.iter().find(wanted).is_some_and(|filter| !"matrix".contains(filter.as_str())) {
        println!("\ntest result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 1 filtered out");
        return ExitCode::SUCCESS;
    }
    std::thread::spawn(|| {
        std::thread::sleep(ALL_TESTS_MAX);
        eprintln!("the matrix took longer than {ALL_TESTS_MAX:?}");
        std::process::abort();
    });
    // `--only=NAME` crashes nothing but calls of this name, `--all` crashes every call in every way, `--seed=N` draws the same ones again.
    let of = |name: &str| arguments.iter().find_map(|argument| argument.strip_prefix(name));
    let seed = of("--seed=").map_or_else(|| u64::from(std::process::id()), |seed| seed.parse().unwrap());
    let only = of("--only=").map(str::to_owned);
    let all = only.is_some() || arguments.iter().any(|argument| argument == "--all");
    points::all(&points::Wanted { only, all, seed })
}
