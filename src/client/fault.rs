//! Why no connection to the endpoint could be made, in words for the log and for `check`. The words contain no part of a lead and
//! no password.

use std::error::Error as StdError;

use rustls::{CertificateError, Error as TlsError};

use crate::client::route::{EndpointRoute, missing_certificates};
use crate::error::SetupError;

/// A connection that failed before a request was sent on it, and the operator's remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionFault {
    pub what: String,
    pub cure: String,
}

const NETWORK_CURE: &str = "check the network, the firewall and [conversica] endpoint; where only a proxy leads out, name it in the \
                            environment variable HTTPS_PROXY";
const ISSUER_CURE: &str = "install the package ca-certificates; where a proxy or a firewall opens TLS connections, let the environment \
                           variable SSL_CERT_FILE name a file with its root certificate (and the others that are needed, in PEM format)";
const CLOCK_CURE: &str = "look at this machine's clock first; then, as it may be right: ask Conversica";
const NAME_CURE: &str = "another server answers: check [conversica] endpoint, the name server, and a proxy in between";
const NO_TLS_CURE: &str = "check the port in [conversica] endpoint, and a proxy or firewall in between";

impl ConnectionFault {
    /// From the HTTP client's error.
    pub fn of_request(error: &reqwest::Error, route: &EndpointRoute) -> Self {
        let causes = || std::iter::successors(error.source(), |cause| (**cause).source());
        if let Some(tls) = causes().find_map(as_tls_error) {
            return Self::of_tls(tls, route);
        }
        let innermost = causes().last().map(ToString::to_string).unwrap_or_default();
        // The client's own words; their type is not public.
        if innermost.contains("proxy authorization required") {
            return Self::of_proxy_status(407, route);
        }
        if innermost.contains("tunnel error: unsuccessful") {
            return Self::of_refusing_proxy(None, route);
        }
        if innermost.contains("tls handshake eof") {
            return Self::of_cut_handshake(route);
        }
        if route.proxy.as_ref().is_some_and(|proxy| !proxy.is_supported()) {
            return Self::of_unsupported_proxy(route);
        }
        Self::unreachable(&innermost, route)
    }

    /// The next machine on the way does not answer.
    pub fn unreachable(why: &str, route: &EndpointRoute) -> Self {
        match &route.proxy {
            None => Self::new(format!("{} cannot be reached: {why}", route.in_words()), NETWORK_CURE),
            Some(proxy) => Self::new(
                format!("{} cannot be reached: {why}", proxy.in_words()),
                format!(
                    "check the environment variable {} and the network; hosts in NO_PROXY are reached without it",
                    proxy.variable
                ),
            ),
        }
    }

    /// From the status of the proxy's answer to CONNECT, other than 2xx.
    pub fn of_proxy_status(status: u16, route: &EndpointRoute) -> Self {
        let Some(proxy) = route.proxy.as_ref().filter(|_| status == 407) else {
            return Self::of_refusing_proxy(Some(status), route);
        };
        let (place, variable) = (proxy.in_words(), proxy.variable);
        match proxy.authorization {
            None => Self::new(
                format!("{place} asks for a user name and a password (status 407)"),
                format!(
                    "write them into {variable}: http://USER:PASSWORD@HOST:PORT, special characters percent-encoded (@ is %40)"
                ),
            ),
            Some(_) => Self::new(
                format!("{place} refuses its user name or password (status 407)"),
                format!("correct them in {variable}; special characters are percent-encoded (@ is %40)"),
            ),
        }
    }

    fn of_refusing_proxy(status: Option<u16>, route: &EndpointRoute) -> Self {
        let EndpointRoute { host, port, .. } = route;
        let place = route.proxy.as_ref().map_or_else(|| "a proxy".to_owned(), |proxy| proxy.in_words());
        let status = status.map(|status| format!(" (status {status})")).unwrap_or_default();
        Self::new(
            format!("{place} does not connect to {host} port {port}{status}"),
            format!(
                "let the proxy allow CONNECT to {host} port {port}, or name the host in NO_PROXY, so that it is reached without it"
            ),
        )
    }

    /// The program can go through HTTP proxies only.
    pub fn of_unsupported_proxy(route: &EndpointRoute) -> Self {
        let (place, variable, scheme) = match &route.proxy {
            Some(proxy) => (proxy.in_words(), proxy.variable, proxy.scheme.as_str()),
            None => ("the proxy".to_owned(), "HTTPS_PROXY", "another"),
        };
        Self::new(
            format!("{place} cannot be used: it is of the kind {scheme}"),
            format!("name an HTTP proxy in {variable} (http://HOST:PORT), or name the endpoint's host in NO_PROXY"),
        )
    }

    /// The TLS handshake failed.
    pub fn of_tls(error: &TlsError, route: &EndpointRoute) -> Self {
        let cure = match error {
            TlsError::InvalidCertificate(certificate) => match certificate {
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => CLOCK_CURE,
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => NAME_CURE,
                _ => ISSUER_CURE,
            },
            TlsError::InvalidMessage(_) => NO_TLS_CURE,
            _ => NETWORK_CURE,
        };
        let what = match error {
            // A signature that does not fit: two issuers have the same name.
            TlsError::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
                "the issuer of its certificate is unknown to this machine".to_owned()
            }
            TlsError::InvalidMessage(_) => "the answer is not TLS".to_owned(),
            other => other.to_string(),
        };
        Self::new(format!("TLS with {} failed: {what}", route.in_words()), cure)
    }

    /// The other side closed the connection during the TLS handshake.
    pub fn of_cut_handshake(route: &EndpointRoute) -> Self {
        let what = format!("TLS with {} failed: the connection was closed during the handshake", route.in_words());
        Self::new(what, NO_TLS_CURE)
    }

    fn new(what: String, cure: impl Into<String>) -> Self {
        Self { what, cure: cure.into() }
    }
}

impl From<ConnectionFault> for SetupError {
    fn from(fault: ConnectionFault) -> Self {
        SetupError::new(fault.what, fault.cure)
    }
}

/// The TLS error in a cause; the HTTP client wraps it in an input/output error.
pub fn as_tls_error<'e>(cause: &'e (dyn StdError + 'static)) -> Option<&'e TlsError> {
    let wrapped = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    let inner = wrapped.and_then(|inner| {
        let nested = inner.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        inner.downcast_ref().or_else(|| nested.and_then(|nested| nested.downcast_ref()))
    });
    cause.downcast_ref().or(inner)
}

/// The HTTPS client cannot be set up: it found no root certificate.
pub fn no_certificates() -> SetupError {
    let missing = missing_certificates();
    let named =
        missing.iter().map(|(variable, path)| format!("{variable} names {}, which is not there", path.display()));
    let what = match named.collect::<Vec<_>>().join(", and ") {
        named if named.is_empty() => "no root certificates are found on this machine".to_owned(),
        named => format!("no root certificates are found: {named}"),
    };
    let cure = "install the package ca-certificates, or let the environment variable SSL_CERT_FILE name a file of root certificates in \
                PEM format";
    SetupError::new(what, cure)
}
