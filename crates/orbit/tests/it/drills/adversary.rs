//! A server that does to whoever connects what servers should not. Everything it does ends when the other side goes away.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What it does once somebody has connected.
#[derive(Clone, Debug)]
pub enum Habit {
    /// Says nothing and reads nothing.
    Mute,
    /// Goes away as soon as the first bytes have come; what it did not read makes that a reset.
    Resets,
    /// Reads the request and goes away without a word.
    Leaves,
    /// Reads the request, says this, and nothing more.
    Says(Vec<u8>),
    /// Reads the request, says the first, and then the second again and again, with a pause between.
    Drips(&'static [u8], &'static [u8], Duration),
    /// Reads the request, says the first, and then the second without a pause: gigabytes, if they are taken.
    Floods(&'static [u8], Vec<u8>),
}

pub struct Adversary {
    address: SocketAddr,
    sent: Arc<AtomicU64>,
    /// Connections that fill the queue of a listener that never accepts.
    _waiting: Vec<TcpStream>,
    _listener: Option<TcpListener>,
}

impl Adversary {
    pub fn start(habit: Habit) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let sent = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&sent);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (habit, counted) = (habit.clone(), Arc::clone(&counted));
                std::thread::spawn(move || _ = habit.indulge(stream, &counted));
            }
        });
        Self { address, sent, _waiting: Vec::new(), _listener: None }
    }

    /// Never accepts, and its queue is full, so that nobody is connected any more.
    pub fn full() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
            waiting.push(stream);
            assert!(waiting.len() < 8192, "the queue of a listener has no end");
        }
        Self { address, sent: Arc::default(), _waiting: waiting, _listener: Some(listener) }
    }

    /// Nobody listens there.
    pub fn absent() -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        Self { address, sent: Arc::default(), _waiting: Vec::new(), _listener: None }
    }

    pub fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}/", self.address)
    }

    /// Bytes that were sent to anybody.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }
}

impl Habit {
    fn indulge(self, mut stream: TcpStream, sent: &AtomicU64) -> std::io::Result<()> {
        let say = |stream: &mut TcpStream, bytes: &[u8]| {
            stream.write_all(bytes).map(|()| _ = sent.fetch_add(bytes.len() as u64, Ordering::SeqCst))
        };
        match self {
            Self::Mute => loop {
                // The connection is held for as long as the tests run.
                std::thread::park();
            },
            Self::Resets => {
                stream.peek(&mut [0; 1])?;
                Ok(())
            }
            Self::Leaves => read_request(&mut stream),
            Self::Says(words) => {
                read_request(&mut stream)?;
                say(&mut stream, &words)?;
                until_gone(&mut stream)
            }
            Self::Drips(first, drop, pause) => {
                read_request(&mut stream)?;
                say(&mut stream, first)?;
                loop {
                    say(&mut stream, drop)?;
                    std::thread::sleep(pause);
                }
            }
            Self::Floods(first, flood) => {
                read_request(&mut stream)?;
                say(&mut stream, first)?;
                loop {
                    say(&mut stream, &flood)?;
                }
            }
        }
    }
}

/// Waits for the other side to close; nothing more is expected from it.
fn until_gone(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.read(&mut [0; 1]).map(drop)
}

fn read_request(stream: &mut TcpStream) -> std::io::Result<()> {
    let (mut head, mut byte) = (Vec::new(), [0; 1]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    let length: u64 = length.unwrap_or(0);
    std::io::copy(&mut stream.take(length), &mut std::io::sink()).map(drop)
}
