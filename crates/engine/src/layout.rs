//! Where things lie in a home. Configuration belongs to the operator; everything under `data/` and `run/` to the engine.

use std::path::{Path, PathBuf};

use orbit_core::config::NamespaceName;

/// The paths of a home.
#[derive(Clone, Debug)]
pub struct Layout {
    home: PathBuf,
}

impl Layout {
    /// The layout of this home, which should be absolute: programs run in folders of their own.
    pub fn new(home: &Path) -> Self {
        Self { home: home.to_owned() }
    }

    /// The home itself.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The folder of a namespace's documents, programs, sources and assets.
    pub fn namespace(&self, name: &NamespaceName) -> PathBuf {
        self.home.join("namespaces").join(name.as_str())
    }

    /// The folder that holds everything a namespace remembers.
    pub fn data(&self, name: &NamespaceName) -> PathBuf {
        self.home.join("data").join(name.as_str())
    }

    /// A namespace's database.
    pub fn database(&self, name: &NamespaceName) -> PathBuf {
        self.data(name).join("orbit.db")
    }

    /// Where a copy of the rows is made that are not in a file, for as long as it is read.
    pub fn scratch(&self, name: &NamespaceName) -> PathBuf {
        self.data(name).join("copy.db")
    }

    /// How much space was free where a namespace's data lies, hour by hour.
    pub fn free_space(&self, name: &NamespaceName) -> PathBuf {
        self.data(name).join("free-space.json")
    }

    /// Which incarnation this home was last in a namespace.
    pub fn incarnation(&self, name: &NamespaceName) -> PathBuf {
        self.data(name).join("incarnation.json")
    }

    /// Which snapshot the documents of a namespace come from, in a home whose store others may have too.
    pub fn base(&self, name: &NamespaceName) -> PathBuf {
        self.data(name).join("base")
    }

    /// Space that is set aside for a full disk.
    pub fn ballast(&self) -> PathBuf {
        self.data(&NamespaceName::system()).join("ballast")
    }

    /// A namespace's payloads.
    pub fn blobs(&self, name: &NamespaceName) -> PathBuf {
        self.data(name).join("blobs")
    }

    /// The work folders of a namespace's attempts.
    pub fn work(&self, name: &NamespaceName) -> PathBuf {
        self.data(name).join("work")
    }

    /// Where the lock and the socket lie.
    pub fn run(&self) -> PathBuf {
        self.home.join("run")
    }

    /// Held by the one process that may open the stores.
    pub fn lock(&self) -> PathBuf {
        self.run().join("lock")
    }

    /// The owner-only socket of that process.
    pub fn socket(&self) -> PathBuf {
        self.run().join("orbit.sock")
    }
}
