//! One attempt outside of any run: made and judged as that of a step, and nothing of it is kept but what the caller takes.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use orbit_core::config::Processor as Document;
use orbit_core::digest::Hasher;
use orbit_core::id::step_key;
use orbit_core::synthesis::{AssetReference, TrialRequest};
use orbit_core::template;
use orbit_core::tiers::{Failure, Usage};
use orbit_store::blobs::{Blob, BlobError, FolderBlobs};
use tokio_util::sync::CancellationToken;

use super::attempt::{ask, blocking, storage};
use super::output;
use super::processor::Job;
use super::work::Work;
use crate::namespace::Namespace;

/// Bytes of an input that are held in memory at once.
const PIECE_BYTES: usize = 256 * 1024;

/// What is said of an input of which nothing is known.
const UNKNOWN_MEDIA_TYPE: &str = "application/octet-stream";

/// What is tried, and with what.
pub(crate) struct Try {
    /// The document.
    pub(crate) document: Document,
    /// What it is asked.
    pub(crate) asked: TrialRequest,
    /// The bytes that it is given; the context line, as in tier 1, if there are none.
    pub(crate) input: Option<PathBuf>,
    /// Whether the output stays behind, at the place that the answer names.
    pub(crate) keep: bool,
}

/// What came of it.
pub(crate) struct Tried {
    /// The output, or why there is none.
    pub(crate) result: Result<Blob, Failure>,
    /// What was used, as far as it was measured.
    pub(crate) usage: Option<Usage>,
    /// The last that the processor had to say; no secret is in it.
    pub(crate) words: Vec<u8>,
    /// What it was given.
    pub(crate) input: Option<Blob>,
    /// Where the output lies, if it was to be kept: in a folder of its own, which is the caller's now.
    pub(crate) kept: Option<PathBuf>,
}

/// Makes the attempt.
pub(crate) async fn attempt(namespace: &Namespace, wanted: Try, cancel: &CancellationToken) -> Tried {
    match perform(namespace, wanted, cancel).await {
        Ok(tried) => tried,
        Err(failure) => {
            Tried { result: Err(failure), usage: None, words: Vec::new(), input: None, kept: None }
        }
    }
}

/// The outer failure is one in which no processor was asked.
async fn perform(namespace: &Namespace, wanted: Try, cancel: &CancellationToken) -> Result<Tried, Failure> {
    let Try { document, asked: TrialRequest { request, step }, input, keep } = wanted;
    let run_id = request.run.run_id;
    if takes_manifest(&document) {
        let message = "a processor that takes a manifest works in batches, and is not tried alone".to_owned();
        return Err(Failure::RequestRefused { message });
    }
    let filling = Filling {
        context: format!("{}\n", request.context_line()),
        reference: request
            .step(step)
            .and_then(|one| one.reference.as_ref())
            .and_then(|name| request.assets.get(name))
            .cloned(),
        // As a step's: one that wants no input is given none.
        input: match input {
            _ if !document.takes_input() && !namespace.shared.embedded.contains_key(document.name()) => {
                Given::Nothing
            }
            Some(path) => Given::File(path),
            None => Given::Context,
        },
        folder: namespace.folder(),
    };
    let (base, extension) = (namespace.shared.layout.work(&namespace.name), document.extension().to_owned());
    let (place, blobs) = (base.clone(), Arc::clone(&namespace.blobs));
    let (work, input) = blocking(move || {
        let work = Work::create(&place, run_id, step, 1, &extension).map_err(|error| storage(&error))?;
        let input = filling.fill(&work, &blobs)?;
        Ok((Arc::new(work), input))
    })
    .await?;
    let job = Job {
        request: Arc::new(request),
        step,
        attempt: 1,
        idempotency_key: step_key(run_id, step),
        wall: document.wall().to_duration(),
        work: Arc::clone(&work),
    };
    let media_type = input.as_ref().map(|_| UNKNOWN_MEDIA_TYPE);
    let attempted = ask(namespace, &document, media_type, (&job, cancel)).await;
    drop(job);
    let (came, given) = (attempted.result, input.as_ref().map(|input| input.digest));
    let (result, kept) = blocking(move || {
        let result = came.and_then(|()| output::examine(&work, &document, given));
        let kept = match (&result, keep) {
            (Ok(_), true) => Some(keep_beside(&work, &base.join(step_key(run_id, step).to_string()))?),
            (Ok(_) | Err(_), _) => None,
        };
        // The folder goes here, which takes a while.
        drop(work);
        Ok((result, kept))
    })
    .await?;
    Ok(Tried { result, usage: attempted.usage, words: attempted.words, input, kept })
}

fn takes_manifest(document: &Document) -> bool {
    match document {
        Document::Exec(exec) => {
            exec.argv.iter().any(|argument| template::names(argument).contains("manifest"))
        }
        Document::Http(_) => false,
    }
}

/// In a folder of its own, since that of the attempt goes. It is removed with the leftovers if nobody fetches it.
fn keep_beside(work: &Work, folder: &Path) -> Result<PathBuf, Failure> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| storage(&error))?;
    let kept = folder.join("kept");
    fs::rename(work.output(), &kept).map_err(|error| storage(&error))?;
    Ok(kept)
}

/// What the processor is given.
enum Given {
    /// Nothing: it wants no input.
    Nothing,
    /// The context line, as in tier 1.
    Context,
    /// The bytes of this file.
    File(PathBuf),
}

/// What is put into the work folder.
struct Filling {
    context: String,
    reference: Option<AssetReference>,
    input: Given,
    /// Where assets lie that were never activated.
    folder: PathBuf,
}

impl Filling {
    fn fill(&self, work: &Work, blobs: &FolderBlobs) -> Result<Option<Blob>, Failure> {
        fs::write(work.context(), &self.context).map_err(|error| storage(&error))?;
        if let Some(asset) = &self.reference {
            match blobs.copy_to(asset.digest, &work.reference()) {
                Ok(_) => {}
                Err(BlobError::Missing { .. }) => {
                    copy(&self.folder.join(&asset.path), &work.reference())
                        .map_err(|error| storage(&error))?;
                }
                Err(error) => return Err(output::of_blob(&error)),
            }
        }
        match &self.input {
            Given::Nothing => Ok(None),
            Given::File(path) => copy(path, &work.input())
                .map(Some)
                .map_err(|error| Failure::Storage { message: format!("`{}`: {error}", path.display()) }),
            Given::Context => {
                fs::write(work.input(), &self.context).map_err(|error| storage(&error))?;
                // A step of tier 1 has no artifact as its input.
                Ok(None)
            }
        }
    }
}

/// The target is a copy, owner-only; its digest and length.
fn copy(from: &Path, to: &Path) -> std::io::Result<Blob> {
    let mut source = fs::File::open(from)?;
    let mut target = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(to)?;
    let (mut hasher, mut bytes) = (Hasher::default(), 0);
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let count = source.read(&mut piece)?;
        if count == 0 {
            return Ok(Blob { digest: hasher.finish(), bytes });
        }
        hasher.update(&piece[..count]);
        target.write_all(&piece[..count])?;
        bytes += u64::try_from(count).unwrap_or(u64::MAX);
    }
}
