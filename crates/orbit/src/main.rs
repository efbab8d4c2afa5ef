//! The `orbit` binary talks: command line, configuration files, environment, signals.

fn main() {}
