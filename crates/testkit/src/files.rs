//! The files of payloads, obeying a [`Plan`] as the store does: every write, sync and rename is a call with a number.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use orbit_store::blobs::{Files, System};

use crate::fault::{Effect, Ended, Fault, Mode, Plan, When};

/// See the module.
pub struct FaultyFiles {
    plan: Arc<Plan>,
    ended: Ended,
}

impl std::fmt::Debug for FaultyFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FaultyFiles")
    }
}

impl FaultyFiles {
    /// Files of a process. `ended` is set when the plan ends it.
    pub fn new(plan: Arc<Plan>, ended: Ended) -> Self {
        Self { plan, ended }
    }

    fn act(&self, name: &'static str, act: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        self.alive()?;
        let fault = self.plan.begin(name, Mode::Write);
        self.happen(fault, When::Before)?;
        act()?;
        self.happen(fault, When::After)?;
        self.alive()
    }

    /// A thread that blocks cannot be left waiting: once the process has ended it is refused, and can do nothing with that.
    fn alive(&self) -> io::Result<()> {
        if self.ended.is_cancelled() { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
    }

    fn happen(&self, fault: Option<Fault>, when: When) -> io::Result<()> {
        let Some(fault) = fault.filter(|fault| fault.when == when) else { return Ok(()) };
        match fault.effect {
            Effect::End => {
                self.ended.cancel();
                self.alive()
            }
            Effect::Abort => std::process::abort(),
            Effect::Io => Err(io::Error::other("failed to order")),
            Effect::Full => Err(io::ErrorKind::StorageFull.into()),
        }
    }
}

impl Files for FaultyFiles {
    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        let (first, second) = bytes.split_at(bytes.len() / 2);
        // What fails before has written half.
        file.write_all(first)?;
        self.act("file_write", || System.write(file, second))
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.act("file_sync", || System.sync(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.act("file_rename", || System.rename(from, to))
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.act("folder_sync", || System.sync_folder(folder))
    }
}
