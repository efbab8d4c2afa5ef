//! The receiver of deliveries: takes a body, answers 200, and tells whoever waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// The longest head that is read.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// See the module.
pub(crate) struct Receiver {
    /// Where it listens.
    pub(crate) url: String,
    /// Bodies that came whole.
    pub(crate) received: Arc<AtomicU64>,
}

impl Receiver {
    /// Starts on a free port of the loopback interface. Each body gives one permit back.
    pub(crate) async fn start(permits: Arc<Semaphore>) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/", listener.local_addr()?);
        let received = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&received);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (count, permits) = (Arc::clone(&count), Arc::clone(&permits));
                tokio::spawn(async move {
                    if answer(stream).await.is_ok() {
                        count.fetch_add(1, Ordering::SeqCst);
                        permits.add_permits(1);
                    }
                });
            }
        });
        Ok(Self { url, received })
    }
}

async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let broken = || std::io::Error::from(std::io::ErrorKind::InvalidData);
    let mut read = Vec::with_capacity(HEAD_BYTES_MAX);
    let head = loop {
        if stream.read_buf(&mut read).await? == 0 || read.len() > HEAD_BYTES_MAX {
            return Err(broken());
        }
        if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let text = String::from_utf8_lossy(&read[..head]).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).ok_or_else(broken)?;
    let mut left = length.trim().parse::<usize>().map_err(|_| broken())?.saturating_sub(read.len() - head);
    let mut piece = vec![0; 16 * 1024];
    while left > 0 {
        let count = stream.read(&mut piece).await?;
        if count == 0 {
            return Err(broken());
        }
        left = left.saturating_sub(count);
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok").await?;
    stream.shutdown().await
}
