//! A folder and a mark a test, and a line by which a program's tree tells that it is there and, by its end, that it is gone.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::stat::Mode;
use orbit_core::config::{ByteSize, Limits, Millis};
use orbit_engine::supervisor::{Ended, HOME_MARK, Launcher, Program};
use tokio_util::sync::CancellationToken;

/// What every test has to itself.
pub(crate) struct Fixture {
    pub folder: tempfile::TempDir,
    pub program: Program,
}

impl Fixture {
    /// A program that is a shell script, in a folder of its own, with ample limits.
    pub(crate) fn script(script: &str) -> Self {
        Self::program(&["sh", "-c", script])
    }

    pub(crate) fn program(argv: &[&str]) -> Self {
        static TESTS: AtomicU32 = AtomicU32::new(0);
        let folder = tempfile::tempdir().unwrap();
        let marker = format!("test-{}-{}", std::process::id(), TESTS.fetch_add(1, Ordering::Relaxed));
        let program = Program {
            argv: argv.iter().map(|&word| word.to_owned()).collect(),
            env: BTreeMap::from([("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned())]),
            cwd: folder.path().to_owned(),
            stdin: None,
            stdout: None,
            limits: limits(),
            marker,
        };
        Self { folder, program }
    }

    /// Changes the limits.
    pub(crate) fn limited(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.program.limits);
        self
    }

    /// Standard output goes to a file.
    pub(crate) fn into_file(mut self) -> Self {
        self.program.stdout = Some(self.path("stdout"));
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn stdout(&self) -> String {
        std::fs::read_to_string(self.path("stdout")).unwrap()
    }

    /// Makes the named pipe `line`, which a script opens by `exec 3>line` and its children inherit.
    pub(crate) fn with_line(self) -> Self {
        nix::unistd::mkfifo(&self.path("line"), Mode::S_IRWXU).unwrap();
        self
    }

    /// Waits for the program to open the line and to write its first text into it.
    pub(crate) fn line(&self) -> Line {
        let mut reader = BufReader::new(File::open(self.path("line")).unwrap());
        let mut first = String::new();
        reader.read_line(&mut first).unwrap();
        Line { first: first.trim().to_owned(), reader }
    }

    /// Runs the program to its end, and checks that nothing is left of it.
    pub(crate) fn run(&self) -> Ended {
        self.run_with(|_, _| {})
    }

    /// As `run`; meanwhile the closure is called on another thread.
    pub(crate) fn run_with(&self, meanwhile: impl FnOnce(&Self, &CancellationToken) + Send) -> Ended {
        let cancel = CancellationToken::new();
        let ended = std::thread::scope(|scope| {
            let token = cancel.clone();
            scope.spawn(move || meanwhile(self, &token));
            block_on(launcher().run(self.program.clone(), &cancel))
        });
        self.nothing_is_left();
        ended
    }

    /// No process carries the mark.
    pub(crate) fn nothing_is_left(&self) {
        assert_eq!(marked(&self.program.marker), Vec::<String>::new(), "processes are left");
    }

    /// Starts an engine in a process of its own that runs the program.
    pub(crate) fn engine(&self) -> Child {
        let program = serde_json::to_string(&self.program).unwrap();
        let own = std::env::current_exe().unwrap();
        command(&own.display().to_string())
            .args(["__engine", &program])
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    }
}

/// The line of a tree that is up.
pub(crate) struct Line {
    /// The first text in it.
    pub first: String,
    reader: BufReader<File>,
}

impl Line {
    /// Returns when no process holds the line any more: the tree is gone.
    pub(crate) fn ends(mut self) {
        self.reader.read_to_end(&mut Vec::new()).unwrap();
    }
}

/// The body of `__engine`: runs a program until somebody kills this process.
pub(crate) fn be_an_engine(program: &str) -> ExitCode {
    let program = serde_json::from_str(program).unwrap();
    block_on(launcher().run(program, &CancellationToken::new()));
    ExitCode::SUCCESS
}

pub(crate) fn launcher() -> Launcher {
    Launcher { program: std::env::current_exe().unwrap(), args: vec!["__supervise".into()] }
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[expect(clippy::disallowed_methods, reason = "a test stands outside of what it tests")]
pub(crate) fn command(name: &str) -> Command {
    Command::new(name)
}

fn limits() -> Limits {
    Limits {
        wall: Millis::minutes(4),
        cpu: Millis::minutes(1),
        memory: ByteSize::gib(1),
        output: ByteSize::mib(64),
        processes: 200,
        grace: Millis::minutes(3),
    }
}

/// The command lines of processes that carry a mark.
fn marked(marker: &str) -> Vec<String> {
    let entry = format!("{HOME_MARK}={marker}");
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        entry.ok().map(|entry| entry.path()).filter(|path| path.join("environ").exists())
    });
    let carries = |path: &PathBuf| {
        let environment = std::fs::read(path.join("environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|one| one == entry.as_bytes())
    };
    let name = |path: PathBuf| std::fs::read_to_string(path.join("cmdline")).unwrap_or_default();
    processes.filter(carries).map(name).collect()
}
