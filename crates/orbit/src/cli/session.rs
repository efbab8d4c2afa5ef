//! Where commands go: to the process that holds the home, or, if none does, to this one.
//!
//! The home is opened when the first command is asked. A process that only reads holds it no longer than it must ([`Session::rest`]), so
//! that following or watching keeps nobody from serving. When the process that was asked ends without an answer, a command that may be
//! repeated is asked again: of whoever holds the home then, which may be starting.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use orbit_core::config::StorageBackend;
use orbit_engine::layout::Layout;
use orbit_engine::node::Duty;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::failure::Failure;
use crate::backup::{MANIFEST, PARTIAL};
use crate::control::{Answer, Command, Connection, LockError, SocketError, execute, listen};
use crate::engine::{Engine, OpenError};
use crate::stores::{FileWork, backend_of};

/// How often a command that finds the home held, and nobody listening, tries again: the holder is starting, stopping or reading.
const TRIES: u32 = 50;
/// How often a command whose answer was lost is asked again. Few times: it may be what ends whoever is asked.
const REPEATS: u32 = 10;
/// How often it is looked whether somebody holds the home again: whoever serves next may still be recovering.
const LOOKS: u32 = 300;
/// The pause between two tries.
const PAUSE: Duration = Duration::from_millis(100);
/// A process that only reads and holds the home itself asks no more often than this: nobody but another command can change anything.
const REST_MIN: Duration = Duration::from_secs(1);

/// See the module.
pub struct Session {
    layout: Layout,
    /// With what this process may take the home; none where only a process that holds it already is asked.
    duty: Option<Duty>,
    end: Option<End>,
}

enum End {
    /// Another process holds the home.
    Remote(Connection),
    /// This one does; others are answered until the token is cancelled.
    Local { engine: Arc<Engine>, stop: CancellationToken },
}

impl Session {
    /// A session that takes the home, if nobody holds it, with this duty.
    pub async fn open(layout: &Layout, duty: Duty) -> Result<Self, Failure> {
        is_home(layout.home())?;
        let end = Some(open(layout, duty).await?);
        Ok(Self { layout: layout.clone(), duty: Some(duty), end })
    }

    /// A session with the process that holds the home; none if nobody does. This process never takes the home by it.
    pub async fn with_holder(layout: &Layout) -> Result<Option<Self>, Failure> {
        is_home(layout.home())?;
        match Connection::open(layout).await {
            Ok(connection) => {
                Ok(Some(Self { layout: layout.clone(), duty: None, end: Some(End::Remote(connection)) }))
            }
            Err(SocketError::NobodyListens) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// How the process that was connected to is; none if it went away without an answer. After a crash that is what a connection may meet:
    /// a child that was just being made has the dead process's socket, and its lock, until it executes its program.
    pub async fn status(&mut self) -> Result<Option<Value>, Failure> {
        match self.try_ask(&Command::Status).await {
            Ok(status) => Ok(Some(status)),
            Err(Unanswered::Gone | Unanswered::Nobody) => Ok(None),
            Err(Unanswered::Failed(failure)) => Err(failure),
        }
    }

    /// The engine, if this process holds the home.
    pub fn engine(&self) -> Option<&Arc<Engine>> {
        match &self.end {
            Some(End::Local { engine, .. }) => Some(engine),
            Some(End::Remote(_)) | None => None,
        }
    }

    /// Asks; a refusal is a failure.
    pub async fn ask(&mut self, command: Command) -> Result<Value, Failure> {
        let (mut repeats, mut looks) = (0, 0);
        loop {
            match self.try_ask(&command).await {
                Err(Unanswered::Gone) if command.is_repeatable() && repeats < REPEATS => repeats += 1,
                Err(Unanswered::Nobody) if looks < LOOKS => looks += 1,
                answer => return answer.map_err(Failure::from),
            }
            self.end = None;
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn try_ask(&mut self, command: &Command) -> Result<Value, Unanswered> {
        if self.end.is_none() {
            self.end = match self.duty {
                Some(duty) => Some(open(&self.layout, duty).await?),
                None => Self::with_holder(&self.layout).await?.and_then(|session| session.end),
            };
        }
        match &mut self.end {
            Some(End::Local { engine, .. }) => {
                Ok(execute(engine, command.clone()).await.map_err(Failure::from)?)
            }
            Some(End::Remote(connection)) => match connection.ask(command).await {
                Ok(Answer::Ok(value)) => Ok(value),
                Ok(Answer::Refused(refusal)) => Err(Unanswered::Failed(refusal.into())),
                Err(SocketError::NoAnswer | SocketError::NobodyListens) => Err(Unanswered::Gone),
                Err(error @ SocketError::Io { .. }) => Err(Unanswered::Failed(error.into())),
            },
            None => Err(Unanswered::Nobody),
        }
    }

    /// Asks, and reads the answer as this type.
    pub async fn ask_as<T: DeserializeOwned>(&mut self, command: Command) -> Result<T, Failure> {
        let value = self.ask(command).await?;
        serde_json::from_value(value)
            .map_err(|error| Failure::failed(format!("the answer is not understood: {error}")))
    }

    /// Waits before the next question. A home that this process holds only to read is free meanwhile.
    pub async fn rest(&mut self, pause: Duration) {
        let pause = match &self.end {
            Some(End::Local { .. }) if self.duty == Some(Duty::None) => {
                self.end = None;
                pause.max(REST_MIN)
            }
            Some(End::Local { .. } | End::Remote(_)) | None => pause,
        };
        tokio::time::sleep(pause).await;
    }

    /// Ends what this process runs, if it holds the home: what is under way may finish, for as long as the configuration says or until
    /// `hard`.
    pub async fn close(self, hard: CancellationToken) {
        if let Some(End::Local { engine, stop }) = self.end {
            engine.node.stop(engine.config.limits.drain.to_duration(), hard).await;
            stop.cancel();
        }
    }
}

/// Why there is no answer.
enum Unanswered {
    /// The process that was asked went away.
    Gone,
    /// It did, and no other holds the home yet.
    Nobody,
    /// It refused, or something failed.
    Failed(Failure),
}

impl From<Failure> for Unanswered {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Unanswered> for Failure {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::Gone | Unanswered::Nobody => SocketError::NoAnswer.into(),
            Unanswered::Failed(failure) => failure,
        }
    }
}

/// Refuses a folder that is not a home.
pub fn is_home(home: &Path) -> Result<(), Failure> {
    let shown = home.display();
    if home.join(MANIFEST).exists() {
        return Err(Failure::usage(format!("`{shown}` is a backup and is not worked in"))
            .hint(format!("`orbit --home NEW restore {shown}` makes a home of it")));
    }
    if home.join(PARTIAL).exists() {
        return Err(Failure::usage(format!("`{shown}` holds a restore that was never finished"))
            .hint("remove what is in it and restore again"));
    }
    let is_home = home.join("orbit.yaml").exists() || home.join("namespaces").is_dir();
    if is_home { Ok(()) } else { Err(Failure::no_home(home)) }
}

/// Refuses work on files where there are none.
pub fn has_files(layout: &Layout, work: FileWork) -> Result<(), Failure> {
    match backend_of(layout).map_err(|problems| OpenError::Config { problems })? {
        StorageBackend::Sqlite => Ok(()),
        StorageBackend::Postgres => Err(work.into()),
    }
}

async fn open(layout: &Layout, duty: Duty) -> Result<End, Failure> {
    for _ in 0..TRIES {
        match Connection::open(layout).await {
            Ok(connection) => return Ok(End::Remote(connection)),
            Err(SocketError::NobodyListens) => {}
            Err(error) => return Err(error.into()),
        }
        match Engine::open(layout.clone(), duty).await {
            Ok(engine) => return local(engine, duty).await,
            Err(OpenError::Lock(LockError::Held { .. })) => tokio::time::sleep(PAUSE).await,
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::failed("another process holds this home and does not answer")
        .hint("see `orbit doctor`; it may be stopping"))
}

/// Who works answers others; who only reads is done before anybody could ask.
async fn local(engine: Arc<Engine>, duty: Duty) -> Result<End, Failure> {
    let stop = CancellationToken::new();
    if duty != Duty::None {
        drop(listen(Arc::clone(&engine), stop.clone()).await?);
    }
    Ok(End::Local { engine, stop })
}
