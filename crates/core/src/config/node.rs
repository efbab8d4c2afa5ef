//! `orbit.yaml` and `namespace.yaml`: what belongs to the node and to a namespace as a whole.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ByteSize, Heartbeat, Millis, NotifyRule};

/// `orbit.yaml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NodeConfig {
    /// Who this node is.
    pub node: NodeIdentity,
    /// Where rows are kept.
    pub storage: Storage,
    /// Where payloads are kept.
    pub artifacts: Artifacts,
    /// Where health and, later, the API are served.
    pub listen: Listen,
    /// What this node may do at once.
    pub limits: NodeLimits,
    /// Tells a watcher that the node lives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<Heartbeat>,
    /// What becomes of the logs, that of the node and those of namespaces that say nothing of their own.
    #[serde(skip_serializing_if = "LogConfig::is_default")]
    pub log: LogConfig,
}

/// What becomes of a log besides being kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// An absolute path: the folder, best on another machine or disk, to which every signed checkpoint is copied as
    /// `NAMESPACE/ID/NUMBER.note`. Whoever rewrites the log cannot make these agree.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anchor: Option<String>,
}

impl LogConfig {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Who this node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NodeIdentity {
    /// The node's name in records and status.
    pub name: String,
}

/// Where rows are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Storage {
    /// The database.
    pub backend: StorageBackend,
}

/// The databases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StorageBackend {
    /// One SQLite file a namespace, inside the home.
    #[default]
    Sqlite,
    /// One PostgreSQL database, whose address is the secret `ORBIT_DATABASE_URL`; `orbit database migrate` makes its tables.
    Postgres,
}

/// Where payloads are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Artifacts {
    /// The object store.
    pub backend: ArtifactBackend,
    /// For `s3`: the name of the bucket, which must exist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bucket: Option<String>,
    /// For `s3`: the address of the service, as in `https://objects.example.net`. Buckets are addressed by path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// For `s3`: the region that requests are signed for.
    #[serde(skip_serializing_if = "is_usual_region")]
    pub region: String,
    /// For `s3`: what every key begins with. Homes that share a bucket must each have their own.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// For `s3`: whether the address may be a plain `http` one that is not of this machine. Payloads and their names are then readable on the way.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub allow_http: bool,
}

/// Where payloads are kept if it is a bucket, borrowed from [`Artifacts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketPlace<'a> {
    /// Its name.
    pub bucket: &'a str,
    /// The address of the service.
    pub endpoint: &'a str,
    /// The region.
    pub region: &'a str,
    /// What every key begins with; may be empty.
    pub prefix: &'a str,
    /// Whether the address begins with `http:`.
    pub is_plain: bool,
}

impl Artifacts {
    /// The bucket; none if payloads lie in a folder, or if what is needed is not said, which the check refuses.
    pub fn place(&self) -> Option<BucketPlace<'_>> {
        match self.backend {
            ArtifactBackend::Folder => None,
            ArtifactBackend::S3 => {
                let (bucket, endpoint) = (self.bucket.as_deref()?, self.endpoint.as_deref()?);
                let is_plain = endpoint.starts_with("http:");
                Some(BucketPlace { bucket, endpoint, region: &self.region, prefix: &self.prefix, is_plain })
            }
        }
    }
}

impl Default for Artifacts {
    fn default() -> Self {
        Self {
            backend: ArtifactBackend::default(),
            bucket: None,
            endpoint: None,
            region: USUAL_REGION.to_owned(),
            prefix: String::new(),
            allow_http: false,
        }
    }
}

/// What services that know no regions expect.
const USUAL_REGION: &str = "us-east-1";

fn is_usual_region(region: &str) -> bool {
    region == USUAL_REGION
}

/// The object stores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ArtifactBackend {
    /// A content-addressed folder inside the home.
    #[default]
    Folder,
    /// A bucket of an S3-compatible service; the folder inside the home is its cache.
    S3,
}

/// Where health is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    /// Address and port; port 0 takes a free one, which `orbit status` names.
    pub address: String,
}

/// What this node may do at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NodeLimits {
    /// Runs that may work at once, over all namespaces.
    #[schemars(range(min = 1, max = 1024))]
    pub runs_concurrent: u32,
    /// How long a soft stop waits for steps and requests under way.
    pub drain: Millis,
}

/// `namespace.yaml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NamespaceConfig {
    /// A name for people; the folder's name is the identity.
    pub label: String,
    /// Ceilings on what the namespace may do.
    pub caps: Caps,
    /// Below this much free space nothing new starts.
    pub disk_floor: ByteSize,
    /// Who is told of what; nobody if nothing is said.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notify: Vec<NotifyRule>,
    /// What becomes of the namespace's log; what `orbit.yaml` says, if nothing is said.
    #[serde(skip_serializing_if = "LogConfig::is_default")]
    pub log: LogConfig,
    /// How long what only proves and repeats is kept.
    #[serde(skip_serializing_if = "Retention::is_default")]
    pub retention: Retention,
}

/// How long evidence and artifacts are kept, counted from when they were made last. Everything else is kept for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// Bodies of answers, what programs wrote to standard error: at least 1d. That they were there, and their digests, stays in the log.
    pub evidence: Millis,
    /// The bytes that steps made: at least 1d. Never those that a run, a delivery or a snapshot still needs.
    pub artifacts: Millis,
}

impl Retention {
    /// Whether nothing was said, so that the digests of configurations from before stay as they were.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self { evidence: Millis::hours(90 * 24), artifacts: Millis::hours(30 * 24) }
    }
}

/// Ceilings; an omitted one is unlimited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Caps {
    /// Runs that may work at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub runs_concurrent: Option<u32>,
}

impl Default for NodeIdentity {
    fn default() -> Self {
        Self { name: "orbit".to_owned() }
    }
}

impl Default for Listen {
    fn default() -> Self {
        Self { address: "127.0.0.1:7878".to_owned() }
    }
}

impl Default for NodeLimits {
    fn default() -> Self {
        Self { runs_concurrent: 8, drain: Millis::seconds(30) }
    }
}

impl Default for NamespaceConfig {
    fn default() -> Self {
        Self {
            label: String::new(),
            caps: Caps::default(),
            disk_floor: ByteSize::mib(256),
            notify: Vec::new(),
            log: LogConfig::default(),
            retention: Retention::default(),
        }
    }
}
