//! The notifier: follows a namespace's log from a durable cursor, gathers what somebody is to be told of, and owes it when it is due.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use orbit_core::config::{NotifyRule, Snapshot};
use orbit_core::dispatch::target_url;
use orbit_core::id;
use orbit_core::limits::NOTICE_GATHERS;
use orbit_core::notify::{Told, happened, template_values};
use orbit_store::contract::notify::{DueNotice, NewTold, NotifyCommit, OwedNotice};
use orbit_store::contract::record::{RecordFilter, StoredRecord};

use crate::namespace::Namespace;
use crate::service::{Service, Turn, TurnError};

/// Records that one turn reads.
const RECORDS_MAX: u32 = 256;
/// Notices that one turn owes.
const NOTICES_MAX: u32 = 64;
/// Records without anything to tell that are read again after a crash rather than written down as read.
const UNCOMMITTED_MAX: u64 = 4096;

/// See the module.
pub struct Notifier {
    namespace: Arc<Namespace>,
    read: Mutex<Option<Read>>,
}

/// How far the log was read beyond the durable cursor.
#[derive(Clone, Copy, Debug)]
struct Read {
    cursor: u64,
    through: u64,
}

impl Notifier {
    /// The notifier of a namespace.
    pub fn new(namespace: Arc<Namespace>) -> Self {
        Self { namespace, read: Mutex::default() }
    }

    /// Reads a page of the log; how many records there were.
    async fn gather(&self) -> Result<usize, TurnError> {
        let namespace = &self.namespace;
        let Some(snapshot) = namespace.active().filter(|snapshot| !snapshot.config.notify.is_empty()) else {
            return Ok(0);
        };
        let Some(cursor) = namespace.store.notify_cursor().await? else { return Ok(0) };
        let from = self.last_read().filter(|read| read.cursor == cursor).map_or(cursor, |read| read.through);
        let filter = RecordFilter { after: from.checked_sub(1), ..RecordFilter::default() };
        let records = namespace.store.records(filter, RECORDS_MAX).await?;
        let Some(last) = records.last() else { return Ok(0) };
        let through = last.position + 1;
        let rules = &snapshot.config.notify;
        let told: Vec<_> = records.iter().flat_map(|record| self.told(rules, record)).collect();
        if told.is_empty() && through - cursor < UNCOMMITTED_MAX {
            self.set_read(Some(Read { cursor, through }));
            return Ok(records.len());
        }
        let gathers = SignedDuration::try_from(NOTICE_GATHERS.to_duration()).unwrap_or_default();
        let now = namespace.shared.clock.now();
        let due_at = now.checked_add(gathers).unwrap_or(now);
        let commit = NotifyCommit { base: cursor, cursor: through, told, due_at };
        // A cursor that is another one now was moved by an activation; the next turn reads from there.
        namespace.store.commit_notices(commit).await?;
        self.set_read(None);
        Ok(records.len())
    }

    /// What a record is to whom.
    fn told(&self, rules: &[NotifyRule], record: &StoredRecord) -> Vec<NewTold> {
        let told = Told {
            position: record.position,
            at: record.at,
            kind: &record.kind,
            cycle_id: record.cycle_id,
            run_id: record.run_id,
            body: &record.body,
        };
        let Some(happened) = happened(&told) else { return Vec::new() };
        let event = happened.event.name();
        let listeners = rules.iter().filter(|rule| rule.on.contains(&happened.event));
        let new = |rule: &NotifyRule| {
            let endpoint = rule.endpoint.as_str();
            let position = (record.position, record.at);
            NewTold {
                notice_id: id::notice_id(&self.namespace.name, endpoint, event, position),
                endpoint: endpoint.to_owned(),
                event,
                count: happened.count,
                at: record.at,
                example: happened.example.clone(),
            }
        };
        listeners.map(new).collect()
    }

    /// Owes what is due; how much that was.
    async fn owe(&self) -> Result<usize, TurnError> {
        let namespace = &self.namespace;
        let Some(snapshot) = namespace.active() else { return Ok(0) };
        let due = namespace.store.due_notices(NOTICES_MAX, namespace.shared.clock.now()).await?;
        let count = due.len();
        for notice in due {
            let notice_id = notice.notice.notice_id;
            match self.addressed(&snapshot, notice) {
                Ok(owed) => _ = namespace.store.owe_notice(owed, namespace.shared.clock.now()).await?,
                Err(message) => {
                    namespace.record_failure(self.name(), &message).await;
                    namespace.store.forget_notice(notice_id).await?;
                }
            }
        }
        if count > 0 {
            namespace.nudges.dispatch.notify_one();
        }
        Ok(count)
    }

    /// The notice with its address, under the active snapshot.
    fn addressed(&self, snapshot: &Snapshot, due: DueNotice) -> Result<OwedNotice, String> {
        let name = &self.namespace.name;
        let notice = &due.notice;
        let lost = |why: &str| {
            let count = notice.count;
            format!("a notice of {count} `{}` to endpoint `{}` is dropped: {why}", notice.event, due.endpoint)
        };
        let endpoint = snapshot
            .endpoints
            .get(due.endpoint.as_str())
            .ok_or_else(|| lost("the configuration has no such endpoint any more"))?;
        let values = template_values(notice.event, name.as_str(), notice.notice_id);
        let url = target_url(endpoint, &values).map_err(|error| lost(&error.to_string()))?;
        Ok(OwedNotice {
            delivery_id: id::notice_delivery_id(notice.notice_id),
            url,
            snapshot: snapshot.digest(),
            body: notice.body(name.as_str(), &self.namespace.shared.node),
            due,
        })
    }

    fn last_read(&self) -> Option<Read> {
        *self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_read(&self, read: Option<Read>) {
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = read;
    }
}

#[async_trait]
impl Service for Notifier {
    fn name(&self) -> &'static str {
        "notify"
    }

    async fn turn(&self) -> Result<Turn, TurnError> {
        let read = self.gather().await?;
        let owed = self.owe().await?;
        // What is owed stands in the log, so a page of records that ends is read to its end without another turn at once.
        let more = read >= usize::try_from(RECORDS_MAX).unwrap_or(usize::MAX);
        let done = if more { read } else { owed };
        let next: Option<Timestamp> = self.namespace.store.next_notice_due().await?;
        Ok(Turn::did(done, next))
    }

    async fn failed(&self, error: &TurnError) {
        self.namespace.record_failure(self.name(), &error.to_string()).await;
    }
}
