//! The headers of an attempt, with the secrets as they are now.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use orbit_core::config::{Endpoint, NamespaceName, SecretRef, Sign};
use orbit_core::digest::Digest;
use orbit_core::dispatch::header::render_header;
use orbit_core::dispatch::outcome::AttemptFailure;
use orbit_core::dispatch::signature::{ID_HEADER, Key, SIGNATURE_HEADER, TIMESTAMP_HEADER, header_value};
use orbit_core::id::traceparent;
use orbit_core::synthesis::ExecutionRequest;
use orbit_store::contract::dispatch::ClaimedDelivery;
use serde_json::Value;
use uuid::Uuid;

use super::sign::{Signed, Signing};
use crate::http::{self as client, Credentials, secret_value};
use crate::secrets::Secrets;

/// What the headers are made of.
pub(super) struct Parts<'a> {
    pub(super) delivery: &'a ClaimedDelivery,
    pub(super) request: &'a ExecutionRequest,
    pub(super) endpoint: &'a Endpoint,
    pub(super) namespace: &'a NamespaceName,
    pub(super) secrets: &'a dyn Secrets,
}

/// The headers of the request but those that tell of its body, and what they are made of.
#[derive(Debug)]
pub(super) struct Composed {
    /// The headers.
    pub(super) headers: HeaderMap,
    /// The signing keys.
    pub(super) keys: Vec<Key>,
    /// Every secret value that the attempt uses, in every form in which it is sent: nothing that is kept may contain one.
    pub(super) confidential: Vec<String>,
}

/// What the headers are made of, whatever is sent.
pub(super) struct Head<'a> {
    /// The delivery.
    pub(super) id: Uuid,
    /// What the delivery is part of.
    pub(super) trace: Uuid,
    /// The attempt, from 1.
    pub(super) attempt: u32,
    /// What templates may use.
    pub(super) values: Value,
    pub(super) endpoint: &'a Endpoint,
    pub(super) namespace: &'a NamespaceName,
    pub(super) secrets: &'a dyn Secrets,
}

impl Parts<'_> {
    /// See [`Composed`].
    pub(super) fn compose(&self) -> Result<Composed, AttemptFailure> {
        let head = Head {
            id: self.delivery.claim.id,
            trace: self.delivery.run_id,
            attempt: self.delivery.attempt,
            values: self.request.template_values(),
            endpoint: self.endpoint,
            namespace: self.namespace,
            secrets: self.secrets,
        };
        head.compose()
    }
}

impl Head<'_> {
    /// See [`Composed`].
    pub(super) fn compose(&self) -> Result<Composed, AttemptFailure> {
        let mut composed = Composed { headers: HeaderMap::new(), keys: Vec::new(), confidential: Vec::new() };
        self.add_document_headers(&mut composed.headers)?;
        self.add_own_headers(&mut composed.headers)?;
        self.add_auth(&mut composed)?;
        if let Some(Sign::StandardWebhooks(keys)) = &self.endpoint.sign {
            for secret in keys {
                let value = self.secret(secret)?;
                let key = Key::parse(&value).map_err(|error| self.unusable(secret, &error.to_string()))?;
                composed.keys.push(key);
                composed.confidential.push(value);
            }
        }
        Ok(composed)
    }

    fn add_document_headers(&self, headers: &mut HeaderMap) -> Result<(), AttemptFailure> {
        for (name, source) in &self.endpoint.headers {
            let value = render_header(name, source, &self.values).map_err(|error| unsendable(&error))?;
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| unsendable(&error))?;
            headers.append(name, text(&value)?);
        }
        Ok(())
    }

    fn add_own_headers(&self, headers: &mut HeaderMap) -> Result<(), AttemptFailure> {
        headers.insert(USER_AGENT, HeaderValue::from_static(client::USER_AGENT));
        headers.insert("idempotency-key", text(&self.id.to_string())?);
        headers.insert("traceparent", text(&traceparent(self.trace, self.id, self.attempt))?);
        Ok(())
    }

    fn add_auth(&self, composed: &mut Composed) -> Result<(), AttemptFailure> {
        let credentials = Credentials::of(self.endpoint.auth.as_ref(), (self.namespace, self.secrets))?;
        composed.confidential.extend(credentials.confidential);
        composed.headers.extend(credentials.header.map(|(name, value)| (Some(name), value)));
        Ok(())
    }

    fn secret(&self, secret: &SecretRef) -> Result<String, AttemptFailure> {
        Ok(secret_value(secret, (self.namespace, self.secrets))?)
    }

    fn unusable(&self, secret: &SecretRef, message: &str) -> AttemptFailure {
        let variable = secret.variable(self.namespace);
        AttemptFailure::UnusableSecret { variable, message: message.to_owned() }
    }
}

/// Adds the digest of the body as it is sent and, if there are keys, the headers of Standard Webhooks.
pub(super) fn add_signatures(
    headers: &mut HeaderMap,
    signing: &Signing,
    Signed { digest, codes }: &Signed,
) -> Result<(), AttemptFailure> {
    headers.insert("content-digest", text(&content_digest(*digest))?);
    if codes.is_empty() {
        return Ok(());
    }
    headers.insert(ID_HEADER, text(&signing.id)?);
    headers.insert(TIMESTAMP_HEADER, HeaderValue::from(signing.timestamp_seconds));
    headers.insert(SIGNATURE_HEADER, text(&header_value(codes))?);
    Ok(())
}

/// `Content-Digest` of RFC 9530.
fn content_digest(digest: Digest) -> String {
    format!("sha-256=:{}:", STANDARD.encode(digest.0))
}

fn text(value: &str) -> Result<HeaderValue, AttemptFailure> {
    HeaderValue::from_bytes(value.as_bytes()).map_err(|error| unsendable(&error))
}

fn unsendable(error: &dyn std::error::Error) -> AttemptFailure {
    AttemptFailure::Request { message: error.to_string() }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use orbit_store::contract::{Artifact, Claim};
    use serde_json::json;

    struct Fixed(Vec<(&'static str, &'static str)>);

    impl Secrets for Fixed {
        fn get(&self, _: &NamespaceName, secret: &SecretRef) -> Option<String> {
            self.0.iter().find(|(name, _)| *name == secret.name()).map(|(_, value)| (*value).to_owned())
        }
    }

    pub(in crate::dispatch) fn delivery() -> ClaimedDelivery {
        ClaimedDelivery {
            claim: Claim { id: Uuid::from_u128(2), token: 1 },
            run_id: Uuid::from_u128(1),
            cycle_id: Uuid::from_u128(3),
            profile_id: Uuid::from_u128(4),
            snapshot: Digest::of(b"snapshot"),
            request: request_json(),
            endpoint: "archive".to_owned(),
            url: "http://127.0.0.1/".to_owned(),
            attempt: 1,
            attempt_in_round: 1,
            artifact: Artifact {
                digest: Digest::of(b"abc"),
                bytes: 3,
                media_type: "text/plain; charset=utf-8".to_owned(),
            },
        }
    }

    fn request_json() -> Value {
        let settings = Digest::of(b"settings");
        json!({
            "namespace": "studio", "snapshot": settings,
            "cycle": {"id": Uuid::from_u128(3), "trigger": "schedule", "nominal": "2026-01-01T00:00:00Z"},
            "run": {"run_id": Uuid::from_u128(1)},
            "run_profile": {"id": Uuid::nil(), "label": "daily"},
            "profile": {"id": Uuid::from_u128(4), "label": "explainer", "style_vector": {}},
            "initiation": {"id": Uuid::nil(), "label": "Größe 7", "weight": 1.0, "metadata": {"line": "a\nb"}},
            "instruction": {"instruction_id": Uuid::nil(), "context_blob": "", "constraints": {}, "priority": 0.5},
            "steps": [], "assets": {}, "targets": [{"name": "archive", "settings": settings}],
            "value_tags": [], "deadline": "2h",
        })
    }

    fn compose(
        endpoint: Value,
        secrets: Vec<(&'static str, &'static str)>,
    ) -> Result<Composed, AttemptFailure> {
        let endpoint: Endpoint = serde_json::from_value(endpoint).unwrap();
        let namespace = NamespaceName::parse("studio").unwrap();
        let request = serde_json::from_value(request_json()).unwrap();
        Parts {
            delivery: &delivery(),
            request: &request,
            endpoint: &endpoint,
            namespace: &namespace,
            secrets: &Fixed(secrets),
        }
        .compose()
    }

    fn header(composed: &Composed, name: &str) -> String {
        let value = composed.headers.get(name).unwrap_or_else(|| panic!("{name} is missing"));
        String::from_utf8(value.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn every_attempt_says_what_it_carries() {
        let headers = json!({"X-Label": "{{ initiation.label }}"});
        let mut composed =
            compose(json!({"name": "archive", "url": "http://a/", "headers": headers}), vec![]).unwrap();
        let signing = Signing { id: String::new(), timestamp_seconds: 0, keys: Vec::new() };
        let signed = Signed { digest: Digest::of(b"abc"), codes: Vec::new() };
        add_signatures(&mut composed.headers, &signing, &signed).unwrap();
        let check = |name: &str, expected: &str| assert_eq!(header(&composed, name), expected, "{name}");
        check("content-digest", "sha-256=:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:");
        check("idempotency-key", "00000000-0000-0000-0000-000000000002");
        check("user-agent", concat!("orbit/", env!("CARGO_PKG_VERSION")));
        check("x-label", "Größe 7");
        let trace = header(&composed, "traceparent");
        assert!(
            trace.starts_with("00-00000000000000000000000000000001-") && trace.ends_with("-01"),
            "{trace}"
        );
        assert_eq!(trace.len(), 55);
        assert_ne!(
            traceparent(Uuid::nil(), Uuid::nil(), 1),
            traceparent(Uuid::nil(), Uuid::nil(), 2),
            "each attempt is its own span"
        );
    }

    #[test]
    fn credentials() {
        let check = |auth: Value, name: &str, expected: &str| {
            let endpoint = json!({"name": "archive", "url": "http://a/", "auth": auth});
            let composed = compose(endpoint, vec![("TOKEN", "s3cret")]).unwrap();
            assert_eq!(header(&composed, name), expected);
            assert!(composed.headers[name].is_sensitive());
            assert!(composed.confidential.contains(&"s3cret".to_owned()));
        };
        check(json!({"bearer": "${TOKEN}"}), "authorization", "Bearer s3cret");
        check(json!({"basic": {"user": "u", "password": "${TOKEN}"}}), "authorization", "Basic dTpzM2NyZXQ=");
        check(json!({"header": {"name": "X-Api-Key", "value": "${TOKEN}"}}), "x-api-key", "s3cret");
    }

    #[test]
    fn what_is_missing_is_named_and_never_shown() {
        let check = |endpoint: Value, secrets: Vec<(&'static str, &'static str)>, expected: &str| {
            let mut document = json!({"name": "archive", "url": "http://a/"});
            document.as_object_mut().unwrap().append(endpoint.clone().as_object_mut().unwrap());
            let message = compose(document, secrets).unwrap_err().to_string();
            assert!(message.contains(expected) && !message.contains("s3cret"), "{message}");
        };
        let bearer = json!({"auth": {"bearer": "${TOKEN}"}});
        check(bearer.clone(), vec![], "`ORBIT_SECRET_STUDIO_TOKEN` is not set");
        check(bearer.clone(), vec![("TOKEN", "")], "it is empty");
        check(bearer, vec![("TOKEN", "s3cret\n")], "control character");
        let sign = json!({"sign": {"standard_webhooks": ["${KEY}"]}});
        check(
            sign.clone(),
            vec![("KEY", "s3cret!")],
            "`ORBIT_SECRET_STUDIO_KEY` cannot be used: not a signing key",
        );
        check(sign, vec![], "`ORBIT_SECRET_STUDIO_KEY` is not set");
        check(json!({"headers": {"Host": "x"}}), vec![], "`Host` is set by the engine");
        check(json!({"headers": {"X-A": "{{ initiation.metadata.line }}"}}), vec![], "control character");
        check(json!({"headers": {"X-A": "{{ nothing }}"}}), vec![], "undefined");
    }
}
