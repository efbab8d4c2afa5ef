//! `orbit migrate-store`: everything that a home remembers moves into PostgreSQL, or back into files.
//!
//! The home is held meanwhile, and its documents are not touched: what to change in them is said at the end. Every store is announced on the other side before the
//! first one is moved, so that a move that was broken off leaves none that could be begun anew there. Saying it again goes on.

mod told;

use std::path::PathBuf;

use orbit_core::config::{NamespaceName, StorageBackend};
use orbit_engine::layout::Layout;
use orbit_store::postgres::{self, Server};
use orbit_store::transfer::{
    End, Found, Moved, Progress, TransferError, announce, look, set_aside, transfer,
};
use serde_json::json;

use super::args::BackendName;
use super::database::{failure, owner_url};
use super::failure::Failure;
use super::output::either;
use super::session::is_home;
use super::shown::Shown;
use crate::config;
use crate::control::{HomeLock, LockError};
use crate::doctor::stores_of;
use crate::engine::OpenError;
use crate::environment::Environment;
use crate::exit;
use crate::render::Terminal;
use crate::stores::named;
use told::{Done, Setting, to_do};

/// A store that is moved.
struct One {
    namespace: NamespaceName,
    file: PathBuf,
}

/// Where stores are moved.
struct Way<'a> {
    to: BackendName,
    url: &'a str,
    out: &'a Terminal,
}

/// See the module.
pub async fn migrate_store(
    layout: &Layout,
    to: BackendName,
    out: &Terminal,
    as_json: bool,
) -> Result<u8, Failure> {
    is_home(layout.home())?;
    let (environment, _) = Environment::load(layout.home()).map_err(OpenError::from)?;
    let command = match to {
        BackendName::Postgres => "orbit migrate-store --to postgres",
        BackendName::Sqlite => "orbit migrate-store --to sqlite",
    };
    let url = owner_url(&environment, command)?;
    let _lock = HomeLock::take(layout).map_err(|error| match error {
        held @ LockError::Held { .. } => Failure::failed(held.to_string())
            .hint("stop it first: a store is moved only while nobody serves it"),
        error @ LockError::Io { .. } => error.into(),
    })?;
    let migrated = postgres::migrate(url.expose()).await.map_err(|error| failure(&error))?;
    let way = Way { to, url: url.expose(), out };
    let ones = way.stores(layout).await?;
    if ones.is_empty() {
        let message = match to {
            BackendName::Postgres => "this home has no store in files".to_owned(),
            BackendName::Sqlite => format!("{} has no store of this home", migrated.database),
        };
        return Err(Failure { exit: exit::NOTHING, ..Failure::failed(message) });
    }
    let mut aside = Vec::new();
    for one in &ones {
        aside.extend(way.announce(one).await?);
    }
    let mut done = Vec::new();
    for one in &ones {
        let moved = way.transfer(one).await?;
        done.push(Done { namespace: one.namespace.to_string(), moved });
    }
    let node = config::node(layout.home());
    let served =
        environment.database_url().map(|url| Server::at(url.expose()).map(|it| it.place().to_owned()));
    let setting = Setting {
        to,
        database: migrated.database,
        role_made: migrated.role_made,
        says_postgres: node.storage.backend == StorageBackend::Postgres,
        served: served.map(|place| place.unwrap_or_else(|_| "nothing that can be read".to_owned())),
        bucket: node.artifacts.place().map(|place| place.bucket.to_owned()),
    };
    let answer = json!({
        "to": setting.word(),
        "database": setting.database,
        "items": done,
        "aside": aside,
        "payloads": setting.payloads(),
        "to_do": to_do(&setting),
    });
    either(&answer, as_json, |_| told::text(&setting, &done, &aside))?;
    Ok(exit::SUCCEEDED)
}

impl Way<'_> {
    fn ends<'a>(&'a self, one: &'a One) -> (End<'a>, End<'a>) {
        let (file, database) = (End::Sqlite(&one.file), End::Postgres(self.url));
        match self.to {
            BackendName::Postgres => (file, database),
            BackendName::Sqlite => (database, file),
        }
    }

    /// The stores of the home that are where they are moved from, those included that an earlier try has moved.
    async fn stores(&self, layout: &Layout) -> Result<Vec<One>, Failure> {
        let names: Vec<_> = match self.to {
            BackendName::Postgres => stores_of(layout),
            BackendName::Sqlite => named(layout).into_iter().collect(),
        };
        let mut ones = Vec::new();
        for namespace in names {
            let one = One { file: layout.database(&namespace), namespace };
            match look(self.ends(&one).0, &one.namespace).await? {
                Found::Nothing => {}
                Found::Whole | Found::Arriving | Found::Gone => ones.push(one),
            }
        }
        Ok(ones)
    }

    /// Announces it. A file that was left there when the store was moved away is put aside first; what it is called now.
    async fn announce(&self, one: &One) -> Result<Option<PathBuf>, Failure> {
        let (from, to) = self.ends(one);
        let mut aside = None;
        if self.to == BackendName::Sqlite
            && look(from, &one.namespace).await? == Found::Whole
            && look(to, &one.namespace).await? == Found::Gone
        {
            aside = Some(set_aside(&one.file)?);
        }
        let mut shown = Shown::new(one.namespace.as_str(), self.out.progress);
        let announced = announce(from, to, &one.namespace, &mut |progress| tell(&mut shown, progress)).await;
        shown.finish();
        announced?;
        Ok(aside)
    }

    async fn transfer(&self, one: &One) -> Result<Moved, Failure> {
        let (from, to) = self.ends(one);
        let mut shown = Shown::new(one.namespace.as_str(), self.out.progress);
        let moved = transfer(from, to, &one.namespace, &mut |progress| tell(&mut shown, progress)).await;
        shown.finish();
        Ok(moved?)
    }
}

fn tell(shown: &mut Shown, progress: Progress) {
    let Progress { stage, table, done, total } = progress;
    shown.tell(&format!("rows of `{table}`"), (done, total), stage);
}

impl From<TransferError> for Failure {
    fn from(error: TransferError) -> Self {
        let hint = match &error {
            TransferError::Store(error) => return error.clone().into(),
            TransferError::Worked { .. } => {
                "stop every node; the lease of one that was killed ends after 15 s"
            }
            TransferError::Moving { .. } => "wait for its end, or end that process; then this goes on",
            TransferError::Marked { .. } => {
                "what is arriving is moved by finishing the move to there first; what is gone lives on the other side already"
            }
            TransferError::Left { .. } => {
                "move into another database (`CREATE DATABASE`), and drop this one when you will not miss it"
            }
            TransferError::Occupied { .. } => {
                "one database is for one home and the nodes that share its documents: move into an empty one"
            }
            TransferError::Changed { .. } => {
                "what has arrived there is of no use any more: move into another database, or remove that file, and begin again"
            }
            TransferError::Differs { .. } => {
                "the source is as it was and is served as before; move into another database, or remove that file, and begin again"
            }
        };
        Self::failed(error.to_string()).hint(hint)
    }
}
