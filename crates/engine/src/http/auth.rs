//! Credentials: the header that proves who sends a request, made of a secret as it is now.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use orbit_core::config::{Auth, NamespaceName, SecretRef};
use orbit_core::dispatch::header::{HeaderError, check_auth_header};
use orbit_core::dispatch::outcome::AttemptFailure;
use orbit_core::tiers::{Failure, RemoteFailure};

use crate::secrets::Secrets;

/// Whose secrets, and where they come from.
pub(crate) type Whose<'a> = (&'a NamespaceName, &'a dyn Secrets);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Credentials {
    /// The header; none if nothing is to be proved.
    pub(crate) header: Option<(HeaderName, HeaderValue)>,
    /// The secret in every form in which it is sent: nothing that is kept may contain one.
    pub(crate) confidential: Vec<String>,
}

/// Credentials that cannot be made. A value is never repeated.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CredentialsError {
    /// The secret has no value.
    #[error("the secret `{variable}` is not set")]
    Missing {
        /// The variable that would hold it.
        variable: String,
    },
    /// The secret's value cannot be used.
    #[error("the secret `{variable}` cannot be used: {message}")]
    Unusable {
        /// The variable that holds it.
        variable: String,
        /// What is wrong.
        message: String,
    },
    /// The header cannot carry a secret.
    #[error(transparent)]
    Header(#[from] HeaderError),
}

enum Scheme<'a> {
    Bearer,
    Basic { user: &'a str },
    Plain,
}

impl Credentials {
    /// The credentials that a document asks for.
    pub(crate) fn of(auth: Option<&Auth>, whose: Whose<'_>) -> Result<Self, CredentialsError> {
        let (name, secret, scheme) = match auth {
            None => return Ok(Self::default()),
            Some(Auth::Bearer(secret)) => (AUTHORIZATION, secret, Scheme::Bearer),
            Some(Auth::Basic(basic)) => (AUTHORIZATION, &basic.password, Scheme::Basic { user: &basic.user }),
            Some(Auth::Header(header)) => {
                check_auth_header(&header.name)?;
                let name = HeaderName::from_bytes(header.name.as_bytes())
                    .map_err(|_| HeaderError::Name { name: header.name.clone() })?;
                (name, &header.value, Scheme::Plain)
            }
        };
        let value = secret_value(secret, whose)?;
        let mut confidential = Vec::new();
        let sent = match scheme {
            Scheme::Bearer => format!("Bearer {value}"),
            Scheme::Basic { user } => {
                let credentials = STANDARD.encode(format!("{user}:{value}"));
                confidential.push(credentials.clone());
                format!("Basic {credentials}")
            }
            Scheme::Plain => value.clone(),
        };
        let mut sent = HeaderValue::from_bytes(sent.as_bytes()).map_err(|_| CredentialsError::Unusable {
            variable: secret.variable(whose.0),
            message: "it holds a control character".to_owned(),
        })?;
        sent.set_sensitive(true);
        confidential.push(value);
        Ok(Self { header: Some((name, sent)), confidential })
    }
}

/// The value of a secret, which is not empty.
pub(crate) fn secret_value(
    secret: &SecretRef,
    (namespace, secrets): Whose<'_>,
) -> Result<String, CredentialsError> {
    let variable = || secret.variable(namespace);
    match secrets.get(namespace, secret) {
        Some(value) if value.is_empty() => {
            Err(CredentialsError::Unusable { variable: variable(), message: "it is empty".to_owned() })
        }
        Some(value) => Ok(value),
        None => Err(CredentialsError::Missing { variable: variable() }),
    }
}

impl From<CredentialsError> for AttemptFailure {
    fn from(error: CredentialsError) -> Self {
        match error {
            CredentialsError::Missing { variable } => Self::MissingSecret { variable },
            CredentialsError::Unusable { variable, message } => Self::UnusableSecret { variable, message },
            CredentialsError::Header(error) => Self::Request { message: error.to_string() },
        }
    }
}

impl From<CredentialsError> for Failure {
    fn from(error: CredentialsError) -> Self {
        match error {
            CredentialsError::Missing { variable } => Self::SecretMissing { variable },
            CredentialsError::Unusable { variable, message } => {
                RemoteFailure::SecretUnusable { variable, message }.into()
            }
            CredentialsError::Header(error) => {
                RemoteFailure::Unsendable { message: error.to_string() }.into()
            }
        }
    }
}
