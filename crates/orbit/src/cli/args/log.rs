//! `orbit log`: what can be said.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::IdArg;

/// `orbit log`.
#[derive(Debug, Subcommand)]
pub enum Log {
    /// Print records, oldest first
    Tail(TailArgs),
    /// Print every record as it is hashed, one JSON object a line
    Export(ExportArgs),
    /// Print the newest signed checkpoint, or the public key that signs
    Checkpoint(CheckpointArgs),
    /// Print a proof that a record is in the log, for `orbit log verify --proof` or any other program that reads C2SP `tlog-proof`
    Prove(ProveArgs),
    /// Check a proof; needs no home and no network
    Verify(VerifyArgs),
}

/// `orbit log tail`.
#[derive(Debug, Args)]
pub struct TailArgs {
    /// The namespace, or `system` for what belongs to the node; needed if the home has several
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// Begin after this position
    #[arg(long, value_name = "POSITION")]
    pub after: Option<u64>,
    /// Only those about this run
    #[arg(long, value_name = "ID")]
    pub run: Option<IdArg>,
    /// Only those about this cycle
    #[arg(long, value_name = "ID")]
    pub cycle: Option<IdArg>,
    /// Records at most
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
    /// Go on until interrupted
    #[arg(long)]
    pub follow: bool,
}

/// `orbit log export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The namespace, or `system` for what belongs to the node; needed if the home has several
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// Begin with this position
    #[arg(long, value_name = "POSITION", default_value_t = 0)]
    pub from: u64,
    /// End before this position; without it, where the log ends when the export begins
    #[arg(long, value_name = "POSITION")]
    pub to: Option<u64>,
}

/// `orbit log checkpoint`.
#[derive(Debug, Args)]
pub struct CheckpointArgs {
    /// The namespace, or `system` for what belongs to the node; needed if the home has several
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// The one of this number, counted from 0
    #[arg(long)]
    pub number: Option<u64>,
    /// Print the public key instead, as a C2SP `vkey`: keep it where nobody who can write to the home can change it
    #[arg(long, conflicts_with = "number")]
    pub key: bool,
}

/// `orbit log prove`.
#[derive(Debug, Args)]
pub struct ProveArgs {
    /// Position of the record
    #[arg(required_unless_present = "run", conflicts_with = "run")]
    pub position: Option<u64>,
    /// The last record about this run, instead
    #[arg(long, value_name = "ID")]
    pub run: Option<IdArg>,
    /// The namespace, or `system` for what belongs to the node; needed if the home has several
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// Write the proof to this file, which must not be there yet
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// `orbit log verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Only this namespace; without it, all of them and the node's own
    #[arg(short, long, conflicts_with = "proof")]
    pub namespace: Option<String>,
    /// A checkpoint that was kept elsewhere, or a folder of them: only with one is it seen that records are gone from the end
    #[arg(long, value_name = "FILE|DIR", conflicts_with = "proof")]
    pub against: Option<PathBuf>,
    /// Verify this proof instead, as `orbit log prove` prints it (`-` reads standard input); needs no home
    #[arg(long, value_name = "FILE", requires = "key")]
    pub proof: Option<PathBuf>,
    /// The public key of the log from elsewhere, or a file that holds it, as `orbit log checkpoint --key` prints it
    #[arg(long, value_name = "VKEY|FILE")]
    pub key: Option<String>,
}
