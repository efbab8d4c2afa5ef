//! One attempt at one notice: sent, judged and committed as every delivery is, but made of a row instead of a run and its artifact.
//!
//! No door is asked. A halt or a pause stops work, and whoever is to be told of it is told.

use std::sync::Arc;

use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use orbit_core::config::Endpoint;
use orbit_core::digest::Digest;
use orbit_core::dispatch::outcome::AttemptFailure;
use orbit_core::dispatch::signature::{Key, signed_prefix};
use orbit_core::notify::{NOTICE_MEDIA_TYPE, template_values};
use orbit_store::contract::notify::ClaimedNotice;
use sha2::Sha256;
use tokio_util::sync::CancellationToken;

use super::attempt::{Attempted, Outgoing, Which, conclude, exchange, snapshot};
use super::compose::{Composed, Head, add_signatures};
use super::receipt::Ended;
use super::sign::{Signed, Signing};
use crate::http::{Body, Piece};
use crate::namespace::Namespace;

/// Makes the attempt and commits what came of it.
pub(super) async fn deliver(namespace: &Arc<Namespace>, notice: ClaimedNotice) {
    let which = Which {
        claim: notice.claim,
        endpoint: notice.endpoint.clone(),
        attempt_in_round: notice.attempt_in_round,
    };
    let worker = Arc::clone(namespace);
    let act = |token: CancellationToken| async move { attempt(&worker, notice, &token).await };
    conclude(namespace, &which, || Ok(()), act).await;
}

async fn attempt(namespace: &Namespace, notice: ClaimedNotice, cut: &CancellationToken) -> Attempted {
    let snapshot = match snapshot(namespace, notice.snapshot, cut).await {
        Ok(snapshot) => snapshot,
        Err(nothing) => return nothing,
    };
    let Some(endpoint) = snapshot.endpoints.get(notice.endpoint.as_str()) else {
        return Attempted::unsendable(format!("the snapshot has no endpoint `{}`", notice.endpoint));
    };
    let retry = endpoint.retry.clone();
    Attempted { ended: send(namespace, endpoint, notice, cut).await, retry }
}

async fn send(
    namespace: &Namespace,
    endpoint: &Endpoint,
    notice: ClaimedNotice,
    cut: &CancellationToken,
) -> Ended {
    let head = Head {
        id: notice.claim.id,
        trace: notice.notice_id,
        attempt: notice.attempt,
        values: template_values(notice.event, namespace.name.as_str(), notice.notice_id),
        endpoint,
        namespace: &namespace.name,
        secrets: &*namespace.shared.secrets,
    };
    let Composed { mut headers, keys, confidential } = match head.compose() {
        Ok(composed) => composed,
        Err(failure) => return Ended::unsent(failure),
    };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(NOTICE_MEDIA_TYPE));
    let timestamp_seconds = namespace.shared.clock.now().as_second();
    let signing = Signing { id: notice.claim.id.to_string(), timestamp_seconds, keys };
    let body = notice.body.into_bytes();
    let signed = sign(&body, &signing).and_then(|signed| add_signatures(&mut headers, &signing, &signed));
    if let Err(failure) = signed {
        return Ended { result: Err(failure), exchange: None, confidential };
    }
    let body = Body { pieces: vec![Piece::Bytes(Bytes::from(body))] };
    exchange(namespace, endpoint, Outgoing { url: notice.url, headers, body, confidential }, cut).await
}

/// The digest and the signatures of bytes that are at hand.
fn sign(body: &[u8], signing: &Signing) -> Result<Signed, AttemptFailure> {
    let prefix = signed_prefix(&signing.id, signing.timestamp_seconds);
    let code = |key: &Key| -> Result<[u8; 32], AttemptFailure> {
        let mut code = Hmac::<Sha256>::new_from_slice(key.bytes())
            .map_err(|error| AttemptFailure::Local { message: error.to_string() })?;
        code.update(prefix.as_bytes());
        code.update(body);
        Ok(code.finalize().into_bytes().into())
    };
    let codes = signing.keys.iter().map(code).collect::<Result<_, _>>()?;
    Ok(Signed { digest: Digest::of(body), codes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use orbit_core::dispatch::signature::header_value;

    #[test]
    fn signed_as_the_reference_signs() {
        let key = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let signing = Signing {
            id: "1".to_owned(),
            timestamp_seconds: 1_614_265_330,
            keys: vec![Key::parse(key).unwrap()],
        };
        let signed = sign(b"{}", &signing).unwrap();
        assert_eq!(signed.digest, Digest::of(b"{}"));
        let oracle = standardwebhooks::Webhook::new(key).unwrap();
        assert_eq!(header_value(&signed.codes), oracle.sign("1", 1_614_265_330, b"{}").unwrap());
    }
}
