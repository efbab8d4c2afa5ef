//! Gathers the facts that the gate of `orbit_core::governance` looks at.

use std::path::Path;
use std::sync::{PoisonError, RwLock};

use orbit_core::config::Snapshot;
use orbit_core::governance::{DiskFacts, GateFacts};
use orbit_store::contract::governance::Halt;

/// Measures free space; injected so that tests can fill a disk without one.
pub trait Disk: Send + Sync {
    /// Bytes free to this user where the path lies; none if it cannot be told.
    fn free_bytes(&self, path: &Path) -> Option<u64>;
}

/// The file system's own answer.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemDisk;

impl Disk for SystemDisk {
    fn free_bytes(&self, path: &Path) -> Option<u64> {
        let stat = nix::sys::statvfs::statvfs(path).ok()?;
        Some(stat.blocks_available().saturating_mul(stat.fragment_size()))
    }
}

/// A value that is read often and changed seldom.
#[derive(Default)]
pub struct Cell<T>(RwLock<T>);

impl<T: Clone> Cell<T> {
    /// A cell with this value.
    pub fn new(value: T) -> Self {
        Self(RwLock::new(value))
    }

    /// The value.
    pub fn get(&self) -> T {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Another value.
    pub fn set(&self, value: T) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = value;
    }
}

/// Where the facts of a namespace come from.
pub struct GateView<'a> {
    /// Whether the lease is not trusted.
    pub lease_lapsed: bool,
    /// The halt of the node.
    pub halted_global: Option<Halt>,
    /// The halt of the namespace.
    pub halted_namespace: Option<Halt>,
    /// Whether `ORBIT_PAUSED` is set.
    pub paused: bool,
    /// Measures free space.
    pub disk: &'a dyn Disk,
    /// Where the namespace's data lies.
    pub data: &'a Path,
    /// The active snapshot, for the floor.
    pub snapshot: Option<&'a Snapshot>,
}

impl GateView<'_> {
    /// The facts as they are now.
    pub fn facts(&self) -> GateFacts {
        let floor = self.snapshot.map(|snapshot| snapshot.config.disk_floor.0);
        let free = self.disk.free_bytes(self.data);
        GateFacts {
            lease_lapsed: self.lease_lapsed,
            halted_global: self.halted_global.as_ref().map(|halt| halt.reason.clone()),
            halted_namespace: self.halted_namespace.as_ref().map(|halt| halt.reason.clone()),
            paused: self.paused,
            disk: free.zip(floor).map(|(free_bytes, floor_bytes)| DiskFacts { free_bytes, floor_bytes }),
        }
    }
}
