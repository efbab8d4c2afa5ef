//! What goes with an artifact where the body has room for more than its bytes, and the boundary between the two.
//!
//! Both are the same for every attempt of a delivery: one `Idempotency-Key`, one body. So they say nothing of the attempt.

use serde_json::json;
use uuid::Uuid;

use crate::canonical;
use crate::digest::{Digest, Hasher, hex};
use crate::synthesis::ExecutionRequest;

/// Bytes of a digest that a boundary holds: 128 bits.
const BOUNDARY_BYTES: usize = 16;

/// The artifact that goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enclosed<'a> {
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// Its length.
    pub bytes: u64,
    /// What its bytes are said to be.
    pub media_type: &'a str,
}

/// One line of canonical JSON: `{"artifact": {"bytes", "digest", "media_type"}, "cycle": {"id", "nominal", "trigger"}, "delivery":
/// {"endpoint", "id"}, "initiation": {"id", "label", "metadata", "weight"}, "namespace", "profile": {"id", "label"}, "run": {"run_id"},
/// "run_profile": {"id", "label"}}`.
pub fn metadata(
    request: &ExecutionRequest,
    delivery_id: Uuid,
    endpoint: &str,
    artifact: Enclosed<'_>,
) -> String {
    canonical::to_string(&json!({
        "artifact": { "bytes": artifact.bytes, "digest": artifact.digest, "media_type": artifact.media_type },
        "cycle": request.cycle,
        "delivery": { "id": delivery_id, "endpoint": endpoint },
        "initiation": request.initiation,
        "namespace": request.namespace,
        "profile": { "id": request.profile.id, "label": request.profile.label },
        "run": request.run,
        "run_profile": request.run_profile,
    }))
}

/// The boundary of the delivery's multipart body (RFC 2046, section 5.1.1). It derives from the artifact's own digest: bytes that hold
/// it would have to foretell 128 bits of a hash of themselves, so nobody can make such an artifact, even who knows this rule.
pub fn boundary(delivery_id: Uuid, artifact: Digest) -> String {
    let mut hasher = Hasher::default();
    hasher.update(b"orbit multipart boundary\n");
    hasher.update(delivery_id.as_bytes());
    hasher.update(&artifact.0);
    format!("orbit-{}", hex(&hasher.finish().0[..BOUNDARY_BYTES]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthesis::sample;

    #[test]
    fn one_line_that_names_everything_and_no_attempt() {
        let request = sample::build(&sample::snapshot(), "Größe\n7").unwrap();
        let artifact = Enclosed { digest: Digest::of(b"abc"), bytes: 3, media_type: "text/plain" };
        let id = Uuid::from_u128(9);
        let line = metadata(&request, id, "archive", artifact);
        assert!(!line.contains('\n'), "{line}");
        let (digest, run, initiation) = (artifact.digest, request.run.run_id, request.initiation.id);
        let expected = format!(
            "{{\"artifact\":{{\"bytes\":3,\"digest\":\"{digest}\",\"media_type\":\"text/plain\"}},\
             \"cycle\":{{\"id\":\"{}\",\"nominal\":\"1970-01-01T00:00:00Z\",\"trigger\":\"manual:k\"}},\
             \"delivery\":{{\"endpoint\":\"archive\",\"id\":\"{id}\"}},\
             \"initiation\":{{\"id\":\"{initiation}\",\"label\":\"Größe\\n7\",\"metadata\":{{}},\"weight\":1}},\
             \"namespace\":\"studio\",\"profile\":{{\"id\":\"{}\",\"label\":\"main\"}},\"run\":{{\"run_id\":\"{run}\"}},\
             \"run_profile\":{{\"id\":\"{}\",\"label\":\"daily\"}}}}",
            Uuid::from_u128(3),
            Uuid::from_u128(1),
            Uuid::from_u128(2),
        );
        assert_eq!(line, expected);
    }

    #[test]
    fn a_boundary_is_of_one_delivery_and_one_artifact() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let one = boundary(Uuid::nil(), a);
        assert_eq!(one, boundary(Uuid::nil(), a));
        assert_ne!(one, boundary(Uuid::from_u128(1), a));
        assert_ne!(one, boundary(Uuid::nil(), b));
        assert_eq!(one.len(), "orbit-".len() + 32);
        assert!(one.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'), "{one}");
    }
}
