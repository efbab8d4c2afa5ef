//! What programs do, and what they try.

use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use orbit_core::config::{ByteSize, Millis};
use orbit_core::limits::STDERR_TAIL_BYTES_MAX;
use orbit_engine::supervisor::{self, Ended, EnforcedBy, How, OverLimit};
use tokio_util::sync::CancellationToken;

use crate::fixture::{Fixture, block_on, launcher};

type Test = fn();

/// Every test by name.
pub(crate) const ALL: [(&str, Test); 22] = [
    ("input_and_output", input_and_output),
    ("exit_codes_and_signals", exit_codes_and_signals),
    ("what_cannot_start", what_cannot_start),
    ("the_environment_is_what_was_given", the_environment_is_what_was_given),
    ("the_kernel_limits_every_process", the_kernel_limits_every_process),
    ("term_is_asked_first", term_is_asked_first),
    ("kill_follows_when_term_is_ignored", kill_follows_when_term_is_ignored),
    ("a_daemon_ends_with_its_program", a_daemon_ends_with_its_program),
    ("a_daemon_that_ignores_term_is_killed", a_daemon_that_ignores_term_is_killed),
    ("a_flood_of_output_is_cut", a_flood_of_output_is_cut),
    ("a_flood_of_words_blocks_nothing", a_flood_of_words_blocks_nothing),
    ("memory_is_limited", memory_is_limited),
    ("processes_are_limited", processes_are_limited),
    ("cpu_time_is_limited", cpu_time_is_limited),
    ("cpu_time_of_the_reaped_counts", cpu_time_of_the_reaped_counts),
    ("cancelled_before_and_after_the_start", cancelled_before_and_after_the_start),
    ("a_cancelled_program_gets_little_grace", a_cancelled_program_gets_little_grace),
    ("a_dropped_future_ends_the_program", a_dropped_future_ends_the_program),
    ("a_killed_engine_takes_its_programs_along", a_killed_engine_takes_its_programs_along),
    ("a_killed_supervisor_is_noticed_and_swept", a_killed_supervisor_is_noticed_and_swept),
    ("the_sweep_finds_whoever_is_marked", the_sweep_finds_whoever_is_marked),
    ("signals_do_not_end_the_supervisor", signals_do_not_end_the_supervisor),
];

/// Opens the line and writes a text into it; the children inherit it.
const UP: &str = "exec 3>line; echo up >&3;";

fn exited(code: i32) -> How {
    How::Exited { code }
}

fn over(limit: OverLimit) -> How {
    How::OverLimit { limit }
}

fn words(ended: &Ended) -> String {
    String::from_utf8_lossy(&ended.stderr_tail).into_owned()
}

fn input_and_output() {
    let mut test = Fixture::script("cat; echo words >&2").into_file();
    std::fs::write(test.path("in"), "bytes\0and more").unwrap();
    test.program.stdin = Some(test.path("in"));
    let ended = test.run();
    assert_eq!((&ended.how, words(&ended).as_str()), (&exited(0), "words\n"));
    assert_eq!(test.stdout(), "bytes\0and more");
    assert_eq!((ended.usage.output_bytes, ended.usage.survivors), (14, 0));
    assert_eq!(ended.usage.enforced_by, EnforcedBy::Sampling);

    let dropped = Fixture::script("cat; echo 12345").run();
    assert_eq!((dropped.how, dropped.usage.output_bytes), (exited(0), 6));
}

fn exit_codes_and_signals() {
    let check =
        |script: &str, expected: How| assert_eq!(Fixture::script(script).run().how, expected, "{script}");
    check("exit 0", exited(0));
    check("exit 7", exited(7));
    check("exit 255", exited(255));
    check("kill -SEGV $$", How::Signalled { signal: 11 });
    check("kill -TERM $$", How::Signalled { signal: 15 });
    check("kill -KILL $$", How::Signalled { signal: 9 });
}

fn what_cannot_start() {
    let check = |test: &Fixture, expected: &str| {
        let how = test.run().how;
        let said = matches!(&how, How::CouldNotStart { message } if message.contains(expected));
        assert!(said, "{expected}: {how:?}");
    };
    check(
        &Fixture::program(&["no-such-program"]),
        "no program `no-such-program` in the PATH `/usr/local/bin",
    );
    check(&Fixture::program(&["/no/such/program"]), "`/no/such/program`: No such file");
    check(&Fixture::program(&[]), "`argv` is empty");
    check(&Fixture::program(&["sh", "a\0b"]), "sh");

    let plain = |text: &str, mode: u32| {
        let mut test = Fixture::program(&[]);
        let path = test.path("plain");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        test.program.argv = vec![path.display().to_string()];
        test
    };
    check(&plain("#!/bin/sh\n", 0o600), "Permission denied");
    check(&plain("#!/no/such/interpreter\n", 0o700), "the interpreter that");

    let mut gone = Fixture::program(&["sh"]);
    gone.program.cwd = gone.path("gone");
    check(&gone, "gone` is missing");
    let there = Fixture::program(&["sh"]).into_file();
    std::fs::write(there.path("stdout"), "kept").unwrap();
    check(&there, "standard output");
    assert_eq!(there.stdout(), "kept");
    let mut no_input = Fixture::program(&["sh"]);
    no_input.program.stdin = Some(no_input.path("nothing"));
    check(&no_input, "standard input");
}

fn the_environment_is_what_was_given() {
    let mut test = Fixture::program(&["env", "-0"]).into_file();
    test.program.env.insert("GIVEN".to_owned(), "a\nb".to_owned());
    assert_eq!(test.run().how, exited(0));
    let printed = test.stdout();
    let mut names: Vec<_> =
        printed.split_terminator('\0').filter_map(|entry| entry.split('=').next()).collect();
    names.sort_unstable();
    assert_eq!(names, ["GIVEN", "ORBIT_ATTEMPT_MARK", "ORBIT_HOME_MARK", "PATH"]);
    assert!(printed.contains("GIVEN=a\nb\0"));
}

fn the_kernel_limits_every_process() {
    let test = Fixture::script("ulimit -c; ulimit -f; ulimit -t; kill -TERM $$").into_file();
    let test = test.limited(|limits| limits.cpu = Millis::seconds(40));
    // TERM is not held back from the program, though the supervisor holds it back from itself.
    assert_eq!(test.run().how, How::Signalled { signal: 15 });
    // Blocks of 512 bytes; 4096 bytes of slack.
    assert_eq!(test.stdout(), format!("0\n{}\n41\n", ((64 << 20) + 4096) / 512));
}

fn term_is_asked_first() {
    let script = format!("trap 'echo bye; exit 0' TERM; {UP} while :; do sleep 0.01; done");
    let test = Fixture::script(&script).into_file().with_line().limited(|limits| limits.wall = Millis(300));
    let ended = test.run_with(|test, _| test.line().ends());
    assert_eq!(ended.how, How::TimedOut);
    assert_eq!(test.stdout(), "bye\n");
}

fn kill_follows_when_term_is_ignored() {
    let script = format!("trap '' TERM; {UP} while :; do sleep 1000; done");
    let test = Fixture::script(&script).with_line();
    let test = test.limited(|limits| (limits.wall, limits.grace) = (Millis(300), Millis(200)));
    let ended = test.run_with(|test, _| test.line().ends());
    assert_eq!(ended.how, How::TimedOut);
    assert!(ended.usage.wall_ms >= 500, "{:?}", ended.usage);
}

fn a_daemon_ends_with_its_program() {
    // Twice forked, a session of its own, an environment without any mark, and the output still held open.
    // The program ends when both are there: who is forked while the others are asked to end has the whole grace.
    let daemon = "setsid env -i /bin/sh -c '(exec /bin/sleep 1000) & : >there; exec /bin/sleep 1000' &";
    let script = format!("{UP} ( {daemon} ) ; until [ -e there ]; do sleep 0.01; done; exit 3");
    let test = Fixture::script(&script).with_line();
    let ended = test.run_with(|test, _| test.line().ends());
    assert_eq!(ended.how, exited(3));
    assert!(ended.usage.survivors >= 1, "{:?}", ended.usage);
}

fn a_daemon_that_ignores_term_is_killed() {
    let daemon = "setsid sh -c 'trap \"\" TERM; while :; do sleep 1000; done'";
    let test = Fixture::script(&format!("{UP} trap '' TERM; ( {daemon} & ) ; exit 0")).with_line();
    let test = test.limited(|limits| limits.grace = Millis(100));
    let ended = test.run_with(|test, _| test.line().ends());
    assert_eq!(ended.how, exited(0));
    assert!(ended.usage.survivors >= 1, "{:?}", ended.usage);
}

fn a_flood_of_output_is_cut() {
    let small = |test: Fixture| test.limited(|limits| limits.output = ByteSize::kib(64));
    let file = small(Fixture::program(&["yes"]).into_file());
    let ended = file.run();
    assert_eq!((ended.how, ended.usage.enforced_by), (over(OverLimit::Output), EnforcedBy::Rlimit));
    let length = file.stdout().len();
    assert!(((64 << 10) + 1..=68 << 10).contains(&length), "{length}");

    let pipe = small(Fixture::program(&["yes"])).run();
    assert_eq!((pipe.how, pipe.usage.enforced_by), (over(OverLimit::Output), EnforcedBy::Sampling));
    // The same from a child of the program, which itself ends well.
    assert_eq!(small(Fixture::script("yes; exit 0").into_file()).run().how, over(OverLimit::Output));
    assert_eq!(small(Fixture::script("head -c 65536 /dev/zero")).run().how, exited(0));
    assert_eq!(small(Fixture::script("head -c 65537 /dev/zero")).run().how, over(OverLimit::Output));
}

fn a_flood_of_words_blocks_nothing() {
    let ended = Fixture::script("head -c 20000000 /dev/zero >&2; echo the end >&2").run();
    assert_eq!(ended.how, exited(0));
    assert_eq!(ended.stderr_tail.len(), STDERR_TAIL_BYTES_MAX);
    assert!(words(&ended).ends_with("\0the end\n"));
}

fn memory_is_limited() {
    let hog = "import time; hog = bytearray(200 << 20); time.sleep(1000)";
    let test = Fixture::program(&["python3", "-c", hog]);
    let ended = test.limited(|limits| limits.memory = ByteSize::mib(64)).run();
    assert_eq!(ended.how, over(OverLimit::Memory));
    assert!(ended.usage.memory_peak_bytes > 64 << 20, "{:?}", ended.usage);
}

fn processes_are_limited() {
    // Bounded even if nobody stops it: a test must not take the machine down.
    let bomb = "n=0; while [ $n -lt 200 ]; do sleep 60 & n=$((n+1)); done; wait";
    let test = Fixture::script(bomb).limited(|limits| limits.processes = 20);
    let ended = test.run();
    assert_eq!(ended.how, over(OverLimit::Processes));
    assert!(ended.usage.processes_peak > 20, "{:?}", ended.usage);
    // Thirty lines of processes, each of which starts the next one and leaves; every line ends by itself after a hundred.
    let movers = "f() { [ $1 -gt 0 ] || return; sleep 0.02; f $(($1-1)) & }; n=0; while [ $n -lt 30 ]; do f 100 & n=$((n+1)); done; sleep 60";
    let ended = Fixture::script(movers).limited(|limits| limits.processes = 20).run();
    assert_eq!(ended.how, over(OverLimit::Processes));
}

fn cpu_time_is_limited() {
    let test = Fixture::script("while :; do :; done").limited(|limits| limits.cpu = Millis(300));
    let ended = test.run();
    assert_eq!(ended.how, over(OverLimit::Cpu));
    assert!(ended.usage.cpu_ms >= 300, "{:?}", ended.usage);
}

fn cpu_time_of_the_reaped_counts() {
    // Many short processes, none of which a sample need see.
    let test = Fixture::script("while :; do /bin/true; done").limited(|limits| limits.cpu = Millis(300));
    assert_eq!(test.run().how, over(OverLimit::Cpu));
}

fn cancelled_before_and_after_the_start() {
    let before = Fixture::script("exit 0");
    let cancelled = CancellationToken::new();
    cancelled.cancel();
    assert_eq!(block_on(launcher().run(before.program.clone(), &cancelled)).how, How::Cancelled);

    let test = Fixture::script(&format!("{UP} sleep 1000")).with_line();
    let ended = test.run_with(|test, cancel| {
        let line = test.line();
        cancel.cancel();
        line.ends();
    });
    assert_eq!(ended.how, How::Cancelled);
}

fn a_cancelled_program_gets_little_grace() {
    // With minutes of grace it would outlast the tests.
    let test = Fixture::script(&format!("trap '' TERM; {UP} while :; do sleep 1000; done")).with_line();
    let ended = test.run_with(|test, cancel| {
        let line = test.line();
        cancel.cancel();
        line.ends();
    });
    assert_eq!(ended.how, How::Cancelled);
}

fn a_dropped_future_ends_the_program() {
    let test = Fixture::script(&format!("{UP} sleep 1000")).with_line();
    std::thread::scope(|scope| {
        let line = scope.spawn(|| test.line());
        block_on(async {
            let program = test.program.clone();
            let run = tokio::spawn(async move { launcher().run(program, &CancellationToken::new()).await });
            let poll_line = || line.is_finished();
            while !poll_line() {
                tokio::task::yield_now().await;
            }
            run.abort();
            assert!(run.await.unwrap_err().is_cancelled());
        });
        line.join().unwrap().ends();
    });
    test.nothing_is_left();
}

fn a_killed_engine_takes_its_programs_along() {
    let script = "exec 3>line; setsid sleep 1000 & echo up >&3; sleep 1000";
    let test = Fixture::script(script).with_line();
    let mut engine = test.engine();
    let line = test.line();
    engine.kill().unwrap();
    engine.wait().unwrap();
    line.ends();
    test.nothing_is_left();
}

fn a_killed_supervisor_is_noticed_and_swept() {
    let script = "exec 3>line; echo $PPID >&3; setsid sleep 1000 & sleep 1000";
    let test = Fixture::script(script).with_line();
    let ended = test.run_with(|test, _| {
        let line = test.line();
        kill(Pid::from_raw(line.first.parse().unwrap()), Signal::SIGKILL).unwrap();
        line.ends();
    });
    let lost = matches!(&ended.how, How::Lost { message } if message.contains("signal: 9"));
    assert!(lost, "{:?}", ended.how);
}

fn the_sweep_finds_whoever_is_marked() {
    let script = "trap '' TERM; exec 3>line; echo $PPID >&3; setsid sleep 1000 & sleep 1000";
    let test = Fixture::script(script).with_line();
    let mut engine = test.engine();
    let line = test.line();
    // Both at once, so that nobody is left to end the program.
    engine.kill().unwrap();
    kill(Pid::from_raw(line.first.parse().unwrap()), Signal::SIGKILL).unwrap();
    engine.wait().unwrap();
    assert_eq!(supervisor::sweep("another-mark-than-that"), 0);
    assert!(supervisor::sweep(&test.program.marker) >= 1);
    line.ends();
    test.nothing_is_left();
}

fn signals_do_not_end_the_supervisor() {
    let test = Fixture::script("for s in TERM INT HUP QUIT; do kill -$s $PPID; done; echo done").into_file();
    assert_eq!(test.run().how, exited(0));
    assert_eq!(test.stdout(), "done\n");
}
