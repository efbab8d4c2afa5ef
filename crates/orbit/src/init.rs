//! `orbit init`: a home that works with nothing but a shell, and whose comments teach.
//!
//! Nothing is overwritten, and nothing is written at all where a home is already.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::environment::seed_lines;

/// Every file of the home, in the order in which a reader should open them.
const FILES: [(&str, &str); 8] = [
    ("orbit.yaml", include_str!("init/orbit.yaml")),
    (".gitignore", include_str!("init/gitignore")),
    ("namespaces/hello/namespace.yaml", include_str!("init/namespace.yaml")),
    ("namespaces/hello/sources/places.yaml", include_str!("init/source.yaml")),
    ("namespaces/hello/processors/text.yaml", include_str!("init/processors.yaml")),
    ("namespaces/hello/endpoints/example.yaml", include_str!("init/endpoint.yaml")),
    ("namespaces/hello/profiles/plain.yaml", include_str!("init/profile.yaml")),
    ("namespaces/hello/run-profiles/twice-daily.yaml", include_str!("init/run-profile.yaml")),
];

/// The names that the node's document may have; where one of them lies is a home.
const NODE_FILES: [&str; 3] = ["orbit.yaml", "orbit.yml", "orbit.json"];

/// Why no home was made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InitError {
    /// The folder is a home.
    #[error("`{}` is a home already", path.display())]
    IsHome {
        /// The folder.
        path: PathBuf,
    },
    /// The folder lies within a home, whose folders have a meaning.
    #[error("`{}` lies within the home `{}`", path.display(), home.display())]
    WithinHome {
        /// The folder.
        path: PathBuf,
        /// The home around it.
        home: PathBuf,
    },
    /// A file that would be written is there.
    #[error("`{}` is there already and is not overwritten", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A file or folder cannot be made.
    #[error("`{}` cannot be made: {message}{}", path.display(), left_over(made))]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        message: String,
        /// The files that were made before.
        made: Vec<PathBuf>,
    },
}

impl InitError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::IsHome { .. } => Some("`orbit check` reads it; `orbit init OTHER` makes another one"),
            Self::WithinHome { .. } => Some("choose a folder outside, as in `orbit init ../my-home`"),
            Self::Exists { .. } => Some("choose an empty folder, as in `orbit init my-home`"),
            Self::Io { .. } => {
                Some("the folder must be writable by this user; remove what was left and try again")
            }
        }
    }
}

fn left_over(made: &[PathBuf]) -> String {
    if made.is_empty() {
        return String::new();
    }
    let names: Vec<_> = made.iter().map(|path| path.display().to_string()).collect();
    format!("; made before that: {}", names.join(", "))
}

/// Makes a home in this folder and answers the files it made. The ids in it and the seed of the log's key come from the
/// 32 random bytes, so that no two homes share one.
pub fn init(home: &Path, random: [u8; 32]) -> Result<Vec<PathBuf>, InitError> {
    if NODE_FILES.iter().chain(&["namespaces"]).any(|name| home.join(name).exists()) {
        return Err(InitError::IsHome { path: home.to_owned() });
    }
    let full = std::path::absolute(home).unwrap_or_else(|_| home.to_owned());
    let is_home = |folder: &&Path| NODE_FILES.iter().any(|name| folder.join(name).exists());
    if let Some(around) = full.ancestors().skip(1).find(is_home) {
        return Err(InitError::WithinHome { path: home.to_owned(), home: around.to_owned() });
    }
    let id =
        |label: &str| Uuid::new_v5(&Uuid::NAMESPACE_OID, &[&random, label.as_bytes()].concat()).to_string();
    let filled = |text: &str| {
        text.replace("@PROFILE_ID@", &id("profile")).replace("@RUN_PROFILE_ID@", &id("run profile"))
    };
    let env = format!(
        "# Secrets and flags; nothing else holds them. Keep it to yourself: chmod 600.\n\
         {}\n\
         # `true` stops new work at once, also in a running `orbit serve`.\n\
         ORBIT_PAUSED=false\n\n\
         # The secret \"${{ARCHIVE_TOKEN}}\" of the namespace `hello`:\n\
         # ORBIT_SECRET_HELLO_ARCHIVE_TOKEN='…'\n",
        seed_lines(random)
    );
    let mut files: Vec<(&str, String, u32)> = vec![(".env", env, 0o600)];
    files.extend(FILES.map(|(name, text)| (name, filled(text), 0o644)));
    if let Some(path) = files.iter().map(|(name, ..)| home.join(name)).find(|path| path.exists()) {
        return Err(InitError::Exists { path });
    }
    let mut made = Vec::new();
    for (name, text, mode) in files {
        let path = home.join(name);
        if let Err(error) = write(&path, &text, mode) {
            return Err(InitError::Io { path, message: error.to_string(), made });
        }
        made.push(path);
    }
    Ok(made)
}

fn write(path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_new_home_has_no_problem() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("new/home");
        let made = init(&home, [7; 32]).unwrap();
        assert_eq!(made.len(), FILES.len() + 1);
        assert_eq!(fs::metadata(home.join(".env")).unwrap().permissions().mode() & 0o777, 0o600);
        let loaded = load(&home);
        assert_eq!(loaded.problems, []);
        let [namespace] = loaded.namespaces.as_slice() else { panic!("{:?}", loaded.namespaces) };
        assert_eq!(namespace.snapshot.processors.len(), 4);
        assert_eq!(namespace.snapshot.run_profiles.len(), 1);
        let other = folder.path().join("other");
        init(&other, [8; 32]).unwrap();
        let other = &load(&other).namespaces[0].snapshot;
        assert_ne!(
            other.profile("plain").unwrap().profile_id,
            namespace.snapshot.profile("plain").unwrap().profile_id
        );
    }

    #[test]
    fn nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path();
        fs::write(home.join(".gitignore"), "mine").unwrap();
        assert_eq!(init(home, [7; 32]), Err(InitError::Exists { path: home.join(".gitignore") }));
        assert!(!home.join(".env").exists());
        fs::remove_file(home.join(".gitignore")).unwrap();
        init(home, [7; 32]).unwrap();
        let again = init(home, [9; 32]).unwrap_err();
        assert_eq!(again, InitError::IsHome { path: home.to_owned() });
        assert!(again.hint().is_some());
        let within = init(&home.join("namespaces/other"), [9; 32]).unwrap_err();
        assert!(
            matches!(&within, InitError::WithinHome { home: around, .. } if around == home),
            "{within:?}"
        );
        assert!(!home.join("namespaces/other").exists());
    }

    #[test]
    fn what_was_made_is_named_when_the_rest_fails() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        let error = init(&folder.path().join("file/home"), [7; 32]).unwrap_err();
        assert!(error.to_string().contains("cannot be made"), "{error}");
        let made = vec![PathBuf::from("a"), PathBuf::from("b")];
        let error = InitError::Io { path: "c".into(), message: "full".to_owned(), made };
        assert_eq!(error.to_string(), "`c` cannot be made: full; made before that: a, b");
    }
}
