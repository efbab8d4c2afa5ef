//! What can be asked of the process that holds a home: one JSON line in, one JSON line out.

use std::path::PathBuf;

use jiff::Timestamp;
use orbit_core::digest::Digest;
use orbit_core::run::Step;
use orbit_store::contract::dispatch::RedriveFrom;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{ConfigQuestion, LogQuestion};

/// A question or an order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// What the node is doing.
    Status,
    /// Fires a cycle; answers with its id.
    Run {
        /// See [`NamespaceChoice`].
        namespace: NamespaceChoice,
        /// Label or id; none if the namespace has one.
        run_profile: Option<String>,
        /// Names the firing.
        key: String,
        /// Execution requests to run instead of selecting; null to select.
        requests: Value,
    },
    /// Selects and builds the execution requests; changes nothing.
    DryRun {
        /// See [`NamespaceChoice`].
        namespace: NamespaceChoice,
        /// Label or id; none if the namespace has one.
        run_profile: Option<String>,
        /// Names the firing.
        key: String,
    },
    /// A page of a list.
    List {
        /// See [`NamespaceChoice`].
        namespace: NamespaceChoice,
        /// Of what.
        list: List,
        /// `next` of the page before.
        cursor: Option<String>,
        /// Items a page.
        limit: u32,
    },
    /// One thing; null if there is no such thing.
    Show {
        /// See [`NamespaceChoice`].
        namespace: NamespaceChoice,
        /// What.
        thing: Thing,
        /// Its id.
        id: Uuid,
    },
    /// A profile or run profile of the active snapshot; null if there is no such document.
    Document {
        /// See [`NamespaceChoice`].
        namespace: NamespaceChoice,
        /// Of which kind.
        kind: DocumentKind,
        /// Its label or id.
        reference: String,
    },
    /// Where the bytes of an artifact lie, for the owner of the home; null if they are not kept.
    Artifact {
        /// See [`NamespaceChoice`].
        namespace: NamespaceChoice,
        /// SHA-256 of the bytes.
        digest: Digest,
    },
    /// Records in order of position.
    Records {
        /// See [`NamespaceChoice`].
        namespace: NamespaceChoice,
        /// Only after this position.
        after: Option<u64>,
        /// Only about this run.
        run_id: Option<Uuid>,
        /// Only about this cycle.
        cycle_id: Option<Uuid>,
        /// Records at most.
        limit: u32,
    },
    /// What verifies a log.
    Log {
        /// See [`NamespaceChoice`]; `system` is the node's own.
        namespace: NamespaceChoice,
        /// The question.
        question: LogQuestion,
    },
    /// What is active, and that documents become it.
    Config {
        /// See [`NamespaceChoice`].
        namespace: NamespaceChoice,
        /// The question.
        question: ConfigQuestion,
    },
    /// Ends a run.
    CancelRun {
        /// See [`NamespaceChoice`].
        namespace: NamespaceChoice,
        /// The run.
        run_id: Uuid,
        /// Why.
        reason: String,
    },
    /// Tries dead letters again.
    Redrive {
        /// See [`NamespaceChoice`].
        namespace: NamespaceChoice,
        /// One delivery.
        delivery_id: Option<Uuid>,
        /// Those of a run.
        run_id: Option<Uuid>,
        /// Those of an endpoint.
        endpoint: Option<String>,
        /// Those that were given up then or later.
        since: Option<Timestamp>,
        /// Those that were given up before.
        until: Option<Timestamp>,
        /// Only count them.
        dry_run: bool,
        /// `next` of the answer before: one command redrives a bounded number.
        from: Option<RedriveFrom>,
    },
    /// Sends one request to an endpoint, marked as a test.
    TestEndpoint(EndpointTest),
    /// Whole ids by how they begin.
    Find {
        /// See [`NamespaceChoice`].
        namespace: NamespaceChoice,
        /// Of what.
        thing: Thing,
        /// Lower case, with dashes.
        beginning: String,
    },
    /// What an operator orders beside what runs by itself.
    Operate {
        /// See [`NamespaceChoice`].
        namespace: NamespaceChoice,
        /// The order.
        order: Order,
    },
    /// Begins a backup; answers as [`Self::BackupStage`].
    Backup {
        /// The folder to make: an absolute path.
        folder: PathBuf,
        /// Whether `.env` is taken too.
        with_secrets: bool,
    },
    /// How the backup that was begun last stands.
    BackupStage,
    /// One step of dropping what is too old.
    Collect {
        /// See [`NamespaceChoice`].
        namespace: NamespaceChoice,
        /// `next` of the answer before; 0 to begin.
        from: u16,
        /// Only count.
        dry_run: bool,
    },
    /// Stops everything.
    Halt {
        /// Only this namespace.
        namespace: Option<String>,
        /// Why.
        reason: String,
    },
    /// Lifts a halt.
    Resume {
        /// Only this namespace.
        namespace: Option<String>,
    },
}

/// See [`Command::Operate`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Order {
    /// Does a run again; answers as [`Command::Run`].
    Retry {
        /// The old run.
        run_id: Uuid,
        /// Where to begin.
        from: Step,
        /// Names the retry.
        key: String,
        /// Under the snapshot of the old run.
        pinned: bool,
    },
    /// Tries a processor.
    TestProcessor {
        /// Its name.
        name: String,
        /// Label or id of the profile as whose step it is tried.
        profile: Option<String>,
        /// The file that it is given, by its absolute path.
        input: Option<PathBuf>,
        /// Whether the output stays where the answer says.
        keep: bool,
    },
    /// Lifts the quarantine of a processor.
    ReleaseProcessor {
        /// Its name.
        name: String,
    },
}

/// The question of [`Command::TestEndpoint`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointTest {
    /// See [`NamespaceChoice`].
    pub namespace: NamespaceChoice,
    /// The endpoint's name.
    pub endpoint: String,
    /// What to send: an absolute path. A small JSON document if there is none.
    pub input: Option<PathBuf>,
    /// What that is.
    pub media_type: Option<String>,
}

/// A namespace by name, or the only one.
pub type NamespaceChoice = Option<String>;

/// What can be listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "of", rename_all = "snake_case")]
pub enum List {
    /// Cycles.
    Cycles,
    /// Initiations.
    Initiations,
    /// Runs.
    Runs {
        /// Only those of this cycle.
        cycle_id: Option<Uuid>,
    },
    /// Deliveries.
    Deliveries {
        /// Only those in this state.
        state: Option<String>,
    },
    /// Profiles of the active snapshot, by label.
    Profiles {
        /// Those that are archived too.
        archived: bool,
    },
    /// Run profiles of the active snapshot, by label.
    RunProfiles {
        /// Those that are archived too.
        archived: bool,
    },
}

/// What can be shown by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Thing {
    /// A cycle.
    Cycle,
    /// A run.
    Run,
    /// A delivery.
    Delivery,
}

/// Documents that can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DocumentKind {
    /// A profile.
    Profile,
    /// A run profile.
    RunProfile,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// What was asked for.
    Ok(Value),
    /// Why not.
    Refused(Refusal),
}

/// Why a command was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The exit code that goes with it.
    pub exit: u8,
}

impl Command {
    /// Whether asking twice is as good as asking once: what is repeated when the process that was asked went away without an answer. A
    /// firing is, because its key names it.
    pub const fn is_repeatable(&self) -> bool {
        match self {
            Self::Status
            | Self::Run { .. }
            | Self::DryRun { .. }
            | Self::List { .. }
            | Self::Show { .. }
            | Self::Document { .. }
            | Self::Artifact { .. }
            | Self::Find { .. }
            | Self::Log { .. }
            // An activation that was made is found as one.
            | Self::Config { .. }
            | Self::BackupStage
            | Self::Collect { .. }
            | Self::Records { .. } => true,
            Self::Operate { order, .. } => match order {
                Order::Retry { .. } => true,
                Order::TestProcessor { .. } | Order::ReleaseProcessor { .. } => false,
            },
            Self::CancelRun { .. }
            | Self::Backup { .. }
            | Self::Redrive { .. }
            | Self::TestEndpoint(_)
            | Self::Halt { .. }
            | Self::Resume { .. } => false,
        }
    }
}

/// The answer to [`Command::Run`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fired {
    /// The namespace.
    pub namespace: String,
    /// The cycle.
    pub cycle_id: Uuid,
    /// The snapshot it is pinned to.
    pub snapshot: Digest,
    /// False if a cycle with this key exists already.
    pub new: bool,
}

impl Refusal {
    /// A refusal that is the caller's to mend: exit code 2.
    pub fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: Some(hint.into()), exit: crate::exit::USAGE }
    }

    /// A failure of the engine or the machine: exit code 1.
    pub fn failure(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, exit: crate::exit::FAILED }
    }
}

impl From<orbit_store::StoreError> for Refusal {
    fn from(error: orbit_store::StoreError) -> Self {
        let hint = crate::stores::hint_of(&error).map(str::to_owned);
        Self { hint, ..Self::failure(error.to_string()) }
    }
}
