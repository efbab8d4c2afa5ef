//! The one place where the environment and `.env` are read.
//!
//! `.env` goes into a map and never into the environment, so that no program inherits a secret. What the environment says wins
//! over the file, except that either one pauses. No value is ever printed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use orbit_core::config::{NamespaceName, SecretRef};
use orbit_core::digest::hex;
use orbit_core::record::{Seed, Seeds};

use crate::config::{Diagnostic, Severity};

const PREFIX: &str = "ORBIT_";
const PAUSED: &str = "ORBIT_PAUSED";
const SEED: &str = "ORBIT_LOG_SEED";
const SEED_PREVIOUS: &str = "ORBIT_LOG_SEED_PREVIOUS";
const DATABASE_URL: &str = "ORBIT_DATABASE_URL";
const DATABASE_OWNER_URL: &str = "ORBIT_DATABASE_OWNER_URL";
const BUCKET_KEY: &str = "ORBIT_S3_ACCESS_KEY_ID";
const BUCKET_SECRET: &str = "ORBIT_S3_SECRET_ACCESS_KEY";
const FILE: &str = ".env";
/// Largest `.env`, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The variables that begin with `ORBIT_`, from the environment and from `.env`.
#[derive(Clone, Default)]
pub struct Environment {
    process: BTreeMap<String, String>,
    file: BTreeMap<String, String>,
}

/// A value that is not printed by accident: it has neither `Debug` nor `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// What signs the requests to a bucket.
#[derive(Clone, PartialEq, Eq)]
pub struct BucketKeys {
    /// The public part, which is not printed either.
    pub id: Secret,
    /// The secret part.
    pub secret: Secret,
}

/// Why the environment cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvironmentError {
    /// The file cannot be read.
    #[error("`.env` cannot be read: {message}")]
    Unreadable {
        /// What the system said.
        message: String,
    },
    /// A line is not `NAME=value`.
    #[error("line {line} of `.env` is not `NAME=value` (not shown)")]
    Line {
        /// The line, from 1.
        line: usize,
    },
    /// A flag is neither yes nor no.
    #[error("`{name}` in {place} is neither `true`, `1` or `yes` nor `false`, `0`, `no` or empty")]
    Flag {
        /// The variable.
        name: &'static str,
        /// Where it is set.
        place: &'static str,
    },
    /// A seed is none.
    #[error("`{name}` in {place} is not a seed: expected 64 hex digits (not shown)")]
    Seed {
        /// The variable.
        name: &'static str,
        /// Where it is set.
        place: &'static str,
    },
}

impl EnvironmentError {
    /// What to do about it, where there is more to say than the message does.
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Seed { .. } => Some(
                "put back the one from your copy of `.env`; in a home without a log, remove the line: the next start writes a new one",
            ),
            Self::Unreadable { .. } | Self::Line { .. } | Self::Flag { .. } => None,
        }
    }
}

impl Secret {
    /// The value; whoever takes it must not keep it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Environment {
    /// Reads both. A missing `.env` is an empty one; one that others may read is a warning.
    pub fn load(home: &Path) -> Result<(Self, Vec<Diagnostic>), EnvironmentError> {
        let process = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with(PREFIX))
            .collect();
        let (file, warnings) = read_file(&home.join(FILE))?;
        Ok((Self { process, file }, warnings))
    }

    /// Whether either the environment or the file pauses.
    pub fn paused(&self) -> Result<bool, EnvironmentError> {
        Ok(flag(&self.process, "the environment")? | flag(&self.file, "`.env`")?)
    }

    /// The value of a namespace's secret; an empty one is not set.
    pub fn secret(&self, namespace: &NamespaceName, secret: &SecretRef) -> Option<Secret> {
        self.value(&secret.variable(namespace)).filter(|value| !value.is_empty()).cloned().map(Secret)
    }

    /// Where the engine's role reaches the database; an empty one is not set.
    pub fn database_url(&self) -> Option<Secret> {
        self.value(DATABASE_URL).filter(|value| !value.trim().is_empty()).cloned().map(Secret)
    }

    /// Where the owner of the tables reaches the database, which only a migration needs.
    pub fn database_owner_url(&self) -> Option<Secret> {
        self.value(DATABASE_OWNER_URL).filter(|value| !value.trim().is_empty()).cloned().map(Secret)
    }

    /// The keys of the bucket; the name of a variable that is not set, if one is missing.
    pub fn bucket_keys(&self) -> Result<BucketKeys, &'static str> {
        let set = |name| {
            let value = self.value(name).map(|value| value.trim()).filter(|value| !value.is_empty());
            value.map(|value| Secret(value.to_owned())).ok_or(name)
        };
        Ok(BucketKeys { id: set(BUCKET_KEY)?, secret: set(BUCKET_SECRET)? })
    }

    /// The seeds of the keys of the logs; none if there is no current one.
    pub fn seeds(&self) -> Result<Option<Seeds>, EnvironmentError> {
        // Both are read, so that a wrong one is told even while the other is missing.
        let (current, previous) = (self.seed(SEED)?, self.seed(SEED_PREVIOUS)?);
        Ok(current.map(|current| Seeds { current, previous }))
    }

    fn seed(&self, name: &'static str) -> Result<Option<Seed>, EnvironmentError> {
        let Some(value) = self.value(name).map(|value| value.trim()).filter(|value| !value.is_empty()) else {
            return Ok(None);
        };
        let place = if self.process.contains_key(name) { "the environment" } else { "`.env`" };
        value.parse().map(Some).map_err(|_| EnvironmentError::Seed { name, place })
    }

    /// The variables whose value differs from an earlier reading, without the pause flag, which is no secret.
    pub fn changed_names(&self, earlier: &Self) -> Vec<String> {
        let maps = [&self.process, &self.file, &earlier.process, &earlier.file];
        let names: BTreeSet<_> =
            maps.iter().flat_map(|map| map.keys()).filter(|name| *name != PAUSED).collect();
        names.into_iter().filter(|name| self.value(name) != earlier.value(name)).cloned().collect()
    }

    fn value(&self, name: &str) -> Option<&String> {
        self.process.get(name).or_else(|| self.file.get(name))
    }
}

/// Writes a new seed into `.env`, which is the owner's alone afterwards; all else in it stays. Durable and whole: whoever reads the file
/// sees it as it was, or with the seed.
pub fn write_seed(home: &Path, random: [u8; 32]) -> Result<(), EnvironmentError> {
    let written = append(&home.join(FILE), &seed_lines(random));
    written.map_err(|error| EnvironmentError::Unreadable {
        message: format!("a seed cannot be written to it: {error}"),
    })
}

/// The lines of `.env` that hold a seed.
pub fn seed_lines(random: [u8; 32]) -> String {
    format!(
        "# The keys that sign the logs derive from this seed: keep a copy of it, without it the logs cannot be continued.\n{SEED}={}\n",
        hex(&random)
    )
}

fn append(path: &Path, lines: &str) -> std::io::Result<()> {
    // A link stays one, and what it leads to is replaced.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let (mut text, owner) = match fs::metadata(&path) {
        Ok(found) => (fs::read_to_string(&path)?, Some((found.uid(), found.gid()))),
        Err(error) if error.kind() == ErrorKind::NotFound => (String::new(), None),
        Err(error) => return Err(error),
    };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(lines);
    let folder = path.parent().unwrap_or(Path::new("."));
    let unfinished = folder.join(".env.unfinished");
    _ = fs::remove_file(&unfinished);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    if let Some((user, group)) = owner {
        // Only root may give a file away; for anybody else it is theirs already.
        _ = std::os::unix::fs::fchown(&file, Some(user), Some(group));
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&unfinished, &path)?;
    File::open(folder)?.sync_all()
}

type Variables = BTreeMap<String, String>;

fn read_file(path: &Path) -> Result<(Variables, Vec<Diagnostic>), EnvironmentError> {
    let unreadable = |message: String| EnvironmentError::Unreadable { message };
    let found = match fs::metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok((Variables::new(), Vec::new())),
        Err(error) => return Err(unreadable(error.to_string())),
    };
    if !found.is_file() || found.len() > FILE_BYTES_MAX {
        return Err(unreadable(format!("expected a regular file of at most {FILE_BYTES_MAX} bytes")));
    }
    let text = fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
    let mut warnings = Vec::new();
    if found.permissions().mode() & 0o077 != 0 {
        let warning = Diagnostic::of_file(FILE, Severity::Warning, "others than the owner may use this file");
        warnings.push(warning.hint("it holds secrets: `chmod 600 .env`"));
    }
    Ok((parse(&text)?, warnings))
}

fn parse(text: &str) -> Result<Variables, EnvironmentError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut variables = Variables::new();
    for variable in dotenvy::from_read_iter(text.as_bytes()) {
        match variable {
            Ok((name, value)) if name.starts_with(PREFIX) => _ = variables.insert(name, value),
            Ok(_) => {}
            // The error holds the line, and the line may hold a secret.
            Err(dotenvy::Error::LineParse(wrong, _)) => {
                let line =
                    text.lines().position(|line| wrong.contains(line.trim()) && !line.trim().is_empty());
                return Err(EnvironmentError::Line { line: line.map_or(1, |index| index + 1) });
            }
            Err(_) => return Err(EnvironmentError::Unreadable { message: "it is not text".to_owned() }),
        }
    }
    Ok(variables)
}

fn flag(variables: &Variables, place: &'static str) -> Result<bool, EnvironmentError> {
    match variables.get(PAUSED).map(|value| value.trim().to_ascii_lowercase()).as_deref() {
        Some("true" | "1" | "yes") => Ok(true),
        None | Some("false" | "0" | "no" | "") => Ok(false),
        Some(_) => Err(EnvironmentError::Flag { name: PAUSED, place }),
    }
}

#[expect(clippy::disallowed_methods, reason = "this module is the one place that reads the environment")]
fn variable(name: &str) -> Option<String> {
    std::env::var_os(name)?.into_string().ok().filter(|value| !value.is_empty())
}

/// The terminal's width in characters, if the shell tells it.
pub fn columns() -> Option<u16> {
    variable("COLUMNS")?.parse().ok().filter(|columns| *columns > 0)
}

/// Whether the user asked for text without colours (no-color.org), or the terminal has none.
pub fn no_colour() -> bool {
    variable("NO_COLOR").is_some() || variable("TERM").is_some_and(|terminal| terminal == "dumb")
}

/// The home, if the environment names one.
pub fn home() -> Option<PathBuf> {
    variable("ORBIT_HOME").map(PathBuf::from)
}

/// Which log lines are wanted, in the syntax of `tracing`.
pub fn log_filter() -> Option<String> {
    variable("ORBIT_LOG")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(process: &[(&str, &str)], file: &str) -> Environment {
        let process = process.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Environment { process, file: parse(file).unwrap() }
    }

    #[test]
    fn either_one_pauses() {
        let check = |process: &[(&str, &str)], file: &str, expected: Option<bool>| {
            assert_eq!(environment(process, file).paused().ok(), expected, "{process:?} {file:?}");
        };
        check(&[], "", Some(false));
        check(&[], "ORBIT_PAUSED=yes", Some(true));
        check(&[], "ORBIT_PAUSED=", Some(false));
        check(&[(PAUSED, "0")], "ORBIT_PAUSED=1", Some(true));
        check(&[(PAUSED, "TRUE")], "ORBIT_PAUSED=no", Some(true));
        check(&[(PAUSED, "maybe")], "", None);
        check(&[(PAUSED, "1")], "ORBIT_PAUSED=maybe", None);
    }

    #[test]
    fn secrets() {
        let namespace = NamespaceName::parse("a-b").unwrap();
        let secret = SecretRef::parse("${TOKEN}").unwrap();
        let check = |process: &[(&str, &str)], file: &str, expected: Option<&str>| {
            let found = environment(process, file).secret(&namespace, &secret);
            assert_eq!(found.as_ref().map(Secret::expose), expected);
        };
        check(&[], "", None);
        check(&[], "ORBIT_SECRET_A__B_TOKEN=x", Some("x"));
        check(&[], "ORBIT_SECRET_A__B_TOKEN='x $Y #z'", Some("x $Y #z"));
        check(&[], "ORBIT_SECRET_A__B_TOKEN=", None);
        check(&[("ORBIT_SECRET_A__B_TOKEN", "p")], "ORBIT_SECRET_A__B_TOKEN=x", Some("p"));
    }

    #[test]
    fn addresses_of_the_database() {
        let urls = |process: &[(&str, &str)], file: &str| {
            let found = environment(process, file);
            let shown = |url: Option<Secret>| url.map(|url| url.expose().to_owned());
            (shown(found.database_url()), shown(found.database_owner_url()))
        };
        assert_eq!(urls(&[], "ORBIT_DATABASE_URL=' '"), (None, None));
        let both = urls(&[(DATABASE_URL, "x")], "ORBIT_DATABASE_URL=y\nORBIT_DATABASE_OWNER_URL=z");
        assert_eq!(both, (Some("x".to_owned()), Some("z".to_owned())));
    }

    #[test]
    fn the_keys_of_a_bucket_are_both_there_or_one_is_named() {
        let keys = |file: &str| environment(&[(BUCKET_KEY, "id")], file).bucket_keys();
        assert_eq!(keys("").err(), Some(BUCKET_SECRET));
        assert_eq!(keys(&format!("{BUCKET_SECRET}=\n")).err(), Some(BUCKET_SECRET));
        let both = keys(&format!("{BUCKET_KEY}=other\n{BUCKET_SECRET}=s")).ok().unwrap();
        assert_eq!((both.id.expose(), both.secret.expose()), ("id", "s"));
        assert_eq!(environment(&[], "").bucket_keys().err(), Some(BUCKET_KEY));
    }

    #[test]
    fn changes_are_named_by_what_counts() {
        let before = environment(&[("ORBIT_A", "1")], "ORBIT_A=x\nORBIT_B=1\nORBIT_PAUSED=1\nOTHER=1");
        let after =
            environment(&[("ORBIT_A", "1")], "ORBIT_A=y\nORBIT_B=2\nORBIT_C=3\nORBIT_PAUSED=0\nOTHER=2");
        assert_eq!(after.changed_names(&before), ["ORBIT_B", "ORBIT_C"]);
        assert!(after.changed_names(&after).is_empty());
    }

    #[test]
    fn a_wrong_line_is_named_and_not_shown() {
        let error = parse("A=1\n\nORBIT_X canary-5b\n").err().unwrap();
        assert_eq!(error.to_string(), "line 3 of `.env` is not `NAME=value` (not shown)");
    }

    #[test]
    fn seeds_are_read_and_a_wrong_one_is_not_shown() {
        let (one, two) = ("1".repeat(64), "2".repeat(64));
        let seeds = |process: &[(&str, &str)], file: &str| environment(process, file).seeds();
        assert!(seeds(&[], "").unwrap().is_none());
        assert!(seeds(&[], &format!("{SEED}=\n{SEED_PREVIOUS}={one}")).unwrap().is_none());
        let vkey = |seed: &Seed| seed.signer("lab", "o").unwrap().verifier().to_string();
        let read = seeds(&[(SEED, &two)], &format!("{SEED}={one}\n{SEED_PREVIOUS}={one}")).unwrap().unwrap();
        assert_eq!(vkey(&read.current), vkey(&two.parse().unwrap()), "the environment wins");
        assert_eq!(vkey(&read.previous.unwrap()), vkey(&one.parse().unwrap()));
        let wrong = seeds(&[], &format!("{SEED}={one}\n{SEED_PREVIOUS}=canary-77")).unwrap_err();
        assert_eq!(
            wrong.to_string(),
            "`ORBIT_LOG_SEED_PREVIOUS` in `.env` is not a seed: expected 64 hex digits (not shown)"
        );
        assert!(wrong.hint().is_some());
    }

    #[test]
    fn a_seed_is_added_to_the_file() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(FILE);
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        write_seed(home.path(), [1; 32]).unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap(), mode()), (seed_lines([1; 32]), 0o600));
        let elsewhere = tempfile::tempdir().unwrap();
        let target = elsewhere.path().join("secrets");
        fs::write(&target, "# mine\nORBIT_PAUSED=no").unwrap();
        fs::set_permissions(&target, fs::Permissions::from_mode(0o644)).unwrap();
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        write_seed(home.path(), [2; 32]).unwrap();
        let expected = format!("# mine\nORBIT_PAUSED=no\n{}", seed_lines([2; 32]));
        assert_eq!((fs::read_to_string(&target).unwrap(), mode()), (expected, 0o600));
        assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 1);
        assert!(Environment::load(home.path()).unwrap().0.seeds().unwrap().is_some());
    }

    #[test]
    fn the_file_of_a_home() {
        let home = tempfile::tempdir().unwrap();
        assert!(Environment::load(home.path()).unwrap().1.is_empty());
        let path = home.path().join(FILE);
        fs::write(&path, "ORBIT_PAUSED=1\n").unwrap();
        let load = |mode: u32| {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            Environment::load(home.path()).unwrap()
        };
        assert_eq!(load(0o600).1, []);
        let (environment, warnings) = load(0o640);
        assert_eq!(environment.paused(), Ok(true));
        assert_eq!(
            warnings[0].to_string(),
            ".env:1:1: warning: others than the owner may use this file\n  hint: it holds secrets: `chmod 600 .env`"
        );
    }
}
