//! Where the database is, and how what goes there is protected: by TLS with rustls and ring, or not at all.
//!
//! To another machine TLS is not a wish: the server must show a certificate that a trusted authority gave to its name, whatever weaker form `sslmode` asks
//! for. Only `sslmode=disable`, written out, goes without. On this machine, and through a socket of it, it is the other way round: plain
//! unless `sslmode` asks for TLS, because the certificate that distributions make for `localhost` is one that nobody trusts.

use std::net::IpAddr;
use std::sync::Arc;

use percent_encoding::percent_decode_str;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::fault::{Attempt, Fault};
use super::pool;
use crate::StoreError;

/// What stands for the authorities that the machine trusts, as for `libpq`.
const SYSTEM: &str = "system";

/// See the module.
#[derive(Clone)]
pub(super) struct Address {
    /// As the driver has it.
    pub(super) config: Config,
    /// What makes connections secure, where `config` asks for it.
    pub(super) tls: MakeRustlsConnect,
    /// For people: no user and no password.
    pub(super) place: String,
}

impl Address {
    /// Reads a URL or a key=value list.
    pub(super) fn parse(text: &str) -> Result<Self, StoreError> {
        let nowhere = |fault: Fault| fault.at("postgres");
        let asked = Asked::of(text).map_err(|message| nowhere(Fault::Unreachable(message.to_owned())))?;
        let mut config = pool::config(&asked.rest).map_err(nowhere)?;
        let place = place(&config);
        let mode = mode(asked.mode.as_deref(), is_near(&config)).map_err(|fault| fault.at(&place))?;
        config.ssl_mode(mode);
        // Nobody asks them otherwise.
        let roots =
            if mode == SslMode::Disable { Ok(RootCertStore::empty()) } else { roots(asked.roots.as_deref()) };
        let tls = roots.and_then(tls).map_err(|message| Fault::Unreachable(message).at(&place))?;
        Ok(Self { config, tls, place })
    }

    /// Whether everything goes to another machine as it is, for everybody on the way to read and to change.
    pub(super) fn is_unprotected(&self) -> bool {
        matches!(self.config.get_ssl_mode(), SslMode::Disable) && !is_near(&self.config)
    }
}

/// What an address says of TLS, which the driver does not know, and the rest of it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    rest: String,
    mode: Option<String>,
    roots: Option<String>,
}

impl Asked {
    fn of(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Ok(Self::of_url(text));
        }
        let mut asked = Self::default();
        let mut rest = Vec::new();
        for word in text.split_ascii_whitespace() {
            match word.split_once('=') {
                Some(pair) if asked.take(pair) => {}
                Some(_) | None => rest.push(word),
            }
        }
        if (asked.mode.is_some() || asked.roots.is_some()) && text.contains(['\'', '\\']) {
            return Err("`sslmode` and `sslrootcert` beside quotes are only understood in a URL");
        }
        asked.rest = if asked == Self::default() { text.to_owned() } else { rest.join(" ") };
        Ok(asked)
    }

    fn of_url(text: &str) -> Self {
        // A password may hold a `?`.
        let host = text.find('@').unwrap_or(0);
        let Some(question) = text.get(host..).and_then(|rest| rest.find('?')).map(|at| at + host) else {
            return Self { rest: text.to_owned(), ..Self::default() };
        };
        let (base, parameters) = text.split_at(question);
        let mut asked = Self::default();
        let mut rest = Vec::new();
        for parameter in parameters.trim_start_matches('?').split('&') {
            let decoded = percent_decode_str(parameter).decode_utf8_lossy().into_owned();
            match decoded.split_once('=') {
                Some(pair) if asked.take(pair) => {}
                Some(_) | None => rest.push(parameter),
            }
        }
        asked.rest = if rest.is_empty() { base.to_owned() } else { format!("{base}?{}", rest.join("&")) };
        asked
    }

    fn take(&mut self, (name, value): (&str, &str)) -> bool {
        match name {
            "sslmode" => self.mode = Some(value.to_owned()),
            "sslrootcert" => self.roots = Some(value.to_owned()),
            _ => return false,
        }
        true
    }
}

fn mode(asked: Option<&str>, is_near: bool) -> Attempt<SslMode> {
    match (asked, is_near) {
        (Some("disable"), _) | (None | Some("allow" | "prefer"), true) => Ok(SslMode::Disable),
        (None | Some("allow" | "prefer"), false) | (Some("require" | "verify-ca" | "verify-full"), _) => {
            Ok(SslMode::Require)
        }
        (Some(_), _) => Err(Fault::Unreachable(
            "`sslmode` in its address is none of disable, allow, prefer, require, verify-ca and verify-full"
                .to_owned(),
        )),
    }
}

/// Whether nothing leaves this machine.
fn is_near(config: &Config) -> bool {
    let addresses = config.get_hostaddrs();
    if !addresses.is_empty() {
        return addresses.iter().all(IpAddr::is_loopback);
    }
    config.get_hosts().iter().all(|host| match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
        }
    })
}

fn place(config: &Config) -> String {
    let hosts: Vec<_> = config
        .get_hosts()
        .iter()
        .map(|host| match host {
            Host::Tcp(name) => name.clone(),
            Host::Unix(path) => path.display().to_string(),
        })
        .collect();
    format!("postgres {}/{}", hosts.join(","), config.get_dbname().unwrap_or_default())
}

/// Whom the server's certificate must come from.
fn roots(file: Option<&str>) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    match file {
        None | Some(SYSTEM) => {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if store.is_empty() {
                return Err("this machine has no root certificates (on Debian, `ca-certificates`), and `sslrootcert` names none".to_owned());
            }
        }
        Some(file) => {
            let unreadable = |error: String| {
                format!("the certificates in `{file}` (`sslrootcert`) cannot be read: {error}")
            };
            let found = CertificateDer::pem_file_iter(file).map_err(|error| unreadable(error.to_string()))?;
            for certificate in found {
                let certificate = certificate.map_err(|error| unreadable(error.to_string()))?;
                store.add(certificate).map_err(|error| unreadable(error.to_string()))?;
            }
            if store.is_empty() {
                return Err(unreadable("there is none in it".to_owned()));
            }
        }
    }
    Ok(store)
}

fn tls(roots: RootCertStore) -> Result<MakeRustlsConnect, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_address_says_of_tls_is_taken_out_of_it() {
        let check = |text: &str, rest: &str, mode: Option<&str>, roots: Option<&str>| {
            let expected = Asked {
                rest: rest.to_owned(),
                mode: mode.map(str::to_owned),
                roots: roots.map(str::to_owned),
            };
            assert_eq!(Asked::of(text).unwrap(), expected, "{text}");
        };
        check("postgres://u:p?w@h/d", "postgres://u:p?w@h/d", None, None);
        check("postgresql://h/d?sslmode=require", "postgresql://h/d", Some("require"), None);
        check(
            "postgres://u@h/d?a=1&sslrootcert=%2Fetc%2Fca.pem&b=%202&sslmode=disable",
            "postgres://u@h/d?a=1&b=%202",
            Some("disable"),
            Some("/etc/ca.pem"),
        );
        check("host=h password='a b'", "host=h password='a b'", None, None);
        check("host=h  sslmode=verify-full user=u", "host=h user=u", Some("verify-full"), None);
        assert!(Asked::of("host=h sslmode=disable password='a b'").is_err());
    }

    #[test]
    fn what_leaves_the_machine_is_protected_unless_it_is_written_out() {
        let check = |text: &str, expected: Option<SslMode>, unprotected: bool| {
            let address = Address::parse(text);
            assert_eq!(address.as_ref().ok().map(|found| found.config.get_ssl_mode()), expected, "{text}");
            assert_eq!(address.is_ok_and(|found| found.is_unprotected()), unprotected, "{text}");
        };
        check("postgres://u@localhost/d", Some(SslMode::Disable), false);
        check("postgres://u@127.0.0.9,localhost/d?sslmode=prefer", Some(SslMode::Disable), false);
        check("postgres://u@%2Frun%2Fpostgresql/d", Some(SslMode::Disable), false);
        check("postgres://u@10.0.0.1/d?sslmode=disable", Some(SslMode::Disable), true);
        check("postgres://u@localhost,db.example/d?sslmode=disable", Some(SslMode::Disable), true);
        check("host=localhost hostaddr=10.0.0.1 user=u sslmode=disable", Some(SslMode::Disable), true);
        check("postgres://u@localhost/d?sslmode=sure", None, false);
        let asks = |asked, near| mode(asked, near).unwrap();
        for asked in [None, Some("allow"), Some("prefer"), Some("require"), Some("verify-ca")] {
            assert_eq!(asks(asked, false), SslMode::Require, "{asked:?}");
        }
        assert_eq!(asks(Some("verify-full"), true), SslMode::Require);
    }

    #[test]
    fn nothing_secret_is_said_of_an_address() {
        for text in
            ["postgres://u:canary-1@h:x/d", "postgres://u:canary-1@h/d?sslrootcert=/no/such", "canary-1"]
        {
            let error = Address::parse(text).err().unwrap().to_string();
            assert!(!error.contains("canary"), "{error}");
        }
        assert_eq!(Address::parse("postgres://u:canary-1@[::1]/d").unwrap().place, "postgres ::1/d");
    }
}
