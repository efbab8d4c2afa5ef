//! A network between the store and the server that fails as it is told.

use std::io::{BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What happens to a request.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The proxy answers itself, with this status and word.
    Answer(u16, &'static str),
    /// The connection is cut before the server hears of it.
    CutBefore,
    /// The server does it, and nobody hears of it.
    CutAfter,
    /// Of the body of the answer only so many bytes come.
    Truncate(usize),
    /// A byte of the body of the answer is another.
    Flip,
    /// The answer never comes.
    Silence,
}

/// Which requests a fault concerns.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    /// From this number on, counted from 0 since the rule was set.
    pub(crate) from: usize,
    /// So many of them.
    pub(crate) times: usize,
    /// Only those whose first line has this in it.
    pub(crate) line: &'static str,
    pub(crate) fault: Fault,
}

#[derive(Default)]
struct State {
    rule: Option<Rule>,
    /// The first lines of what was asked since the rule was set, of those that it concerns.
    seen: Vec<String>,
    /// Whoever is never answered waits for the end of this.
    silent: Vec<Sender<()>>,
}

/// See the module.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Proxy {
    pub(crate) fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        // Ends with the process: it owns nothing but connections of this machine.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || _ = pass(client, server, &state));
            }
        });
        Self { address, state }
    }

    /// From now on this rule holds, and no other.
    pub(crate) fn set(&self, rule: Option<Rule>) {
        let mut state = self.state.lock().unwrap();
        state.silent.clear();
        state.seen.clear();
        state.rule = rule;
    }

    /// What was asked since then.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.state.lock().unwrap().seen.clone()
    }
}

impl State {
    fn fault(&mut self, line: &str) -> (Option<Fault>, Option<Receiver<()>>) {
        let Some(rule) = self.rule.clone() else {
            self.seen.push(line.to_owned());
            return (None, None);
        };
        if !line.contains(rule.line) {
            return (None, None);
        }
        let number = self.seen.len();
        self.seen.push(line.to_owned());
        if number < rule.from || number - rule.from >= rule.times {
            return (None, None);
        }
        let silence = matches!(rule.fault, Fault::Silence).then(|| {
            let (told, end) = channel();
            self.silent.push(told);
            end
        });
        (Some(rule.fault), silence)
    }
}

/// Requests of a connection one after the other, each with a connection of its own to the server.
fn pass(client: TcpStream, server: SocketAddr, state: &Mutex<State>) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut client = client;
    while let Some((head, length)) = head(&mut reader)? {
        let line = head.lines().next().unwrap_or_default().to_owned();
        let (fault, silence) = state.lock().unwrap().fault(&line);
        if matches!(fault, Some(Fault::CutBefore)) {
            return client.shutdown(Shutdown::Both);
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        if let Some(end) = silence {
            _ = end.recv_timeout(Duration::from_mins(1));
            return client.shutdown(Shutdown::Both);
        }
        if let Some(Fault::Answer(status, word)) = fault {
            let body = format!("<Error><Code>{word}</Code><AWSAccessKeyId>canary</AWSAccessKeyId></Error>");
            let head = format!("HTTP/1.1 {status} Odd\r\nContent-Length: {}\r\n\r\n", body.len());
            client.write_all(head.as_bytes())?;
            if !line.starts_with("HEAD") {
                client.write_all(body.as_bytes())?;
            }
            continue;
        }
        let answer = ask(server, &head, &body)?;
        match fault {
            Some(Fault::CutAfter) => return client.shutdown(Shutdown::Both),
            Some(Fault::Truncate(bytes)) => {
                let end = (body_of(&answer) + bytes).min(answer.len());
                client.write_all(&answer[..end])?;
                return client.shutdown(Shutdown::Both);
            }
            Some(Fault::Flip) => {
                let mut answer = answer;
                let at = body_of(&answer);
                answer[at] ^= 1;
                client.write_all(&answer)?;
            }
            Some(Fault::Answer(..) | Fault::CutBefore | Fault::Silence) | None => {
                client.write_all(&answer)?;
            }
        }
        // The server closes after each, and says so to the client.
        return client.shutdown(Shutdown::Both);
    }
    Ok(())
}

fn body_of(answer: &[u8]) -> usize {
    answer.windows(4).position(|at| at == b"\r\n\r\n").unwrap() + 4
}

fn ask(server: SocketAddr, head: &str, body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server)?;
    let head = head.trim_end_matches("\r\n");
    stream.write_all(format!("{head}\r\nConnection: close\r\n\r\n").as_bytes())?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

/// The head of a request, and the length of its body.
fn head(reader: &mut impl std::io::BufRead) -> std::io::Result<Option<(String, usize)>> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(None);
        }
    }
    let length = head.lines().filter_map(|line| line.split_once(':'));
    let mut length = length.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = length.next().map_or(0, |(_, value)| value.trim().parse().unwrap());
    Ok(Some((head, length)))
}
