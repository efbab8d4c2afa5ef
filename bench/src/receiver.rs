//! The receiver of deliveries: takes a body, answers 200 or, for as long as it refuses, 422, and tells whoever waits for it. A connection stays open for whoever
//! does not ask for its end.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// The longest head that is read.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const TAKEN: &str = "200 OK";
/// It is there and does not want it, so nobody waits for it.
const REFUSED: &str = "422 Unprocessable Content";

/// See the module.
pub(crate) struct Receiver {
    /// Where it listens.
    pub(crate) url: String,
    /// Bodies that came whole.
    pub(crate) received: Arc<AtomicU64>,
    /// Whether it takes none.
    pub(crate) refuses: Arc<AtomicBool>,
    keys: Keys,
}

/// Of deliveries, where they are told apart.
type Keys = Arc<Mutex<Option<BTreeSet<String>>>>;

/// What came.
struct Request {
    /// What the sender calls it.
    key: String,
    /// Whether it is the last one of its connection.
    closes: bool,
}

impl Receiver {
    /// Starts on a free port of the loopback interface. Each body gives one permit back.
    pub(crate) async fn start(permits: Arc<Semaphore>) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/", listener.local_addr()?);
        let received = Arc::new(AtomicU64::new(0));
        let refuses = Arc::new(AtomicBool::new(false));
        let keys = Keys::default();
        let (count, is_closed, met) = (Arc::clone(&received), Arc::clone(&refuses), Arc::clone(&keys));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let status = if is_closed.load(Ordering::SeqCst) { REFUSED } else { TAKEN };
                let (count, permits, met) = (Arc::clone(&count), Arc::clone(&permits), Arc::clone(&met));
                // A sender that breaks off has not delivered.
                tokio::spawn(serve(stream, status, move |key| {
                    if let Some(keys) = &mut *met.lock().unwrap_or_else(PoisonError::into_inner) {
                        keys.insert(key);
                    }
                    count.fetch_add(1, Ordering::SeqCst);
                    permits.add_permits(1);
                }));
            }
        });
        Ok(Self { url, received, refuses, keys })
    }

    /// From now on deliveries are told apart by their key; none has come.
    pub(crate) fn tell_apart(&self) {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        self.received.store(0, Ordering::SeqCst);
        *keys = Some(BTreeSet::new());
    }

    /// How many different ones have come since then, and how many that were there already.
    pub(crate) fn keys(&self) -> (usize, u64) {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let different = keys.as_ref().map_or(0, BTreeSet::len);
        let all = self.received.load(Ordering::SeqCst);
        (different, all.saturating_sub(u64::try_from(different).unwrap_or(u64::MAX)))
    }

    /// Its host and port.
    pub(crate) fn address(&self) -> &str {
        self.url.trim_start_matches("http://").trim_end_matches('/')
    }
}

async fn serve(mut stream: TcpStream, status: &str, came: impl Fn(String)) -> std::io::Result<()> {
    let mut read = Vec::with_capacity(HEAD_BYTES_MAX);
    while let Some(request) = take(&mut stream, &mut read).await? {
        let then = if request.closes { "connection: close\r\n" } else { "" };
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n{then}\r\nok");
        stream.write_all(answer.as_bytes()).await?;
        if request.closes {
            stream.shutdown().await?;
            came(request.key);
            break;
        }
        came(request.key);
    }
    Ok(())
}

/// The next request, whose body is dropped; none if there is no more. What was read already of the one after it is left in `read`.
async fn take(stream: &mut TcpStream, read: &mut Vec<u8>) -> std::io::Result<Option<Request>> {
    let broken = || std::io::Error::from(std::io::ErrorKind::InvalidData);
    let head = loop {
        if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if read.len() > HEAD_BYTES_MAX {
            return Err(broken());
        }
        if stream.read_buf(read).await? == 0 {
            return if read.is_empty() { Ok(None) } else { Err(broken()) };
        }
    };
    let text = String::from_utf8_lossy(&read[..head]).to_ascii_lowercase();
    let header = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let key = header("idempotency-key:").or(header("x-run-id:")).unwrap_or_default().to_owned();
    let closes = header("connection:") == Some("close");
    let length =
        header("content-length:").and_then(|length| length.parse::<usize>().ok()).ok_or_else(broken)?;
    let mut left = (head + length).saturating_sub(read.len());
    read.drain(..read.len().min(head + length));
    while left > 0 {
        // What is over is the next request's.
        let before = read.len();
        if stream.read_buf(read).await? == 0 {
            return Err(broken());
        }
        let body = left.min(read.len() - before);
        read.drain(before..before + body);
        left -= body;
    }
    Ok(Some(Request { key, closes }))
}
