//! What a program writes into its pipes: read as it comes, so that it never blocks, and kept within bounds.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use orbit_core::limits::STDERR_TAIL_BYTES_MAX;

/// Bytes read at once.
const READ_BYTES: usize = 16 << 10;
/// Reads before the supervisor looks at something else.
const READS_PER_TURN: usize = 64;

/// The last bytes of a stream.
#[derive(Default)]
pub(super) struct Tail {
    bytes: VecDeque<u8>,
}

/// A pipe that is read without blocking until it ends.
pub(super) struct Pipe<R> {
    reader: Option<R>,
}

impl Tail {
    /// Adds bytes, and forgets the oldest ones beyond the bound.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let kept = &bytes[bytes.len().saturating_sub(STDERR_TAIL_BYTES_MAX)..];
        let excess = (self.bytes.len() + kept.len()).saturating_sub(STDERR_TAIL_BYTES_MAX);
        self.bytes.drain(..excess);
        self.bytes.extend(kept);
    }

    /// The bytes kept.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes.into()
    }
}

impl<R: Read + AsFd> Pipe<R> {
    /// A pipe over the reading end. One that cannot be made non-blocking is not read at all, since it could hold up everything else.
    pub(super) fn new(reader: Option<R>) -> Self {
        let nonblocking = |reader: &R| fcntl(reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).is_ok();
        Self { reader: reader.filter(nonblocking) }
    }

    /// The reading end, until the pipe has ended.
    pub(super) fn open(&self) -> Option<&R> {
        self.reader.as_ref()
    }

    /// Hands over what is there, a bounded amount; true if there may be more right now.
    pub(super) fn read(&mut self, mut take: impl FnMut(&[u8])) -> bool {
        let mut buffer = [0; READ_BYTES];
        for _ in 0..READS_PER_TURN {
            let Some(reader) = &mut self.reader else { return false };
            match reader.read(&mut buffer) {
                Ok(0) => self.reader = None,
                Ok(count) => take(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(_) => self.reader = None,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_the_end() {
        let check = |pieces: &[usize], expected_len: usize| {
            let mut tail = Tail::default();
            let mut all = Vec::new();
            for (index, length) in pieces.iter().enumerate() {
                let piece = vec![u8::try_from(index).unwrap(); *length];
                tail.push(&piece);
                all.extend(piece);
            }
            let kept = tail.into_bytes();
            assert_eq!(kept.len(), expected_len, "{pieces:?}");
            assert!(all.ends_with(&kept), "{pieces:?}");
        };
        let max = STDERR_TAIL_BYTES_MAX;
        check(&[], 0);
        check(&[1, 2], 3);
        check(&[max], max);
        check(&[max, 1], max);
        check(&[max - 1, 2], max);
        check(&[5, 3 * max, 7], max);
    }
}
