//! Makes a backup, in the process that holds the home.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use orbit_core::config::NamespaceName;
use orbit_core::digest::Digest;
use orbit_core::record::{Kind, Record, Subject};
use orbit_engine::layout::Layout;
use orbit_engine::namespace::Namespace;
use orbit_engine::node::Shared;
use orbit_store::Store;
use orbit_store::blobs::{BlobError, FolderBlobs};
use orbit_store::sqlite::{backup, inspect};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::error::at;
use super::{BackupError, Desk, Manifest, NamespaceEntry, Progress, Stage, files};

/// What belongs to the operator: the node's document, under each of its names.
const NODE_FILES: [&str; 3] = ["orbit.yaml", "orbit.yml", "orbit.json"];

/// Payloads are never changed.
const PAYLOAD_MODE: u32 = 0o400;

/// A backup that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// Where it lies.
    pub folder: PathBuf,
    /// When it was begun.
    pub made_at: Timestamp,
    /// Whether `.env` is in it.
    pub with_secrets: bool,
    /// The bucket that holds the larger payloads, which are not in it then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket: Option<String>,
    /// What it holds.
    pub namespaces: Vec<NamespaceEntry>,
    /// Files besides payloads.
    pub files: u64,
    /// Bytes of everything.
    pub bytes: u64,
}

/// What a backup is made of, and where.
pub struct Job {
    /// The home.
    pub layout: Layout,
    /// What the namespaces share.
    pub shared: Arc<Shared>,
    /// The namespaces that are open.
    pub namespaces: Vec<Arc<Namespace>>,
    /// The store of the `system` namespace.
    pub system: Arc<dyn Store>,
    /// The folder to make.
    pub folder: PathBuf,
    /// Whether `.env` is taken too.
    pub with_secrets: bool,
    /// The bucket that holds the larger payloads, if they are not files of the home.
    pub bucket: Option<String>,
}

impl Job {
    /// Makes it, and tells the desk how it stands.
    pub async fn run(self, desk: Arc<Desk>) {
        let stage = match self.make(&desk).await {
            Ok(made) => Stage::Done(made),
            Err(error) => Stage::Failed { message: error.to_string(), hint: error.hint() },
        };
        desk.set(stage);
    }

    async fn make(&self, desk: &Arc<Desk>) -> Result<Made, BackupError> {
        let partial = partial(&self.layout, &self.folder)?;
        files::make_folder(&partial)?;
        let made = self.fill(&partial, desk).await;
        match made {
            Ok(manifest) => {
                let durable = self.blocking(desk, &partial, |_, partial, progress| {
                    _ = progress("waiting for the disk", 0, 1);
                    files::sync_all_below(partial)
                });
                durable.await?;
                fs::rename(&partial, &self.folder).map_err(at(&self.folder))?;
                files::sync_folder(self.folder.parent().unwrap_or(Path::new("/")))?;
                let made = self.made(&manifest);
                self.record(&made).await;
                Ok(made)
            }
            Err(error) => {
                _ = fs::remove_dir_all(&partial);
                Err(error)
            }
        }
    }

    async fn fill(&self, partial: &Path, desk: &Arc<Desk>) -> Result<Manifest, BackupError> {
        let (now, node) = (self.shared.clock.now(), self.shared.node.clone());
        let mut manifest = Manifest::new(now, node, self.with_secrets);
        manifest.bucket.clone_from(&self.bucket);
        let with_payloads = self.bucket.is_none();
        for name in stores(&self.layout)? {
            let namespace = self.namespaces.iter().find(|namespace| namespace.name == name);
            let held = match namespace {
                Some(namespace) => Some(namespace.dropping.lock().await),
                None => None,
            };
            let entry = self.blocking(desk, partial, move |layout, partial, progress| {
                copy_namespace((layout, partial), &name, with_payloads, progress)
            });
            let (entry, file) = entry.await?;
            drop(held);
            manifest.namespaces.push(entry);
            manifest.files.push(file);
        }
        let with_secrets = self.with_secrets;
        let documents = self.blocking(desk, partial, move |layout, partial, progress| {
            copy_documents(layout.home(), partial, with_secrets, progress)
        });
        manifest.files.extend(documents.await?);
        manifest.files.sort_by(|a, b| a.path.cmp(&b.path));
        manifest.write(partial)?;
        Ok(manifest)
    }

    /// Work on a thread that may block; it ends when the node stops.
    async fn blocking<T, F>(&self, desk: &Arc<Desk>, partial: &Path, work: F) -> Result<T, BackupError>
    where
        F: FnOnce(&Layout, &Path, Progress<'_>) -> Result<T, BackupError> + Send + 'static,
        T: Send + 'static,
    {
        let (layout, partial, desk) = (self.layout.clone(), partial.to_owned(), Arc::clone(desk));
        let stopping = self.shared.stopping.clone();
        let working = tokio::task::spawn_blocking(move || {
            let mut progress = |what: &str, done, total| {
                desk.set(Stage::Running { what: what.to_owned(), done, total });
                if stopping.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            work(&layout, &partial, &mut progress)
        });
        working.await.map_err(|_| BackupError::Ended)?
    }

    fn made(&self, manifest: &Manifest) -> Made {
        let lengths = manifest.namespaces.iter().map(|namespace| namespace.payload_bytes);
        let payloads: u64 = if self.bucket.is_none() { lengths.sum() } else { 0 };
        Made {
            folder: self.folder.clone(),
            made_at: manifest.made_at,
            with_secrets: manifest.with_secrets,
            bucket: manifest.bucket.clone(),
            namespaces: manifest.namespaces.clone(),
            files: manifest.files.len() as u64,
            bytes: payloads + manifest.files.iter().map(|file| file.bytes).sum::<u64>(),
        }
    }

    /// Each log tells of its own copy.
    async fn record(&self, made: &Made) {
        for entry in &made.namespaces {
            let body = json!({
                "made_at": made.made_at,
                "with_secrets": made.with_secrets,
                "size": entry.log_size,
                "root": entry.log_root,
                "payloads": entry.payloads,
                "payload_bytes": entry.payload_bytes,
            });
            if let Some(namespace) = self.namespaces.iter().find(|one| one.name == entry.namespace) {
                namespace.record(Kind::BackupMade, Subject::default(), body).await;
            } else if entry.namespace == NamespaceName::system() {
                let now = self.shared.clock.now();
                let record = Record::fact(now, Kind::BackupMade, Subject::default(), body);
                if let Err(error) = self.system.append(vec![record]).await {
                    tracing::error!(%error, "the record of a backup could not be appended");
                }
            }
        }
    }
}

/// Where the backup lies until it is whole.
fn partial(layout: &Layout, folder: &Path) -> Result<PathBuf, BackupError> {
    let refused = |message: String, hint: &str| Err(BackupError::Folder { message, hint: hint.to_owned() });
    let shown = folder.display();
    let (Some(parent), Some(name)) = (folder.parent(), folder.file_name()) else {
        return refused(format!("`{shown}` cannot be a backup"), "name a folder that does not exist");
    };
    if ["namespaces", "data", "run"].iter().any(|part| folder.starts_with(layout.home().join(part))) {
        return refused(format!("`{shown}` lies within the home"), "name a folder outside of it");
    }
    if !files::is_free(folder)? {
        return refused(
            format!("`{shown}` exists and is not empty"),
            "name a folder that does not exist; every backup has its own",
        );
    }
    files::make_folder(parent)?;
    let on = |path: &Path| fs::metadata(path).map(|found| found.dev());
    if folder.exists() && on(folder).map_err(at(folder))? != on(parent).map_err(at(parent))? {
        return refused(
            format!("`{shown}` is where another file system begins"),
            "name a folder within it: a backup gets its name when it is whole",
        );
    }
    let mut half = name.to_owned();
    half.push(".partial");
    let half = parent.join(half);
    if half.exists() {
        return refused(
            format!("`{}` is left of a backup that was never finished", half.display()),
            "remove it, or name another folder",
        );
    }
    Ok(half)
}

/// The namespaces that have a database, whether they are open or not.
fn stores(layout: &Layout) -> Result<Vec<NamespaceName>, BackupError> {
    let data = layout.home().join("data");
    let mut names = Vec::new();
    for entry in fs::read_dir(&data).map_err(at(&data))? {
        let name = entry.map_err(at(&data))?.file_name();
        names.extend(name.to_str().and_then(|name| NamespaceName::parse(name).ok()));
    }
    names.retain(|name| layout.database(name).is_file());
    names.sort();
    Ok(names)
}

fn copy_namespace(
    (layout, partial): (&Layout, &Path),
    name: &NamespaceName,
    with_payloads: bool,
    progress: Progress<'_>,
) -> Result<(NamespaceEntry, super::FileEntry), BackupError> {
    let there = Layout::new(partial);
    files::make_folder(&there.data(name))?;
    let what = format!("the database of `{name}`");
    let mut pages = |done, total| progress(&what, done, total);
    if !backup::copy(&layout.database(name), &there.database(name), &mut pages)? {
        return Err(BackupError::Ended);
    }
    let contents = inspect::inspect(&there.database(name))?;
    if with_payloads {
        copy_payloads((layout, &there), name, &contents.files, progress)?;
    }
    let entry = NamespaceEntry {
        namespace: name.clone(),
        schema: contents.schema,
        log_size: contents.log_size,
        log_root: contents.log_root,
        payloads: contents.files.len() as u64,
        payload_bytes: contents.files.values().sum(),
    };
    let file = files::describe(partial, &format!("data/{name}/orbit.db"))?;
    Ok((entry, file))
}

/// Copies payloads between two layouts, each compared with its name on the way.
pub(super) fn copy_payloads(
    (from, to): (&Layout, &Layout),
    name: &NamespaceName,
    payloads: &BTreeMap<Digest, u64>,
    progress: Progress<'_>,
) -> Result<(), BackupError> {
    let failed = |error| BackupError::Payload { namespace: name.to_string(), error };
    let (source, target) = (FolderBlobs::reading(&from.blobs(name)), FolderBlobs::reading(&to.blobs(name)));
    let what = format!("the payloads of `{name}`");
    for (index, (digest, bytes)) in payloads.iter().enumerate() {
        let path = target.path(*digest);
        files::make_folder(path.parent().unwrap_or(Path::new("/")))?;
        let copied = source.copy_to(*digest, &path).map_err(failed)?;
        if copied != *bytes {
            return Err(failed(BlobError::Corrupt { digest: *digest }));
        }
        files::set_mode(&path, PAYLOAD_MODE)?;
        if progress(&what, index as u64 + 1, payloads.len() as u64).is_break() {
            return Err(BackupError::Ended);
        }
    }
    Ok(())
}

fn copy_documents(
    home: &Path,
    partial: &Path,
    with_secrets: bool,
    progress: Progress<'_>,
) -> Result<Vec<super::FileEntry>, BackupError> {
    let mut paths: Vec<String> = NODE_FILES.iter().map(|name| (*name).to_owned()).collect();
    if with_secrets {
        paths.push(".env".to_owned());
    }
    paths.retain(|path| home.join(path).is_file());
    if home.join("namespaces").is_dir() {
        paths.extend(files::walk(home, "namespaces")?);
    }
    let mut copied = Vec::new();
    for path in &paths {
        copied.push(files::copy(home, partial, path)?);
        if progress("the documents", copied.len() as u64, paths.len() as u64).is_break() {
            return Err(BackupError::Ended);
        }
    }
    Ok(copied)
}
