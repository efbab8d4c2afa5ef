//! What is at an end of a move, for whoever decides what is to be moved.

use std::path::{Path, PathBuf};

use orbit_core::config::NamespaceName;

use super::side::Side;
use super::{ARRIVING, End, postgres};
use crate::StoreError;

/// Files that were set aside, of one store.
const ASIDE_MAX: u32 = 1000;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// No store, or one in which nothing ever happened.
    Nothing,
    /// A store that may be served.
    Whole,
    /// A part of one, which a move has not brought to its end.
    Arriving,
    /// What was left when it was moved away.
    Gone,
}

/// Looks at an end. A store that is there has the newest schema afterwards; none is made.
pub async fn look(end: End<'_>, namespace: &NamespaceName) -> Result<Found, StoreError> {
    let is_there = match end {
        End::Sqlite(path) => path.exists(),
        End::Postgres(config) => postgres::Namespace::is_there(config, namespace).await?,
    };
    if !is_there {
        return Ok(Found::Nothing);
    }
    let side = Side::open(end, namespace).await?;
    Ok(match side.standing().await?.moved {
        Some(moved) if moved.starts_with(ARRIVING) => Found::Arriving,
        Some(_) => Found::Gone,
        None if side.is_empty().await? => Found::Nothing,
        None => Found::Whole,
    })
}

/// Whether the database has a store of this namespace. `config` may be of the role that serves stores; the database must have been migrated.
pub async fn is_there(config: &str, namespace: &NamespaceName) -> Result<bool, StoreError> {
    postgres::Namespace::is_there(config, namespace).await
}

/// Renames a file that is gone, so that its store may arrive again where it was: `NAME.gone`, or with the first number that is free behind it. The name that
/// it has now. Nobody may have it open.
pub fn set_aside(file: &Path) -> Result<PathBuf, StoreError> {
    let named = |number: u32| {
        let mut name = file.as_os_str().to_owned();
        name.push(if number == 1 { ".gone".to_owned() } else { format!(".gone-{number}") });
        PathBuf::from(name)
    };
    let failed = |message: String| StoreError::Io { place: file.display().to_string(), message };
    let aside = (1..=ASIDE_MAX).map(named).find(|path| !path.exists());
    let aside = aside.ok_or_else(|| failed(format!("{ASIDE_MAX} files that are gone lie beside it")))?;
    std::fs::rename(file, &aside).map_err(|error| failed(error.to_string()))?;
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_was_set_aside_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("orbit.db");
        for (content, name) in [("a", "orbit.db.gone"), ("b", "orbit.db.gone-2"), ("c", "orbit.db.gone-3")] {
            std::fs::write(&file, content).unwrap();
            assert_eq!(set_aside(&file).unwrap(), folder.path().join(name));
            assert_eq!(std::fs::read_to_string(folder.path().join(name)).unwrap(), content);
        }
        assert!(!file.exists() && set_aside(&file).is_err());
    }
}
