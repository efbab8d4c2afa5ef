//! Starts the program: its files, its environment, its limits, its place in the process tree.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::libc::O_NOFOLLOW;

use super::protocol::Program;
use super::{HOME_MARK, rlimits};

/// A program that runs.
pub(super) struct Started {
    /// The process, which leads a group of its own.
    pub child: Child,
    /// The file that is its standard output, if it is one.
    pub stdout: Option<File>,
}

/// Starts the program, or says why it could not be started, naming what it was about.
pub(super) fn start(program: &Program) -> Result<Started, String> {
    let (name, arguments) = program.argv.split_first().ok_or("`argv` is empty")?;
    let stdin = match &program.stdin {
        Some(path) => open("standard input", path, OpenOptions::new().read(true))?.into(),
        None => Stdio::null(),
    };
    let stdout = match &program.stdout {
        Some(path) => Some(open("standard output", path, OpenOptions::new().write(true).create_new(true))?),
        None => None,
    };
    let copy = stdout.as_ref().map(File::try_clone).transpose().map_err(|error| error.to_string())?;
    let mut command = command(name);
    command
        .args(arguments)
        .env_clear()
        .envs(&program.env)
        .env(HOME_MARK, &program.marker)
        .current_dir(&program.cwd)
        .stdin(stdin)
        .stdout(stdout.map_or_else(Stdio::piped, Stdio::from))
        .stderr(Stdio::piped())
        .process_group(0);
    let before = rlimits::set(&program.limits);
    let spawned = command.spawn();
    before.restore();
    match spawned {
        Ok(child) => Ok(Started { child, stdout: copy }),
        Err(error) => Err(explain(name, program, &error)),
    }
}

#[expect(clippy::disallowed_methods, reason = "the supervisor is the one place that starts programs")]
fn command(name: &str) -> Command {
    Command::new(name)
}

fn open(what: &str, path: &Path, options: &mut OpenOptions) -> Result<File, String> {
    let opened = options.custom_flags(O_NOFOLLOW).open(path);
    opened.map_err(|error| format!("{what} `{}`: {error}", path.display()))
}

fn explain(name: &str, program: &Program, error: &std::io::Error) -> String {
    let missing = error.kind() == ErrorKind::NotFound;
    if missing && !program.cwd.is_dir() {
        return format!("the folder `{}` is missing", program.cwd.display());
    }
    if missing && !name.contains('/') {
        let path = program.env.get("PATH").map_or("", String::as_str);
        return format!("there is no program `{name}` in the PATH `{path}`");
    }
    if missing && Path::new(name).exists() {
        return format!("the interpreter that `{name}` names in its first line is missing");
    }
    format!("`{name}`: {error}")
}
