//! The command line: what can be said, and nothing of what it does.

mod config;
mod ids;
mod log;
mod processors;
mod runs;

pub use config::Config;
pub use ids::IdArg;
pub use log::{CheckpointArgs, ExportArgs, Log, ProveArgs, TailArgs, VerifyArgs};
pub use processors::{Processors, TestArgs};
pub use runs::{RetryArgs, Runs, StepName};

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

/// Runs cycles unattended: selects an initiation, sends it through three tiers of processors, delivers the result, records everything.
#[derive(Debug, Parser)]
#[command(name = "orbit", version, max_term_width = 110, disable_help_subcommand = true)]
pub struct Cli {
    /// The home folder; `ORBIT_HOME` if not given, else the current folder
    #[arg(long, global = true, value_name = "DIR", display_order = 900)]
    pub home: Option<PathBuf>,
    /// Print JSON instead of text
    #[arg(long, global = true, display_order = 901)]
    pub json: bool,
    /// What to do
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Make a new home that works at once
    Init {
        /// The folder to make; the home folder if not given
        dir: Option<PathBuf>,
    },
    /// Check the configuration and name every problem with its place
    Check,
    /// Check the machine: programs, permissions, space, secrets
    Doctor {
        /// Make every table that follows from the log again, and tell what was not as the log says; no process may serve the home
        #[arg(long)]
        rebuild: bool,
        /// Only compare the tables with the log
        #[arg(long, requires = "rebuild")]
        dry_run: bool,
    },
    /// The PostgreSQL database of `storage: { backend: postgres }`
    #[command(subcommand)]
    Database(Database),
    /// Move everything that the home remembers into PostgreSQL, or back into files
    ///
    /// Nobody may serve the home meanwhile. What was broken off goes on when it is said again. No document is changed: the command ends with what is left to do.
    /// Payload files stay where they are
    MigrateStore {
        /// Where to
        #[arg(long, value_enum)]
        to: BackendName,
    },
    /// Show what the node is doing
    Status {
        /// Show it again every second until interrupted
        #[arg(long)]
        watch: bool,
    },
    /// Run one cycle now, and wait for it
    Run(RunArgs),
    /// Run every schedule until stopped
    Serve {
        /// Do not colour the log, and write it as JSON lines
        #[arg(long)]
        log_json: bool,
    },
    /// Firings of run profiles
    #[command(subcommand)]
    Cycles(ListOrShow),
    /// What was selected, newest first
    #[command(subcommand)]
    Initiations(ListOnly),
    /// Passes of one profile within a cycle
    #[command(subcommand)]
    Runs(Runs),
    /// Artifacts owed to endpoints
    #[command(subcommand)]
    Deliveries(Deliveries),
    /// The bytes that steps made
    #[command(subcommand)]
    Artifacts(Artifacts),
    /// What turns bytes into bytes
    #[command(subcommand)]
    Processors(Processors),
    /// When run profiles fire
    #[command(subcommand)]
    Schedule(Schedule),
    /// Execution identities of the active configuration
    #[command(subcommand)]
    Profiles(Documents),
    /// When and how profiles run, in the active configuration
    #[command(subcommand)]
    RunProfiles(Documents),
    /// Which configuration is active, and that the documents become it
    #[command(subcommand)]
    Config(Config),
    /// REST receivers of the active configuration
    #[command(subcommand)]
    Endpoints(super::endpoints::Endpoints),
    /// Stop everything at once, durably, until `resume`
    Halt {
        /// Only this namespace
        #[arg(short, long)]
        namespace: Option<String>,
        /// Why, for the record
        #[arg(long, default_value = "by the operator")]
        reason: String,
    },
    /// Lift a halt
    Resume {
        /// Only this namespace
        #[arg(short, long)]
        namespace: Option<String>,
    },
    /// The records of a namespace
    #[command(subcommand)]
    Log(Log),
    /// Copy everything the home needs to go on elsewhere, while it works
    Backup {
        /// The folder to make; every backup has its own
        dir: PathBuf,
        /// Take `.env` too: the copy must be kept as safe as the home
        #[arg(long)]
        with_secrets: bool,
    },
    /// Make a home of a backup: halted, so that nothing is sent before somebody looked
    Restore {
        /// The folder that `orbit backup` made
        dir: PathBuf,
        /// Only check the backup, and write nothing
        #[arg(long)]
        check: bool,
    },
    /// Drop evidence and artifacts that are older than `retention` says; may be interrupted at any time
    Gc(GcArgs),
    /// Print the JSON Schema of a document
    Schema {
        /// node, namespace, source, processor, endpoint, profile or run-profile; all of them if nothing is said
        kind: Option<String>,
    },
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// `orbit database`.
#[derive(Debug, Subcommand)]
pub enum Database {
    /// Bring the database of `ORBIT_DATABASE_OWNER_URL` up to this version's schema, and let the role `orbit_runtime` use it; no node needs this right while it runs
    Migrate {
        /// Say what would be done, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
}

/// Where the rows of a home are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BackendName {
    /// The database of `ORBIT_DATABASE_OWNER_URL`
    Postgres,
    /// A file a namespace
    Sqlite,
}

/// `orbit run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Label or id of the run profile; needed if the namespace has several
    pub run_profile: Option<String>,
    /// The namespace; needed if the home has several
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// Select and build the execution requests, print them, and change nothing
    #[arg(long, conflicts_with_all = ["request", "no_wait"])]
    pub dry_run: bool,
    /// Wait this long at most, such as `10m`
    #[arg(long, value_name = "DURATION", conflicts_with = "no_wait")]
    pub wait: Option<orbit_core::config::Millis>,
    /// Do not wait; needs a running `orbit serve`
    #[arg(long)]
    pub no_wait: bool,
    /// Run the execution requests in this file, as `--dry-run` prints them (`-` reads standard input)
    #[arg(long, value_name = "FILE")]
    pub request: Option<PathBuf>,
    /// Names this firing: the same key never runs twice
    #[arg(long)]
    pub key: Option<String>,
}

/// `orbit gc`.
#[derive(Debug, Args)]
pub struct GcArgs {
    /// The namespace; needed if the home has several
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// Only count what would be dropped
    #[arg(long)]
    pub dry_run: bool,
    /// Drop nothing, but write every database anew without the space that it does not need: for one from before space was given back by itself.
    /// Nobody may serve the home meanwhile, and as much must be free as the largest database has
    #[arg(long, conflicts_with = "dry_run")]
    pub compact: bool,
}

/// A page of a list.
#[derive(Debug, Args)]
pub struct PageArgs {
    /// The namespace; needed if the home has several
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// `next` of the page before
    #[arg(long)]
    pub cursor: Option<String>,
    /// Items a page
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
}

/// One thing by its id.
#[derive(Debug, Args)]
pub struct IdArgs {
    /// The id, or at least its first 8 hex digits
    pub id: IdArg,
    /// The namespace; needed if the home has several
    #[arg(short, long)]
    pub namespace: Option<String>,
}

/// A list with details.
#[derive(Debug, Subcommand)]
pub enum ListOrShow {
    /// List them, newest first
    List(PageArgs),
    /// Show one
    Show(IdArgs),
}

/// A list.
#[derive(Debug, Subcommand)]
pub enum ListOnly {
    /// List them, newest first
    List(PageArgs),
}

/// `orbit deliveries`.
#[derive(Debug, Subcommand)]
pub enum Deliveries {
    /// List them, newest first
    List {
        /// Which page
        #[command(flatten)]
        page: PageArgs,
        /// Only those in this state
        #[arg(long, value_enum)]
        state: Option<DeliveryState>,
    },
    /// Show one with its receipts
    Show(IdArgs),
    /// Try dead letters again; all that is given must hold
    Redrive {
        /// One delivery
        id: Option<IdArg>,
        /// Those of a run
        #[arg(long, value_name = "ID")]
        run: Option<IdArg>,
        /// Those of an endpoint, which is enabled again
        #[arg(long, value_name = "NAME")]
        endpoint: Option<String>,
        /// Those that were given up then or later, such as 2026-11-25T06:00:00Z
        #[arg(long, value_name = "INSTANT")]
        since: Option<jiff::Timestamp>,
        /// Those that were given up before
        #[arg(long, value_name = "INSTANT")]
        until: Option<jiff::Timestamp>,
        /// All of them
        #[arg(long)]
        all: bool,
        /// Only count them
        #[arg(long)]
        dry_run: bool,
        /// The namespace; needed if the home has several
        #[arg(short, long)]
        namespace: Option<String>,
    },
}

/// `orbit artifacts`.
#[derive(Debug, Subcommand)]
pub enum Artifacts {
    /// Write one to standard output, after its digest was checked
    Get {
        /// `sha256:` and 64 hex digits, as the story of a run names it
        digest: orbit_core::digest::Digest,
        /// The namespace; needed if the home has several
        #[arg(short, long)]
        namespace: Option<String>,
    },
}

/// `orbit profiles` and `orbit run-profiles`.
#[derive(Debug, Subcommand)]
pub enum Documents {
    /// List them, by label
    List {
        /// Which page
        #[command(flatten)]
        page: PageArgs,
        /// Those that are archived too
        #[arg(long)]
        archived: bool,
    },
    /// Show one with every default filled in
    Show {
        /// Its label or id
        reference: String,
        /// The namespace; needed if the home has several
        #[arg(short, long)]
        namespace: Option<String>,
    },
}

/// The states of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DeliveryState {
    /// The next attempt is due at some time
    Waiting,
    /// An attempt is under way
    Sending,
    /// The endpoint accepted it
    Accepted,
    /// Given up; may be redriven
    Dead,
    /// Ended with its run
    Cancelled,
}

/// `orbit schedule`.
#[derive(Debug, Subcommand)]
pub enum Schedule {
    /// List the next firings
    Preview {
        /// Only this run profile, by label or id
        run_profile: Option<String>,
        /// The namespace; needed if the home has several
        #[arg(short, long)]
        namespace: Option<String>,
        /// Begin after this instant, such as `2026-03-29T00:00:00Z`; now, if nothing is said
        #[arg(long, value_name = "INSTANT", value_parser = instant)]
        from: Option<jiff::Timestamp>,
        /// How many a run profile
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
        count: u32,
    },
}

fn instant(text: &str) -> Result<jiff::Timestamp, &'static str> {
    text.parse().map_err(|_| "expected an instant with its offset, such as 2026-03-29T00:00:00Z")
}

impl DeliveryState {
    /// The word in rows.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Sending => "sending",
            Self::Accepted => "accepted",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
        }
    }
}
