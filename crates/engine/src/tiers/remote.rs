//! The processor that is a service: one request with the input, and where the service asks for it further ones until it has finished.
//!
//! Every request goes through the guarded client. All of them together have one deadline, what comes back is streamed into the work folder
//! up to `limits.output`, and a `Location` is followed within the configured origin only, so that credentials never leave it.

use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderMap, LOCATION, RETRY_AFTER};
use orbit_core::config::{Completion, HttpProcessor, NamespaceName};
use orbit_core::dispatch::follow;
use orbit_core::dispatch::outcome::{HttpFailure, retry_after_seconds_of};
use orbit_core::limits::{POLL_MISSES_MAX, POLL_WAIT_MAX, POLLS_MAX};
use orbit_core::tiers::{Failure, Hop, Meaning, RemoteFailure, is_passing, meaning};
use serde_json::{Map, Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::processor::{Assignment, Attempted};
use super::remote_request::{Outgoing, prepare};
use crate::clock::Clock;
use crate::http::{self as client, Account, Answer, Body, Client, Exchange, Keep, Request, facts};
use crate::secrets::Secrets;

/// See the module.
pub(super) struct Remote {
    /// What the operator wrote.
    pub document: HttpProcessor,
    /// The media type of the input.
    pub input_media_type: String,
    /// Whose secrets it is given.
    pub namespace: NamespaceName,
    /// Looks its secrets up.
    pub secrets: Arc<dyn Secrets>,
    /// Sends.
    pub client: Client,
    /// Reads dates, and makes boundaries.
    pub clock: Arc<dyn Clock>,
}

/// An attempt under way.
struct Talk<'a> {
    remote: &'a Remote,
    job: &'a Assignment,
    cancel: &'a CancellationToken,
    deadline: Instant,
    /// What every request carries.
    headers: HeaderMap,
    /// Facts about the request with the input.
    first: Option<Map<String, Value>>,
    /// The last exchange.
    last: Option<Exchange>,
    /// What its request was given to end.
    timeout: Duration,
    polls: u32,
}

impl Remote {
    /// Makes one attempt.
    pub(super) async fn process(&self, job: &Assignment, cancel: &CancellationToken) -> Attempted {
        let Outgoing { url, headers, first, body, confidential } = match prepare(self, job).await {
            Ok(outgoing) => outgoing,
            Err(failure) => return Attempted::of(Err(failure)),
        };
        let mut talk = Talk {
            remote: self,
            job,
            cancel,
            deadline: Instant::now() + job.wall,
            headers,
            first: None,
            last: None,
            timeout: Duration::ZERO,
            polls: 0,
        };
        let result = talk.through(url, first, body).await;
        talk.attempted(result, &confidential)
    }
}

impl Talk<'_> {
    /// From the request with the input to the output.
    async fn through(
        &mut self,
        mut url: String,
        mut headers: HeaderMap,
        mut body: Body,
    ) -> Result<(), Failure> {
        let mut hop = Hop::First(self.remote.document.completion);
        let mut misses = 0;
        headers.extend(self.headers.clone());
        loop {
            let asked = self.send(hop, &url, headers, body).await;
            if self.first.is_none() {
                self.first = self.last.as_ref().map(facts);
            }
            let meant = match &asked {
                Ok(answer) => meaning(hop, answer.status),
                Err(failure) if hop.is_first() || !passes(failure) => Meaning::Failed,
                Err(_) => Meaning::AskAgain,
            };
            match meant {
                Meaning::Output => return self.whole(&asked?),
                Meaning::Wait => {
                    url = location(&asked?, hop, &url)?;
                    (hop, misses) = (Hop::Poll, 0);
                }
                Meaning::SeeOther => {
                    url = location(&asked?, Hop::First(Completion::Poll), &url)?;
                    (hop, misses) = (Hop::Result, 0);
                }
                Meaning::AskAgain if misses < POLL_MISSES_MAX => misses += 1,
                Meaning::AskAgain | Meaning::Failed => return Err(self.failed(hop, &asked?)),
            }
            self.pause(meant).await?;
            (headers, body) = (self.headers.clone(), Body::default());
        }
    }

    async fn send(&mut self, hop: Hop, url: &str, headers: HeaderMap, body: Body) -> Result<Answer, Failure> {
        let document = &self.remote.document;
        let left = self.deadline.saturating_duration_since(Instant::now());
        self.timeout = document.timeout.to_duration().min(left);
        let request = Request {
            method: if hop.is_first() { client::method(document.method) } else { http::Method::GET },
            url: url.to_owned(),
            headers,
            body,
            timeout: self.timeout,
            allow: document.addresses.allow.clone(),
        };
        let keep = Keep::File {
            path: self.job.work.output().to_owned(),
            bytes_max: document.limits.output.0,
            wanted: wanted(hop),
        };
        let exchange = self.remote.client.fetch(request, keep, self.cancel).await;
        let answer = client::answered(&exchange).cloned();
        self.last = Some(exchange);
        answer.map_err(|why| self.unless_late(why.into()))
    }

    /// The output, if all of it came.
    fn whole(&self, answer: &Answer) -> Result<(), Failure> {
        let bytes_max = self.remote.document.limits.output.0;
        client::whole(answer, bytes_max, self.timeout).map_err(|why| self.unless_late(why.into()))
    }

    /// A request that ran out of the attempt's time, not of its own, says so.
    fn unless_late(&self, failure: Failure) -> Failure {
        let of_request = self.remote.document.timeout.to_duration();
        let timed_out = matches!(
            failure,
            Failure::Remote { remote: RemoteFailure::NoAnswer { failure: HttpFailure::TimedOut { .. } } }
        );
        if timed_out && self.timeout < of_request { self.timed_out() } else { failure }
    }

    fn timed_out(&self) -> Failure {
        Failure::TimedOut { wall_ms: u64::try_from(self.job.wall.as_millis()).unwrap_or(u64::MAX) }
    }

    fn failed(&self, hop: Hop, answer: &Answer) -> Failure {
        if hop == Hop::First(Completion::Sync) && answer.status == 202 {
            return RemoteFailure::NotFinished.into();
        }
        let status = answer.status;
        RemoteFailure::Status { status, retry_after_seconds: self.retry_after(answer) }.into()
    }

    fn retry_after(&self, answer: &Answer) -> Option<u32> {
        let counts = matches!(answer.status, 202 | 429 | 503);
        let text = answer.headers.get(RETRY_AFTER).filter(|_| counts)?.to_str().ok()?;
        retry_after_seconds_of(text, self.remote.clock.now())
    }

    /// Waits until the service may be asked once more.
    async fn pause(&mut self, meant: Meaning) -> Result<(), Failure> {
        if self.polls >= POLLS_MAX {
            return Err(RemoteFailure::polls_exhausted().into());
        }
        self.polls += 1;
        let answer = self.last.as_ref().and_then(|last| last.result.as_ref().ok());
        let asked_for = answer.and_then(|answer| self.retry_after(answer)).unwrap_or_default();
        let asked_for = Duration::from_secs(asked_for.into()).min(POLL_WAIT_MAX.to_duration());
        let wait = match meant {
            // What has been finished can be fetched at once.
            Meaning::SeeOther => Duration::ZERO,
            Meaning::Wait | Meaning::AskAgain | Meaning::Output | Meaning::Failed => {
                self.remote.document.poll.every.to_duration().max(asked_for)
            }
        };
        let left = self.deadline.saturating_duration_since(Instant::now());
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(Failure::Cancelled),
            () = tokio::time::sleep(wait.min(left)) => {
                if wait < left { Ok(()) } else { Err(self.timed_out()) }
            }
        }
    }

    fn attempted(self, result: Result<(), Failure>, confidential: &[String]) -> Attempted {
        let account = Account { confidential };
        let Some(last) = self.last else { return Attempted::of(result) };
        let mut told = facts(&last);
        if self.polls > 0 {
            told.insert("polls".to_owned(), json!(self.polls));
            told.insert("first".to_owned(), json!(self.first));
        }
        let answer = last.result.as_ref().ok().filter(|_| result.is_err());
        let answer = answer.and_then(|answer| account.body(answer));
        let facts = Map::from_iter([("http".to_owned(), Value::Object(told))]);
        Attempted { facts, answer, ..Attempted::of(result) }
    }
}

/// Where to ask next. A service that was told where to be asked need not say it again.
fn location(answer: &Answer, hop: Hop, url: &str) -> Result<String, Failure> {
    let status = answer.status;
    let Some(location) = answer.headers.get(LOCATION) else {
        return match hop {
            Hop::Poll | Hop::Result => Ok(url.to_owned()),
            Hop::First(_) => Err(RemoteFailure::LocationMissing { status }.into()),
        };
    };
    let location = String::from_utf8_lossy(location.as_bytes());
    follow(url, &location).map_err(|error| RemoteFailure::LocationRefused { status, error }.into())
}

/// Which answers are the output.
fn wanted(hop: Hop) -> fn(u16) -> bool {
    match hop {
        Hop::First(Completion::Sync) => {
            |status| meaning(Hop::First(Completion::Sync), status) == Meaning::Output
        }
        Hop::First(Completion::Poll) | Hop::Poll | Hop::Result => |status| status == 200,
    }
}

/// Whether the failure says nothing about the work, so that the service may be asked again.
fn passes(failure: &Failure) -> bool {
    matches!(failure, Failure::Remote { remote: RemoteFailure::NoAnswer { failure } } if is_passing(failure))
}
