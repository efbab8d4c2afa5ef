//! Notices that the documents or `.env` have changed.
//!
//! Watches folders, not files, because editors replace files. A burst of changes is one change. A nudge says only that
//! something may be different: whoever waits reads everything again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{Event, PollWatcher, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

/// A change counts when nothing has changed for this long.
const QUIET: Duration = Duration::from_millis(200);
/// A change that goes on and on counts after this long.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often files are looked at where the system cannot say that they changed.
const POLL: Duration = Duration::from_secs(3);

/// Wakes whoever waits when the configuration of a home may have changed.
pub struct Watch {
    /// One nudge is as good as many.
    nudges: mpsc::Receiver<()>,
    home: PathBuf,
    watcher: Option<Box<dyn Watcher + Send>>,
    /// `namespaces/` may be made later than the home.
    sees_namespaces: bool,
}

impl Watch {
    /// Begins to watch. Where the system's own notices are unavailable, files are polled.
    pub fn start(home: &Path) -> Self {
        let home = std::fs::canonicalize(home).unwrap_or_else(|_| home.to_owned());
        let (nudge, nudges) = mpsc::channel(1);
        let notices = RecommendedWatcher::new(handler(&home, nudge.clone()), notify::Config::default());
        let notices = notices.map(|watcher| Box::new(watcher) as Box<dyn Watcher + Send>);
        let watcher = notices.and_then(|watcher| begin(watcher, &home));
        let watcher = watcher.or_else(|error| {
            tracing::warn!(%error, "changes of files are polled: the system does not report them");
            let config = notify::Config::default().with_poll_interval(POLL);
            begin(Box::new(PollWatcher::new(handler(&home, nudge), config)?), &home)
        });
        let watcher = watcher.inspect_err(|error| {
            tracing::error!(%error, "changed documents will not be noticed until a restart");
        });
        let mut watch = Self { nudges, home, watcher: watcher.ok(), sees_namespaces: false };
        watch.look_for_namespaces();
        watch
    }

    /// Returns when something has changed and the dust has settled; never, if nothing can be watched.
    pub async fn changed(&mut self) {
        if self.nudges.recv().await.is_none() {
            return std::future::pending().await;
        }
        let last = Instant::now() + PATIENCE;
        while let Ok(Ok(Some(()))) = timeout_at(last, timeout(QUIET, self.nudges.recv())).await {}
        self.look_for_namespaces();
    }

    fn look_for_namespaces(&mut self) {
        let Some(watcher) = self.watcher.as_mut().filter(|_| !self.sees_namespaces) else { return };
        self.sees_namespaces = watcher.watch(&self.home.join("namespaces"), RecursiveMode::Recursive).is_ok();
    }
}

fn begin(mut watcher: Box<dyn Watcher + Send>, home: &Path) -> notify::Result<Box<dyn Watcher + Send>> {
    watcher.watch(home, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

fn handler(home: &Path, nudge: mpsc::Sender<()>) -> impl FnMut(notify::Result<Event>) + Send + 'static {
    let home = home.to_owned();
    move |event| {
        if event.is_ok_and(|event| concerns(&home, &event)) {
            // A full channel holds a nudge already.
            _ = nudge.try_send(());
        }
    }
}

/// Whether an event may change what a reading of the home gives. Reading the documents is itself an event, and none of these.
fn concerns(home: &Path, event: &Event) -> bool {
    if event.need_rescan() {
        return true;
    }
    if event.kind.is_access() {
        return false;
    }
    event.paths.iter().filter_map(|path| path.strip_prefix(home).ok()).any(|path| {
        let first = path.iter().next().and_then(|part| part.to_str()).unwrap_or_default();
        first == "namespaces" || first == ".env" || first.starts_with("orbit.")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// Long enough for a loaded machine; a test that waits this long fails.
    const LIMIT: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn every_kind_of_change_is_noticed() {
        let home = tempfile::tempdir().unwrap();
        let path = |name: &str| home.path().join(name);
        let mut watch = Watch::start(home.path());
        let mut check = async |what: &str, change: &dyn Fn()| {
            change();
            assert!(timeout(LIMIT, watch.changed()).await.is_ok(), "{what}");
        };
        check("a file is made", &|| fs::write(path(".env"), "A=1").unwrap()).await;
        check("a file is replaced", &|| {
            fs::write(path("new"), "A=2").unwrap();
            fs::rename(path("new"), path(".env")).unwrap();
        })
        .await;
        check("namespaces appear", &|| fs::create_dir_all(path("namespaces/a/sources")).unwrap()).await;
        check("a document is made", &|| fs::write(path("namespaces/a/sources/a.yaml"), "").unwrap()).await;
        check("a document is removed", &|| fs::remove_file(path("namespaces/a/sources/a.yaml")).unwrap())
            .await;
    }

    #[test]
    fn what_concerns() {
        use notify::EventKind;
        use notify::event::{AccessKind, CreateKind};
        let check = |kind: EventKind, path: &str, expected: bool| {
            let event = Event::new(kind).add_path(Path::new("/home").join(path));
            assert_eq!(concerns(Path::new("/home"), &event), expected, "{path}");
        };
        let made = EventKind::Create(CreateKind::File);
        check(made, ".env", true);
        check(made, "orbit.yaml", true);
        check(made, "namespaces/a/assets/x", true);
        check(made, "data/a/orbit.db", false);
        check(made, "run/lock", false);
        check(EventKind::Access(AccessKind::Read), "orbit.yaml", false);
    }
}
