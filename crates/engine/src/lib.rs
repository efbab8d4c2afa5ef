//! `orbit-engine` acts: the only crate that starts programs or calls endpoints.
