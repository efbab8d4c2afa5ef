//! Secrets, looked up when an act needs them.

use orbit_core::config::{NamespaceName, SecretRef};

/// Where secrets come from. A value is never recorded, logged or kept longer than the act.
pub trait Secrets: Send + Sync {
    /// The value of a namespace's secret, or none if it is not set.
    fn get(&self, namespace: &NamespaceName, secret: &SecretRef) -> Option<String>;
}
