//! From what lies in the work folder, or in memory, to a payload, or the reason why not. Blocking.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;

use bytes::Bytes;
use nix::libc::{ELOOP, ENXIO, O_NOFOLLOW, O_NONBLOCK};
use orbit_core::config::Processor;
use orbit_core::digest::{Digest, Hasher};
use orbit_core::tiers::{Failure, check_differs, check_prefix, check_size, prefix_bytes};
use orbit_store::blobs::{Blob, BlobError};
use orbit_store::payloads::{Kept, Payloads};

use super::work::Work;

/// Bytes of an output that are held in memory at once.
const PIECE_BYTES: usize = 256 * 1024;

/// The output as a payload, if it is what the document requires. The process tree that made it must be gone.
pub(super) fn keep(
    work: &Work,
    document: &Processor,
    input: Option<Digest>,
    payloads: &Payloads,
) -> Result<Kept, Failure> {
    look(work, document)?;
    let kept = payloads.keep_file(work.output()).map_err(|error| of_blob(&error))?;
    check_differs(document.validate(), kept.digest, input)?;
    Ok(kept)
}

/// An output in memory as a payload. Blocks unless it is small.
pub(super) fn keep_bytes(
    content: Bytes,
    document: &Processor,
    input: Option<Digest>,
    payloads: &Payloads,
) -> Result<Kept, Failure> {
    look_at_bytes(&content, document)?;
    let kept = payloads.keep_bytes(content).map_err(|error| of_blob(&error))?;
    check_differs(document.validate(), kept.digest, input)?;
    Ok(kept)
}

/// As [`examine`], of an output in memory.
pub(super) fn examine_bytes(
    content: &[u8],
    document: &Processor,
    input: Option<Digest>,
) -> Result<Blob, Failure> {
    look_at_bytes(content, document)?;
    let blob = Blob { digest: Digest::of(content), bytes: content.len() as u64 };
    check_differs(document.validate(), blob.digest, input)?;
    Ok(blob)
}

fn look_at_bytes(content: &[u8], document: &Processor) -> Result<(), Failure> {
    check_size(document.validate(), document.output_max(), content.len() as u64)?;
    let head = &content[..content.len().min(prefix_bytes(document.validate()).len())];
    check_prefix(document.validate(), head)
}

/// The output's digest and length, if it is what the document requires; it stays where it lies. The process tree that made it must be gone.
pub(super) fn examine(work: &Work, document: &Processor, input: Option<Digest>) -> Result<Blob, Failure> {
    look(work, document)?;
    let unreadable = |error: std::io::Error| Failure::OutputUnreadable { message: error.to_string() };
    let mut file = std::fs::File::open(work.output()).map_err(unreadable)?;
    let (mut hasher, mut bytes) = (Hasher::default(), 0);
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let count = file.read(&mut piece).map_err(unreadable)?;
        if count == 0 {
            break;
        }
        hasher.update(&piece[..count]);
        bytes += u64::try_from(count).unwrap_or(u64::MAX);
    }
    let blob = Blob { digest: hasher.finish(), bytes };
    check_differs(document.validate(), blob.digest, input)?;
    Ok(blob)
}

/// What can be known of the output before all of it is read.
fn look(work: &Work, document: &Processor) -> Result<(), Failure> {
    if !work.is_intact() {
        return Err(Failure::OutputNotAFile);
    }
    // A link is not followed, and a pipe is not waited for.
    let opened = OpenOptions::new().read(true).custom_flags(O_NOFOLLOW | O_NONBLOCK).open(work.output());
    let unreadable = |error: std::io::Error| Failure::OutputUnreadable { message: error.to_string() };
    let file = opened.map_err(|error| match error.raw_os_error() {
        Some(ELOOP | ENXIO) => Failure::OutputNotAFile,
        Some(_) | None if error.kind() == ErrorKind::NotFound => Failure::OutputMissing,
        Some(_) | None => unreadable(error),
    })?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(Failure::OutputNotAFile);
    }
    check_size(document.validate(), document.output_max(), metadata.len())?;
    let mut head = Vec::new();
    let length = u64::try_from(prefix_bytes(document.validate()).len()).unwrap_or(u64::MAX);
    file.take(length).read_to_end(&mut head).map_err(unreadable)?;
    check_prefix(document.validate(), &head)
}

/// What a payload that cannot be read or kept means for the attempt.
pub(crate) fn of_blob(error: &BlobError) -> Failure {
    match error {
        BlobError::Missing { digest } => Failure::InputMissing { digest: *digest },
        BlobError::Corrupt { digest } => Failure::InputCorrupt { digest: *digest },
        BlobError::Dropped { .. }
        | BlobError::Full { .. }
        | BlobError::Io { .. }
        | BlobError::Bucket { .. } => Failure::Storage { message: error.to_string() },
    }
}
