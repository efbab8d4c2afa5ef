//! The command line: parse, do, print, exit.

pub mod args;
pub mod artifact;
pub mod backup;
pub mod compact;
pub mod config;
pub mod database;
pub mod documents;
pub mod endpoints;
pub mod failure;
pub mod gc;
pub mod help;
pub mod ids;
pub mod log;
pub mod migrate_store;
pub mod output;
pub mod processors;
pub mod read;
pub mod redrive;
pub mod request;
pub mod run;
pub mod serve;
pub mod session;
pub mod shown;
pub mod signals;

use std::fmt::Write;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::FromArgMatches;
use clap::error::ErrorKind;
use orbit_engine::clock::{Clock, SystemClock};
use orbit_engine::layout::Layout;
use orbit_store::contract::rebuild::RebuildMode;

use args::{Cli, Verb};
use failure::Failure;

use crate::config::load;
use crate::environment;
use crate::render::Terminal;
use crate::render::text::clean_lines;
use crate::render::units::counted;
use crate::{exit, init, schema};

/// Blocking work that is under way when the command is done, such as reading a pipe that nobody writes to, is left after this long.
const BLOCKING_END: Duration = Duration::from_secs(2);
/// Columns of a terminal that does not tell its width.
const COLUMNS_ASSUMED: u16 = 80;

/// Runs the command line that this process was started with; the answer is the exit code.
pub fn main() -> u8 {
    let cli = match parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(&Failure::failed(format!("cannot start: {error}"))),
    };
    let code = runtime.block_on(perform(&cli)).unwrap_or_else(|failure| report(&failure));
    runtime.shutdown_timeout(BLOCKING_END);
    code
}

/// The command line, or, if it asks for help or is wrong, the exit code after that was said.
fn parse() -> Result<Cli, u8> {
    let matches = help::command().try_get_matches();
    matches.and_then(|matches| Cli::from_arg_matches(&matches)).map_err(|error| {
        if error.use_stderr() && error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
            output::say(&clean_lines(&help::usage_error(&error.render().to_string())));
        } else {
            // A reader that is gone has seen enough.
            _ = error.print();
        }
        u8::try_from(error.exit_code()).unwrap_or(exit::USAGE)
    })
}

fn report(failure: &Failure) -> u8 {
    if let Some(text) = failure.text() {
        output::say(&text);
    }
    failure.exit
}

async fn perform(cli: &Cli) -> Result<u8, Failure> {
    let out = terminal();
    let layout = || home(cli.home.as_deref()).map(|home| Layout::new(&home));
    match &cli.verb {
        Verb::Init { dir } => make_home(&dir.clone().unwrap_or_else(|| home_folder(cli.home.as_deref()))),
        Verb::Check => check(layout()?.home(), cli.json),
        Verb::Doctor { rebuild: false, .. } => read::doctor(&layout()?, &out, cli.json).await,
        Verb::Doctor { rebuild: true, dry_run } => {
            log_to_stderr(false, "warn");
            let mode = if *dry_run { RebuildMode::Compare } else { RebuildMode::Apply };
            read::rebuild(&layout()?, mode, &out, cli.json).await
        }
        Verb::Database(args::Database::Migrate { dry_run }) => {
            database::migrate(layout()?.home(), *dry_run, cli.json).await
        }
        Verb::MigrateStore { to } => migrate_store::migrate_store(&layout()?, *to, &out, cli.json).await,
        Verb::Schema { kind } => print_schema(kind.as_deref()),
        Verb::Completions { shell } => {
            // Into memory first: the generator panics when its writer fails.
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut help::command(), "orbit", &mut script);
            output::bytes(&script)?;
            Ok(exit::SUCCEEDED)
        }
        Verb::Run(run) => {
            log_to_stderr(false, "warn");
            run::run(&layout()?, run, &out, cli.json).await
        }
        Verb::Serve { log_json } => {
            log_to_stderr(*log_json, "info");
            serve::serve(&layout()?).await
        }
        Verb::Schedule(args::Schedule::Preview { run_profile, namespace, from, count }) => {
            let which = read::PreviewArgs {
                run_profile: run_profile.as_deref(),
                namespace: namespace.as_deref(),
                from: from.unwrap_or(out.now),
                count: *count,
            };
            read::preview(&layout()?, &which, &out, cli.json).await
        }
        Verb::Status { watch } => read::status(&layout()?, &out, cli.json, *watch).await,
        Verb::Cycles(verb) => read::cycles(&layout()?, verb, &out, cli.json).await,
        Verb::Initiations(verb) => read::initiations(&layout()?, verb, &out, cli.json).await,
        Verb::Runs(verb) => read::runs(&layout()?, verb, &out, cli.json).await,
        Verb::Deliveries(verb) => read::deliveries(&layout()?, verb, &out, cli.json).await,
        Verb::Processors(verb) => processors::processors(&layout()?, verb, &out, cli.json).await,
        Verb::Artifacts(verb) => artifact::artifacts(&layout()?, verb).await,
        Verb::Profiles(verb) => documents::profiles(&layout()?, verb, &out, cli.json).await,
        Verb::RunProfiles(verb) => documents::run_profiles(&layout()?, verb, &out, cli.json).await,
        Verb::Config(verb) => config::config(&layout()?, verb, &out, cli.json).await,
        Verb::Endpoints(verb) => endpoints::endpoints(&layout()?, verb, &out, cli.json).await,
        Verb::Log(args::Log::Verify(args)) if args.proof.is_some() => log::verify(args, cli.json),
        Verb::Log(verb) => log::log(&layout()?, verb, &out, cli.json).await,
        Verb::Gc(args) => gc::gc(&layout()?, args, &out, cli.json).await,
        Verb::Backup { dir, with_secrets } => {
            backup::make(&layout()?, dir, *with_secrets, (&out, cli.json)).await
        }
        Verb::Restore { dir, check: true } => backup::check(dir, &out, cli.json).await,
        Verb::Restore { dir, check: false } => {
            let home = cli.home.clone().or_else(environment::home).unwrap_or_else(|| PathBuf::from("."));
            backup::restore(dir, &home, &out, cli.json).await
        }
        Verb::Halt { namespace, reason } => {
            read::halt(&layout()?, namespace.clone(), reason.clone(), cli.json).await
        }
        Verb::Resume { namespace } => read::resume(&layout()?, namespace.clone(), cli.json).await,
    }
}

fn terminal() -> Terminal {
    let stdout = std::io::stdout().is_terminal();
    let told =
        || console::Term::stdout().size_checked().map(|(_, columns)| columns).filter(|columns| *columns > 0);
    Terminal {
        width: stdout.then(|| environment::columns().or_else(told).unwrap_or(COLUMNS_ASSUMED)),
        colour: stdout && !environment::no_colour(),
        progress: std::io::stderr().is_terminal(),
        now: SystemClock.now(),
    }
}

/// Where the home is, or is to be: what the command line says, else `ORBIT_HOME`, else here.
fn home_folder(given: Option<&Path>) -> PathBuf {
    given.map(Path::to_owned).or_else(environment::home).unwrap_or_else(|| PathBuf::from("."))
}

/// The home; absolute, because programs run in folders of their own.
fn home(given: Option<&Path>) -> Result<PathBuf, Failure> {
    let home = home_folder(given);
    std::fs::canonicalize(&home).map_err(|error| {
        Failure::usage(format!("the home `{}` cannot be opened: {error}", home.display()))
            .hint("make one with `orbit init DIR`")
    })
}

fn make_home(dir: &Path) -> Result<u8, Failure> {
    let made = init::init(dir, SystemClock.random()).map_err(|error| {
        let failure = Failure::usage(error.to_string());
        error.hint().map_or(failure.clone(), |hint| failure.hint(hint))
    })?;
    for path in made {
        output::say(&format!("  made {}", path.display()));
    }
    let enter = if dir == Path::new(".") { String::new() } else { format!("`cd {}`, then ", dir.display()) };
    output::print(&format!(
        "this home works as it is: {enter}`orbit run` runs one cycle, `orbit serve` runs every schedule\n"
    ))?;
    Ok(exit::SUCCEEDED)
}

/// Prints every problem; 2 if one of them is an error.
fn check(home: &Path, json: bool) -> Result<u8, Failure> {
    session::is_home(home)?;
    let loaded = load(home);
    let errors = loaded.problems.iter().filter(|problem| problem.is_error()).count();
    let warnings = loaded.problems.len() - errors;
    if json {
        output::json(&serde_json::json!({ "valid": errors == 0, "problems": loaded.problems }))?;
    } else {
        let mut text = String::new();
        for problem in &loaded.problems {
            _ = writeln!(text, "{problem}");
        }
        if errors == 0 {
            for namespace in &loaded.namespaces {
                _ = writeln!(text, "{}: valid, snapshot {}", namespace.name, namespace.snapshot.digest());
            }
        }
        if !text.is_empty() {
            output::print(&format!("{}\n", clean_lines(&text)))?;
        }
        output::say(&format!("{}, {}", counted(errors, "error"), counted(warnings, "warning")));
    }
    Ok(if errors == 0 { exit::SUCCEEDED } else { exit::USAGE })
}

fn print_schema(kind: Option<&str>) -> Result<u8, Failure> {
    let schema = schema::schema(kind).ok_or_else(|| {
        Failure::usage(format!("there is no document kind `{}`", kind.unwrap_or_default()))
            .hint(format!("there are: {}", schema::KINDS.join(", ")))
    })?;
    output::json(&schema)?;
    Ok(exit::SUCCEEDED)
}

fn log_to_stderr(json: bool, default: &str) {
    use tracing_subscriber::EnvFilter;
    let filter = environment::log_filter().and_then(|filter| filter.parse().ok());
    let filter = filter.unwrap_or_else(|| EnvFilter::new(default));
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // Standard error may be closed; a complaint about that would go there too.
    let builder = builder.log_internal_errors(false);
    if json {
        builder.json().init();
    } else {
        builder.with_ansi(std::io::stderr().is_terminal() && !environment::no_colour()).init();
    }
}
