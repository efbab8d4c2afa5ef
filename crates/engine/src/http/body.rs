//! The body of a request, streamed from a file in bounded pieces.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream as _;
use http_body::{Body, Frame, SizeHint};
use orbit_core::dispatch::outcome::{HttpFailure, Phase};
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;
use tokio_util::io::ReaderStream;

use super::FileBody;
use super::progress::Progress;

/// Bytes that are read from the file at once; a connection holds only a few pieces.
const PIECE_BYTES: usize = 64 * 1024;

/// See the module. An absent body is one of no bytes.
pub(super) struct RequestBody {
    pieces: Option<ReaderStream<tokio::io::Take<File>>>,
    remaining: u64,
    progress: Progress,
}

impl RequestBody {
    /// Opens the file, which must have the length that it is said to have: the length is announced before the first byte is read.
    pub(super) async fn open(body: Option<&FileBody>, progress: &Progress) -> Result<Self, HttpFailure> {
        let Some(FileBody { path, bytes }) = body else {
            return Ok(Self { pieces: None, remaining: 0, progress: progress.clone() });
        };
        let unreadable = |error: io::Error| HttpFailure::Unreadable { message: error.to_string() };
        let file = File::open(path).await.map_err(unreadable)?;
        let found = file.metadata().await.map_err(unreadable)?.len();
        if found != *bytes {
            let message = format!("the file has {found} bytes instead of {bytes}");
            return Err(HttpFailure::Unreadable { message });
        }
        let pieces = ReaderStream::with_capacity(file.take(*bytes), PIECE_BYTES);
        Ok(Self { pieces: Some(pieces), remaining: *bytes, progress: progress.clone() })
    }

    /// The bytes that are still to be sent.
    pub(super) fn remaining(&self) -> u64 {
        self.remaining
    }

    fn fail(&mut self, error: io::Error) -> io::Error {
        self.pieces = None;
        self.progress.set_unreadable(error.to_string());
        error
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let body = self.get_mut();
        let Some(pieces) = body.pieces.as_mut().filter(|_| body.remaining > 0) else {
            return Poll::Ready(None);
        };
        match ready!(Pin::new(pieces).poll_next(cx)) {
            Some(Ok(piece)) => {
                let bytes = piece.len() as u64;
                body.remaining = body.remaining.saturating_sub(bytes);
                body.progress.sent(bytes);
                if body.remaining == 0 {
                    body.progress.enter(Phase::Answer);
                }
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(body.fail(error)))),
            None => Poll::Ready(Some(Err(body.fail(io::ErrorKind::UnexpectedEof.into())))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}
