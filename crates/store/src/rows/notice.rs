//! What the record of a notice's delivery tells of the notice: read here for whoever folds the log, into rows of tables or into memory.

use jiff::Timestamp;
use orbit_core::canonical;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::Contradiction;

#[derive(Deserialize)]
struct Body {
    endpoint: String,
    notice: Value,
    gathered_until: Option<Timestamp>,
}

/// A notice that gathers no more: its body says what it gathered.
pub(crate) struct Owed {
    /// To whom.
    pub(crate) endpoint: String,
    /// What of.
    pub(crate) event: Option<String>,
    /// How often it happened.
    pub(crate) count: Option<u64>,
    /// When first.
    pub(crate) first_at: Timestamp,
    /// When last.
    pub(crate) last_at: Timestamp,
    /// The first few, canonical.
    pub(crate) examples: String,
    /// When it gathered no more. Records of older versions do not tell it.
    pub(crate) due_at: Option<Timestamp>,
    /// What is sent, canonical.
    pub(crate) body: String,
}

impl Owed {
    /// Reads the body of a `delivery_created` of a notice.
    pub(crate) fn read<'de, D: Deserializer<'de>>(body: D) -> Result<Self, Contradiction> {
        let Body { endpoint, notice, gathered_until } =
            Body::deserialize(body).map_err(Contradiction::unreadable)?;
        let instant = |name: &str| {
            notice[name]
                .as_str()
                .and_then(|text| text.parse::<Timestamp>().ok())
                .ok_or_else(|| Contradiction::new(format!("`notice.{name}` is no instant: {}", notice[name])))
        };
        Ok(Self {
            event: notice["event"].as_str().map(str::to_owned),
            count: notice["count"].as_u64(),
            first_at: instant("first_at")?,
            last_at: instant("last_at")?,
            examples: canonical::of(&notice["examples"]),
            due_at: gathered_until,
            body: canonical::of(&notice),
            endpoint,
        })
    }
}
