//! Reads for screens. They append no record.

use async_trait::async_trait;
use jiff::Timestamp;
use orbit_core::digest::Digest;
use orbit_core::dispatch::breaker::{Breaker, Health};
use orbit_core::run::Step;
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::StoreError;
use super::selection::Initiation;

/// A page of a list, newest first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where the next page begins; null if this is the last.
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// The first items of these, of which there is one more than the page has if there is another page; that begins after what `key` says of the last item.
    pub(crate) fn until(mut items: Vec<T>, limit: u32, key: impl Fn(&T) -> String) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(key);
        Self { items, next }
    }
}

/// Which page to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageRequest {
    /// `next` of the page before; an unknown text gives an empty page.
    pub cursor: Option<String>,
    /// Items a page, at most 1000.
    pub limit: u32,
}

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunView {
    /// The run.
    pub run_id: Uuid,
    /// Its cycle.
    pub cycle_id: Uuid,
    /// Its namespace.
    pub namespace: String,
    /// Its profile.
    pub profile_id: Uuid,
    /// The profile's label.
    pub profile: String,
    /// Its run profile.
    pub run_profile_id: Uuid,
    /// The run profile's label.
    pub run_profile: String,
    /// The snapshot it is pinned to.
    pub snapshot: Digest,
    /// `ready`, `working`, `waiting`, `dispatching` or `finished`.
    pub state: String,
    /// Null until it is finished.
    pub outcome: Option<String>,
    /// Why, where the outcome alone does not say.
    pub reason: Option<String>,
    /// What the initiation is called.
    pub initiation: String,
    /// The instant that its cycle stands for.
    pub nominal_time: Timestamp,
    /// The run that this one does again.
    pub retry_of: Option<Uuid>,
    /// The step at which it began, if not tier 1.
    pub from: Option<Step>,
    /// Runs that do this one again, oldest first.
    pub retried_by: Vec<Uuid>,
    /// When it was admitted.
    pub started_at: Timestamp,
    /// When it was finished.
    pub finished_at: Option<Timestamp>,
    /// Its steps so far.
    pub steps: Vec<StepView>,
    /// What it owes.
    pub deliveries: Vec<DeliveryView>,
}

/// What a run was asked to do.
#[derive(Clone, Debug, PartialEq)]
pub struct RunRequest {
    /// The execution request; null if it could not be made.
    pub request: Value,
    /// The initiation of its cycle.
    pub initiation: Option<Initiation>,
}

/// What has an id that people type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identified {
    /// Cycles.
    Cycle,
    /// Runs.
    Run,
    /// Deliveries.
    Delivery,
}

/// A step of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepView {
    /// `tier1`, `tier2`, `tier3` or `normalize`.
    pub step: String,
    /// `working`, `succeeded`, `failed`, `interrupted` or `cancelled`: how the last attempt stands.
    pub state: String,
    /// Attempts so far.
    pub attempts: u32,
    /// When its first attempt started.
    pub started_at: Timestamp,
    /// When its last attempt ended.
    pub finished_at: Option<Timestamp>,
    /// The output's length.
    pub bytes: Option<u64>,
    /// The output's digest.
    pub digest: Option<Digest>,
    /// The output's declared media type.
    pub media_type: Option<String>,
    /// The last failure, for people.
    pub failure: Option<String>,
}

/// A delivery.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DeliveryView {
    /// The delivery.
    pub delivery_id: Uuid,
    /// Its run; null of a notice.
    pub run_id: Option<Uuid>,
    /// Of a notice, what it tells of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notice: Option<NoticeView>,
    /// Its endpoint.
    pub endpoint: String,
    /// Where it goes.
    pub url: String,
    /// `waiting`, `sending`, `accepted`, `dead` or `cancelled`.
    pub state: String,
    /// Why it is dead.
    pub reason: Option<String>,
    /// Attempts so far.
    pub attempts: u32,
    /// When the next attempt is due.
    pub due_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was accepted or given up.
    pub settled_at: Option<Timestamp>,
    /// The digest of the artifact or the notice.
    pub digest: Digest,
    /// Its length.
    pub bytes: u64,
    /// One receipt an attempt, oldest first; the one under way has none.
    pub receipts: Vec<ReceiptView>,
}

/// What a notice tells of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NoticeView {
    /// The notice.
    pub notice_id: Uuid,
    /// The event's word.
    pub event: String,
    /// How often it happened.
    pub count: u64,
}

/// The answer to one attempt.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReceiptView {
    /// The attempt, from 1.
    pub attempt: u32,
    /// When the attempt's record was made.
    pub started_at: Timestamp,
    /// When the answer was known.
    pub at: Timestamp,
    /// The receipt as recorded.
    pub receipt: Value,
}

/// A cycle.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CycleView {
    /// The cycle.
    pub cycle_id: Uuid,
    /// Its namespace.
    pub namespace: String,
    /// Its run profile.
    pub run_profile_id: Uuid,
    /// The run profile's label.
    pub run_profile: String,
    /// `schedule`, `manual:<key>` or `backfill:<id>`.
    pub trigger: String,
    /// The instant it stands for.
    pub nominal_time: Timestamp,
    /// The snapshot it is pinned to.
    pub snapshot: Digest,
    /// `queued`, `waiting`, `selecting`, `running` or `finished`.
    pub state: String,
    /// Null until it is finished.
    pub outcome: Option<String>,
    /// Why, where the outcome alone does not say.
    pub reason: Option<String>,
    /// What it is about; null until it is selected.
    pub initiation: Option<String>,
    /// When it was fired.
    pub fired_at: Timestamp,
    /// When it was finished.
    pub finished_at: Option<Timestamp>,
    /// Its runs.
    pub runs: Vec<Uuid>,
}

/// An initiation in the history.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct InitiationView {
    /// The initiation.
    pub id: Uuid,
    /// The cycle that took it.
    pub cycle_id: Uuid,
    /// What it is called.
    pub label: String,
    /// How likely it was.
    pub weight: f64,
    /// Anything else.
    pub metadata: Map<String, Value>,
    /// SHA-256 of its compared parts.
    pub hash: Digest,
    /// Where it must be new.
    pub scope: String,
    /// When it was taken.
    pub selected_at: Timestamp,
    /// When it was freed again.
    pub released_at: Option<Timestamp>,
}

/// So far rows of one state are counted, so that a look at a backlog of millions takes no longer than one at this many.
pub const COUNT_MAX: u64 = 100_000;

/// How much of everything there is. A count of [`COUNT_MAX`] means that many or more, but for records, which are known exactly.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Cycles by state.
    pub cycles: std::collections::BTreeMap<String, u64>,
    /// Runs by state.
    pub runs: std::collections::BTreeMap<String, u64>,
    /// Deliveries by state.
    pub deliveries: std::collections::BTreeMap<String, u64>,
    /// Records in the log.
    pub records: u64,
    /// Endpoints of which there is more to tell than that they take deliveries, those that are disabled among them.
    pub endpoints: std::collections::BTreeMap<String, EndpointView>,
}

impl Counts {
    /// Endpoints that are disabled, with the reason.
    pub fn disabled(&self) -> std::collections::BTreeMap<&str, &str> {
        let with_reason = self.endpoints.iter().map(|(name, view)| (name.as_str(), view.reason.as_deref()));
        with_reason.filter_map(|(name, reason)| Some((name, reason?))).collect()
    }
}

/// How an endpoint does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EndpointView {
    /// Its breaker, `closed`, `open` or `half_open`; or `disabled`.
    pub state: String,
    /// Attempts in a row that found it down, while its breaker is closed.
    pub failures: u32,
    /// Nothing is sent before this, while its breaker is open.
    pub open_until: Option<Timestamp>,
    /// Since when nothing was accepted.
    pub failing_since: Option<Timestamp>,
    /// Why it is disabled.
    pub reason: Option<String>,
}

impl From<&Health> for EndpointView {
    fn from(health: &Health) -> Self {
        let (breaker, failing) = match health {
            Health::Enabled { breaker, failing } => (breaker, failing),
            Health::Disabled { reason, .. } => {
                let (state, reason) = ("disabled".to_owned(), Some(reason.clone()));
                return Self { state, reason, ..Self::default() };
            }
        };
        let (failures, open_until) = match breaker {
            Breaker::Closed { failures } => (*failures, None),
            Breaker::Open { until, .. } => (0, Some(*until)),
            Breaker::HalfOpen { .. } => (0, None),
        };
        Self {
            state: breaker.name().to_owned(),
            failures,
            open_until,
            failing_since: failing.map(|failing| failing.since),
            reason: None,
        }
    }
}

/// See the module.
#[async_trait]
pub trait StoreView {
    /// Cycles.
    async fn cycles(&self, page: PageRequest) -> Result<Page<CycleView>, StoreError>;
    /// A cycle.
    async fn cycle(&self, cycle_id: Uuid) -> Result<Option<CycleView>, StoreError>;
    /// Runs, of one cycle if it is given.
    async fn runs(&self, cycle_id: Option<Uuid>, page: PageRequest) -> Result<Page<RunView>, StoreError>;
    /// A run.
    async fn run(&self, run_id: Uuid) -> Result<Option<RunView>, StoreError>;
    /// What a run was asked to do.
    async fn run_request(&self, run_id: Uuid) -> Result<Option<RunRequest>, StoreError>;
    /// Up to `limit` ids whose text begins so (lower case, with dashes), in the order of their texts.
    async fn ids_that_begin(
        &self,
        of: Identified,
        beginning: &str,
        limit: u32,
    ) -> Result<Vec<Uuid>, StoreError>;
    /// Deliveries, in one state if it is given.
    async fn deliveries(
        &self,
        state: Option<String>,
        page: PageRequest,
    ) -> Result<Page<DeliveryView>, StoreError>;
    /// A delivery.
    async fn delivery(&self, delivery_id: Uuid) -> Result<Option<DeliveryView>, StoreError>;
    /// The history of initiations.
    async fn initiations(&self, page: PageRequest) -> Result<Page<InitiationView>, StoreError>;
    /// How much of everything there is.
    async fn counts(&self) -> Result<Counts, StoreError>;
}
