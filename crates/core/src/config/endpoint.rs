//! Endpoints: configured REST receivers.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

use super::{DocName, Millis, SecretRef};

/// A REST receiver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// The name by which profiles refer to it.
    pub name: DocName,
    /// An `http` or `https` address; templates are allowed only after the authority and are percent-encoded.
    pub url: String,
    /// The request's method.
    #[serde(default)]
    pub method: Method,
    /// How the request proves who sends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// How the request is signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sign: Option<Sign>,
    /// How the artifact is carried.
    #[serde(default)]
    pub body: BodyMode,
    /// Further headers; values are bounded templates.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Addresses that are allowed although they are not public.
    #[serde(default)]
    pub addresses: Addresses,
    /// Time for one attempt, from resolving the name to the last byte of the answer.
    #[serde(default = "default_timeout")]
    pub timeout: Millis,
    /// When a failed delivery is tried again.
    #[serde(default)]
    pub retry: DeliveryRetry,
    /// How fast requests may be sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Requests that may be under way at once.
    #[serde(default = "default_concurrency")]
    #[schemars(range(min = 1))]
    pub concurrency: u32,
    /// One delivery at a time, in the order in which they were made. One that waits for its next attempt holds back those behind it; one that
    /// is accepted or given up lets the next go.
    #[serde(default)]
    pub ordered: bool,
    /// When the endpoint is left alone for a while, and no attempt is used up.
    #[serde(default)]
    pub breaker: BreakerRule,
    /// An endpoint of which every attempt has failed for this long is disabled; at half of it a record warns.
    #[serde(default = "default_disable_after")]
    pub disable_after: Millis,
}

/// When an endpoint is left alone because it seems to be down: it cannot be reached, answers too late, or with 408, 429 or 5xx.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerRule {
    /// Failed attempts in a row, over all deliveries, that open the breaker, 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub failures: u32,
    /// How long nothing is sent then; afterwards one attempt finds out whether the endpoint is back.
    pub pause: Millis,
    /// Each failed probe doubles the pause, up to this.
    pub pause_max: Millis,
}

/// The methods that carry a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// Create or process.
    #[default]
    Post,
    /// Create or replace at a known address.
    Put,
    /// Change.
    Patch,
}

/// How a request proves who sends it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Auth {
    /// `Authorization: Bearer …` (RFC 6750).
    Bearer(SecretRef),
    /// `Authorization: Basic …` (RFC 7617).
    Basic(BasicAuth),
    /// A header of the receiver's choosing.
    Header(HeaderAuth),
}

/// User and password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BasicAuth {
    /// The user name; not a secret.
    pub user: String,
    /// The password.
    pub password: SecretRef,
}

/// A header whose value is a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeaderAuth {
    /// The header's name.
    pub name: String,
    /// Its value.
    pub value: SecretRef,
}

/// How a request is signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sign {
    /// Standard Webhooks 1.0, symmetric: one signature per key, the first key being the newest.
    #[serde(deserialize_with = "one_or_many")]
    StandardWebhooks(#[schemars(with = "OneOrMany")] Vec<SecretRef>),
}

/// The schema of one secret reference or a list of them.
struct OneOrMany;

/// How the artifact is carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BodyMode {
    /// The artifact's bytes are the body.
    #[default]
    Raw,
    /// `multipart/form-data` of two parts: `metadata` (JSON) and `artifact`.
    Multipart,
    /// `{"metadata": …, "artifact": "…"}`, the artifact in base64.
    Json,
}

/// Exceptions to the address guard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Addresses {
    /// Networks in CIDR form that may be connected to although they are not public.
    #[schemars(with = "Vec<NetworkSchema>")]
    pub allow: Vec<Network>,
}

/// An address and the length of its prefix (CIDR).
pub type Network = ipnet::IpNet;

/// The schema of a [`Network`].
struct NetworkSchema;

/// When a failed delivery is tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeliveryRetry {
    /// Attempts in all, 1 to 20.
    #[schemars(range(min = 1, max = 20))]
    pub attempts: u32,
    /// The wait after each failed attempt, ±20 %; the last one repeats.
    #[schemars(length(min = 1, max = 20))]
    pub schedule: Vec<Millis>,
}

/// A token bucket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Requests a second in the long run, greater than zero.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub per_second: f64,
    /// Requests that may be sent at once after a pause.
    #[serde(default = "default_burst")]
    #[schemars(range(min = 1))]
    pub burst: u32,
}

const fn default_timeout() -> Millis {
    Millis::seconds(30)
}

const fn default_concurrency() -> u32 {
    4
}

const fn default_burst() -> u32 {
    1
}

/// Five days, as Standard Webhooks has it.
pub(crate) const fn default_disable_after() -> Millis {
    Millis::hours(5 * 24)
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SecretRef>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        One(SecretRef),
        Many(Vec<SecretRef>),
    }
    // The message of an untagged enum holds nothing of what was written.
    Ok(match Either::deserialize(deserializer)? {
        Either::One(secret) => vec![secret],
        Either::Many(secrets) => secrets,
    })
}

impl JsonSchema for OneOrMany {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SecretRefs".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let secret = generator.subschema_for::<SecretRef>();
        json_schema!({ "anyOf": [secret, { "type": "array", "items": secret, "minItems": 1, "maxItems": 10 }] })
    }
}

impl JsonSchema for NetworkSchema {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Network".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^[0-9A-Fa-f:.]+/[0-9]{1,3}$",
            "description": "An address and the length of its prefix, such as `127.0.0.0/8`.",
        })
    }
}

impl Default for BreakerRule {
    /// Five failures in a row, half a minute, ten minutes.
    fn default() -> Self {
        Self { failures: 5, pause: Millis::seconds(30), pause_max: Millis::minutes(10) }
    }
}

impl Default for DeliveryRetry {
    /// Eight attempts over 27.6 hours, the schedule that Standard Webhooks recommends.
    fn default() -> Self {
        Self {
            attempts: 8,
            schedule: vec![
                Millis::seconds(5),
                Millis::minutes(5),
                Millis::minutes(30),
                Millis::hours(2),
                Millis::hours(5),
                Millis::hours(10),
                Millis::hours(10),
            ],
        }
    }
}
