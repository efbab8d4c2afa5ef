//! `orbit processors`: what can be said.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `orbit processors`.
#[derive(Debug, Subcommand)]
pub enum Processors {
    /// Make one attempt outside of any run, as a step would, and say how it ended
    Test(TestArgs),
    /// Lift a quarantine
    Release {
        /// The processor
        name: String,
        /// The namespace; needed if the home has several
        #[arg(short, long)]
        namespace: Option<String>,
    },
}

/// `orbit processors test`.
#[derive(Debug, Args)]
pub struct TestArgs {
    /// The processor
    pub name: String,
    /// The bytes that it is given; without, what tier 1 is given: a line of JSON
    #[arg(long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Try it as the step of this profile, by label or id; without, of the first that uses it
    #[arg(long, value_name = "PROFILE")]
    pub profile: Option<String>,
    /// Write the output to this file (`-` writes to standard output)
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// The namespace; needed if the home has several
    #[arg(short, long)]
    pub namespace: Option<String>,
}
