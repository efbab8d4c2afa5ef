//! The body of a request: pieces whose length is known before the first byte is sent, streamed in constant memory.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::Stream as _;
use http_body::{Frame, SizeHint};
use orbit_core::dispatch::outcome::{HttpFailure, Phase};
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;
use tokio_util::io::ReaderStream;

use super::progress::Progress;

/// Bytes that are read from a file at once; a connection holds only a few of these.
const READ_BYTES: usize = 64 * 1024;

/// The pieces of a request's body, in order. No pieces are a body of no bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body {
    /// The pieces.
    pub pieces: Vec<Piece>,
}

/// A piece of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// These bytes.
    Bytes(Bytes),
    /// The bytes of a file.
    File {
        /// The file.
        path: PathBuf,
        /// Its length in bytes; a file of another length is not sent.
        bytes: u64,
    },
    /// The bytes of a file in base64 (RFC 4648, section 4, with padding), encoded while it is read.
    Base64 {
        /// The file.
        path: PathBuf,
        /// Its length in bytes, before it is encoded; a file of another length is not sent.
        bytes: u64,
    },
}

impl Body {
    /// A file as it is.
    pub fn file(path: impl Into<PathBuf>, bytes: u64) -> Self {
        Self { pieces: vec![Piece::File { path: path.into(), bytes }] }
    }

    /// What goes over the wire, in bytes.
    pub fn bytes(&self) -> u64 {
        self.pieces.iter().map(Piece::bytes).fold(0, u64::saturating_add)
    }
}

impl Piece {
    /// What goes over the wire, in bytes.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { bytes, .. } => *bytes,
            Self::Base64 { bytes, .. } => bytes.div_ceil(3).saturating_mul(4),
        }
    }
}

/// A body on its way: every file is open and has the length that was announced for it.
pub(super) struct Outgoing {
    sources: VecDeque<Source>,
    remaining: u64,
    progress: Progress,
}

enum Source {
    Bytes(Bytes),
    File(Reading),
    /// What was read and not encoded yet: fewer than three bytes.
    Base64(Reading, Vec<u8>),
}

/// A file, of which exactly this much is still to be read.
struct Reading {
    stream: ReaderStream<tokio::io::Take<File>>,
    left: u64,
}

impl Outgoing {
    /// Opens every file, which must have the length that it is said to have: the length is announced before the first byte is read.
    pub(super) async fn open(body: Body, progress: &Progress) -> Result<Self, HttpFailure> {
        let remaining = body.bytes();
        let mut sources = VecDeque::with_capacity(body.pieces.len());
        for piece in body.pieces {
            sources.push_back(match piece {
                Piece::Bytes(bytes) => Source::Bytes(bytes),
                Piece::File { path, bytes } => Source::File(Reading::open(&path, bytes).await?),
                Piece::Base64 { path, bytes } => {
                    Source::Base64(Reading::open(&path, bytes).await?, Vec::new())
                }
            });
        }
        Ok(Self { sources, remaining, progress: progress.clone() })
    }

    /// The bytes that are still to be sent.
    pub(super) fn remaining(&self) -> u64 {
        self.remaining
    }

    fn sent(&mut self, bytes: u64) {
        self.remaining = self.remaining.saturating_sub(bytes);
        self.progress.sent(bytes);
        if self.remaining == 0 {
            self.progress.enter(Phase::Answer);
        }
    }
}

impl Source {
    /// The next bytes, which may be none while there is more to come.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        match self {
            Self::Bytes(bytes) => Poll::Ready(match std::mem::take(bytes) {
                bytes if bytes.is_empty() => None,
                bytes => Some(Ok(bytes)),
            }),
            Self::File(reading) => reading.poll_next(cx),
            Self::Base64(reading, rest) => Poll::Ready(match ready!(reading.poll_next(cx)) {
                Some(Ok(read)) => {
                    rest.extend_from_slice(&read);
                    let whole = rest.len() - rest.len() % 3;
                    let encoded = STANDARD.encode(&rest[..whole]);
                    rest.drain(..whole);
                    Some(Ok(encoded.into()))
                }
                Some(Err(error)) => Some(Err(error)),
                None if rest.is_empty() => None,
                None => Some(Ok(STANDARD.encode(std::mem::take(rest)).into())),
            }),
        }
    }
}

impl Reading {
    async fn open(path: &Path, bytes: u64) -> Result<Self, HttpFailure> {
        let unreadable = |error: io::Error| HttpFailure::Unreadable { message: error.to_string() };
        let file = File::open(path).await.map_err(unreadable)?;
        let found = file.metadata().await.map_err(unreadable)?.len();
        if found != bytes {
            let message = format!("the file has {found} bytes instead of {bytes}");
            return Err(HttpFailure::Unreadable { message });
        }
        let stream = ReaderStream::with_capacity(file.take(bytes), READ_BYTES);
        Ok(Self { stream, left: bytes })
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let read = ready!(Pin::new(&mut self.stream).poll_next(cx));
        Poll::Ready(Some(match read {
            Some(Ok(read)) => {
                self.left = self.left.saturating_sub(read.len() as u64);
                Ok(read)
            }
            Some(Err(error)) => Err(error),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }))
    }
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let body = self.get_mut();
        while let Some(source) = body.sources.front_mut() {
            match ready!(source.poll_next(cx)) {
                Some(Ok(bytes)) if bytes.is_empty() => {}
                Some(Ok(bytes)) => {
                    body.sent(bytes.len() as u64);
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                Some(Err(error)) => {
                    body.sources.clear();
                    body.progress.set_unreadable(error.to_string());
                    return Poll::Ready(Some(Err(error)));
                }
                None => _ = body.sources.pop_front(),
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}
