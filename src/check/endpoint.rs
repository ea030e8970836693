//! `check` of the endpoint. It connects the way that deliveries go, through a proxy if the environment names one, and does the TLS
//! handshake for HTTPS. It sends the endpoint no byte of HTTP, because even a request without credentials may count as a failed
//! log-in.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use hyper::header::HeaderValue;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::check::item::CheckItem;
use crate::client::fault::{ConnectionFault, as_tls_error, no_certificates};
use crate::client::route::{EndpointProxy, EndpointRoute, missing_certificates};
use crate::config::ServiceSettings;
use crate::error::SetupError;

const SECTION: &str = "endpoint";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest head of a proxy's answer that is read.
const ANSWER_BYTES: usize = 8 * 1024;

/// A connection to the proxy, or through it.
trait NetworkStream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> NetworkStream for S {}

pub(super) async fn of_endpoint(settings: &ServiceSettings) -> Vec<CheckItem> {
    let route = EndpointRoute::of(&settings.conversica.endpoint);
    let is_plain = settings.conversica.endpoint.scheme() == "http";
    let reached = if is_plain { reach_plain(&route).await } else { reach(&route).await };
    let mut items = match reached {
        Ok(text) => vec![CheckItem::ok(SECTION, "connect", text)],
        Err(error) => CheckItem::failed(SECTION, "connect", &error),
    };
    if !is_plain {
        items.extend(of_environment(&route));
    }
    items
}

async fn reach_plain(route: &EndpointRoute) -> anyhow::Result<String> {
    connect(route).await?;
    Ok(format!("{} answers (plain HTTP, on this machine)", route.in_words()))
}

/// Connects, and says what answers.
async fn reach(route: &EndpointRoute) -> anyhow::Result<String> {
    let stream = connect(route).await?;
    let place = route.in_words();
    let tls = connector()?;
    let stream = match &route.proxy {
        None => stream,
        Some(proxy) => tunnel(&tls, stream, proxy, route).await?,
    };
    handshake(&tls, stream, &route.host, route).await?;
    Ok(format!("{place} answers, its certificate is valid; no credentials of [conversica] were sent"))
}

/// Variables that do not have the effect that their names promise.
fn of_environment(route: &EndpointRoute) -> Vec<CheckItem> {
    let unreadable = route.unreadable.map(|variable| {
        CheckItem::warn(SECTION, "proxy", format!("the environment variable {variable} names no proxy, and is ignored"))
            .cure("write it as http://HOST:PORT")
    });
    let missing = missing_certificates().into_iter().map(|(variable, path)| {
        let text = format!("the environment variable {variable} names {}, which is not there", path.display());
        CheckItem::warn(SECTION, "certificates", text)
            .cure("name a file of root certificates in PEM format, or unset it")
    });
    unreadable.into_iter().chain(missing).collect()
}

async fn connect(route: &EndpointRoute) -> Result<Box<dyn NetworkStream>, SetupError> {
    if route.proxy.as_ref().is_some_and(|proxy| !proxy.is_supported()) {
        return Err(ConnectionFault::of_unsupported_proxy(route).into());
    }
    let next =
        route.proxy.as_ref().map_or((route.host.as_str(), route.port), |proxy| (proxy.host.as_str(), proxy.port));
    let address = (next.0.trim_matches(['[', ']']), next.1);
    match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => Ok(Box::new(stream)),
        Ok(Err(error)) => Err(ConnectionFault::unreachable(&error.to_string(), route).into()),
        Err(_) => Err(ConnectionFault::unreachable("no answer within ten seconds", route).into()),
    }
}

/// With the certificates that deliveries trust.
fn connector() -> anyhow::Result<TlsConnector> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = rustls_platform_verifier::Verifier::new(provider.clone())
        .map_err(|error| anyhow::Error::from(error).context(no_certificates()))?;
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn handshake(
    tls: &TlsConnector,
    stream: Box<dyn NetworkStream>,
    host: &str,
    route: &EndpointRoute,
) -> anyhow::Result<Box<dyn NetworkStream>> {
    let name = host.trim_matches(['[', ']']).to_owned();
    let name = rustls::pki_types::ServerName::try_from(name).context("the endpoint's host name")?;
    let fault = match tokio::time::timeout(CONNECT_TIMEOUT, tls.connect(name, stream)).await {
        Ok(Ok(stream)) => return Ok(Box::new(stream)),
        Ok(Err(error)) => match as_tls_error(&error) {
            Some(tls) => ConnectionFault::of_tls(tls, route),
            None if error.kind() == std::io::ErrorKind::UnexpectedEof => ConnectionFault::of_cut_handshake(route),
            None => ConnectionFault::unreachable(&error.to_string(), route),
        },
        Err(_) => ConnectionFault::unreachable("the TLS handshake took longer than ten seconds", route),
    };
    Err(SetupError::from(fault).into())
}

/// Asks the proxy for a connection to the endpoint, as the HTTP client does.
async fn tunnel(
    tls: &TlsConnector,
    stream: Box<dyn NetworkStream>,
    proxy: &EndpointProxy,
    route: &EndpointRoute,
) -> anyhow::Result<Box<dyn NetworkStream>> {
    let mut stream = if proxy.scheme == "https" { handshake(tls, stream, &proxy.host, route).await? } else { stream };
    let place = format!("{}:{}", route.host, route.port);
    let mut head = format!(
        "CONNECT {place} HTTP/1.1\r\nHost: {place}\r\nuser-agent: conversica-sync/{}\r\n",
        env!("CARGO_PKG_VERSION")
    )
    .into_bytes();
    if let Some(value) = &proxy.authorization {
        head.extend([b"Proxy-Authorization: ", HeaderValue::as_bytes(value), b"\r\n"].concat());
    }
    head.extend(b"\r\n");
    let asked = async {
        stream.write_all(&head).await?;
        stream.flush().await?;
        read_status(&mut stream).await
    };
    let status = match tokio::time::timeout(CONNECT_TIMEOUT, asked).await {
        Ok(Ok(status)) => status,
        Ok(Err(error)) => return Err(SetupError::from(ConnectionFault::unreachable(&error.to_string(), route)).into()),
        Err(_) => {
            let why = "no answer to CONNECT within ten seconds";
            return Err(SetupError::from(ConnectionFault::unreachable(why, route)).into());
        }
    };
    match status {
        200 => Ok(stream),
        status => Err(SetupError::from(ConnectionFault::of_proxy_status(status, route)).into()),
    }
}

/// The status of the answer, whose head is read to its end: the bytes after it are the endpoint's.
async fn read_status(stream: &mut Box<dyn NetworkStream>) -> std::io::Result<u16> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < ANSWER_BYTES {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof && !head.is_empty() => break,
            Err(error) => return Err(error),
        }
    }
    let text = String::from_utf8_lossy(&head);
    let status = text.strip_prefix("HTTP/1.").and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok());
    status.ok_or_else(|| std::io::Error::other("the answer is not HTTP"))
}
