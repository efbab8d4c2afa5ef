//! Identities: an id is a hash of what a thing is, so that a repeat, a crash or a restore gives the same one.
//!
//! A cycle that stands for an instant, and all that comes of it, is a UUIDv8 (RFC 9562, section 5.8): the hash of UUIDv5, but for the first 16 bits,
//! which are the instant's second modulo 2^16. So the rows of what is under way together are neighbours in every index of a store, and a commit of many
//! runs writes few pages instead of one for each run. All other ids are UUIDv5.

use std::fmt;

use jiff::Timestamp;
use uuid::Uuid;

use crate::config::NamespaceName;
use crate::digest::Digest;
use crate::run::Step;

/// The root of every id: UUIDv5 of the DNS name space (RFC 9562, appendix A) and `orbit.invalid`.
const ROOT: Uuid = Uuid::from_u128(0xde37_dbd5_0d15_5ad0_a45b_c319_ecd2_a3a1);

/// The version of an id whose first bits are a place.
const PLACED: usize = 8;

/// Why a cycle fires.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trigger {
    /// Its schedule came due.
    Schedule,
    /// By hand; the same key fires once.
    Manual {
        /// Chosen by the caller.
        key: String,
    },
    /// Part of a backfill.
    Backfill {
        /// The backfill.
        id: String,
    },
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Schedule => f.write_str("schedule"),
            Self::Manual { key } => write!(f, "manual:{key}"),
            Self::Backfill { id } => write!(f, "backfill:{id}"),
        }
    }
}

/// The cycle of a run profile, a trigger and a nominal instant; the epoch stands for none.
pub fn cycle_id(
    namespace: &NamespaceName,
    run_profile_id: Uuid,
    trigger: &Trigger,
    nominal: Timestamp,
) -> Uuid {
    let id = derive(&[
        "cycle",
        namespace.as_str(),
        &run_profile_id.to_string(),
        &trigger.to_string(),
        &nominal.to_string(),
    ]);
    match nominal.as_second() {
        0 => id,
        second => beside(second.to_be_bytes().last_chunk().copied().unwrap_or_default(), id),
    }
}

/// The initiation of a cycle: it has exactly one.
pub fn initiation_id(cycle_id: Uuid) -> Uuid {
    of(cycle_id, derive(&["initiation", &cycle_id.to_string()]))
}

/// The run of a profile within a cycle.
pub fn run_id(cycle_id: Uuid, profile_id: Uuid) -> Uuid {
    of(cycle_id, derive(&["run", &cycle_id.to_string(), &profile_id.to_string()]))
}

/// What a run owes to an endpoint; also the `Idempotency-Key` of every attempt at it.
pub fn delivery_id(run_id: Uuid, endpoint: &str) -> Uuid {
    of(run_id, derive(&["delivery", &run_id.to_string(), endpoint]))
}

/// The notice to an endpoint that an event at this position of the log begins. The instant keeps it apart from that of a log that was restored.
pub fn notice_id(
    namespace: &NamespaceName,
    endpoint: &str,
    event: &str,
    (position, at): (u64, Timestamp),
) -> Uuid {
    derive(&["notice", namespace.as_str(), endpoint, event, &position.to_string(), &at.to_string()])
}

/// The delivery of a notice; also the `Idempotency-Key` of every attempt at it.
pub fn notice_delivery_id(notice_id: Uuid) -> Uuid {
    derive(&["notice delivery", &notice_id.to_string()])
}

/// The idempotency key of a step: the same for all of its attempts.
pub fn step_key(run_id: Uuid, step: Step) -> Uuid {
    derive(&["step", &run_id.to_string(), step.name()])
}

/// The batch in which the run of this claim is the first item; a token is given once.
pub fn batch_id(first_run: Uuid, token: i64) -> Uuid {
    derive(&["batch", &first_run.to_string(), &token.to_string()])
}

/// The instruction with this canonical content.
pub fn instruction_id(canonical: &str) -> Uuid {
    derive(&["instruction", canonical])
}

/// W3C Trace Context, derived from what an act is: a run is a trace and an attempt of an act a span of it, whoever asks and whenever.
pub fn traceparent(run_id: Uuid, act_id: Uuid, attempt: u32) -> String {
    let span = Digest::of(format!("{act_id}:{attempt}").as_bytes()).hex();
    format!("00-{}-{}-01", run_id.simple(), &span[..16])
}

/// Parts are joined with their lengths, so that no two lists give the same text.
fn derive(parts: &[&str]) -> Uuid {
    let text = parts.iter().fold(String::new(), |text, part| text + &part.len().to_string() + ":" + part);
    Uuid::new_v5(&ROOT, text.as_bytes())
}

/// The id with these first 16 bits.
fn beside(first: [u8; 2], id: Uuid) -> Uuid {
    let mut bytes = id.into_bytes();
    bytes[..2].copy_from_slice(&first);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// The id of something that comes of a cycle or run, beside it if that has a place.
fn of(origin: Uuid, id: Uuid) -> Uuid {
    let [first, second, ..] = *origin.as_bytes();
    if origin.get_version_num() == PLACED { beside([first, second], id) } else { id }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_thing_has_the_same_id_and_no_other_has_it() {
        let namespace = NamespaceName::parse("studio").unwrap();
        let id = |key: &str| {
            cycle_id(&namespace, Uuid::nil(), &Trigger::Manual { key: key.to_owned() }, Timestamp::UNIX_EPOCH)
        };
        assert_eq!(id("a"), id("a"));
        assert_ne!(id("a"), id("b"));
        assert_ne!(derive(&["ab", "c"]), derive(&["a", "bc"]));
        assert_ne!(step_key(Uuid::nil(), Step::Tier1), step_key(Uuid::nil(), Step::Tier2));
    }

    #[test]
    fn what_is_under_way_together_lies_together() {
        let namespace = NamespaceName::parse("studio").unwrap();
        let cycle = |second: i64, profile: u128| {
            let nominal = Timestamp::from_second(second).unwrap();
            cycle_id(&namespace, Uuid::from_u128(profile), &Trigger::Schedule, nominal)
        };
        let all = |cycle: Uuid| {
            let run = run_id(cycle, Uuid::from_u128(7));
            [cycle, initiation_id(cycle), run, delivery_id(run, "sink")]
        };
        for (second, first) in [(1, "0001"), (0xfffe, "fffe"), (0x1_0002, "0002"), (-1, "ffff")] {
            for id in all(cycle(second, 1)).into_iter().chain(all(cycle(second, 2))) {
                assert_eq!((id.get_version_num(), &id.to_string()[..4]), (PLACED, first));
            }
            assert_ne!(cycle(second, 1), cycle(second, 2));
        }
        // In the same place of another time too, and nowhere without an instant.
        assert_ne!(cycle(3, 1), cycle(0x1_0003, 1));
        assert_eq!(all(cycle(0, 1)).map(|id| id.get_version_num()), [5; 4]);
    }
}
