//! References to secrets: the only form in which a configuration may speak of one.
//!
//! A document holds `"${NAME}"`; the value lives in `.env` or the environment under a variable derived from the namespace
//! and the name, and is resolved when an act needs it. Nothing here ever holds a value.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::NamespaceName;

/// The name inside `"${NAME}"`: `[A-Z][A-Z0-9]*(_[A-Z0-9]+)*`, at most 64 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretRef(String);

/// Text in a place where a secret is allowed but not required, such as a program's environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextOrSecret {
    /// Used as it stands.
    Text(String),
    /// Replaced by the secret's value when the act starts.
    Secret(SecretRef),
}

/// A place that must hold a secret reference held something else. The text is never repeated here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a secret reference, found literal text (not shown)")]
pub struct NotASecretReference;

impl SecretRef {
    /// Longest accepted name in bytes.
    pub const NAME_BYTES_MAX: usize = 64;

    /// Reads `${NAME}`.
    pub fn parse(text: &str) -> Result<Self, NotASecretReference> {
        let name =
            text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')).ok_or(NotASecretReference)?;
        let word = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
        };
        let starts_well = name.bytes().next().is_some_and(|b| b.is_ascii_uppercase());
        if name.len() > Self::NAME_BYTES_MAX || !starts_well || !name.split('_').all(word) {
            return Err(NotASecretReference);
        }
        Ok(Self(name.to_owned()))
    }

    /// The name, without `${}`.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// The environment variable that holds the value for this namespace: `ORBIT_SECRET_<NS>_<NAME>`, where a `-` of the
    /// namespace becomes `__`, so that no two pairs of namespace and name share a variable.
    pub fn variable(&self, namespace: &NamespaceName) -> String {
        format!("ORBIT_SECRET_{}_{}", namespace.as_str().to_ascii_uppercase().replace('-', "__"), self.0)
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${{{}}}", self.0)
    }
}

impl Serialize for SecretRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for SecretRef {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SecretRef".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": r"^\$\{[A-Z][A-Z0-9]*(_[A-Z0-9]+)*\}$",
            "description": "A secret reference such as `\"${ARCHIVE_TOKEN}\"`; the value lives in `.env`.",
        })
    }
}

impl Serialize for TextOrSecret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Secret(secret) => secret.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for TextOrSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(SecretRef::parse(&text).map_or(Self::Text(text), Self::Secret))
    }
}

impl JsonSchema for TextOrSecret {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "TextOrSecret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": "Text, or a secret reference such as `\"${API_KEY}\"`." })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(
                SecretRef::parse(text).ok().map(|secret| secret.name().to_owned()),
                expected.map(str::to_owned),
                "{text}"
            );
        };
        check("${A}", Some("A"));
        check("${ARCHIVE_TOKEN_2}", Some("ARCHIVE_TOKEN_2"));
        check("${A__B}", None);
        check("${_A}", None);
        check("${a}", None);
        check("${2A}", None);
        check("$A", None);
        check("plain", None);
    }

    #[test]
    fn no_two_pairs_share_a_variable() {
        let variable = |ns: &str, name: &str| {
            SecretRef::parse(&format!("${{{name}}}")).unwrap().variable(&NamespaceName::parse(ns).unwrap())
        };
        assert_eq!(variable("a-b", "C"), "ORBIT_SECRET_A__B_C");
        assert_eq!(variable("a", "B_C"), "ORBIT_SECRET_A_B_C");
    }
}
