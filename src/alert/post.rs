//! Sends an alert by posting its document to a web address. The address and the document are secret: neither is ever part of a
//! message.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::alert::failure::ChannelFailure;
use crate::client::fault::no_certificates;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Clone)]
pub struct AlertPost {
    http: reqwest::Client,
    url: Url,
    headers: HeaderMap,
}

impl AlertPost {
    /// # Errors
    /// When no store of root certificates can be found, or a header is none.
    pub fn new(url: &Url, headers: &BTreeMap<String, SecretString>, timeout: Duration) -> Result<Self, ChannelFailure> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("conversica-sync/", env!("CARGO_PKG_VERSION")))
            // The operator has allowed this address for personal data, not the target of a redirect.
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(timeout);
        if url.scheme() == "http" {
            // Plain HTTP is for loopback only.
            builder = builder.no_proxy();
        }
        let http =
            builder.build().map_err(|_| ChannelFailure::new(no_certificates().what, "install ca-certificates"))?;
        let mut all = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unfit())?;
            let mut value = HeaderValue::from_str(value.expose_secret()).map_err(|_| unfit())?;
            value.set_sensitive(true);
            all.insert(name, value);
        }
        Ok(Self { http, url: url.clone(), headers: all })
    }

    /// # Errors
    /// The answer instead of a 2xx, in words without data.
    pub async fn send(&self, body: String) -> Result<(), ChannelFailure> {
        let request = self.http.post(self.url.clone()).headers(self.headers.clone());
        match request.body(body).send().await.map(|answer| answer.status()) {
            Ok(status) if status.is_success() => Ok(()),
            Ok(status) => Err(ChannelFailure::of_status(status.as_u16())),
            Err(error) if error.is_timeout() => Err(ChannelFailure::no_answer()),
            Err(error) if error.is_connect() => Err(ChannelFailure::no_connection()),
            Err(_) => Err(ChannelFailure::broken_connection()),
        }
    }
}

fn unfit() -> ChannelFailure {
    ChannelFailure::new("a header cannot be sent", "look at `headers` of the channel")
}
