//! What is kept of an answer's body: its first bytes, or all of it in a new file.

use std::io;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use orbit_core::dispatch::outcome::HttpFailure;
use orbit_core::limits::RECEIPT_BODY_BYTES_MAX;
use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::BodyEnd;

/// What is kept of an answer's body.
#[derive(Clone, Debug)]
pub enum Keep {
    /// The first [`RECEIPT_BODY_BYTES_MAX`] bytes, in memory.
    Head,
    /// All of it, in a file that only this user can read; of an answer with a status that is not wanted, its first bytes in memory.
    File {
        /// The file, which must not be there yet.
        path: PathBuf,
        /// A longer body is not read to its end.
        bytes_max: u64,
        /// Whether an answer with this status is wanted.
        wanted: fn(u16) -> bool,
    },
}

/// Where the bytes go.
enum Sink {
    Head(BytesMut),
    File { file: File, room: u64, bytes: u64 },
}

/// What was kept of a body.
pub(super) struct Kept {
    /// The first bytes, unless they went into a file.
    pub(super) head: Bytes,
    /// The bytes that were kept.
    pub(super) bytes: u64,
    /// How the body ended.
    pub(super) end: BodyEnd,
}

/// Reads the body until it ends or there is enough of it. The only failure is that the file cannot be written.
pub(super) async fn read(
    keep: Keep,
    status: u16,
    body: &mut Incoming,
    deadline: Instant,
    cut: &CancellationToken,
) -> Result<Kept, HttpFailure> {
    let unwritable = |error: io::Error| HttpFailure::Unwritable { message: error.to_string() };
    let mut sink = match keep {
        Keep::File { path, bytes_max, wanted } if wanted(status) => {
            Sink::File { file: create(&path).await.map_err(unwritable)?, room: bytes_max, bytes: 0 }
        }
        Keep::Head | Keep::File { .. } => Sink::Head(BytesMut::new()),
    };
    let end = loop {
        let frame = tokio::select! {
            biased;
            () = cut.cancelled() => break BodyEnd::Cut,
            frame = timeout_at(deadline, body.frame()) => frame,
        };
        match frame {
            Err(_) => break BodyEnd::TimedOut,
            Ok(None) => break BodyEnd::Complete,
            Ok(Some(Err(_))) => break BodyEnd::Broken,
            Ok(Some(Ok(frame))) => {
                let Ok(data) = frame.into_data() else { continue };
                if !sink.take(&data).await.map_err(unwritable)? {
                    break BodyEnd::Truncated;
                }
            }
        }
    };
    sink.finish(end).await.map_err(unwritable)
}

async fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).await
}

impl Sink {
    /// Whether all of it was kept.
    async fn take(&mut self, data: &[u8]) -> io::Result<bool> {
        match self {
            Self::Head(head) => {
                let room = RECEIPT_BODY_BYTES_MAX - head.len();
                head.extend_from_slice(&data[..data.len().min(room)]);
                Ok(data.len() <= room)
            }
            Self::File { file, room, bytes } => {
                let taken = data.len().min(usize::try_from(*room).unwrap_or(usize::MAX));
                file.write_all(&data[..taken]).await?;
                *room -= taken as u64;
                *bytes += taken as u64;
                Ok(taken == data.len())
            }
        }
    }

    async fn finish(self, end: BodyEnd) -> io::Result<Kept> {
        match self {
            Self::Head(head) => Ok(Kept { bytes: head.len() as u64, head: head.freeze(), end }),
            Self::File { mut file, bytes, .. } => {
                // What is written comes to the file later; an error of that is told here.
                file.flush().await?;
                Ok(Kept { head: Bytes::new(), bytes, end })
            }
        }
    }
}
