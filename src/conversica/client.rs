//! The HTTP client: one lead a request, Basic authentication, no redirects, a time limit; and the reading of the answer.
//!
//! It never retries and never decides: it reports an [`Attempt`], whose class says what happened.

use std::time::{Duration, Instant};

use anyhow::Context;
use chrono::{DateTime, Utc};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::redirect;
use secrecy::ExposeSecret;
use url::Url;

use crate::config;
use crate::conversica::outcome::{self, Class, HaltReason, TransportFailure};
use crate::conversica::permit::SendPermit;

/// What came of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    pub class: Class,
    /// Set where the class is halting.
    pub halt: Option<HaltReason>,
    pub http_status: Option<u16>,
    /// For people: a short excerpt of the answer, or what went wrong with the connection. May quote the lead, so it goes
    /// into the state, never into a log.
    pub detail: Option<String>,
    pub retry_after: Option<Duration>,
    pub duration: Duration,
}

/// Connecting takes a round trip or three; a host that needs longer than this is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of an answer is read at most, and how much of that is kept for people.
const ANSWER_BYTES: usize = 16 * 1024;
const EXCERPT_CHARS: usize = 300;

#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    endpoint: Url,
}

impl Client {
    /// # Errors
    /// When no store of root certificates can be found (even for `http://` endpoints), or the credentials contain
    /// characters that a header cannot carry.
    pub fn new(account: &config::Conversica, timeout: Duration, concurrency: u32) -> anyhow::Result<Self> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, basic(&account.username, account.password.expose_secret())?);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let mut builder = reqwest::Client::builder()
            .default_headers(headers)
            .user_agent(concat!("conversica-sync/", env!("CARGO_PKG_VERSION")))
            // The default policy would follow a 302 with a bodyless GET, and call its 200 a success.
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(timeout)
            .pool_max_idle_per_host(concurrency as usize)
            // A connection that idled for long may be dead at the other end; a cut on reuse is an ambiguous outcome.
            .pool_idle_timeout(Duration::from_secs(20))
            .tcp_keepalive(Duration::from_secs(30))
            .tcp_nodelay(true);
        if account.endpoint.scheme() == "http" {
            // Plain HTTP is for loopback only; a proxy would carry the credentials elsewhere.
            builder = builder.no_proxy();
        }
        let http =
            builder.build().context("setting up the HTTPS client; are the system's root certificates installed?")?;
        Ok(Self { http, endpoint: account.endpoint.clone() })
    }

    /// Posts one Lead object if its permit still lasts when the connection writes it; `None` where nothing has left.
    pub async fn post_permitted(&self, body: String, permit: &SendPermit, now: DateTime<Utc>) -> Option<Attempt> {
        if permit.is_over() {
            return None;
        }
        let attempt = self.post(permit.guard(body), now).await;
        (!permit.has_kept_back()).then_some(attempt)
    }

    /// Posts one Lead object. `now` is only for reading a `Retry-After` date.
    pub async fn post(&self, body: impl Into<reqwest::Body>, now: DateTime<Utc>) -> Attempt {
        let started = Instant::now();
        let answer = self.http.post(self.endpoint.clone()).body(body).send().await;
        match answer {
            Ok(response) => {
                let status = response.status().as_u16();
                let (class, halt) = outcome::of_status(status);
                let retry_after = response
                    .headers()
                    .get(RETRY_AFTER)
                    .and_then(|value| value.to_str().ok())
                    .and_then(|value| outcome::retry_after(value, now));
                let excerpt = read_excerpt(response).await;
                let detail = if class == Class::Accepted { None } else { excerpt };
                Attempt { class, halt, http_status: Some(status), detail, retry_after, duration: started.elapsed() }
            }
            Err(error) => Attempt {
                class: outcome::of_transport(failure(&error)),
                halt: None,
                http_status: None,
                detail: Some(describe(&error)),
                retry_after: None,
                duration: started.elapsed(),
            },
        }
    }
}

fn basic(username: &str, password: &str) -> anyhow::Result<HeaderValue> {
    use base64::Engine;
    let token = base64::engine::general_purpose::STANDARD.encode(format!("{username}:{password}"));
    let mut value = HeaderValue::from_str(&format!("Basic {token}")).context("building the Authorization header")?;
    value.set_sensitive(true);
    Ok(value)
}

/// An error of the connection before the request left is certain; any later one leaves everybody guessing.
fn failure(error: &reqwest::Error) -> TransportFailure {
    if error.is_connect() || error.is_builder() { TransportFailure::NotSent } else { TransportFailure::Unanswered }
}

/// The innermost cause, without the URL: "connection refused", "operation timed out".
fn describe(error: &reqwest::Error) -> String {
    if error.is_timeout() && !error.is_connect() {
        return "no answer within the time limit".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let phase = match failure(error) {
        TransportFailure::NotSent => "could not connect",
        TransportFailure::Unanswered => "connection lost before the answer",
    };
    format!("{phase}: {cause}")
}

/// Reads the answer to its end, so that the connection can be used again, but no more than [`ANSWER_BYTES`] of it. The
/// status has decided already: whatever goes wrong here changes nothing.
async fn read_excerpt(mut response: reqwest::Response) -> Option<String> {
    let mut bytes = Vec::new();
    while bytes.len() < ANSWER_BYTES {
        match response.chunk().await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) | Err(_) => break,
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    let text: String = text.trim().chars().take(EXCERPT_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect();
    (!text.is_empty()).then_some(text)
}
