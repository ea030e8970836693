//! Sends an alert by posting its document to a web address. The address and the document are secret: neither is ever part of a
//! message.

use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use reqwest::redirect;
use url::Url;

use crate::client::fault::no_certificates;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Clone)]
pub struct AlertPost {
    http: reqwest::Client,
    url: Url,
}

impl AlertPost {
    /// # Errors
    /// When no store of root certificates can be found.
    pub fn new(url: &Url, timeout: Duration) -> anyhow::Result<Self> {
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
        let http = builder.build().map_err(|error| anyhow::Error::from(error).context(no_certificates()))?;
        Ok(Self { http, url: url.clone() })
    }

    /// # Errors
    /// The answer instead of a 2xx, in words without data.
    pub async fn tell(&self, document: &str) -> Result<(), String> {
        let request = self.http.post(self.url.clone()).header(CONTENT_TYPE, "application/json");
        let answer = request.body(document.to_owned()).send().await;
        match answer.map(|answer| answer.status()) {
            Ok(status) if status.is_success() => Ok(()),
            Ok(status) => Err(format!("status {}", status.as_u16())),
            Err(error) if error.is_timeout() => Err("no answer within the time limit".to_owned()),
            Err(error) if error.is_connect() => Err("no connection".to_owned()),
            Err(_) => Err("the connection failed".to_owned()),
        }
    }
}
