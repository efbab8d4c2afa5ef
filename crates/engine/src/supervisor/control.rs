//! The control pipe: the program to run comes first, and anything after it means "end it now".

use std::io::Stdin;

use super::protocol::PROGRAM_BYTES_MAX;

/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;

/// The reading end of the control pipe, which is standard input.
pub(super) struct Control {
    pipe: Stdin,
    stop: Option<Stop>,
}

/// Why the program is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The engine asked for it.
    Asked,
    /// The engine is gone.
    Abandoned,
}

impl Control {
    /// The control pipe of this process.
    pub(super) fn new() -> Self {
        Self { pipe: std::io::stdin(), stop: None }
    }

    /// The first line, without its end; none if the engine is gone or sent too much. Blocks.
    pub(super) fn first_line(&mut self) -> Option<Vec<u8>> {
        let mut line = Vec::new();
        loop {
            let received = self.receive()?;
            let (now, after) = match received.iter().position(|byte| *byte == b'\n') {
                Some(end) => (&received[..end], Some(&received[end + 1..])),
                None => (&received[..], None),
            };
            if line.len() + now.len() > PROGRAM_BYTES_MAX {
                return None;
            }
            line.extend_from_slice(now);
            if let Some(after) = after {
                self.stop = (!after.is_empty()).then_some(Stop::Asked);
                return Some(line);
            }
        }
    }

    /// What to wait on; none once the end was asked for, since the pipe's own end would be ready for ever.
    pub(super) fn pending(&self) -> Option<&Stdin> {
        self.stop.is_none().then_some(&self.pipe)
    }

    /// Takes note of what has come. Blocks unless the pipe is ready.
    pub(super) fn note(&mut self) {
        self.stop = Some(if self.receive().is_some() { Stop::Asked } else { Stop::Abandoned });
    }

    /// Whether and why the program is to end.
    pub(super) fn stop(&self) -> Option<Stop> {
        self.stop
    }

    /// Some bytes, or none at the end. The standard library's reader is not used: it would read ahead, and a poll would not see what it holds.
    fn receive(&self) -> Option<Vec<u8>> {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            match nix::unistd::read(&self.pipe, &mut buffer) {
                Ok(0) => return None,
                Ok(count) => {
                    buffer.truncate(count);
                    return Some(buffer);
                }
                Err(nix::errno::Errno::EINTR) => {}
                Err(_) => return None,
            }
        }
    }
}
