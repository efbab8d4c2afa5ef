//! What the operator writes: the typed form of every document, and the snapshot that a valid set becomes.
//!
//! Owns the shapes, defaults and units of design section 8 and the checks that need several documents at once. Never reads a
//! file: text and places belong to the `orbit` crate's loader.

mod changes;
pub mod check;
mod endpoint;
mod http;
mod names;
mod node;
mod notify;
mod processor;
mod profile;
mod run_profile;
mod schedule;
mod secret;
mod snapshot;
mod source;
mod units;

pub use changes::{Change, What, changes};
pub(crate) use endpoint::default_disable_after;
pub use endpoint::{
    Addresses, Auth, BasicAuth, BodyMode, BreakerRule, DeliveryRetry, Endpoint, HeaderAuth, Method, Network,
    Rate, Sign,
};
pub use http::{
    Completion, ContextMode, DeclaredOutput, HttpLimits, HttpProcessor, HttpSource, ListingLimits, Poll,
    SourceFormat,
};
pub use names::{DocName, NameError, NamespaceName};
pub use node::{
    ArtifactBackend, Artifacts, BucketPlace, Caps, Listen, LogConfig, NamespaceConfig, NodeConfig,
    NodeIdentity, NodeLimits, Retention, Storage, StorageBackend,
};
pub use notify::{Heartbeat, NotifyEvent, NotifyRule};
pub use processor::{
    Backoff, ExecProcessor, InputMode, Jitter, Limits, OutputSpec, OutputTarget, Processor, StepRetry,
    Validate,
};
pub use profile::{
    BatchRule, DistributionTarget, DocState, ExecutionRules, NormalizeRule, Profile, Synthesis, Tier,
    ValueTag,
};
pub use run_profile::{
    CatchUp, Choose, Dedupe, DedupeField, DedupeScope, DedupeWindow, ExecutionPolicy, MissedPolicy, Overlap,
    ReleaseOutcome, Resume, RunProfile, Selection,
};
pub use schedule::{DstPolicy, Exclusion, FoldPolicy, GapPolicy, ScheduleEntry, ScheduleSpec};
pub use secret::{NotASecretReference, SecretRef, TextOrSecret};
pub use snapshot::{Asset, Known, Snapshot, settings_digest};
pub use source::{CandidateItem, ExecSource, FileSource, InlineSource, Source};
pub use units::{ByteSize, Millis, UnitError};
