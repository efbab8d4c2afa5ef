//! Both ends of the socket.

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use orbit_engine::layout::Layout;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Answer, CONNECTIONS_MAX, Command, LINE_BYTES_MAX, Refusal, execute};
use crate::engine::Engine;

/// The pause after a connection that could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the socket cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Nobody listens.
    #[error("no process serves this home")]
    NobodyListens,
    /// Something else.
    #[error("the control socket `{}` failed: {source}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The other side closed, or spoke something else.
    #[error("the process that serves this home gave no answer")]
    NoAnswer,
}

/// A socket's path is limited to 107 bytes, a home's is not: the folder is opened and the socket named through its descriptor.
struct Address {
    path: PathBuf,
    short: PathBuf,
    _folder: File,
}

impl Address {
    fn of(layout: &Layout) -> Result<Self, SocketError> {
        let path = layout.socket();
        let folder = File::open(layout.run()).map_err(|source| nobody_or(&path, source))?;
        let short = PathBuf::from(format!("/proc/self/fd/{}/orbit.sock", folder.as_raw_fd()));
        Ok(Self { path, short, _folder: folder })
    }

    fn io(&self, source: std::io::Error) -> SocketError {
        SocketError::Io { path: self.path.clone(), source }
    }
}

/// What is not there, or refuses, has nobody behind it.
fn nobody_or(path: &Path, source: std::io::Error) -> SocketError {
    if matches!(source.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) {
        return SocketError::NobodyListens;
    }
    SocketError::Io { path: path.to_owned(), source }
}

/// The asking end.
pub struct Connection {
    stream: BufReader<UnixStream>,
}

impl Connection {
    /// Connects to the process that serves the home.
    pub async fn open(layout: &Layout) -> Result<Self, SocketError> {
        let address = Address::of(layout)?;
        let stream =
            UnixStream::connect(&address.short).await.map_err(|source| nobody_or(&address.path, source))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Asks, and waits for the answer.
    pub async fn ask(&mut self, command: &Command) -> Result<Answer, SocketError> {
        let mut line = serde_json::to_vec(command).map_err(|_| SocketError::NoAnswer)?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line).await.map_err(|_| SocketError::NoAnswer)?;
        let answer = read_line(&mut self.stream).await.ok().flatten().ok_or(SocketError::NoAnswer)?;
        serde_json::from_slice(&answer).map_err(|_| SocketError::NoAnswer)
    }
}

/// Serves commands until stopped; the task ends when the socket is gone. The caller holds the home's lock, so a socket that lies there is a
/// dead one.
pub async fn listen(engine: Arc<Engine>, stop: CancellationToken) -> Result<JoinHandle<()>, SocketError> {
    let address = Address::of(&engine.layout)?;
    _ = std::fs::remove_file(&address.path);
    let listener = UnixListener::bind(&address.short).map_err(|source| address.io(source))?;
    std::fs::set_permissions(&address.path, std::fs::Permissions::from_mode(0o600))
        .map_err(|source| address.io(source))?;
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    Ok(tokio::spawn(async move {
        let accept = async {
            loop {
                let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { break };
                let Ok((stream, _)) = listener.accept().await else {
                    // Out of descriptors, most likely: others must end first.
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                };
                let engine = Arc::clone(&engine);
                tokio::spawn(async move {
                    answer(&engine, stream).await;
                    drop(permit);
                });
            }
        };
        tokio::select! {
            () = accept => {}
            () = stop.cancelled() => {}
        }
        _ = std::fs::remove_file(&address.path);
    }))
}

async fn answer(engine: &Engine, stream: UnixStream) {
    // The folder is owner-only already; this also holds where its mode was changed by hand.
    let owner = nix::unistd::geteuid().as_raw();
    if !stream.peer_cred().is_ok_and(|peer| peer.uid() == owner || peer.uid() == 0) {
        return;
    }
    let mut stream = BufReader::new(stream);
    while let Ok(Some(line)) = read_line(&mut stream).await {
        let answer = match serde_json::from_slice::<Command>(&line) {
            Ok(command) => match execute(engine, command).await {
                Ok(value) => Answer::Ok(value),
                Err(refusal) => Answer::Refused(refusal),
            },
            Err(error) => Answer::Refused(Refusal::usage(
                format!("the command is not understood: {error}"),
                "use the `orbit` of the version that serves this home",
            )),
        };
        let Ok(mut line) = serde_json::to_vec(&answer) else { return };
        line.push(b'\n');
        if stream.get_mut().write_all(&line).await.is_err() {
            return;
        }
    }
}

async fn read_line(stream: &mut BufReader<UnixStream>) -> std::io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    stream.take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await?;
    Ok(line.ends_with(b"\n").then_some(line))
}
