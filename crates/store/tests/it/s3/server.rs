//! A server that speaks the protocol of S3, one a test process, on a free port of this machine. It ends by itself when the process does.
//!
//! It is moto's, from an environment of its own (`scripts/install.sh test`), and keeps everything in memory. It checks neither keys nor signatures.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Serves until its standard input ends.
const SERVE: &str = r#"
import os, sys, threading
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

WSGIRequestHandler.log_request = lambda *_: None
app = DomainDispatcherApplication(create_backend_app)
server = make_server("127.0.0.1", 0, app, threaded=True)
print(server.port, flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
os._exit(0)
"#;
/// A server that says nothing for so long is a failure of the test.
const SILENCE_MAX: Duration = Duration::from_mins(1);

struct Server {
    address: SocketAddr,
    /// Its input is held open for as long as this process lives.
    _child: Child,
}

fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
        let python = root.join("target/tools/s3-server/bin/python");
        assert!(python.exists(), "the S3 server is missing: scripts/install.sh test");
        #[expect(clippy::disallowed_methods, reason = "the server of the tests is theirs, not the engine's")]
        let mut command = Command::new(python);
        command.args(["-c", SERVE]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.env_clear().current_dir("/").spawn().unwrap();
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        assert!(!port.is_empty(), "the S3 server did not start");
        let port: u16 = port.trim().parse().unwrap();
        Server { address: SocketAddr::from(([127, 0, 0, 1], port)), _child: child }
    })
}

/// Where the server listens.
pub(crate) fn address() -> SocketAddr {
    server().address
}

/// A new bucket of this server.
pub(crate) fn bucket() -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let name = format!("bucket-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let (status, _) = request("PUT", &format!("/{name}"), b"");
    assert_eq!(status, 200, "{name} cannot be made");
    name
}

/// One request around the code under test: the status and the body of the answer.
pub(crate) fn request(method: &str, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let mut stream = TcpStream::connect(address()).unwrap();
    stream.set_read_timeout(Some(SILENCE_MAX)).unwrap();
    // The server takes the service from the credentials that a request names.
    let credential = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {credential}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|at| at == b"\r\n\r\n").unwrap() + 4;
    let status = std::str::from_utf8(&answer[9..12]).unwrap().parse().unwrap();
    (status, answer.split_off(end))
}
