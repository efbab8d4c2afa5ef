//! Whether the programs of processors and sources can be found and started.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use orbit_core::config::{Processor, Snapshot, Source, TextOrSecret};

use super::Finding;

/// Every program that cannot be started; if all can, one finding says so.
pub(super) fn missing(snapshot: &Snapshot, folder: &Path) -> Vec<Finding> {
    let processors = snapshot.processors.iter().filter_map(|(name, processor)| match processor {
        Processor::Exec(exec) => Some((format!("processor `{name}`"), &exec.argv, &exec.env)),
        Processor::Http(_) => None,
    });
    let sources = snapshot.sources.iter().filter_map(|(name, source)| match source {
        Source::Exec(exec) => Some((format!("source `{name}`"), &exec.argv, &exec.env)),
        Source::Inline(_) | Source::File(_) | Source::Http(_) => None,
    });
    let mut count = 0;
    let mut findings = Vec::new();
    for (document, argv, env) in processors.chain(sources) {
        count += 1;
        let own = match env.get("PATH") {
            Some(TextOrSecret::Text(path)) => Some(OsString::from(path)),
            Some(TextOrSecret::Secret(_)) | None => None,
        };
        let path = own.or_else(search_path).unwrap_or_default();
        let program = argv.first().map_or("", String::as_str);
        findings.extend(
            fault(program, folder, &path)
                .map(|(fault, hint)| Finding::problem("programs", format!("{document}: {fault}"), hint)),
        );
    }
    if findings.is_empty() && count > 0 {
        findings
            .push(Finding::ok("programs", format!("all {count} of `{}` can be started", snapshot.namespace)));
    }
    findings
}

/// Where programs are looked for that name no path of their own.
#[expect(
    clippy::disallowed_methods,
    reason = "not configuration: programs are found where the shell of this process finds them"
)]
fn search_path() -> Option<OsString> {
    std::env::var_os("PATH")
}

/// Why a program cannot be started, and what to do; none if it can, or if only a template can tell.
fn fault(program: &str, folder: &Path, path: &OsString) -> Option<(String, &'static str)> {
    if program.contains("{{") || program.contains("{%") {
        return None;
    }
    if !program.contains('/') {
        let found = std::env::split_paths(path).any(|folder| is_program(&folder.join(program)));
        let message = || format!("there is no program `{program}` in PATH");
        return (!found).then(|| (message(), "install it, or name it by its path"));
    }
    let place: PathBuf = folder.join(program);
    let shown = place.display();
    if !place.exists() {
        return Some((
            format!("there is no `{shown}`"),
            "a name with a `/` is relative to the namespace's folder",
        ));
    }
    (!is_program(&place)).then(|| (format!("`{shown}` is not executable"), "make it so with `chmod +x`"))
}

fn is_program(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_where_they_would_be_started() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, mode: u32| {
            let path = folder.path().join(name);
            std::fs::write(&path, "").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        std::fs::create_dir(folder.path().join("bin")).unwrap();
        write("bin/tool", 0o755);
        write("bin/data", 0o644);
        let path = OsString::from(format!("/nowhere:{}", folder.path().join("bin").display()));
        let check = |program: &str, expected: Option<&str>| {
            let found = fault(program, folder.path(), &path).map(|(message, _)| message);
            let found = found.map(|message| message.replace(&folder.path().display().to_string(), "NS"));
            assert_eq!(found.as_deref(), expected, "{program}");
        };
        check("tool", None);
        check("data", Some("there is no program `data` in PATH"));
        check("nope", Some("there is no program `nope` in PATH"));
        check("bin/tool", None);
        check("bin/data", Some("`NS/bin/data` is not executable"));
        check("./bin/nope", Some("there is no `NS/./bin/nope`"));
        check("bin", Some("there is no program `bin` in PATH"));
        check("/bin/sh", None);
        check("{{ style.tool }}", None);
    }
}
