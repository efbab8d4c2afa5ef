//! `orbit database migrate`: what the owner of a database does before nodes use it, and nobody else may.

use std::fmt::Write as _;
use std::path::Path;

use orbit_store::StoreError;
use orbit_store::postgres::{self, Migrated};
use serde_json::json;

use super::failure::Failure;
use super::output::either;
use crate::engine::OpenError;
use crate::environment::{Environment, Secret};
use crate::exit;

/// See the module.
pub async fn migrate(home: &Path, dry_run: bool, as_json: bool) -> Result<u8, Failure> {
    let (environment, _) = Environment::load(home).map_err(OpenError::from)?;
    let url = owner_url(&environment, "orbit database migrate")?;
    let migrated =
        if dry_run { postgres::pending(url.expose()).await } else { postgres::migrate(url.expose()).await };
    let migrated = migrated.map_err(|error| failure(&error))?;
    let mut answer = json!(migrated);
    answer["dry_run"] = json!(dry_run);
    either(&answer, as_json, |_| text(&migrated, dry_run))?;
    Ok(exit::SUCCEEDED)
}

/// Where the owner reaches the database, for a command that only the owner may do.
pub fn owner_url(environment: &Environment, command: &str) -> Result<Secret, Failure> {
    environment.database_owner_url().ok_or_else(|| {
        Failure::usage("`ORBIT_DATABASE_OWNER_URL` is not set").hint(format!(
            "set it for this command alone, as in ORBIT_DATABASE_OWNER_URL='postgres://OWNER:PASSWORD@HOST/DATABASE' {command}"
        ))
    })
}

fn text(migrated: &Migrated, dry_run: bool) -> String {
    let Migrated { database, before, schema, .. } = migrated;
    if !migrated.is_change() {
        return format!("{database}: schema {schema}, nothing to do\n");
    }
    let mut text = if migrated.migrations.is_empty() {
        format!("{database}: schema {schema}")
    } else if dry_run {
        format!("{database}: schema {before} would become {schema}")
    } else {
        format!("{database}: schema {schema}, was {before}")
    };
    let (made, granted) = if dry_run { ("would be made", "would be granted") } else { ("made", "granted") };
    if migrated.role_made {
        _ = write!(text, "; role `orbit_runtime` {made}");
    }
    if migrated.grants_made {
        _ = write!(text, "; its rights {granted}");
    }
    text.push('\n');
    if !migrated.nodes.is_empty() {
        let nodes = postgres::named(&migrated.nodes);
        _ = writeln!(text, "it is refused while nodes work with schema {before}: {nodes}");
    }
    if migrated.role_made && !dry_run {
        text += "next: give the role a password (`\\password orbit_runtime` in psql), and put its URL into `.env` as `ORBIT_DATABASE_URL`\n";
    }
    text
}

/// What went wrong between the owner and the database.
pub fn failure(error: &StoreError) -> Failure {
    let hint = match error {
        StoreError::Io { message, .. }
            if message.contains("permission denied") || message.contains("must be owner") =>
        {
            "the role of `ORBIT_DATABASE_OWNER_URL` must own the database and may create roles"
        }
        StoreError::Io { .. } => {
            "the server must run and take the role, password and database of `ORBIT_DATABASE_OWNER_URL`"
        }
        StoreError::Newer { .. } => "use the newer `orbit` that migrated it",
        StoreError::Refused { .. } => {
            "stop these nodes, or wait until the lease of one that is gone has ended; then migrate, and start them with the new `orbit`"
        }
        StoreError::Corrupt { .. } => "use another database, or the `orbit` that migrated this one",
        StoreError::Full { .. }
        | StoreError::NoRoom { .. }
        | StoreError::Older { .. }
        | StoreError::Unknown { .. }
        | StoreError::Rewound { .. }
        | StoreError::NotJoined { .. }
        | StoreError::Closed { .. } => "look at what the server says, and migrate again",
    };
    Failure::failed(error.to_string()).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_as_it_is_told() {
        let check =
            |migrated: &Migrated, dry_run, expected: &str| assert_eq!(text(migrated, dry_run), expected);
        let fresh = Migrated {
            database: "postgres h/d".to_owned(),
            before: 0,
            schema: 2,
            migrations: vec![1, 2],
            role_made: true,
            grants_made: false,
            nodes: Vec::new(),
        };
        check(
            &fresh,
            false,
            "postgres h/d: schema 2, was 0; role `orbit_runtime` made\nnext: give the role a password (`\\password orbit_runtime` in psql), and put its URL into `.env` as `ORBIT_DATABASE_URL`\n",
        );
        check(&fresh, true, "postgres h/d: schema 0 would become 2; role `orbit_runtime` would be made\n");
        let granted = Migrated {
            before: 2,
            migrations: Vec::new(),
            role_made: false,
            grants_made: true,
            ..fresh.clone()
        };
        check(&granted, false, "postgres h/d: schema 2; its rights granted\n");
        check(&Migrated { grants_made: false, ..granted }, false, "postgres h/d: schema 2, nothing to do\n");
    }
}
