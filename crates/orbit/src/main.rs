//! The `orbit` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(orbit::main())
}
