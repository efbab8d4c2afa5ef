//! Notices: which records somebody may want to be told of, and what a notice says.
//!
//! Pure. Reading the log, gathering and sending belong to the other layers. What a notice itself does never makes another one.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::config::NotifyEvent;
use crate::limits::{NOTICE_EXAMPLES_MAX, NOTICE_TEXT_BYTES_MAX};

/// What stands in a notice as `type`.
pub const NOTICE_TYPE: &str = "orbit.notice";
/// The media type of a notice.
pub const NOTICE_MEDIA_TYPE: &str = "application/json";

/// A record of the log, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// Its index.
    pub position: u64,
    /// When it was decided.
    pub at: Timestamp,
    /// Its kind's word.
    pub kind: &'a str,
    /// The cycle it is about.
    pub cycle_id: Option<Uuid>,
    /// The run it is about.
    pub run_id: Option<Uuid>,
    /// Its body.
    pub body: &'a Value,
}

/// What a record comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Happened {
    /// What happened.
    pub event: NotifyEvent,
    /// How often: a record of firings may stand for several.
    pub count: u64,
    /// Which record, what it is about and why, in bounded texts.
    pub example: Value,
}

/// Everything that a notice says.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// Its id, the same however often it is sent.
    pub notice_id: Uuid,
    /// What happened.
    pub event: NotifyEvent,
    /// How often.
    pub count: u64,
    /// When for the first time.
    pub first_at: Timestamp,
    /// When for the last time.
    pub last_at: Timestamp,
    /// The first few, each as [`Happened`] has it.
    pub examples: Value,
}

impl NotifyEvent {
    /// Every event.
    pub const ALL: [Self; 8] = [
        Self::CycleFailed,
        Self::DeadLetter,
        Self::EndpointDisabled,
        Self::ConfigRefused,
        Self::DiskFloor,
        Self::Halted,
        Self::TickMissed,
        Self::AnchorConflict,
    ];

    /// Its word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CycleFailed => "cycle_failed",
            Self::DeadLetter => "dead_letter",
            Self::EndpointDisabled => "endpoint_disabled",
            Self::ConfigRefused => "config_refused",
            Self::DiskFloor => "disk_floor",
            Self::Halted => "halted",
            Self::TickMissed => "tick_missed",
            Self::AnchorConflict => "anchor_conflict",
        }
    }

    /// What happened so often, as a sentence begins.
    fn counted(self, count: u64) -> String {
        let (one, many) = match self {
            Self::CycleFailed => ("a cycle failed", "cycles failed"),
            Self::DeadLetter => ("a delivery was given up", "deliveries were given up"),
            Self::EndpointDisabled => ("an endpoint was disabled", "endpoints were disabled"),
            Self::ConfigRefused => {
                ("a changed configuration was refused", "changed configurations were refused")
            }
            Self::DiskFloor => ("free space fell below the floor", "times free space fell below the floor"),
            Self::Halted => ("work was halted", "times work was halted"),
            Self::TickMissed => ("a firing was missed", "firings were missed"),
            Self::AnchorConflict => {
                ("the anchor contradicted the log", "times the anchor contradicted the log")
            }
        };
        if count == 1 { one.to_owned() } else { format!("{count} {many}") }
    }
}

/// Not the word of an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an event that is told")]
pub struct UnknownEvent(String);

impl FromStr for NotifyEvent {
    type Err = UnknownEvent;

    fn from_str(word: &str) -> Result<Self, UnknownEvent> {
        let found = Self::ALL.into_iter().find(|event| event.name() == word);
        found.ok_or_else(|| UnknownEvent(word.to_owned()))
    }
}

impl fmt::Display for NotifyEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a record comes to; nothing for most, and nothing for what a notice itself did.
pub fn happened(told: &Told<'_>) -> Option<Happened> {
    let body = told.body;
    if body.get("notice_id").is_some() {
        return None;
    }
    let is = |field: &str, word: &str| body[field] == word;
    let (event, count) = match told.kind {
        "cycle_finished" if is("outcome", "failed") => (NotifyEvent::CycleFailed, 1),
        "delivery_settled" if body["event"]["accepted"] == false => (NotifyEvent::DeadLetter, 1),
        "endpoint_disabled" => (NotifyEvent::EndpointDisabled, 1),
        "config_refused" => (NotifyEvent::ConfigRefused, 1),
        "gate_closed" if is("closed", "disk_floor") => (NotifyEvent::DiskFloor, 1),
        // The namespace's own halt has a record of its own; of the node's the namespace sees only its gate.
        "gate_closed" if is("closed", "halted_global") => (NotifyEvent::Halted, 1),
        "halted" => (NotifyEvent::Halted, 1),
        "schedule_decided" if is("decision", "missed") => {
            (NotifyEvent::TickMissed, body["count"].as_u64().unwrap_or(1).max(1))
        }
        "anchor_conflict" => (NotifyEvent::AnchorConflict, 1),
        _ => return None,
    };
    Some(Happened { event, count, example: example(told) })
}

fn example(told: &Told<'_>) -> Value {
    let mut fields = Map::new();
    fields.insert("position".to_owned(), json!(told.position));
    fields.insert("at".to_owned(), json!(told.at));
    fields.insert("kind".to_owned(), json!(told.kind));
    let mut put = |name: &str, value: Option<Value>| value.map(|value| fields.insert(name.to_owned(), value));
    put("cycle_id", told.cycle_id.map(|id| json!(id)));
    put("run_id", told.run_id.map(|id| json!(id)));
    for name in ["delivery_id", "endpoint", "run_profile", "outcome", "from", "to", "count", "reason"] {
        put(name, told.body.get(name).map(bounded));
    }
    if let Some(problems) = told.body.get("problems").and_then(Value::as_array) {
        let is_error = |problem: &&Value| problem["severity"] != "warning";
        put("problems", Some(json!(problems.iter().filter(is_error).count())));
        put("first", problems.iter().find(is_error).map(problem));
    }
    Value::Object(fields)
}

/// A problem of a configuration as `check` prints it.
fn problem(problem: &Value) -> Value {
    let text = |name: &str| problem[name].as_str().unwrap_or_default();
    let number = |name: &str| problem[name].as_u64().unwrap_or(0);
    let line = format!("{}:{}:{}: {}", text("path"), number("line"), number("column"), text("message"));
    bounded(&Value::String(line))
}

/// Texts are cut, lists and objects are left out.
fn bounded(value: &Value) -> Value {
    match value {
        Value::String(text) => {
            let end = text.floor_char_boundary(NOTICE_TEXT_BYTES_MAX);
            Value::String(text[..end].to_owned())
        }
        Value::Number(_) | Value::Bool(_) | Value::Null => value.clone(),
        Value::Array(_) | Value::Object(_) => Value::Null,
    }
}

impl Notice {
    /// What is sent: small, and the same text whenever it is made of the same notice.
    pub fn body(&self, namespace: &str, node: &str) -> Value {
        let examples = match &self.examples {
            Value::Array(all) => all.iter().take(NOTICE_EXAMPLES_MAX).cloned().collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
                Vec::new()
            }
        };
        json!({
            "type": NOTICE_TYPE,
            "notice_id": self.notice_id,
            "event": self.event,
            "namespace": namespace,
            "node": node,
            "count": self.count,
            "first_at": self.first_at,
            "last_at": self.last_at,
            "examples": examples,
            "summary": format!("{} in namespace `{namespace}` of node `{node}`", self.event.counted(self.count)),
        })
    }
}

/// What the templates of an endpoint's address and headers may use for a notice.
pub fn template_values(event: NotifyEvent, namespace: &str, notice_id: Uuid) -> Value {
    json!({ "notice": { "event": event, "namespace": namespace, "id": notice_id } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Kind;
    use crate::run::RunEvent;

    fn of(kind: &str, body: &Value) -> Option<Happened> {
        assert!(Kind::ALL.iter().any(|known| known.name() == kind), "{kind}");
        let at = Timestamp::UNIX_EPOCH;
        happened(&Told { position: 7, at, kind, cycle_id: None, run_id: Some(Uuid::nil()), body })
    }

    #[test]
    fn records_that_are_told() {
        let check = |kind: &str, body: Value, expected: Option<(NotifyEvent, u64)>| {
            let found = of(kind, &body).map(|happened| (happened.event, happened.count));
            assert_eq!(found, expected, "{kind} {body}");
        };
        let once = |event| Some((event, 1));
        check("cycle_finished", json!({"outcome": "failed"}), once(NotifyEvent::CycleFailed));
        for outcome in ["succeeded", "partial", "cancelled", "skipped"] {
            check("cycle_finished", json!({ "outcome": outcome }), None);
        }
        let settled = |accepted| json!({ "event": RunEvent::DeliverySettled { accepted } });
        check("delivery_settled", settled(false), once(NotifyEvent::DeadLetter));
        check("delivery_settled", settled(true), None);
        check("endpoint_disabled", json!({"endpoint": "a"}), once(NotifyEvent::EndpointDisabled));
        check("config_refused", json!({"problems": []}), once(NotifyEvent::ConfigRefused));
        let gate = |closed: &str| json!({ "open": false, "closed": closed });
        check("gate_closed", gate("disk_floor"), once(NotifyEvent::DiskFloor));
        check("gate_closed", gate("halted_global"), once(NotifyEvent::Halted));
        check("gate_closed", gate("halted_namespace"), None);
        check("gate_closed", gate("paused"), None);
        check("gate_closed", json!({"open": true}), None);
        check("halted", json!({"reason": "x"}), once(NotifyEvent::Halted));
        check("resumed", json!({"reason": "x"}), None);
        let missed = json!({"decision": "missed", "count": 4});
        check("schedule_decided", missed, Some((NotifyEvent::TickMissed, 4)));
        check("schedule_decided", json!({"decision": "skipped", "count": 4}), None);
        check("anchor_conflict", json!({"number": 3}), once(NotifyEvent::AnchorConflict));
        check("step_failed", json!({}), None);
    }

    #[test]
    fn what_a_notice_does_is_not_told() {
        let body = json!({ "notice_id": Uuid::nil(), "event": { "accepted": false } });
        for kind in ["delivery_settled", "endpoint_disabled"] {
            assert_eq!(of(kind, &body), None, "{kind}");
        }
    }

    #[test]
    fn examples_are_short() {
        let long = "ä".repeat(NOTICE_TEXT_BYTES_MAX);
        let example = of("endpoint_disabled", &json!({"reason": long, "endpoint": "a"})).unwrap().example;
        assert_eq!(example["reason"].as_str().unwrap().len(), NOTICE_TEXT_BYTES_MAX);
        assert_eq!((&example["endpoint"], &example["position"]), (&json!("a"), &json!(7)));
        let problems = json!([
            {"severity": "warning"},
            {"path": "a.yaml", "line": 1, "column": 2, "severity": "error", "message": "odd"},
            {"severity": "error"},
        ]);
        let example = of("config_refused", &json!({ "problems": problems })).unwrap().example;
        assert_eq!((&example["problems"], &example["first"]), (&json!(2), &json!("a.yaml:1:2: odd")));
    }

    #[test]
    fn a_notice() {
        let notice = |count| Notice {
            notice_id: Uuid::nil(),
            event: NotifyEvent::CycleFailed,
            count,
            first_at: Timestamp::UNIX_EPOCH,
            last_at: Timestamp::UNIX_EPOCH,
            examples: json!(vec![json!({}); NOTICE_EXAMPLES_MAX + 3]),
        };
        let body = notice(5).body("lab", "vps-1");
        assert_eq!(body["summary"], "5 cycles failed in namespace `lab` of node `vps-1`");
        assert_eq!(body["examples"].as_array().unwrap().len(), NOTICE_EXAMPLES_MAX);
        assert_eq!((&body["type"], &body["count"]), (&json!("orbit.notice"), &json!(5)));
        assert_eq!(notice(1).body("lab", "n")["summary"], "a cycle failed in namespace `lab` of node `n`");
        for event in NotifyEvent::ALL {
            assert_eq!(event.to_string().parse(), Ok(event));
            assert_eq!(serde_json::to_value(event).unwrap(), json!(event.name()));
        }
    }
}
