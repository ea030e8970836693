//! `check` of the endpoint. It connects, and does the TLS handshake for HTTPS. It sends no byte of HTTP, because even a request
//! without credentials may count as a failed log-in.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpStream;

use crate::check::item::CheckItem;
use crate::config::ServiceSettings;
use crate::error::SetupError;

const SECTION: &str = "endpoint";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) async fn of_endpoint(settings: &ServiceSettings) -> anyhow::Result<Vec<CheckItem>> {
    let endpoint = &settings.conversica.endpoint;
    let host = endpoint.host_str().context("the endpoint has a host")?;
    let port = endpoint.port_or_known_default().context("the endpoint has a port")?;
    let cure = "check the network, the firewall and [conversica] endpoint";
    let unreachable = |what: String| SetupError::new(what, cure);
    let address = (host.trim_matches(['[', ']']), port);
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address))
        .await
        .map_err(|_| unreachable(format!("{host} port {port} did not answer within ten seconds")))?
        .map_err(|error| unreachable(format!("{host} port {port} cannot be reached: {error}")))?;
    if endpoint.scheme() == "http" {
        let text = format!("{host} port {port} answers (plain HTTP, on this machine)");
        return Ok(vec![CheckItem::ok(SECTION, "connect", text)]);
    }
    let name = rustls::pki_types::ServerName::try_from(host.to_owned()).context("the endpoint's host name")?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(rustls_platform_verifier::Verifier::new(provider)?))
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    tokio::time::timeout(CONNECT_TIMEOUT, connector.connect(name, stream))
        .await
        .map_err(|_| unreachable(format!("{host} did not finish the TLS handshake within ten seconds")))?
        .map_err(|error| {
            let said = error.to_string();
            // A wrong clock looks like a wrong certificate.
            let dated = ["expired", "NotValidYet", "not valid yet"].iter().any(|word| said.contains(word));
            let cure = if dated {
                "look at this machine's clock first; then, as it may be right: ask Conversica"
            } else {
                cure
            };
            SetupError::new(format!("TLS with {host} failed: {said}"), cure)
        })?;
    let text = format!("{host} port {port} answers, its certificate is valid; no credentials were sent");
    Ok(vec![CheckItem::ok(SECTION, "connect", text)])
}
