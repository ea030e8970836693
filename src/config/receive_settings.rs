//! `[receive]`: the endpoint that Conversica posts to.

use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;

use crate::config::size;
use crate::conversica::post::PostKind;

/// `[receive]`: the endpoint that Conversica posts Lead Updates, Messages and Chat Leads to.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReceiveSettings {
    /// Address and port.
    #[schemars(with = "String", extend("x-kind" = "address"))]
    pub listen: SocketAddr,
    /// What Conversica must present.
    pub username: String,
    /// What Conversica must present.
    #[schemars(with = "String", extend("x-secret" = "secret"))]
    pub password: SecretString,
    /// PEM file with the certificate chain; together with `tls_key`.
    pub tls_certificate: Option<PathBuf>,
    /// PEM file with the private key.
    pub tls_key: Option<PathBuf>,
    /// Whether a proxy in front does TLS, so that plain HTTP off loopback is meant.
    #[serde(default)]
    pub behind_proxy: bool,
    /// Longest request body, e.g. `1MiB`.
    #[schemars(extend("x-kind" = "size"))]
    pub max_body: Option<String>,
    /// Room that stays free on the disk of an SQLite state, e.g. `64MiB`: below it posts are answered 500.
    #[schemars(extend("x-kind" = "size"))]
    pub free_disk: Option<String>,
    /// How much of unreadable posts is kept, e.g. `256MiB`: beyond it they are answered 500.
    #[schemars(extend("x-kind" = "size"))]
    pub keep_unreadable: Option<String>,
    /// Where Lead Updates are posted to; unset: the published paths.
    pub lead_update_path: Option<String>,
    /// The same for Messages.
    pub message_path: Option<String>,
    /// The same for Chat Leads.
    pub chat_lead_path: Option<String>,
}

impl ReceiveSettings {
    /// The paths for each kind of post, without a final slash: the configured path, or else the two published ones.
    pub fn paths(&self) -> [(PostKind, Vec<String>); 3] {
        [
            (PostKind::LeadUpdate, &self.lead_update_path, ["/conversica/lead", "/conversicaLead"]),
            (PostKind::Message, &self.message_path, ["/conversica/message", "/conversicaMessage"]),
            (PostKind::ChatLead, &self.chat_lead_path, ["/conversica/create", "/conversicaCreate"]),
        ]
        .map(|(kind, own, published)| match own {
            Some(path) => (kind, vec![path.trim_end_matches('/').to_owned()]),
            None => (kind, published.map(str::to_owned).into()),
        })
    }

    /// Longest request body. The embedded defaults always give `max_body`; the fallback is the limit of the contract.
    pub fn max_body_bytes(&self) -> usize {
        usize::try_from(bytes_of(self.max_body.as_ref(), 1024 * 1024)).unwrap_or(1024 * 1024)
    }

    /// As [`Self::max_body_bytes`], for `free_disk`.
    pub fn free_disk_bytes(&self) -> u64 {
        bytes_of(self.free_disk.as_ref(), 64 * 1024 * 1024)
    }

    /// As [`Self::max_body_bytes`], for `keep_unreadable`.
    pub fn keep_unreadable_bytes(&self) -> u64 {
        bytes_of(self.keep_unreadable.as_ref(), 256 * 1024 * 1024)
    }
}

/// A size of the settings, which were validated.
fn bytes_of(size: Option<&String>, otherwise: u64) -> u64 {
    size.and_then(|text| size::parse(text).ok()).unwrap_or(otherwise)
}
