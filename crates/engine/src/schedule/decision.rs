//! Decides about run profiles, each for itself: a failure or panic of one harms no other. Nothing is committed here.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use jiff::Timestamp;
use orbit_core::config::{NamespaceName, RunProfile};
use orbit_core::governance::{Door, GateFacts, gate};
use orbit_core::id::{Trigger, cycle_id};
use orbit_core::record::{Kind, Record, Subject};
use orbit_core::schedule::{Cursor, Facts, Load, Plan, ScheduleError, decide};
use orbit_store::StoreError;
use orbit_store::contract::schedule::{NewCycle, ScheduleCommit, ScheduleCursor, Standing};
use serde_json::Value;
use uuid::Uuid;

use super::agenda::LOOK_MAX;
use super::compiled::Compiled;
use crate::service::panic_text;

/// Cursors and cycles that are decided before they are committed, together; the last run profile may bring more.
const COMMITTED_MAX: usize = 2 * LOOK_MAX;

/// What all decisions of a turn have in common.
pub(super) struct About {
    pub(super) namespace: NamespaceName,
    pub(super) compiled: Arc<Compiled>,
    pub(super) gate: GateFacts,
    pub(super) now: Timestamp,
    pub(super) started_at: Timestamp,
    pub(super) reopened_at: Option<Timestamp>,
}

/// What is to be done about a run profile.
pub(super) struct Decision {
    /// What is to be committed, if anything has changed.
    pub(super) commit: Option<ScheduleCommit>,
    /// Its other cycles are cancelled first.
    pub(super) cancels_others: bool,
    /// When it is to be decided again.
    pub(super) next: Option<Timestamp>,
}

/// Why a run profile could not be decided.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    #[error("the decision panicked: {message}")]
    Panicked { message: String },
}

/// A run profile, and what came of it.
pub(super) type Decided = (Uuid, Result<Decision, Failure>);

/// Decides about the first of them, as many as are committed together; the others are left.
pub(super) fn decide_some(about: &About, standing: &mut VecDeque<(Uuid, Standing)>) -> Vec<Decided> {
    let (mut decided, mut rows) = (Vec::new(), 0);
    while rows < COMMITTED_MAX
        && let Some((id, standing)) = standing.pop_front()
    {
        let decision = catch_unwind(AssertUnwindSafe(|| about.decide(id, standing)));
        let decision =
            decision.unwrap_or_else(|panic| Err(Failure::Panicked { message: panic_text(&*panic) }));
        if let Ok(Decision { commit: Some(commit), .. }) = &decision {
            rows += 1 + commit.fire.len();
        }
        decided.push((id, decision));
    }
    decided
}

impl About {
    fn decide(&self, id: Uuid, standing: Standing) -> Result<Decision, Failure> {
        let nothing = Decision { commit: None, cancels_others: false, next: None };
        let Some((run_profile, schedule)) = self.compiled.get(id) else { return Ok(nothing) };
        let RunProfile { label, execution_policy: policy, state, .. } = run_profile;
        let document = format!("run profile `{label}`");
        let closed = gate(Door::Tick, &self.gate, &[(&document, *state)]).err();
        let base = standing.cursor.as_ref().map(|cursor| cursor.decided_through);
        let cursor = standing.cursor.map(|ScheduleCursor { decided_through, open_decisions }| Cursor {
            decided_through,
            memory: open_decisions,
        });
        let facts = Facts {
            schedule: schedule.as_ref().map_err(Clone::clone)?,
            overlap: policy.overlap,
            catch_up: &policy.catch_up,
            resume: &policy.resume,
            now: self.now,
            started_at: self.started_at,
            reopened_at: self.reopened_at,
            closed: closed.as_ref(),
            load: Load { active: standing.load.active, queued: standing.load.queued },
        };
        let plan = decide(&facts, cursor.as_ref());
        Ok(Decision {
            next: if plan.more { Some(self.now) } else { plan.next },
            cancels_others: plan.fire.iter().any(|fire| fire.cancel_others),
            commit: plan.changed.then(|| self.commit(run_profile, plan, base)),
        })
    }

    fn commit(&self, run_profile: &RunProfile, plan: Plan, base: Option<Timestamp>) -> ScheduleCommit {
        let RunProfile { run_profile_id, label, .. } = run_profile;
        let trigger = Trigger::Schedule;
        let fire = plan.fire.into_iter().map(|fire| NewCycle {
            cycle_id: cycle_id(&self.namespace, *run_profile_id, &trigger, fire.nominal),
            run_profile_id: *run_profile_id,
            run_profile: label.to_string(),
            trigger: trigger.to_string(),
            nominal: fire.nominal,
            snapshot: self.compiled.digest,
            queued: fire.queued,
            preset: Value::Null,
            detail: fire.detail,
        });
        let subject = Subject { snapshot: Some(self.compiled.digest), ..Subject::default() };
        let record = |body| Record::fact(self.now, Kind::ScheduleDecided, subject, body);
        let records =
            plan.decided.iter().map(|decided| record(decided.body(*run_profile_id, label.as_str())));
        ScheduleCommit {
            run_profile_id: *run_profile_id,
            base,
            cursor: ScheduleCursor {
                decided_through: plan.cursor.decided_through,
                open_decisions: plan.cursor.memory,
            },
            fire: fire.collect(),
            records: records.collect(),
        }
    }
}
