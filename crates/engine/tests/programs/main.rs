//! The supervisor and the steps of a run with real programs. This binary is its own supervisor, as `orbit` is; it therefore has a `main` of its own
//! and lists its tests.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy does not know a test without the standard harness"
)]

mod fixture;
mod steps;
mod supervisor;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Duration;

/// A test that hangs must not hang whoever waits for the tests.
const ALL_TESTS_MAX: Duration = Duration::from_mins(5);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("__supervise") => return ExitCode::from(orbit_engine::supervisor::main()),
        Some("__engine") => return fixture::be_an_engine(&arguments[1]),
        Some(_) | None => {}
    }
    std::thread::spawn(|| {
        std::thread::sleep(ALL_TESTS_MAX);
        eprintln!("the tests took longer than {ALL_TESTS_MAX:?}");
        std::process::abort();
    });
    let filters: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let wanted =
        |name: &str| filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()));
    let listing = arguments.iter().any(|argument| argument == "--list");
    let (mut passed, mut failed, mut left_out) = (0, 0, 0);
    for (name, test) in supervisor::ALL.iter().chain(&steps::ALL) {
        if !wanted(name) {
            left_out += 1;
        } else if listing {
            println!("{name}: test");
        } else if catch_unwind(AssertUnwindSafe(test)).is_ok() {
            passed += 1;
            println!("test {name} ... ok");
        } else {
            failed += 1;
            println!("test {name} ... FAILED");
        }
    }
    if !listing {
        let word = if failed == 0 { "ok" } else { "FAILED" };
        println!(
            "\ntest result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; {left_out} filtered out"
        );
    }
    ExitCode::from(u8::from(failed > 0))
}
