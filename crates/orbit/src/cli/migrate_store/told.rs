//! What is said when a home has moved: what was compared, and what is left to do.

use std::fmt::Write as _;
use std::path::PathBuf;

use orbit_store::transfer::Moved;
use serde::Serialize;

use crate::cli::args::BackendName;
use crate::render::text::clean_lines;
use crate::render::units::counted;

/// A store that has moved.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Done {
    pub(super) namespace: String,
    #[serde(flatten)]
    pub(super) moved: Moved,
}

/// What the home says, and what it has moved to.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) to: BackendName,
    pub(super) database: String,
    /// Whether the role of the nodes is new on its server.
    pub(super) role_made: bool,
    /// Whether `orbit.yaml` names PostgreSQL.
    pub(super) says_postgres: bool,
    /// The database that `ORBIT_DATABASE_URL` names.
    pub(super) served: Option<String>,
    /// Where larger payloads are, if not in a folder.
    pub(super) bucket: Option<String>,
}

impl Setting {
    pub(super) const fn word(&self) -> &'static str {
        match self.to {
            BackendName::Postgres => "postgres",
            BackendName::Sqlite => "sqlite",
        }
    }

    /// Where payload files are now, which is where they were.
    pub(super) fn payloads(&self) -> String {
        match (&self.bucket, self.to) {
            (Some(bucket), _) => format!("payload files stay in the bucket `{bucket}`"),
            (None, BackendName::Postgres) => {
                "payload files stay in `data/NAMESPACE/blobs/` of this home, which no other node sees"
                    .to_owned()
            }
            (None, BackendName::Sqlite) => {
                "payload files stay in `data/NAMESPACE/blobs/` of this home".to_owned()
            }
        }
    }
}

/// What somebody has to do now, in order.
pub(super) fn to_do(setting: &Setting) -> Vec<String> {
    let mut all = Vec::new();
    match setting.to {
        BackendName::Postgres => {
            if !setting.says_postgres {
                all.push("in `orbit.yaml`: `storage: { backend: postgres }`".to_owned());
            }
            if setting.role_made {
                all.push("give the role a password: `\\password orbit_runtime` in psql".to_owned());
            }
            let line = "`ORBIT_DATABASE_URL='postgres://orbit_runtime:PASSWORD@HOST/DATABASE'`";
            match &setting.served {
                None => all.push(format!("in `.env`: {line}, of {}", setting.database)),
                Some(served) if *served != setting.database => {
                    all.push(format!("in `.env`: {line}, of {} instead of {served}", setting.database));
                }
                Some(_) => {}
            }
            all.push("the files `data/NAMESPACE/orbit.db` are never served again: remove them when you will not miss them".to_owned());
        }
        BackendName::Sqlite => {
            if setting.says_postgres {
                all.push(
                    "in `orbit.yaml`: `storage: { backend: sqlite }`, or no `storage` at all".to_owned(),
                );
            }
            if setting.served.is_some() {
                all.push("in `.env`: `ORBIT_DATABASE_URL` is not needed any more".to_owned());
            }
            all.push("other nodes of the database stay stopped: a home in files is one node's".to_owned());
            all.push(format!(
                "the rows in {} are never served again: drop it when you will not miss them",
                setting.database
            ));
        }
    }
    all.push("`orbit doctor`, `orbit log verify`, then start the service".to_owned());
    all
}

/// All of it for people.
pub(super) fn text(setting: &Setting, done: &[Done], aside: &[PathBuf]) -> String {
    let count = |count: u64, what| counted(usize::try_from(count).unwrap_or(usize::MAX), what);
    let mut text = String::new();
    for Done { namespace, moved } in done {
        let records = count(moved.size, "record");
        _ = if moved.before {
            writeln!(text, "{namespace}: moved before, with {records}")
        } else {
            let rows = count(moved.rows, "row");
            writeln!(text, "{namespace}: {rows}, {records}, the same on both sides")
        };
        if let Some(root) = moved.root {
            _ = writeln!(text, "  root {root}");
        }
    }
    let place = match setting.to {
        BackendName::Postgres => &setting.database,
        BackendName::Sqlite => "files",
    };
    _ = writeln!(text, "the rows of this home are in {place} now; {}", setting.payloads());
    for file in aside {
        _ = writeln!(text, "what was left of the move before is `{}`", file.display());
    }
    text += "what to do next:\n";
    for one in to_do(setting) {
        _ = writeln!(text, "  - {one}");
    }
    clean_lines(&text) + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(to: BackendName) -> Setting {
        let database = "postgres h/orbit".to_owned();
        Setting { to, database, role_made: false, says_postgres: false, served: None, bucket: None }
    }

    #[test]
    fn what_is_left_to_do() {
        let check = |setting: &Setting, expected: &[&str]| {
            let all = to_do(setting);
            assert_eq!(all.len(), expected.len() + 2, "{all:#?}");
            for (found, expected) in all.iter().zip(expected) {
                assert!(found.contains(expected), "{found}\n{expected}");
            }
        };
        let fresh = setting(BackendName::Postgres);
        check(
            &fresh,
            &["in `orbit.yaml`: `storage: { backend: postgres }`", "in `.env`: `ORBIT_DATABASE_URL="],
        );
        let made = Setting { role_made: true, says_postgres: true, ..fresh.clone() };
        check(&made, &["\\password", "of postgres h/orbit"]);
        let other =
            Setting { served: Some("postgres h/other".to_owned()), says_postgres: true, ..fresh.clone() };
        check(&other, &["of postgres h/orbit instead of postgres h/other"]);
        let ready = Setting { served: Some(fresh.database.clone()), says_postgres: true, ..fresh };
        check(&ready, &[]);
        let back = setting(BackendName::Sqlite);
        check(&back, &["other nodes"]);
        let told = Setting { says_postgres: true, served: Some(String::new()), ..back };
        check(
            &told,
            &["in `orbit.yaml`: `storage: { backend: sqlite }`", "is not needed any more", "other nodes"],
        );
    }

    #[test]
    fn what_was_moved_as_it_is_told() {
        let moved = Moved { rows: 7, copied: 7, size: 2, root: None, before: false };
        let done = [
            Done { namespace: "lab".to_owned(), moved: moved.clone() },
            Done { namespace: "system".to_owned(), moved: Moved { before: true, ..moved } },
        ];
        let bucket = Setting { bucket: Some("b".to_owned()), ..setting(BackendName::Sqlite) };
        let text = text(&bucket, &done, &[PathBuf::from("data/lab/orbit.db.gone")]);
        let expected = "\
lab: 7 rows, 2 records, the same on both sides
system: moved before, with 2 records
the rows of this home are in files now; payload files stay in the bucket `b`
what was left of the move before is `data/lab/orbit.db.gone`
what to do next:
";
        assert!(text.starts_with(expected), "{text}");
    }
}
