//! The home's folders, who holds it, and whether its stores open.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{AccessFlags, access};
use orbit_core::config::StorageBackend;
use orbit_engine::layout::Layout;
use orbit_store::contract::governance::GovernanceStore;
use orbit_store::contract::quarantine::QuarantineStore;
use orbit_store::sqlite::{SCHEMA, SqliteStore};

use super::{Finding, copies, stores_of, told};
use crate::config::LoadedNamespace;
use crate::control::{Answer, Command, Connection, HomeLock, LockError, SocketError};
use crate::status::concerns;

/// The folders that the engine writes to.
pub(super) fn folders(layout: &Layout) -> Vec<Finding> {
    let home = layout.home();
    let mut findings = Vec::new();
    if !home.join("orbit.yaml").exists() {
        findings.push(Finding::warning(
            "home",
            "there is no `orbit.yaml`",
            "defaults hold; `orbit init` writes one",
        ));
    }
    if !home.join("namespaces").is_dir() {
        findings.push(Finding::problem(
            "home",
            "there is no `namespaces/`",
            "make a home with `orbit init DIR`",
        ));
    }
    let written = [home.to_owned(), home.join("data"), layout.run()];
    for folder in written.iter().filter(|folder| folder.exists()) {
        findings.extend(writable(folder));
    }
    if findings.is_empty() {
        findings.push(Finding::ok("home", format!("`{}` is complete and writable", home.display())));
    }
    findings
}

/// What is wrong with a folder that should be written to.
fn writable(folder: &Path) -> Option<Finding> {
    let all = AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK;
    let shown = folder.display();
    if let Err(error) = access(folder, all) {
        let hint = "the home must be on a writable file system and belong to the user who runs `orbit`";
        return Some(Finding::problem("home", format!("`{shown}` is not writable: {}", error.desc()), hint));
    }
    let owner = std::fs::metadata(folder).ok()?.uid();
    let me = nix::unistd::geteuid().as_raw();
    (owner != me).then(|| {
        let message = format!("`{shown}` belongs to user {owner}, and this is user {me}");
        Finding::warning("home", message, "run `orbit` always as the same user, or files will not be its own")
    })
}

/// Who holds the home. If nobody does, the stores that lie in it are opened and read.
pub(super) async fn holder(
    layout: &Layout,
    documents: &[LoadedNamespace],
    backend: StorageBackend,
) -> Vec<Finding> {
    let stores = async || match backend {
        StorageBackend::Sqlite => stores(layout, documents).await,
        StorageBackend::Postgres => Vec::new(),
    };
    match Connection::open(layout).await {
        Ok(mut connection) => return answer_of(&mut connection).await,
        Err(SocketError::NobodyListens) => {}
        Err(error) => {
            return vec![Finding::problem(
                "home",
                error.to_string(),
                "run `orbit` as the user who owns the home",
            )];
        }
    }
    // Without the folder nobody can hold the home, and none is made here.
    if !layout.run().exists() {
        return stores().await;
    }
    match HomeLock::take(layout) {
        Ok(_lock) => {
            let mut findings = vec![Finding::ok("home", "nobody serves this home; `orbit serve` does")];
            findings.extend(stores().await);
            findings
        }
        Err(error @ LockError::Held { .. }) => {
            let hint = "it may be starting or stopping; if it stays so, look at that process";
            vec![Finding::warning("home", format!("{error} and does not answer"), hint)]
        }
        Err(error @ LockError::Io { .. }) => {
            vec![Finding::problem("home", error.to_string(), "`run/` must be writable by this user")]
        }
    }
}

async fn answer_of(connection: &mut Connection) -> Vec<Finding> {
    let status = match connection.ask(&Command::Status).await {
        Ok(Answer::Ok(status)) => status,
        Ok(Answer::Refused(refusal)) => {
            let hint =
                refusal.hint.as_deref().unwrap_or("look at what `orbit serve` wrote on standard error");
            return vec![Finding::problem("store", refusal.message, hint)];
        }
        Err(error) => {
            let hint = "look at the process that holds the home";
            return vec![Finding::problem("home", error.to_string(), hint)];
        }
    };
    let (pid, version) = (status["pid"].as_u64().unwrap_or(0), status["version"].as_str().unwrap_or("?"));
    let mut findings = vec![if version == env!("CARGO_PKG_VERSION") {
        Finding::ok("home", format!("pid {pid} holds this home and answers"))
    } else {
        let message = format!("pid {pid} holds this home with version {version}");
        let hint = format!("restart it with this one: {}", env!("CARGO_PKG_VERSION"));
        Finding::warning("home", message, hint)
    }];
    findings.extend(told::findings(&status));
    findings.extend(status["namespaces"].as_array().into_iter().flatten().filter_map(schema));
    for namespace in status["namespaces"].as_array().into_iter().flatten() {
        let name = namespace["namespace"].as_str().unwrap_or_default();
        let quarantined = namespace["quarantined"].as_array().into_iter().flatten();
        findings
            .extend(quarantined.map(|one| quarantine(name, one["processor"].as_str().unwrap_or_default())));
    }
    findings
}

/// Which schema a namespace's store has.
fn schema(namespace: &serde_json::Value) -> Option<Finding> {
    let (name, schema) = (namespace["namespace"].as_str()?, namespace["schema"].as_u64()?);
    Some(Finding::ok("store", format!("the store of `{name}` is open, schema {schema}")))
}

fn quarantine(namespace: &str, processor: &str) -> Finding {
    let message = format!(
        "processor `{processor}` of `{namespace}`: the engine died too often in a row during its steps, which fail at once now"
    );
    let hint = format!("change its document, or `orbit processors release {processor} -n {namespace}`");
    Finding::problem("quarantine", message, hint)
}

async fn stores(layout: &Layout, documents: &[LoadedNamespace]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for name in stores_of(layout) {
        if let Some(older) = copies::older(layout, &name) {
            findings.push(older);
            continue;
        }
        let read = match SqliteStore::open(&layout.database(&name), &name) {
            Ok(store) => {
                let quarantined = store.quarantined().await.unwrap_or_default();
                let documents = documents.iter().find(|loaded| loaded.name == name);
                let now = quarantined
                    .iter()
                    .filter(|one| documents.is_none_or(|loaded| concerns(one, &loaded.snapshot)));
                findings.extend(now.map(|one| quarantine(name.as_str(), &one.processor)));
                store.halted().await.map(|halt| halt.map(|halt| halt.reason))
            }
            Err(error) => Err(error),
        };
        findings.push(match read {
            Ok(None) => Finding::ok("store", format!("the store of `{name}` opens, schema {SCHEMA}")),
            Ok(Some(reason)) => Finding::warning(
                "store",
                format!("`{name}` is halted: {reason}"),
                "`orbit resume` lifts a halt",
            ),
            Err(error) => Finding::problem(
                "store",
                error.to_string(),
                "keep the file; restore a backup if it is damaged",
            ),
        });
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    #[test]
    fn a_home_that_is_whole_and_one_that_is_not() {
        let home = tempfile::tempdir().unwrap();
        let levels =
            || folders(&Layout::new(home.path())).iter().map(|found| found.level).collect::<Vec<_>>();
        assert_eq!(levels(), [Level::Warning, Level::Problem]);
        std::fs::write(home.path().join("orbit.yaml"), "").unwrap();
        std::fs::create_dir(home.path().join("namespaces")).unwrap();
        assert_eq!(levels(), [Level::Ok]);
    }

    #[test]
    fn what_cannot_be_written_is_named() {
        let found = writable(Path::new("/proc/self/nothing")).unwrap();
        assert!(
            found.is_problem() && found.message.starts_with("`/proc/self/nothing` is not writable"),
            "{found:?}"
        );
    }
}
