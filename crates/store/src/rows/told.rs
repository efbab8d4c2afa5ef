//! What a record tells of deliveries and their attempts: read here for whoever folds the log, into rows of tables or into memory.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use uuid::Uuid;

use super::Contradiction;

/// See the module.
pub(crate) enum Told<'a> {
    /// One is owed.
    Created(Created<'a>),
    /// An attempt is under way.
    Started(Started),
    /// An attempt has its receipt.
    Received(Received),
    /// It is accepted, or dead for this reason.
    Settled {
        /// The delivery.
        delivery_id: Uuid,
        /// Why it was given up.
        dead: Option<Cow<'a, str>>,
    },
    /// These wait again.
    Redriven(Vec<Uuid>),
}

/// A delivery that is owed.
#[derive(Deserialize)]
pub(crate) struct Created<'a> {
    /// Its id.
    pub(crate) delivery_id: Uuid,
    /// To whom.
    #[serde(borrow)]
    pub(crate) endpoint: Cow<'a, str>,
    /// Where that is.
    pub(crate) url: Cow<'a, str>,
    /// The notice that it is, if it is none of a run.
    pub(crate) notice_id: Option<Uuid>,
}

/// An attempt that begins.
#[derive(Deserialize)]
pub(crate) struct Started {
    /// The delivery.
    pub(crate) delivery_id: Uuid,
    /// Its number.
    pub(crate) attempt: u32,
}

/// An attempt that is over.
#[derive(Deserialize)]
pub(crate) struct Received {
    /// The delivery.
    pub(crate) delivery_id: Uuid,
    /// Its number.
    pub(crate) attempt: u32,
    /// What came of it.
    pub(crate) receipt: Value,
    /// When the next one is due. Records of older versions do not tell it.
    pub(crate) retry_at: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Settled<'a> {
    delivery_id: Uuid,
    #[serde(borrow)]
    reason: Option<Cow<'a, str>>,
    /// Of a notice; of a run the event says it.
    accepted: Option<bool>,
    event: Option<Event>,
}

#[derive(Deserialize)]
struct Event {
    accepted: Option<bool>,
}

#[derive(Deserialize)]
struct Redriven {
    deliveries: Vec<Uuid>,
}

impl<'a> Told<'a> {
    /// Whether records of this kind tell something.
    pub(crate) fn is_told_by(kind: &str) -> bool {
        matches!(
            kind,
            "delivery_created" | "attempt_started" | "receipt_captured" | "delivery_settled" | "redriven"
        )
    }

    /// Reads the body of a record of this kind; none if it tells nothing of deliveries.
    pub(crate) fn read<D: Deserializer<'a>>(kind: &str, body: D) -> Result<Option<Self>, Contradiction> {
        let unreadable = Contradiction::unreadable;
        Ok(Some(match kind {
            "delivery_created" => Self::Created(Created::deserialize(body).map_err(unreadable)?),
            "attempt_started" => Self::Started(Started::deserialize(body).map_err(unreadable)?),
            "receipt_captured" => Self::Received(Received::deserialize(body).map_err(unreadable)?),
            "delivery_settled" => Settled::deserialize(body).map_err(unreadable)?.told()?,
            "redriven" => Self::Redriven(Redriven::deserialize(body).map_err(unreadable)?.deliveries),
            _ => return Ok(None),
        }))
    }
}

impl<'a> Settled<'a> {
    fn told(self) -> Result<Told<'a>, Contradiction> {
        let accepted = self.event.map_or(self.accepted, |event| event.accepted);
        let delivery_id = self.delivery_id;
        match (accepted, self.reason) {
            (Some(true), _) => Ok(Told::Settled { delivery_id, dead: None }),
            (Some(false), Some(reason)) => Ok(Told::Settled { delivery_id, dead: Some(reason) }),
            (Some(false), None) => Err(Contradiction::new("it does not say why it was given up")),
            (None, _) => Err(Contradiction::new("it does not say whether it was accepted")),
        }
    }
}
