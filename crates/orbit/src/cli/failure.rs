//! How a command fails: a message, what to do about it, and the exit code.

use std::path::Path;

use orbit_store::StoreError;

use crate::config::Diagnostic;
use crate::control::{LockError, Refusal, SocketError};
use crate::engine::OpenError;
use crate::exit;
use crate::render::text::clean_lines;
use crate::render::units::counted;
use crate::stores::{DatabaseError, FileWork, REWOUND_HINT, hint_of};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The exit code.
    pub exit: u8,
}

impl Failure {
    /// Exit code 1.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, exit: exit::FAILED }
    }

    /// Exit code 2.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, exit: exit::USAGE }
    }

    /// Nobody reads the output any more: the command ends, and says nothing.
    pub fn reader_gone() -> Self {
        Self { message: String::new(), hint: None, exit: exit::SUCCEEDED }
    }

    /// The folder is not a home.
    pub fn no_home(home: &Path) -> Self {
        Self::usage(format!(
            "`{}` is not a home: it has neither `orbit.yaml` nor `namespaces/`",
            home.display()
        ))
        .hint("go to one, name one with `--home`, or make one with `orbit init DIR`")
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// As it is printed on standard error; none if there is nothing to say. Parts of it may come from outside.
    pub fn text(&self) -> Option<String> {
        let hint = self.hint.as_ref().map(|hint| format!("\n  hint: {hint}")).unwrap_or_default();
        (!self.message.is_empty()).then(|| clean_lines(&format!("error: {}{hint}", self.message)))
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Config { problems } => {
                let listed: Vec<_> = problems.iter().map(Diagnostic::to_string).collect();
                let count = problems.iter().filter(|problem| problem.is_error()).count();
                Self::usage(format!(
                    "the configuration has {}\n{}",
                    counted(count, "error"),
                    listed.join("\n")
                ))
            }
            OpenError::Environment(error) => {
                let failure = Self::usage(error.to_string());
                error.hint().map_or(failure.clone(), |hint| failure.hint(hint))
            }
            OpenError::Signing(_) => Self::usage(error.to_string()).hint(
                "after a change of `ORBIT_LOG_SEED`, put the seed of before into `ORBIT_LOG_SEED_PREVIOUS` and start again: the log is then handed over",
            ),
            OpenError::Place(error) => Self::usage(error.to_string()).hint(error.hint()),
            OpenError::SeedGone => Self::usage(error.to_string()).hint(
                "put back the line from your copy of `.env`; if it is gone, restore a backup: its log goes on under a new name",
            ),
            OpenError::NotSigned => Self::usage(error.to_string()),
            OpenError::Lock(error) => error.into(),
            OpenError::Database(error) => error.into(),
            OpenError::Store(error) => error.into(),
            OpenError::Io { .. } => {
                Self::failed(error.to_string()).hint("the home must be readable and writable by this user")
            }
        }
    }
}

impl From<DatabaseError> for Failure {
    fn from(error: DatabaseError) -> Self {
        let failure = match &error {
            DatabaseError::Unset => Self::usage(error.to_string()),
            DatabaseError::Store(_) => Self::failed(error.to_string()),
        };
        failure.hint(error.hint())
    }
}

impl From<FileWork> for Failure {
    fn from(work: FileWork) -> Self {
        let (message, hint) = work.refusal();
        Self::usage(message).hint(hint)
    }
}

impl From<LockError> for Failure {
    fn from(error: LockError) -> Self {
        let failure = Self::failed(error.to_string());
        match error {
            LockError::Held { .. } => failure.hint("one process serves a home; `orbit status` asks it"),
            LockError::Io { .. } => failure
                .hint("`run/` in the home must be writable by the user who runs `orbit`; see `orbit doctor`"),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        if let Some(hint) = hint_of(&error) {
            return Self::failed(error.to_string()).hint(hint);
        }
        let hint = match &error {
            StoreError::Full { .. } => "free some space; what was acknowledged is safe",
            StoreError::NoRoom { .. } => "free some space and start again; nothing has changed",
            StoreError::Io { .. } | StoreError::Closed { .. } => {
                "`data/` in the home must be readable and writable by this user; see `orbit doctor`"
            }
            StoreError::Unknown { .. } => "look whether it was done, and do it again if it was not",
            StoreError::Refused { .. } | StoreError::Older { .. } => {
                "do what the message says; nothing was changed"
            }
            StoreError::Rewound { .. } => REWOUND_HINT,
            StoreError::NotJoined { .. } => "start the node again; what it had under way is taken over",
            StoreError::Newer { .. } => "use the newer `orbit` that wrote it",
            StoreError::Corrupt { .. } => "restore a backup, or move the file away and keep it",
        };
        Self::failed(error.to_string()).hint(hint)
    }
}

impl From<OpenError> for Refusal {
    fn from(error: OpenError) -> Self {
        let Failure { message, hint, exit } = error.into();
        Self { message, hint, exit }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self { message: refusal.message, hint: refusal.hint, exit: refusal.exit }
    }
}

impl From<SocketError> for Failure {
    fn from(error: SocketError) -> Self {
        let failure = Self::failed(error.to_string());
        match error {
            SocketError::NobodyListens => failure.hint("start `orbit serve`"),
            SocketError::NoAnswer => failure.hint("it may have been stopped; ask again"),
            SocketError::Io { .. } => {
                failure.hint("run `orbit` as the user who owns the home; see `orbit doctor`")
            }
        }
    }
}
