//! The work folder of an attempt: made before it, removed after it, whatever happened.

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use orbit_core::run::Step;
use uuid::Uuid;

/// A folder that only this user can enter. It is removed when this is dropped, which may take a while: drop it where blocking is allowed.
#[derive(Debug)]
pub struct Work {
    folder: PathBuf,
    /// Device and number of the folder as it was made.
    identity: (u64, u64),
    output: PathBuf,
    /// Whether the folder above is removed with it: that of a run, not that of a batch.
    removes_above: bool,
}

impl Work {
    /// The folder `<base>/<run>/<step>-<attempt>`, empty. What lay there before is removed.
    pub fn create(base: &Path, run: Uuid, step: Step, attempt: u32, extension: &str) -> io::Result<Self> {
        Self::make(base.join(run.to_string()).join(format!("{}-{attempt}", step.name())), extension)
    }

    fn make(folder: PathBuf, extension: &str) -> io::Result<Self> {
        remove(&folder)?;
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let metadata = fs::symlink_metadata(&folder)?;
        let plain: String =
            extension.chars().filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c)).collect();
        let output =
            folder.join(if plain.is_empty() { "output".to_owned() } else { format!("output.{plain}") });
        Ok(Self { identity: (metadata.dev(), metadata.ino()), output, folder, removes_above: true })
    }

    /// The folder of one item of a batch below that of the batch, which must outlive it.
    pub fn item(&self, number: usize, extension: &str) -> io::Result<Self> {
        let mut item = Self::make(self.folder.join(format!("item-{number}")), extension)?;
        item.removes_above = false;
        Ok(item)
    }

    /// The folder, in which programs run.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The bytes of the step before; for tier 1 the context line.
    pub fn input(&self) -> PathBuf {
        self.folder.join("input")
    }

    /// Where the output is expected.
    pub fn output(&self) -> &Path {
        &self.output
    }

    /// The asset that the step is given, if it is given one.
    pub fn reference(&self) -> PathBuf {
        self.folder.join("reference")
    }

    /// The context as one line of canonical JSON.
    pub fn context(&self) -> PathBuf {
        self.folder.join("context.json")
    }

    /// A path of the folder as a program is told it: of `[A-Za-z0-9/._-]` only, so that it means nothing to any program's own syntax. Where the home's path has
    /// other characters it is relative to the folder, which is where programs run.
    pub fn told(&self, path: &Path) -> String {
        let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b));
        match path.to_str() {
            Some(text) if plain(text) => text.to_owned(),
            Some(_) | None => {
                let below = path.strip_prefix(&self.folder).unwrap_or(path);
                below.to_string_lossy().into_owned()
            }
        }
    }

    /// Whether the folder is still the one that was made, and no link or other folder took its place.
    pub fn is_intact(&self) -> bool {
        fs::symlink_metadata(&self.folder)
            .is_ok_and(|found| found.is_dir() && (found.dev(), found.ino()) == self.identity)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // With it goes the whole folder of its run, which has one attempt at a time: a program may have put something beside its own.
        let above = self.folder.parent().filter(|_| self.removes_above);
        let all = above.unwrap_or(&self.folder);
        if let Err(error) = remove(all) {
            tracing::warn!(folder = %all.display(), %error, "a work folder could not be removed");
        }
    }
}

/// Removes what attempts of an earlier process left; other folders there belong to others. Best effort: what stays is removed when its attempt is
/// made again.
pub(super) fn remove_leftovers(base: &Path) {
    let of_run =
        |entry: &fs::DirEntry| entry.file_name().to_str().is_some_and(|name| Uuid::parse_str(name).is_ok());
    for entry in fs::read_dir(base).into_iter().flatten().flatten().filter(of_run) {
        if let Err(error) = remove(&entry.path()) {
            tracing::warn!(folder = %entry.path().display(), %error, "a leftover work folder could not be removed");
        }
    }
}

/// Removes whatever is there; nothing there is success. Links are removed, not followed.
fn remove(path: &Path) -> io::Result<()> {
    match remove_once(path) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            // Programs leave folders that not even their owner may change.
            open_up(path);
            remove_once(path)
        }
        other => other,
    }
}

fn remove_once(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn open_up(path: &Path) {
    let mut waiting = vec![path.to_owned()];
    while let Some(path) = waiting.pop() {
        if fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir()) {
            _ = fs::set_permissions(&path, fs::Permissions::from_mode(0o700));
            waiting.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn made_and_removed() {
        let home = tempfile::tempdir().unwrap();
        let outside = home.path().join("outside");
        fs::write(&outside, "kept").unwrap();
        let base = home.path().join("work");
        let make = || Work::create(&base, Uuid::nil(), Step::Tier2, 1, "w/a v").unwrap();
        let work = make();
        assert!(work.is_intact());
        assert!(work.output().ends_with("00000000-0000-0000-0000-000000000000/tier2-1/output.wav"));
        symlink(&outside, work.folder().join("link")).unwrap();
        fs::create_dir(work.folder().join("closed")).unwrap();
        fs::write(work.folder().join("closed/file"), "").unwrap();
        fs::set_permissions(work.folder().join("closed"), fs::Permissions::from_mode(0o500)).unwrap();
        // Made again while the old one is there: empty.
        let again = make();
        assert_eq!(fs::read_dir(again.folder()).unwrap().count(), 0);
        let item = again.item(2, "txt").unwrap();
        assert!(item.output().ends_with("tier2-1/item-2/output.txt"));
        drop(item);
        fs::rename(again.folder(), base.join("moved")).unwrap();
        symlink(base.join("moved"), again.folder()).unwrap();
        assert!(!again.is_intact());
        fs::remove_dir(base.join("moved")).unwrap();
        fs::write(again.folder().with_file_name("beside"), "").unwrap();
        drop((again, work));
        assert_eq!(fs::read_dir(&base).unwrap().count(), 0);
        assert_eq!(fs::read_to_string(&outside).unwrap(), "kept");
        std::mem::forget(make());
        fs::create_dir(base.join("of-others")).unwrap();
        remove_leftovers(&base);
        let left: Vec<_> = fs::read_dir(&base).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["of-others"]);
    }

    #[test]
    fn paths_mean_nothing_to_a_program() {
        let check = |base: &str, expected: &str| {
            let home = tempfile::tempdir().unwrap();
            let work = Work::create(&home.path().join(base), Uuid::nil(), Step::Tier1, 2, "txt").unwrap();
            let told = work.told(work.output());
            assert!(told.ends_with(expected) && told.starts_with(&expected[..1]), "{told}");
            let item = work.item(1, "txt").unwrap();
            let told = work.told(item.output());
            let expected = format!("item-1/{}", expected.trim_start_matches('/'));
            assert!(told.ends_with(&expected) && (told == expected || told.starts_with('/')), "{told}");
        };
        check("plain", "/output.txt");
        check("with space", "output.txt");
        check("with:colon", "output.txt");
    }
}
