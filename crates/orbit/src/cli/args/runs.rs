//! `orbit runs`: what can be said.

use clap::{Args, Subcommand, ValueEnum};
use orbit_core::run::Step;

use super::{IdArg, IdArgs, PageArgs};

/// `orbit runs`.
#[derive(Debug, Subcommand)]
pub enum Runs {
    /// List them, newest first
    List {
        /// Which page
        #[command(flatten)]
        page: PageArgs,
        /// Only those of this cycle
        #[arg(long, value_name = "ID")]
        cycle: Option<IdArg>,
    },
    /// Tell the story of one
    Show {
        /// Which
        #[command(flatten)]
        which: IdArgs,
        /// Go on until it is finished
        #[arg(long)]
        follow: bool,
    },
    /// End one that is not finished, and what is under way for it
    Cancel {
        /// Which
        #[command(flatten)]
        which: IdArgs,
        /// Why, for the record
        #[arg(long, default_value = "by the operator")]
        reason: String,
    },
    /// Do a finished one again, as a new run of the same initiation that cites it, and wait for it
    Retry(RetryArgs),
}

/// `orbit runs retry`.
#[derive(Debug, Args)]
pub struct RetryArgs {
    /// Which
    #[command(flatten)]
    pub which: IdArgs,
    /// Begin at this step, with what the step before made in the old run
    #[arg(long, value_name = "STEP", value_enum, default_value = "tier1")]
    pub from: StepName,
    /// Under the snapshot of the old run, not the active one
    #[arg(long)]
    pub pinned: bool,
    /// Names this retry: the same key never runs twice
    #[arg(long)]
    pub key: Option<String>,
    /// Wait this long at most, such as `10m`
    #[arg(long, value_name = "DURATION", conflicts_with = "no_wait")]
    pub wait: Option<orbit_core::config::Millis>,
    /// Do not wait; needs a running `orbit serve`
    #[arg(long)]
    pub no_wait: bool,
}

/// Steps by their words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StepName {
    /// The whole run
    Tier1,
    /// With the output of tier 1
    Tier2,
    /// With the output of tier 2
    Tier3,
    /// With the output of tier 3
    Normalize,
}

impl StepName {
    /// The step.
    pub const fn step(self) -> Step {
        match self {
            Self::Tier1 => Step::Tier1,
            Self::Tier2 => Step::Tier2,
            Self::Tier3 => Step::Tier3,
            Self::Normalize => Step::Normalize,
        }
    }
}
