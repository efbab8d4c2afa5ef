//! The client against servers that answer well, badly, late, without end or not at all: in memory with a clock that jumps, and on loopback.

mod answers;
mod guarded;
mod hosts;
mod kept;
mod loopback;
mod pieces;

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderMap, Method};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

use super::{Body, Client, Dialer, Exchange, Request, Resolver, Stream};

pub(crate) type Serving = Pin<Box<dyn Future<Output = ()> + Send>>;
pub(crate) type Handler = Box<dyn Fn(Box<dyn Stream>) -> Serving + Send + Sync>;

/// A network in memory: every address leads to the handler, and everything that is asked of it is noted.
pub(crate) struct Net {
    /// What each look-up finds; the last one repeats.
    names: Mutex<VecDeque<Vec<IpAddr>>>,
    dialed: Mutex<Vec<SocketAddr>>,
    unreachable: Vec<IpAddr>,
    handler: Handler,
}

impl Net {
    pub(crate) fn new(handler: Handler) -> Arc<Self> {
        Self::with_names(&[&["93.184.216.34"]], &[], handler)
    }

    pub(crate) fn with_names(names: &[&[&str]], unreachable: &[&str], handler: Handler) -> Arc<Self> {
        let parse =
            |list: &[&str]| list.iter().map(|address| address.parse().unwrap()).collect::<Vec<IpAddr>>();
        Arc::new(Self {
            names: Mutex::new(names.iter().map(|name| parse(name)).collect()),
            dialed: Mutex::default(),
            unreachable: parse(unreachable),
            handler,
        })
    }

    pub(crate) fn client(self: &Arc<Self>) -> Client {
        Client::new(Arc::<Self>::clone(self), Arc::<Self>::clone(self))
    }

    pub(crate) fn dialed(&self) -> Vec<String> {
        self.dialed.lock().unwrap().iter().map(ToString::to_string).collect()
    }
}

#[async_trait]
impl Resolver for Net {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        if host == "unknown.test" {
            return Err(io::Error::other("no such name"));
        }
        assert_ne!(host, "panic.test", "a resolver with a defect");
        let mut names = self.names.lock().unwrap();
        let found = if names.len() > 1 { names.pop_front() } else { names.front().cloned() };
        Ok(found.unwrap_or_default())
    }
}

#[async_trait]
impl Dialer for Net {
    async fn dial(&self, address: SocketAddr) -> io::Result<Box<dyn Stream>> {
        self.dialed.lock().unwrap().push(address);
        if self.unreachable.contains(&address.ip()) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (ours, theirs) = tokio::io::duplex(16 * 1024);
        tokio::spawn((self.handler)(Box::new(theirs)));
        Ok(Box::new(ours))
    }
}

pub(crate) fn handler<F, Fut>(serve: F) -> Handler
where
    F: Fn(Box<dyn Stream>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    Box::new(move |stream| Box::pin(serve(stream)))
}

/// Reads the whole request, then writes these bytes and closes.
fn answering(answer: &'static [u8]) -> Handler {
    handler(move |mut stream| async move {
        read_request(&mut stream).await;
        // The client may have had enough before the end.
        let _ = stream.write_all(answer).await;
        let _ = stream.shutdown().await;
    })
}

/// The head of a request as text, and its body.
pub(crate) async fn read_request(stream: &mut impl Stream) -> (String, Vec<u8>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await.unwrap();
    (head, body)
}

fn request(url: &str) -> Request {
    Request {
        method: Method::POST,
        url: url.to_owned(),
        headers: HeaderMap::new(),
        body: Body::default(),
        timeout: Duration::from_secs(30),
        allow: Vec::new(),
    }
}

fn body(content: &[u8]) -> (tempfile::TempPath, Body) {
    let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    std::fs::write(&path, content).unwrap();
    let file = Body::file(&*path, content.len() as u64);
    (path, file)
}

async fn send(client: &Client, request: Request) -> Exchange {
    client.send(request, &CancellationToken::new()).await
}
