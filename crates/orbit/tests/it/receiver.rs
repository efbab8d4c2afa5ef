//! A loopback HTTP receiver that keeps what it is sent and answers as it is told.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A request as it arrived; header names in lower case.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

/// What to do with a request.
pub enum Reply {
    /// A status with further header lines, and a body.
    Status(u16, &'static str, &'static str),
    /// Close without a word.
    Close,
    /// Say nothing until the other side gives up.
    Silence,
    /// Headers, then a body without end.
    Endless,
    /// A body of this many bytes.
    Large(u64),
}

type Answer = dyn Fn(&Request, usize) -> Reply + Send + Sync;

pub struct Receiver {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Receiver {
    /// Answers every request by this function, which is also told how many came before.
    pub fn start(answer: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (kept, answer): (_, Arc<Answer>) = (Arc::clone(&requests), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (kept, answer) = (Arc::clone(&kept), Arc::clone(&answer));
                std::thread::spawn(move || _ = handle(stream, &kept, &*answer));
            }
        });
        Self { address, requests }
    }

    pub fn accepting() -> Self {
        Self::start(|_, _| Reply::Status(201, "", "{\"stored\":true}"))
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

fn handle(stream: TcpStream, kept: &Mutex<Vec<Request>>, answer: &Answer) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (method, path) =
        (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            // The sender died in the middle of the head: that is no request.
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let request = Request { method, path, headers, body };
    let before = {
        let mut kept = kept.lock().unwrap();
        kept.push(request.clone());
        kept.len() - 1
    };
    let mut stream = reader.into_inner();
    match answer(&request, before) {
        Reply::Status(code, more, body) => {
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 {code} X\r\ncontent-length: {length}\r\nconnection: close\r\n{more}\r\n{body}"
            )
        }
        Reply::Close => Ok(()),
        Reply::Silence => {
            _ = stream.read(&mut [0; 1]);
            Ok(())
        }
        Reply::Large(bytes) => {
            write!(stream, "HTTP/1.1 200 X\r\ncontent-length: {bytes}\r\nconnection: close\r\n\r\n")?;
            std::io::copy(&mut std::io::repeat(b'y').take(bytes), &mut stream)?;
            Ok(())
        }
        Reply::Endless => {
            write!(stream, "HTTP/1.1 200 X\r\nconnection: close\r\n\r\n")?;
            while stream.write_all(&[b'x'; 4096]).is_ok() {}
            Ok(())
        }
    }
}
