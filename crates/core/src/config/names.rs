//! Names that people choose: of namespaces and of documents.

use std::borrow::Borrow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The name of a namespace: `[a-z][a-z0-9]*(-[a-z0-9]+)*`, at most 40 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamespaceName(String);

/// The name or label of a document: 1 to 64 of `[A-Za-z0-9._-]`, beginning with a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocName(String);

/// A name that does not have the required form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a namespace name.
    #[error(
        "`{text}` is not a namespace name: expected lower-case letters and digits in words joined by `-`, at most 40 bytes"
    )]
    Namespace {
        /// What was written.
        text: String,
    },
    /// Not a document name.
    #[error(
        "`{text}` is not a name: expected 1 to 64 letters, digits, `.`, `_` or `-`, beginning with a letter or digit"
    )]
    Document {
        /// What was written.
        text: String,
    },
}

impl NamespaceName {
    /// The built-in namespace whose log holds the acts that belong to the node.
    pub const SYSTEM: &'static str = "system";
    /// Longest accepted name in bytes.
    pub const BYTES_MAX: usize = 40;

    /// Checks the form.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let word = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        let starts_well = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
        if text.len() > Self::BYTES_MAX || !starts_well || !text.split('-').all(word) {
            return Err(NameError::Namespace { text: text.to_owned() });
        }
        Ok(Self(text.to_owned()))
    }

    /// The namespace of the node's own acts.
    pub fn system() -> Self {
        Self(Self::SYSTEM.to_owned())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl DocName {
    /// Longest accepted name in bytes.
    pub const BYTES_MAX: usize = 64;

    /// Checks the form.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let fits = (1..=Self::BYTES_MAX).contains(&text.len());
        let starts_well = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        if !fits || !starts_well || !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
            return Err(NameError::Document { text: text.to_owned() });
        }
        Ok(Self(text.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for DocName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

macro_rules! name_traits {
    ($type:ty, $name:literal, $pattern:literal) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $type {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::parse(text)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    };
}

name_traits!(NamespaceName, "NamespaceName", "^[a-z][a-z0-9]*(-[a-z0-9]+)*$");
name_traits!(DocName, "DocName", "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces() {
        let check =
            |text: &str, expected: bool| assert_eq!(NamespaceName::parse(text).is_ok(), expected, "{text}");
        check("studio", true);
        check("a-b2-c", true);
        check("", false);
        check("-a", false);
        check("a--b", false);
        check("A", false);
        check("../x", false);
        check(&"a".repeat(41), false);
    }

    #[test]
    fn documents() {
        let check = |text: &str, expected: bool| assert_eq!(DocName::parse(text).is_ok(), expected, "{text}");
        check("twice-daily", true);
        check("A.b_c", true);
        check("..", false);
        check("a/b", false);
        check("", false);
    }
}
