//! TLS to the server: only with a certificate that a trusted authority gave to the name that was asked for, and never silently without.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;

use orbit_store::StoreError;
use orbit_store::postgres::{Server, migrate};
use orbit_testkit::cluster::{Cluster, Tls};

use crate::conformance::world::namespace;

/// What the driver sends when it asks for TLS, in bytes.
const REQUEST_BYTES: usize = 8;

fn certificate(name: &str) -> rcgen::CertifiedKey<rcgen::KeyPair> {
    rcgen::generate_simple_self_signed([name.to_owned()]).unwrap()
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn url(role: &str, host: &str, port: u16, roots: &Path) -> String {
    format!("postgres://{role}@{host}:{port}/postgres?sslmode=verify-full&sslrootcert={}", roots.display())
}

async fn refused(url: &str) -> String {
    match Server::connect(url).await {
        Err(StoreError::Io { message, .. }) => message,
        Err(error) => panic!("{url}: {error}"),
        Ok(_) => panic!("{url} is served"),
    }
}

#[tokio::test]
async fn a_server_is_held_to_its_name_by_an_authority_that_is_trusted() {
    let (own, other) = (certificate("localhost"), certificate("localhost"));
    let port = free_port();
    let tls = Tls { port, certificate: own.cert.pem(), key: own.signing_key.serialize_pem() };
    let cluster = tokio::task::spawn_blocking(move || Cluster::start(Some(&tls))).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (trusted, stranger) = (folder.path().join("trusted.pem"), folder.path().join("stranger.pem"));
    std::fs::write(&trusted, own.cert.pem()).unwrap();
    std::fs::write(&stranger, other.cert.pem()).unwrap();

    migrate(&url("postgres", "localhost", port, &trusted)).await.unwrap();
    let server = Server::connect(&url("orbit_runtime", "localhost", port, &trusted)).await.unwrap();
    assert!(!server.is_unprotected());
    server.store(&namespace()).await.unwrap();
    let socket = format!("{} port={port}", cluster.config("postgres", "postgres"));
    let client = orbit_testkit::cluster::connect(&socket).await;
    let sql =
        "SELECT count(*) FILTER (WHERE ssl), count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
        WHERE usename = 'orbit_runtime'";
    let row = client.query_one(sql, &[]).await.unwrap();
    let (secured, all): (i64, i64) = (row.get(0), row.get(1));
    assert!(secured == all && all > 0, "{secured} of {all} connections are secured");

    let wrong_name = refused(&url("orbit_runtime", "127.0.0.1", port, &trusted)).await;
    assert!(wrong_name.contains("not valid for name"), "{wrong_name}");
    let untrusted = refused(&url("orbit_runtime", "localhost", port, &stranger)).await;
    assert!(untrusted.contains("certificate"), "{untrusted}");
    let unreadable = refused(&url("orbit_runtime", "localhost", port, &folder.path().join("none"))).await;
    assert!(unreadable.contains("cannot be read"), "{unreadable}");
}

#[tokio::test]
async fn a_server_without_tls_learns_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; REQUEST_BYTES];
        stream.read_exact(&mut request).unwrap();
        stream.write_all(b"N").unwrap();
        let mut more = Vec::new();
        stream.read_to_end(&mut more).unwrap();
        more
    });
    let folder = tempfile::tempdir().unwrap();
    let roots = folder.path().join("roots.pem");
    std::fs::write(&roots, certificate("localhost").cert.pem()).unwrap();
    let message = refused(&url("orbit_runtime", "127.0.0.1", port, &roots)).await;
    assert!(message.contains("does not support TLS"), "{message}");
    assert_eq!(heard.join().unwrap(), b"", "neither a role nor a password");
}
