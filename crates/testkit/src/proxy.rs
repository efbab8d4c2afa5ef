//! A network between a store and its PostgreSQL server that a test disturbs: it holds back what is sent, cuts connections, refuses new ones, loses the answer
//! to a COMMIT, or leads to another database. Nothing waits for time here: what is held back goes on when the test says so.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

/// Bytes that are passed on at once.
const CHUNK: usize = 64 * 1024;
/// More than a client says when it begins.
const STARTUP_BYTES_MAX: u32 = 16 * 1024;
/// The first words of a client that asks for TLS, or for an encryption by its operating system.
const ENCRYPTIONS: [u32; 2] = [80_877_103, 80_877_104];
/// The first word of a client of the protocol's third version.
const VERSION: u32 = 196_608;
/// How the server says that a transaction is committed.
const COMMITTED: &[u8] = b"C\0\0\0\x0bCOMMIT\0";
/// What a client sends to have it committed, in whichever message.
const COMMIT: &[u8] = b"COMMIT";

/// What becomes of what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It is passed on.
    Open,
    /// It waits, in both directions, without a word to anybody: a network that is gone.
    Held,
    /// New connections are ended at once.
    Refused,
}

/// Where the connection is cut at a COMMIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Before the server hears of it.
    Before,
    /// After the server has done it, before anybody hears of that.
    After,
}

/// See the module. It ends with the process.
pub struct Proxy {
    port: u16,
    state: Arc<State>,
}

struct State {
    rules: Mutex<Rules>,
    changed: Condvar,
}

struct Rules {
    socket: PathBuf,
    /// Which database clients get, whatever they ask for.
    database: Option<String>,
    way: Way,
    /// The COMMIT that is cut, counted from the next one, which is 0.
    cut: Option<(usize, Cut)>,
    links: Vec<Link>,
}

/// Both ends of a connection.
struct Link {
    client: TcpStream,
    server: UnixStream,
}

impl Link {
    fn cut(&self) {
        // One that is closed already is cut.
        _ = self.client.shutdown(Shutdown::Both);
        _ = self.server.shutdown(Shutdown::Both);
    }
}

impl Proxy {
    /// Listens on a free port of loopback, for the server with this socket.
    pub fn start(socket: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let rules = Rules { socket, database: None, way: Way::Open, cut: None, links: Vec::new() };
        let state = Arc::new(State { rules: Mutex::new(rules), changed: Condvar::new() });
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&shared);
                // A connection that cannot be made is closed.
                std::thread::spawn(move || _ = connect(&shared, client));
            }
        });
        Self { port, state }
    }

    /// How a role reaches a database this way.
    pub fn config(&self, role: &str, database: &str) -> String {
        format!("host=127.0.0.1 port={} user={role} dbname={database}", self.port)
    }

    /// From now on it is this way.
    pub fn set(&self, way: Way) {
        self.state.rules().way = way;
        self.state.changed.notify_all();
    }

    /// Ends every connection.
    pub fn cut(&self) {
        self.state.rules().links.drain(..).for_each(|link| link.cut());
    }

    /// Every connection ends, and from now on this database is what clients get.
    pub fn lead_to(&self, database: &str) {
        self.state.rules().database = Some(database.to_owned());
        self.cut();
    }

    /// The same, at another server.
    pub fn lead_to_server(&self, socket: PathBuf) {
        self.state.rules().socket = socket;
        self.cut();
    }

    /// The connection of the COMMIT with this number, from the next one on, which is 0, is cut.
    pub fn cut_at_commit(&self, number: usize, cut: Cut) {
        self.state.rules().cut = Some((number, cut));
    }

    /// Whether the COMMIT that was to be cut has not come yet.
    pub fn is_armed(&self) -> bool {
        self.state.rules().cut.is_some()
    }
}

impl State {
    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap()
    }

    /// Waits as long as everything is held.
    fn pass(&self) {
        let passed = self.changed.wait_while(self.rules(), |rules| rules.way == Way::Held);
        drop(passed.unwrap());
    }

    /// Whether the connection is cut at these bytes.
    fn is_cut(&self, bytes: &[u8], here: Cut) -> bool {
        let mut rules = self.rules();
        let Some((left, cut)) = rules.cut else { return false };
        let word = match here {
            Cut::Before => COMMIT,
            Cut::After => COMMITTED,
        };
        if cut != here || !bytes.windows(word.len()).any(|at| at == word) {
            return false;
        }
        rules.cut = left.checked_sub(1).map(|left| (left, cut));
        left == 0
    }
}

fn connect(state: &Arc<State>, mut client: TcpStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    state.pass();
    let (socket, database) = {
        let rules = state.rules();
        if rules.way == Way::Refused {
            return Ok(());
        }
        (rules.socket.clone(), rules.database.clone())
    };
    let startup = startup(&mut client, database.as_deref())?;
    let mut server = UnixStream::connect(socket)?;
    server.write_all(&startup)?;
    state.rules().links.push(Link { client: client.try_clone()?, server: server.try_clone()? });
    let (up, down) = ((client.try_clone()?, server.try_clone()?), (server, client));
    let shared = Arc::clone(state);
    std::thread::spawn(move || {
        pump(&shared, up.0, &up.1, Cut::Before);
        _ = up.1.shutdown(Shutdown::Both);
    });
    pump(state, down.0, &down.1, Cut::After);
    down.1.shutdown(Shutdown::Both)
}

/// Passes on until one side ends or the connection is cut.
fn pump(state: &State, mut from: impl Read, mut to: impl Write, here: Cut) {
    let mut chunk = vec![0; CHUNK];
    while let Ok(count @ 1..) = from.read(&mut chunk) {
        state.pass();
        if state.is_cut(&chunk[..count], here) || to.write_all(&chunk[..count]).is_err() {
            return;
        }
    }
}

/// What the client says first; it is told that nothing is encrypted here, and is given another database.
fn startup(client: &mut TcpStream, database: Option<&str>) -> io::Result<Vec<u8>> {
    loop {
        let (mut length, mut code) = ([0; 4], [0; 4]);
        client.read_exact(&mut length)?;
        client.read_exact(&mut code)?;
        let word = u32::from_be_bytes(code);
        if ENCRYPTIONS.contains(&word) {
            client.write_all(b"N")?;
            continue;
        }
        let rest = u32::from_be_bytes(length).clamp(8, STARTUP_BYTES_MAX) - 8;
        let mut said = vec![0; usize::try_from(rest).unwrap()];
        client.read_exact(&mut said)?;
        let said = match database {
            Some(database) if word == VERSION => with_database(&said, database),
            Some(_) | None => said,
        };
        let length = u32::try_from(said.len() + 8).unwrap();
        return Ok([&length.to_be_bytes(), code.as_slice(), &said].concat());
    }
}

/// Names and values, each ended by a zero, with another one at the end.
fn with_database(said: &[u8], database: &str) -> Vec<u8> {
    let mut words: Vec<_> = said.split(|byte| *byte == 0).collect();
    if let Some(at) = words.chunks(2).position(|pair| pair[0] == b"database") {
        words[2 * at + 1] = database.as_bytes();
    }
    words.join(&0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_database_is_asked_for_and_everything_else_stays() {
        let said = b"user\0orbit\0database\0one\0options\0-c x=1\0\0";
        assert_eq!(with_database(said, "another"), b"user\0orbit\0database\0another\0options\0-c x=1\0\0");
        assert_eq!(
            with_database(b"user\0database\0\0", "another"),
            b"user\0database\0\0",
            "a user of that name"
        );
    }
}
