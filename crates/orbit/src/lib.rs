//! `orbit` talks: the command line, documents, the environment, the control socket, health. It decides nothing.
//!
//! [`main`] is the whole program. Everything else is here so that it can be tested and read: `cli` parses and prints, `control` carries commands
//! between processes, `engine` holds a home, `config` and `environment` read what the operator wrote, `render` makes text of answers.

pub mod backup;
pub mod bucket;
pub mod cli;
pub mod config;
pub mod control;
pub mod doctor;
pub mod engine;
pub mod environment;
pub mod exit;
pub mod health;
pub mod init;
pub mod reference;
pub mod render;
pub mod schema;
pub mod signing;
pub mod status;
pub mod stores;

/// The hidden subcommand under which this binary supervises one program.
pub const SUPERVISE: &str = "__supervise";

/// Does what the command line says; the answer is the exit code.
pub fn main() -> u8 {
    // Before anything else is set up: every attempt starts this binary once more, and pays for what happens before this line.
    if std::env::args_os().nth(1).is_some_and(|word| word == SUPERVISE) {
        return orbit_engine::supervisor::main();
    }
    cli::main()
}
