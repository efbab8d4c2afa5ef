//! From an address to a connection: resolve, judge, dial what was judged, and prove who answers.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use orbit_core::dispatch::guard;
use orbit_core::dispatch::outcome::{HttpFailure, Phase};
use orbit_core::limits::ADDRESSES_DIALED_MAX;
use url::{Host, Url};

use super::Client;
use super::network::Stream;
use super::progress::Progress;

/// An address that does not answer gets this long as long as there is another one.
const DIAL_WAIT: Duration = Duration::from_secs(10);

/// A connection to the address's host, over which a request may be sent.
pub(super) async fn connect(
    client: &Client,
    url: &Url,
    allow: &[IpNet],
    progress: &Progress,
) -> Result<Box<dyn Stream>, HttpFailure> {
    let unsendable = |message: &str| HttpFailure::Unsendable { message: message.to_owned() };
    let host = url.host().map(|host| host.to_owned()).ok_or_else(|| unsendable("the address has no host"))?;
    let port = url.port_or_known_default().ok_or_else(|| unsendable("the address has no port"))?;
    let secure = match url.scheme() {
        "http" => false,
        "https" => true,
        _ => return Err(unsendable("the address is neither `http` nor `https`")),
    };
    let vetted = vet(&host, resolve(client, &host).await?, allow)?;
    progress.enter(Phase::Connect);
    let stream = dial(client, &vetted, port, progress).await?;
    if !secure {
        return Ok(stream);
    }
    progress.enter(Phase::Tls);
    let failed = |message| HttpFailure::Tls { host: host.to_string(), message };
    client.tls.connect(&host, stream).await.map_err(failed)
}

async fn resolve(client: &Client, host: &Host<String>) -> Result<Vec<IpAddr>, HttpFailure> {
    let name = match host {
        Host::Domain(name) => name,
        Host::Ipv4(address) => return Ok(vec![IpAddr::V4(*address)]),
        Host::Ipv6(address) => return Ok(vec![IpAddr::V6(*address)]),
    };
    let failed = |message: String| HttpFailure::Resolve { host: name.clone(), message };
    let found = client.resolver.resolve(name).await.map_err(|error| failed(error.to_string()))?;
    if found.is_empty() { Err(failed("it has no address".to_owned())) } else { Ok(found) }
}

/// The addresses that may be dialed, each once, in their order. What is refused is left out; if nothing is left, that is the failure.
fn vet(host: &Host<String>, found: Vec<IpAddr>, allow: &[IpNet]) -> Result<Vec<IpAddr>, HttpFailure> {
    let (mut vetted, mut refused) = (Vec::new(), Vec::new());
    for address in found {
        match guard::allowed(address, allow) {
            Ok(()) if vetted.contains(&address) => {}
            Ok(()) => vetted.push(address),
            Err(reason) => refused.push(reason),
        }
    }
    vetted.truncate(ADDRESSES_DIALED_MAX);
    if vetted.is_empty() {
        refused.truncate(ADDRESSES_DIALED_MAX);
        return Err(HttpFailure::Refused { host: host.to_string(), refused });
    }
    Ok(vetted)
}

async fn dial(
    client: &Client,
    vetted: &[IpAddr],
    port: u16,
    progress: &Progress,
) -> Result<Box<dyn Stream>, HttpFailure> {
    let mut last = HttpFailure::Unsendable { message: "there is no address to dial".to_owned() };
    for (index, address) in vetted.iter().enumerate() {
        let address = SocketAddr::new(*address, port);
        let dialing = client.dialer.dial(address);
        let dialed = if index + 1 < vetted.len() {
            tokio::time::timeout(DIAL_WAIT, dialing)
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        } else {
            dialing.await
        };
        match dialed {
            Ok(stream) => {
                progress.connected(address);
                return Ok(stream);
            }
            Err(error) => {
                last = HttpFailure::Connect { address: address.to_string(), message: error.to_string() };
            }
        }
    }
    Err(last)
}
