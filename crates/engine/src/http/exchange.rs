//! One request and its answer over one connection, under one deadline.

use std::error::Error;
use std::io;
use std::time::Duration;

use bytes::BytesMut;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderValue};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use orbit_core::dispatch::outcome::{HttpFailure, Phase};
use orbit_core::limits::{ANSWER_HEAD_BYTES_MAX, RECEIPT_BODY_BYTES_MAX};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use url::{Position, Url};

use super::body::Outgoing;
use super::connect::connect;
use super::progress::Progress;
use super::{Answer, BodyEnd, Client, Exchange, Request};

/// Headers that an answer may have.
const ANSWER_HEADERS_MAX: usize = 128;

/// The head of an answer, and the connection that its body comes from: it ends when this is dropped.
struct Head {
    response: http::Response<Incoming>,
    connection: JoinSet<()>,
}

/// See [`Client::send`].
pub(super) async fn run(client: &Client, request: Request, cut: &CancellationToken) -> Exchange {
    let progress = Progress::start();
    let timeout = request.timeout;
    let deadline = Instant::now() + timeout;
    let head = tokio::select! {
        biased;
        () = cut.cancelled() => Err(HttpFailure::Cut { phase: progress.phase() }),
        head = timeout_at(deadline, head(client, request, &progress)) => {
            head.unwrap_or_else(|_| Err(timed_out(&progress, timeout)))
        }
    };
    let result = match head {
        Ok(head) => Ok(answer(head, deadline, cut, &progress).await),
        Err(failure) => Err(failure),
    };
    let traces = progress.finish();
    Exchange {
        result,
        address: traces.address,
        body_bytes_sent: traces.body_bytes_sent,
        timings: traces.timings,
    }
}

async fn head(client: &Client, request: Request, progress: &Progress) -> Result<Head, HttpFailure> {
    let unsendable = |message: String| HttpFailure::Unsendable { message };
    let url = Url::parse(&request.url).map_err(|error| unsendable(error.to_string()))?;
    let body = Outgoing::open(request.body, progress).await?;
    let mut outgoing = http::Request::new(body);
    *outgoing.method_mut() = request.method;
    *outgoing.uri_mut() = url[Position::BeforePath..Position::AfterQuery]
        .parse()
        .map_err(|error: http::uri::InvalidUri| unsendable(error.to_string()))?;
    *outgoing.headers_mut() = request.headers;
    let host = HeaderValue::from_str(&url[Position::BeforeHost..Position::AfterPort])
        .map_err(|error| unsendable(error.to_string()))?;
    outgoing.headers_mut().insert(HOST, host);
    outgoing.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    let remaining = outgoing.body().remaining();
    // An absent length is one of zero, and it is said where a body is usual (RFC 9110, section 8.6).
    if remaining > 0 || outgoing.method() != http::Method::GET {
        outgoing.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(remaining));
    }

    let stream = connect(client, &url, &request.allow, progress).await?;
    progress.enter(Phase::Send);
    let (mut sender, driver) = http1::Builder::new()
        .max_buf_size(ANSWER_HEAD_BYTES_MAX)
        .max_headers(ANSWER_HEADERS_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failure(&error, progress))?;
    let mut connection = JoinSet::new();
    connection.spawn(async move {
        // What goes wrong here is also told to whoever waits for the answer.
        let _ = driver.await;
    });
    if remaining == 0 {
        progress.enter(Phase::Answer);
    }
    let response = sender.send_request(outgoing).await.map_err(|error| failure(&error, progress))?;
    Ok(Head { response, connection })
}

/// Reads what is kept of the body. The status is known, so nothing that happens here makes it a failure.
async fn answer(mut head: Head, deadline: Instant, cut: &CancellationToken, progress: &Progress) -> Answer {
    progress.enter(Phase::Body);
    let (parts, mut body) = head.response.into_parts();
    let mut kept = BytesMut::new();
    let body_end = loop {
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
                let room = RECEIPT_BODY_BYTES_MAX - kept.len();
                kept.extend_from_slice(&data[..data.len().min(room)]);
                if data.len() > room {
                    break BodyEnd::Truncated;
                }
            }
        }
    };
    head.connection.abort_all();
    Answer { status: parts.status.as_u16(), headers: parts.headers, body: kept.freeze(), body_end }
}

fn timed_out(progress: &Progress, timeout: Duration) -> HttpFailure {
    let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
    HttpFailure::TimedOut { phase: progress.phase(), timeout_ms }
}

fn failure(error: &hyper::Error, progress: &Progress) -> HttpFailure {
    if let Some(message) = progress.unreadable() {
        return HttpFailure::Unreadable { message };
    }
    let message = describe(error);
    // hyper tells this apart in words only.
    if error.is_parse() && message.contains("too large") {
        return HttpFailure::HeadTooLarge;
    }
    let of_the_connection = error.is_incomplete_message()
        || error.is_canceled()
        || error.is_closed()
        || error.is_body_write_aborted()
        || error.source().is_some_and(<dyn Error>::is::<io::Error>);
    if of_the_connection && !error.is_parse() {
        HttpFailure::Closed { phase: progress.phase(), message }
    } else {
        HttpFailure::Malformed { message }
    }
}

/// The error and its causes.
fn describe(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
