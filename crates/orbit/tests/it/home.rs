//! A home in a temporary folder, the real binary on it, and what it answers.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use orbit_testkit::backend::is_postgres;
use orbit_testkit::cluster::{TestDatabase, blocking};
use serde_json::Value;

/// Nothing that a test waits for may take longer; a machine that is busy is slow, not wrong.
pub const PATIENCE: Duration = Duration::from_mins(2);

pub struct Home {
    folder: tempfile::TempDir,
    /// Where its rows are, unless they are in files.
    database: Option<Database>,
}

/// A database, and the way to it. Other homes may have their rows there too.
struct Database {
    url: String,
    held: Arc<TestDatabase>,
}

/// What a command came to.
#[derive(Debug)]
pub struct Answer {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// `orbit serve`, ended with the test.
pub struct Serving {
    child: Child,
    log: PathBuf,
}

impl Home {
    /// An empty home with one namespace `lab`, on the backend that tests run on.
    pub fn new() -> Self {
        if is_postgres() { Self::on_postgres() } else { Self::on_files() }
    }

    /// The same with its rows in a database of its own, whose address is in the environment of every command.
    pub fn on_postgres() -> Self {
        let database = Arc::new(blocking(TestDatabase::lent()));
        let url = database.runtime();
        Self::on_database(&database, url)
    }

    /// The same in a database that others share, which is reached by this address.
    pub fn on_database(database: &Arc<TestDatabase>, url: String) -> Self {
        let home = Self::with(Some(Database { url, held: Arc::clone(database) }));
        let node = fs::read_to_string(home.path("orbit.yaml")).unwrap();
        home.write("orbit.yaml", &format!("{node}storage: {{ backend: postgres }}\n"));
        home
    }

    /// The same with its rows in files, whatever the others have.
    pub fn on_files() -> Self {
        Self::with(None)
    }

    fn with(database: Option<Database>) -> Self {
        let home = Self { folder: tempfile::tempdir().unwrap(), database };
        home.write("orbit.yaml", "listen: { address: \"127.0.0.1:0\" }\nlimits: { drain: 10s }\n");
        home.write(".env", "");
        fs::set_permissions(home.path(".env"), fs::Permissions::from_mode(0o600)).unwrap();
        home.write("namespaces/lab/namespace.yaml", "label: Lab\ndisk_floor: 0 B\n");
        home
    }

    /// Another home of the same database, with the same documents.
    pub fn on_postgres_of(other: &Self) -> Self {
        let Database { url, held } = other.database.as_ref().unwrap();
        let home = Self::with(Some(Database { url: url.clone(), held: Arc::clone(held) }));
        for name in ["orbit.yaml", ".env", "namespaces"] {
            let copied =
                Command::new("cp").arg("-a").arg(other.path(name)).arg(home.root()).status().unwrap();
            assert!(copied.success());
        }
        home
    }

    /// How the owner of its database reaches that.
    pub fn database_owner(&self) -> String {
        self.database.as_ref().unwrap().held.owner()
    }

    /// An empty folder.
    pub fn empty() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), database: None }
    }

    /// A home whose namespace has a source `words` of this many items, processors `one`, `two`, `three` that each add a line, a profile `plain` and a
    /// run profile `daily` that never fires within a test.
    pub fn lab(items: usize) -> Self {
        Self::new().furnished(items)
    }

    /// The same with its rows in files, whatever the others have.
    pub fn lab_on_files(items: usize) -> Self {
        Self::on_files().furnished(items)
    }

    /// Makes the documents of [`Self::lab`].
    pub fn furnished(self, items: usize) -> Self {
        let home = self;
        home.items(items);
        home.processor("one", "cat; echo one", "");
        home.processor("two", "cat; echo two", "");
        home.processor("three", "cat; echo three", "");
        home.profile("plain", 1, "");
        home.run_profile("daily", 1, "[plain]", "");
        home
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    pub fn write(&self, below: &str, text: &str) {
        let path = self.path(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// The source `words`: an inline list of `item-0`, `item-1`, ….
    pub fn items(&self, count: usize) {
        let items: Vec<_> = (0..count).map(|n| format!("  - {{ label: item-{n} }}\n")).collect();
        let items = items.concat();
        self.write(
            "namespaces/lab/sources/words.yaml",
            &format!("name: words\nkind: inline\nitems:\n{items}"),
        );
    }

    /// A shell script from standard input to standard output; `more` is further YAML.
    pub fn processor(&self, name: &str, script: &str, more: &str) {
        let script = serde_json::to_string(script).unwrap();
        let retry = if more.contains("retry:") { "" } else { "retry: { attempts: 1 }\n" };
        let text = format!(
            "name: {name}\nkind: exec\nargv: [sh, -c, {script}]\ninput: stdin\noutput: {{ to: stdout, extension: txt, media_type: text/plain }}\n{retry}{more}"
        );
        self.write(&format!("namespaces/lab/processors/{name}.yaml"), &text);
    }

    /// A profile over the processors `one`, `two`, `three`.
    pub fn profile(&self, label: &str, number: u8, more: &str) {
        self.profile_of(label, number, ["one", "two", "three"], more);
    }

    pub fn profile_of(&self, label: &str, number: u8, tiers: [&str; 3], more: &str) {
        let [one, two, three] = tiers;
        let text = format!(
            "profile_id: 00000000-0000-4000-8000-0000000000{number:02}\nlabel: {label}\nexecution_rules:\n  tiers: [{{ processor: {one} }}, {{ processor: {two} }}, {{ processor: {three} }}]\n{more}"
        );
        self.write(&format!("namespaces/lab/profiles/{label}.yaml"), &text);
    }

    /// A run profile over the source `words`; `more` is further YAML of the execution policy, indented by two. Fires in a distant
    /// hour unless `more` has a schedule.
    pub fn run_profile(&self, label: &str, number: u8, profiles: &str, more: &str) {
        let schedule = if more.contains("schedule:") { "" } else { "  schedule: { cron: \"0 0 29 2 *\" }\n" };
        let text = format!(
            "run_profile_id: 00000000-0000-4000-9000-0000000000{number:02}\nlabel: {label}\nexecution_policy:\n{schedule}  selection: {{ source: words, choose: in_order }}\n  profiles: {profiles}\n{more}"
        );
        self.write(&format!("namespaces/lab/run-profiles/{label}.yaml"), &text);
    }

    /// An endpoint at this address with a short schedule; `more` is further YAML.
    pub fn endpoint(&self, name: &str, url: &str, more: &str) {
        let retry = if more.contains("retry:") { "" } else { "retry: { attempts: 3, schedule: [50ms] }\n" };
        let text = format!(
            "name: {name}\nurl: \"{url}\"\naddresses: {{ allow: [\"127.0.0.0/8\"] }}\ntimeout: 20s\n{retry}{more}"
        );
        self.write(&format!("namespaces/lab/endpoints/{name}.yaml"), &text);
    }

    pub fn secret(&self, name: &str, value: &str) {
        let before = fs::read_to_string(self.path(".env")).unwrap();
        fs::write(self.path(".env"), format!("{before}ORBIT_SECRET_LAB_{name}={value}\n")).unwrap();
    }

    pub fn command(&self, args: &[&str]) -> Command {
        self.command_at(self.root(), args)
    }

    /// The same on a copy of the home.
    pub fn command_at(&self, root: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orbit"));
        command.arg("--home").arg(root).args(args).stdin(Stdio::null());
        command.env_remove("ORBIT_HOME").env_remove("ORBIT_PAUSED").env("NO_COLOR", "1");
        if let Some(database) = &self.database {
            command.env("ORBIT_DATABASE_URL", &database.url);
        }
        command
    }

    pub fn run(&self, args: &[&str]) -> Answer {
        Answer::of(self.command(args).output().unwrap())
    }

    /// Runs with `--json`, expects this exit code, and reads the answer.
    pub fn json(&self, args: &[&str], code: i32) -> Value {
        let answer = self.run(&[args, &["--json"]].concat());
        assert_eq!(answer.code, code, "{args:?}: {answer:?}");
        serde_json::from_str(&answer.stdout).unwrap_or_else(|error| panic!("{args:?}: {error}: {answer:?}"))
    }

    /// What has changed in the documents counts from now on; with files it does by being there.
    pub fn activate(&self) {
        if self.database.is_some() {
            self.apply();
        }
    }

    /// Activates the documents, which nothing else does once something is active in a database.
    pub fn apply(&self) {
        let answer = self.run(&["config", "apply"]);
        assert_eq!(answer.code, 0, "{answer:?}");
    }

    /// All records of the namespace, oldest first.
    pub fn records(&self) -> Vec<Value> {
        let mut records = Vec::new();
        loop {
            let after = records.len().checked_sub(1).map(|last| last.to_string());
            let mut args = vec!["log", "tail", "--json", "--limit", "1000", "-n", "lab"];
            if let Some(after) = &after {
                args.extend(["--after", after]);
            }
            let answer = self.run(&args);
            assert_eq!(answer.code, 0, "{answer:?}");
            let before = records.len();
            records.extend(answer.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
            if records.len() == before {
                return records;
            }
        }
    }

    pub fn kinds(&self) -> Vec<String> {
        self.records().iter().map(|record| record["kind"].as_str().unwrap().to_owned()).collect()
    }

    /// Starts `orbit serve` and waits until it answers.
    pub fn serve(&self) -> Serving {
        self.serve_by(self.command(&["serve"]))
    }

    /// As `serve`, by a command that was changed.
    pub fn serve_by(&self, command: Command) -> Serving {
        let mut serving = self.start(command);
        self.ready(&mut serving);
        serving
    }

    /// Starts a command that serves, and does not wait.
    pub fn start(&self, mut command: Command) -> Serving {
        let log = self.path("serve.log");
        let file = fs::File::options().create(true).append(true).open(&log).unwrap();
        let child = command.stdout(Stdio::null()).stderr(file).spawn().unwrap();
        Serving { child, log }
    }

    /// Waits until it answers.
    pub fn ready(&self, serving: &mut Serving) {
        until("serve to be ready", || {
            if let Some(status) = serving.child.try_wait().unwrap() {
                panic!("serve ended with {status}: {}", serving.log());
            }
            let status = self.run(&["status", "--json"]);
            let status: Value = serde_json::from_str(&status.stdout).unwrap_or_default();
            status["serving"] == true && status["listen"].is_string()
        });
    }

    /// The processes that carry this home's mark.
    pub fn processes(&self) -> Vec<u32> {
        let marked = |pid: &u32| {
            let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let root = self.root().canonicalize().unwrap();
            let home = root.as_os_str().as_encoded_bytes();
            // A program knows the home from its folder, a supervisor from nothing at all but its mark.
            let inside = fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(&root));
            let named = environ.windows(home.len()).any(|part| part == home)
                || arguments.windows(home.len()).any(|part| part == home);
            inside || named
        };
        fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(marked)
            .collect()
    }
}

impl Answer {
    pub fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Serving {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.pid().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Ends it as a crash would.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to stop and waits; its exit code.
    pub fn stop(mut self) -> i32 {
        self.signal("-TERM");
        self.wait()
    }

    pub fn wait(&mut self) -> i32 {
        let mut code = None;
        until("serve to end", || {
            code = self.child.try_wait().unwrap();
            code.is_some()
        });
        code.unwrap().code().unwrap_or(-1)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Asks again until it is so.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
