//! What a command wrote, with everything that differs from run to run replaced: the one redactor of all snapshots.

use crate::home::{Answer, Home};

/// The command, its exit code and what it wrote, redacted.
pub fn told(home: &Home, args: &[&str]) -> String {
    told_as(home, args, &home.run(args))
}

/// As [`told`], of a command that has run.
pub fn told_as(home: &Home, args: &[&str], answer: &Answer) -> String {
    let written = |name: &str, text: &str| match text {
        "" => String::new(),
        text => format!("--- {name}\n{}", redact(&in_home(home, text))),
    };
    format!(
        "$ orbit {}\n{}{}--- exit {}\n",
        redact(&args.join(" ")).trim_end(),
        written("stdout", &answer.stdout),
        written("stderr", &answer.stderr),
        answer.code
    )
}

/// Where the home lies is told as `HOME`.
pub fn in_home(home: &Home, text: &str) -> String {
    let whole = home.root().canonicalize().unwrap();
    text.replace(whole.to_str().unwrap(), "HOME").replace(home.root().to_str().unwrap(), "HOME")
}

/// Ids, digests, instants, lengths of time, what programs used, ports, versions and free space, each as a word. Blanks that fill a
/// column after one of them become two.
pub fn redact(text: &str) -> String {
    text.lines().map(|line| redact_line(line) + "\n").collect()
}

fn redact_line(line: &str) -> String {
    let mut redacted = String::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let inside_word = redacted.chars().next_back().is_some_and(char::is_alphanumeric);
        if let Some((length, word)) = word_for(rest, &redacted).filter(|_| !inside_word) {
            redacted.push_str(word);
            rest = &rest[length..];
            if rest.starts_with("  ") {
                rest = rest.trim_start();
                redacted.push_str("  ");
            }
        } else {
            redacted.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    redacted.trim_end().to_owned()
}

/// The length of what differs at the beginning of the text, and the word for it; what is before it is redacted already.
fn word_for(text: &str, before: &str) -> Option<(usize, &'static str)> {
    if let Some(length) = usage(text) {
        return Some((length, "USAGE"));
    }
    // How many checkpoints there are is a matter of time.
    if let Some(rest) = text.strip_prefix("checkpoint  number ") {
        return (!rest.is_empty()).then_some((text.len(), "checkpoint  SIGNED"));
    }
    for (before, word) in [("records  ", "records  COUNT"), ("pid ", "pid PID")] {
        if let Some(number) = text.strip_prefix(before).map(str::trim_start) {
            let start = text.len() - number.len();
            let digits = number.bytes().take_while(u8::is_ascii_digit).count();
            return (digits > 0).then_some((start + digits, word));
        }
    }
    let length = text.find(|char: char| !char.is_alphanumeric() && !".:-_".contains(char));
    let token = text[..length.unwrap_or(text.len())].trim_end_matches([':', '.']);
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_position = before.ends_with("INSTANT  ") && token.bytes().all(|byte| byte.is_ascii_digit());
    let word = match token {
        _ if is_position && !token.is_empty() => "N",
        env!("CARGO_PKG_VERSION") => "VERSION",
        _ if token.len() == 36 && uuid::Uuid::try_parse(token).is_ok() => "ID",
        _ if token.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64 && is_hex(hex)) => "DIGEST",
        _ if token.len() == 12 && is_hex(token) => "DIGEST",
        _ if token.len() == 8 && is_hex(token) => "SHORT",
        _ if token.starts_with("manual:") => "manual:KEY",
        _ if token.parse::<jiff::Timestamp>().is_ok() => "INSTANT",
        _ if token.len() == 12
            && token.bytes().all(|byte| byte.is_ascii_digit() || b":.".contains(&byte)) =>
        {
            "CLOCK"
        }
        _ if token.starts_with("127.0.0.1:") => "127.0.0.1:PORT",
        _ if is_duration(token) => "TIME",
        _ if text[token.len()..].starts_with(" GiB free") => return Some((token.len() + 4, "SPACE")),
        _ => return None,
    };
    Some((token.len(), word))
}

/// `cpu 12ms`, and the memory after it if there is any.
fn usage(text: &str) -> Option<usize> {
    let time = text.strip_prefix("cpu ")?.split([' ', ',', ')']).next()?;
    let end = "cpu ".len() + time.len();
    let memory = |text: &str| {
        let (number, rest) = text.split_once(' ')?;
        let unit = rest.split(|char: char| !char.is_alphabetic()).next()?;
        number.parse::<f64>().ok()?;
        Some(number.len() + 1 + unit.len())
    };
    let more = ["  mem ", "   mem ", "    mem ", ", mem "]
        .iter()
        .find_map(|mark| text[end..].strip_prefix(mark).and_then(memory).map(|length| mark.len() + length));
    let end = end + more.unwrap_or(0);
    // How many processes a sample saw at once is a matter of luck.
    let several = text[end..].strip_prefix(", ").and_then(|rest| {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        rest[digits..].starts_with(" processes").then_some(", ".len() + digits + " processes".len())
    });
    Some(end + several.unwrap_or(0))
}

/// As people read them: `12ms`, `0.3s`, `2m05s`, `1h03m`, `3d04h`.
fn is_duration(token: &str) -> bool {
    token.starts_with(|char: char| char.is_ascii_digit())
        && token.ends_with(['s', 'm', 'h'])
        && token.bytes().all(|byte| byte.is_ascii_digit() || b".dhms".contains(&byte))
}

#[test]
fn what_differs_is_replaced_and_nothing_else() {
    let check = |text: &str, expected: &str| assert_eq!(redact(text), format!("{expected}\n"));
    check("run 9b7dddfe-a8e9-59c5-9174-180ce3d6bee4  succeeded in 0.2s", "run ID  succeeded in TIME");
    check("  tier1      ok         36ms    15 B  c6f5e3090105", "  tier1      ok         TIME  15 B  DIGEST");
    check("1.2s    3 B       cpu 5ms  mem 3.1 MiB     text", "TIME  3 B       USAGE  text");
    check("3 B        cpu 5ms    mem 3.1 MiB  text", "3 B        USAGE  text");
    check("used  cpu 5ms, mem 3.1 MiB, 2 processes", "used  USAGE");
    check("attempt 1: exit code 3 (1.2s, cpu 12ms, mem 1.0 KiB)", "attempt 1: exit code 3 (TIME, USAGE)");
    check(
        "2026-11-25T11:57:00.500Z      12  step_failed  run 3f2a8c1e",
        "INSTANT  N  step_failed  run SHORT",
    );
    check("at 2026-11-25T11:57:00.5Z: 11:57:01.250", "at INSTANT: CLOCK");
    check("http://127.0.0.1:18999/x; item-0, 2 attempts", "http://127.0.0.1:PORT/x; item-0, 2 attempts");
    check("  records     12", "  records  COUNT");
    check("  checkpoint  number 12 of 34 records, the last of them 2m ago", "  checkpoint  SIGNED");
    check("  disk        48.5 GiB free, floor 0 B", "  disk        SPACE free, floor 0 B");
}
