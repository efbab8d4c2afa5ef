//! The HTTP client: everything that leaves the node over HTTP goes through it.
//!
//! An exchange resolves the name, judges every address with the guard of `orbit_core::dispatch`, and dials a judged address itself, so that
//! no second look-up can change it. One connection an exchange, HTTP/1.1, no redirect, no cookie, no pool. The whole of it has one deadline,
//! the request's body is streamed, and what is kept of the answer is bounded. It never decides what an answer means.

mod body;
mod connect;
mod exchange;
mod network;
mod progress;
#[cfg(test)]
pub(crate) mod tests;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use ipnet::IpNet;
use orbit_core::dispatch::outcome::HttpFailure;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

pub use body::{Body, Piece};
pub use network::{Dialer, Resolver, Stream, SystemDialer, SystemResolver};
pub use progress::Timings;
pub use tls::TlsRoots;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    resolver: Arc<dyn Resolver>,
    dialer: Arc<dyn Dialer>,
    tls: tls::Tls,
}

/// What to send.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// An `http` or `https` address without a user name and fragment.
    pub url: String,
    /// The headers besides `host`, `connection` and `content-length`.
    pub headers: HeaderMap,
    /// The body.
    pub body: Body,
    /// From resolving the name to the last byte of the answer.
    pub timeout: Duration,
    /// Networks that may be dialed although they are not public.
    pub allow: Vec<IpNet>,
}

/// What became of a request.
#[derive(Debug)]
pub struct Exchange {
    /// The answer, or why there is none.
    pub result: Result<Answer, HttpFailure>,
    /// The address that took the connection.
    pub address: Option<SocketAddr>,
    /// Bytes of the request's body that were handed to the connection.
    pub body_bytes_sent: u64,
    /// How long it took.
    pub timings: Timings,
}

/// An answer. As soon as its head is complete there is one, however its body ended.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The first bytes of the body, at most [`orbit_core::limits::RECEIPT_BODY_BYTES_MAX`].
    pub body: Bytes,
    /// How the body ended.
    pub body_end: BodyEnd,
}

/// How the body of an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BodyEnd {
    /// All of it was read.
    Complete,
    /// It is longer than what is kept, and the rest was not read.
    Truncated,
    /// The time was over.
    TimedOut,
    /// The connection ended before it, or it was malformed.
    Broken,
    /// It was ended from this side.
    Cut,
}

impl Client {
    /// The machine's resolver and network, and the machine's root certificates, which are read when the first `https` address is met.
    pub fn system() -> Self {
        Self::new(Arc::new(SystemResolver), Arc::new(SystemDialer))
    }

    /// Another resolver and network; the machine's root certificates.
    pub fn new(resolver: Arc<dyn Resolver>, dialer: Arc<dyn Dialer>) -> Self {
        Self::with_roots(resolver, dialer, TlsRoots::System)
    }

    /// Another resolver, network and set of root certificates.
    pub fn with_roots(resolver: Arc<dyn Resolver>, dialer: Arc<dyn Dialer>, roots: TlsRoots) -> Self {
        Self { resolver, dialer, tls: tls::Tls::new(roots) }
    }

    /// Sends the request and waits for the answer, no longer than its timeout and not after `cut` is cancelled.
    pub async fn send(&self, request: Request, cut: &CancellationToken) -> Exchange {
        exchange::run(self, request, cut).await
    }
}
