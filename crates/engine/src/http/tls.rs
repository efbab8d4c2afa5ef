//! TLS: rustls with ring, the machine's root certificates, and the name that was asked for.

use std::io;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use url::Host;

use super::network::Stream;

/// Whom certificates must come from.
#[derive(Clone, Debug)]
pub enum TlsRoots {
    /// The authorities that the machine trusts.
    System,
    /// These authorities and no other.
    Only(Vec<CertificateDer<'static>>),
}

/// Makes TLS connections. The roots are read once, when they are first needed: plain `http` works on a machine that has none.
#[derive(Clone)]
pub(super) struct Tls {
    roots: TlsRoots,
    ready: Arc<OnceCell<Ready>>,
}

struct Ready {
    connector: TlsConnector,
    roots: usize,
}

impl Tls {
    pub(super) fn new(roots: TlsRoots) -> Self {
        Self { roots, ready: Arc::default() }
    }

    /// The handshake, in which the other side must prove that it is this host.
    pub(super) async fn connect(
        &self,
        host: &Host<String>,
        stream: Box<dyn Stream>,
    ) -> Result<Box<dyn Stream>, String> {
        let ready = self.ready.get_or_try_init(|| load(self.roots.clone())).await?;
        let name = server_name(host).map_err(|error| error.to_string())?;
        match ready.connector.connect(name, stream).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) if ready.roots == 0 => Err(format!(
                "{error}; this machine has no root certificates (on Debian, install `ca-certificates`)"
            )),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err("the connection was closed".to_owned())
            }
            Err(error) => Err(error.to_string()),
        }
    }
}

fn server_name(host: &Host<String>) -> Result<ServerName<'static>, rustls::pki_types::InvalidDnsNameError> {
    match host {
        Host::Domain(name) => ServerName::try_from(name.clone()),
        Host::Ipv4(address) => Ok(ServerName::from(std::net::IpAddr::V4(*address))),
        Host::Ipv6(address) => Ok(ServerName::from(std::net::IpAddr::V6(*address))),
    }
}

async fn load(roots: TlsRoots) -> Result<Ready, String> {
    // Reading some hundred files blocks.
    tokio::task::spawn_blocking(move || build(roots)).await.map_err(|error| error.to_string())?
}

fn build(roots: TlsRoots) -> Result<Ready, String> {
    let certificates = match roots {
        TlsRoots::System => {
            let found = rustls_native_certs::load_native_certs();
            for error in &found.errors {
                tracing::warn!(%error, "a root certificate cannot be read");
            }
            found.certs
        }
        TlsRoots::Only(certificates) => certificates,
    };
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(certificates);
    let roots = store.len();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(store)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Ready { connector: TlsConnector::from(Arc::new(config)), roots })
}
