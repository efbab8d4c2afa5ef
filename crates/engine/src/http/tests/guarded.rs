//! What is dialed, and what never is.

use std::sync::Arc;

use super::{Net, answering, request, send};
use crate::http::{Client, TlsRoots};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// Sends to the address while its name resolves so; what was dialed, and the failure's kind if there was one.
async fn dialed(url: &str, names: &[&str], unreachable: &[&str], allow: &[&str]) -> (Vec<String>, String) {
    let net = Net::with_names(&[names], unreachable, answering(OK));
    let mut request = request(url);
    request.allow = allow.iter().map(|net| net.parse().unwrap()).collect();
    let exchange = send(&net.client(), request).await;
    let kind = match exchange.result {
        Ok(answer) => answer.status.to_string(),
        Err(failure) => serde_json::to_value(&failure).unwrap()["kind"].as_str().unwrap().to_owned(),
    };
    (net.dialed(), kind)
}

#[tokio::test(start_paused = true)]
async fn only_addresses_that_may_be_dialed_are() {
    let check = async |url: &str, names: &[&str], allow: &[&str], expected: (&[&str], &str)| {
        let (found, kind) = dialed(url, names, &[], allow).await;
        assert_eq!(
            (found, kind.as_str()),
            (expected.0.iter().map(ToString::to_string).collect(), expected.1),
            "{url} {names:?}"
        );
    };
    let name = "http://receiver.test:8080/";
    check(name, &["93.184.216.34"], &[], (&["93.184.216.34:8080"], "200")).await;
    check(name, &["127.0.0.1"], &[], (&[], "refused")).await;
    check(name, &["10.0.0.1", "fd00::1", "::ffff:192.168.0.1", "64:ff9b::10.0.0.1"], &[], (&[], "refused"))
        .await;
    check(name, &["169.254.169.254"], &["10.0.0.0/8"], (&[], "refused")).await;
    check(name, &["10.0.0.1", "93.184.216.34"], &[], (&["93.184.216.34:8080"], "200")).await;
    check(name, &["10.0.0.1"], &["10.0.0.0/8"], (&["10.0.0.1:8080"], "200")).await;
    check(name, &[], &[], (&[], "resolve")).await;
    check("http://127.0.0.1/", &[], &[], (&[], "refused")).await;
    check("http://[::1]/", &[], &[], (&[], "refused")).await;
    check("http://[::ffff:127.0.0.1]/", &[], &[], (&[], "refused")).await;
    check("http://0x7f.1/", &[], &[], (&[], "refused")).await;
    check("http://2130706433/", &[], &[], (&[], "refused")).await;
    check("http://127.0.0.1/", &[], &["127.0.0.0/8"], (&["127.0.0.1:80"], "200")).await;
    check("http://[2606:4700::1111]:81/", &[], &[], (&["[2606:4700::1111]:81"], "200")).await;
}

#[tokio::test(start_paused = true)]
async fn the_next_address_is_dialed_when_one_does_not_answer() {
    let names = ["1.1.1.1", "1.1.1.1", "8.8.8.8", "10.0.0.1", "9.9.9.9"];
    let (found, kind) = dialed("http://receiver.test/", &names, &["1.1.1.1"], &[]).await;
    assert_eq!((found, kind.as_str()), (vec!["1.1.1.1:80".to_owned(), "8.8.8.8:80".to_owned()], "200"));
    let (found, kind) =
        dialed("http://receiver.test/", &["1.1.1.1", "8.8.8.8"], &["1.1.1.1", "8.8.8.8"], &[]).await;
    assert_eq!((found.len(), kind.as_str()), (2, "connect"));
}

#[tokio::test(start_paused = true)]
async fn a_name_that_changes_its_address_is_looked_up_once_an_attempt() {
    let net = Net::with_names(&[&["93.184.216.34"], &["127.0.0.1"]], &[], answering(OK));
    let client = net.client();
    assert_eq!(send(&client, request("http://rebinding.test/")).await.result.unwrap().status, 200);
    let failure = send(&client, request("http://rebinding.test/")).await.result.unwrap_err();
    assert_eq!(
        failure.to_string(),
        "refused to connect to `rebinding.test`: `127.0.0.1` is loopback (RFC 1122)"
    );
    assert_eq!(net.dialed(), ["93.184.216.34:80"]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_speak_tls() {
    let net = Net::new(super::handler(|mut stream| async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        stream.read_u8().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        stream.read_to_end(&mut Vec::new()).await.unwrap();
    }));
    let client =
        Client::with_roots(Arc::<Net>::clone(&net), Arc::<Net>::clone(&net), TlsRoots::Only(Vec::new()));
    let exchange = send(&client, request("https://receiver.test/")).await;
    let failure = exchange.result.unwrap_err();
    assert_eq!(serde_json::to_value(&failure).unwrap()["kind"], "tls", "{failure}");
    assert!(failure.to_string().contains("`ca-certificates`"), "{failure}");
    assert_eq!(net.dialed(), ["93.184.216.34:443"]);
    assert_eq!(exchange.body_bytes_sent, 0);
}

/// A receiver that has this name by the word of an authority of its own, and says what name it was asked for.
fn tls_receiver(name: &str) -> (super::Handler, TlsRoots) {
    let key = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let certificate = key.cert.der().clone();
    let private = rustls::pki_types::PrivatePkcs8KeyDer::from(key.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], private.into())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let serve = super::handler(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            // A client that does not trust the certificate ends the handshake.
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let asked = stream.get_ref().1.server_name().unwrap_or("none").to_owned();
            let (head, content) = super::read_request(&mut stream).await;
            let said = format!("{asked} {} {}", head.lines().next().unwrap(), content.len());
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{said}", said.len());
            tokio::io::AsyncWriteExt::write_all(&mut stream, answer.as_bytes()).await.unwrap();
            tokio::io::AsyncWriteExt::shutdown(&mut stream).await.unwrap();
        }
    });
    (serve, TlsRoots::Only(vec![certificate]))
}

#[tokio::test(start_paused = true)]
async fn a_receiver_must_prove_the_name_that_was_asked_for() {
    let check = async |certified: &str, trusted: bool, expected: Result<&str, &str>| {
        let (serve, roots) = tls_receiver(certified);
        let net = Net::new(serve);
        let roots = if trusted { roots } else { tls_receiver(certified).1 };
        let client = Client::with_roots(Arc::<Net>::clone(&net), Arc::<Net>::clone(&net), roots);
        let (_path, file) = super::body(&vec![1; 100_000]);
        let mut request = request("https://receiver.test/x");
        request.body = file;
        match (send(&client, request).await.result, expected) {
            (Ok(answer), Ok(body)) => assert_eq!(answer.body, body),
            (Err(failure), Err(part)) => assert!(failure.to_string().contains(part), "{failure}"),
            (found, _) => panic!("{found:?} instead of {expected:?}"),
        }
        assert_eq!(net.dialed(), ["93.184.216.34:443"]);
    };
    check("receiver.test", true, Ok("receiver.test POST /x HTTP/1.1 100000")).await;
    check("other.test", true, Err("the TLS handshake with `receiver.test` failed")).await;
    check("receiver.test", false, Err("the TLS handshake with `receiver.test` failed")).await;
}
