//! One attempt outside of any run: made and judged as that of a step, and nothing of it is kept but what the caller takes.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use orbit_core::config::Processor as Document;
use orbit_core::digest::{Digest, Hasher};
use orbit_core::id::step_key;
use orbit_core::synthesis::{AssetReference, TrialRequest};
use orbit_core::template;
use orbit_core::tiers::{Failure, Usage};
use orbit_store::blobs::{Blob, BlobError};
use orbit_store::payloads::Payloads;
use tokio_util::sync::CancellationToken;

use super::attempt::{ask, blocking, storage};
use super::processor::{Assignment, Job, Processed, Processor};
use super::work::Work;
use super::{embedded, output};
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
    let reference = request.step(step).and_then(|one| one.reference.as_ref());
    let reference = reference.and_then(|name| request.assets.get(name)).cloned();
    let base = namespace.shared.layout.work(&namespace.name);
    if let Some(processor) = namespace.shared.embedded.get(document.name()) {
        let job = Job {
            input: Bytes::from(format!("{}\n", request.context_line())),
            reference: match reference {
                Some(asset) => Some(asset_file(namespace, asset).await?),
                None => None,
            },
            request: Arc::new(request),
            step,
            attempt: 1,
            idempotency_key: step_key(run_id, step),
            wall: document.wall().to_duration(),
        };
        let beside = keep.then(|| base.join(job.idempotency_key.to_string()));
        return of_embedded((&**processor, document), job, (input, beside), cancel).await;
    }
    let filling = Filling {
        context: format!("{}\n", request.context_line()),
        reference,
        // As a step's: one that wants no input is given none.
        input: match input {
            _ if !document.takes_input() => Given::Nothing,
            Some(path) => Given::File(path),
            None => Given::Context,
        },
        folder: namespace.folder(),
    };
    let extension = document.extension().to_owned();
    let (place, payloads) = (base.clone(), Arc::clone(&namespace.payloads));
    let (work, input) = blocking(move || {
        let work = Work::create(&place, run_id, step, 1, &extension).map_err(|error| storage(&error))?;
        let input = filling.fill(&work, &payloads)?;
        Ok((Arc::new(work), input))
    })
    .await?;
    let job = Assignment {
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

/// The attempt by a processor of this process. The input is the context line until the file is read; the output is kept in this folder.
async fn of_embedded(
    (processor, document): (&dyn Processor, Document),
    mut job: Job,
    (input, beside): (Option<PathBuf>, Option<PathBuf>),
    cancel: &CancellationToken,
) -> Result<Tried, Failure> {
    let mut given = None;
    if let Some(path) = input {
        let unreadable =
            |error, path: &Path| Failure::Storage { message: format!("`{}`: {error}", path.display()) };
        job.input = blocking(move || fs::read(&path).map_err(|error| unreadable(error, &path))).await?.into();
        given = Some(Blob { digest: Digest::of(&job.input), bytes: job.input.len() as u64 });
    }
    let Processed { result, words, .. } = embedded::ask(processor, &job, cancel).await;
    let digest = given.map(|blob| blob.digest);
    let (result, kept) = blocking(move || {
        let content = match result {
            Ok(content) => content,
            Err(failure) => return Ok((Err(failure), None)),
        };
        let result = output::examine_bytes(&content, &document, digest);
        let kept = match (&result, beside) {
            (Ok(_), Some(folder)) => Some(place_for(&folder).map(|kept| (fs::write(&kept, &content), kept))?),
            (Ok(_) | Err(_), _) => None,
        };
        let kept = kept.map(|(written, kept)| written.map(|()| kept).map_err(|error| storage(&error)));
        Ok((result, kept.transpose()?))
    })
    .await?;
    Ok(Tried { result, usage: None, words, input: given, kept })
}

/// Where the asset lies; in the namespace's folder if it was never activated.
async fn asset_file(namespace: &Namespace, asset: AssetReference) -> Result<PathBuf, Failure> {
    let (payloads, folder) = (Arc::clone(&namespace.payloads), namespace.folder());
    blocking(move || match payloads.file(asset.digest) {
        Err(BlobError::Missing { .. }) => Ok(folder.join(&asset.path)),
        found => found.map_err(|error| output::of_blob(&error)),
    })
    .await
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
    let kept = place_for(folder)?;
    fs::rename(work.output(), &kept).map_err(|error| storage(&error))?;
    Ok(kept)
}

/// Where an output is kept in this folder, which is made.
fn place_for(folder: &Path) -> Result<PathBuf, Failure> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| storage(&error))?;
    Ok(folder.join("kept"))
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
    fn fill(&self, work: &Work, payloads: &Payloads) -> Result<Option<Blob>, Failure> {
        fs::write(work.context(), &self.context).map_err(|error| storage(&error))?;
        if let Some(asset) = &self.reference {
            match payloads.copy_to(asset.digest, &work.reference()) {
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
