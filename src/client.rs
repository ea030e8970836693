//! The HTTP client: one lead per request, Basic authentication, no redirects, a time limit; and the reading of the answer.
//!
//! It never retries and never decides: it reports a [`RequestAttempt`] with the class of its outcome.

pub mod fault;
pub mod permit;
pub mod route;

use std::time::{Duration, Instant};

use anyhow::Context;
use chrono::{DateTime, Utc};
use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
};
use reqwest::redirect;
use secrecy::ExposeSecret;
use url::Url;

use crate::client::fault::{ConnectionFault, no_certificates};
use crate::client::permit::SendPermit;
use crate::client::route::EndpointRoute;
use crate::config;
use crate::conversica::content::{AnswerText, TEXT_BYTES, read_body};
use crate::conversica::excerpt::{EXCERPT_CHARS, excerpt_of};
use crate::conversica::outcome::{self, HaltReason, OutcomeClass, TransportFailure};

/// The outcome of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestAttempt {
    pub class: OutcomeClass,
    /// Set where the class is halting.
    pub halt: Option<HaltReason>,
    pub http_status: Option<u16>,
    /// For people: a short excerpt of the answer, even of an acceptance, or the connection's error. It may quote the lead, so it
    /// goes into the state, never into a log.
    pub detail: Option<String>,
    /// Why no connection could be made, without data: for the log.
    pub fault: Option<ConnectionFault>,
    pub retry_after: Option<Duration>,
    pub duration: Duration,
}

/// Connecting takes a round trip or three; a host that needs longer than this is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Accepted answers are stored as well, one for each lead, and tell little: their excerpt is shorter.
const ACCEPTED_EXCERPT_CHARS: usize = 200;

#[derive(Debug, Clone)]
pub struct ConversicaClient {
    http: reqwest::Client,
    endpoint: Url,
    route: EndpointRoute,
}

impl ConversicaClient {
    /// # Errors
    /// When no store of root certificates can be found (even for `http://` endpoints), or the credentials contain characters that
    /// a header cannot carry.
    pub fn new(account: &config::ConversicaSettings, timeout: Duration, concurrency: u32) -> anyhow::Result<Self> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, basic(&account.username, account.password.expose_secret())?);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        // The only compression that this client reads: without this header a server may choose any.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        let mut builder = reqwest::Client::builder()
            .default_headers(headers)
            .user_agent(concat!("conversica-sync/", env!("CARGO_PKG_VERSION")))
            // The default policy would follow a 302 with a bodyless GET, and call its 200 a success.
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(timeout)
            .pool_max_idle_per_host(concurrency as usize)
            // A connection that was idle for long may be dead at the other end, and a cut on reuse is an ambiguous outcome.
            .pool_idle_timeout(Duration::from_secs(20))
            .tcp_keepalive(Duration::from_secs(30))
            .tcp_nodelay(true);
        if account.endpoint.scheme() == "http" {
            // Plain HTTP is for loopback only; a proxy would carry the credentials elsewhere.
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|error| anyhow::Error::from(error).context(no_certificates()))?;
        let endpoint = account.endpoint.clone();
        Ok(Self { http, route: EndpointRoute::of(&endpoint), endpoint })
    }

    /// Posts one Lead object if its permit is still valid when the connection writes it; `None` where nothing was sent.
    pub async fn post_permitted(
        &self,
        body: String,
        permit: &SendPermit,
        now: DateTime<Utc>,
    ) -> Option<RequestAttempt> {
        if permit.is_over() {
            return None;
        }
        let attempt = self.exchange(permit.guard(body.clone()), &body, now).await;
        (!permit.has_kept_back()).then_some(attempt)
    }

    /// Posts one Lead object. `now` serves only to read a `Retry-After` date.
    pub async fn post(&self, body: String, now: DateTime<Utc>) -> RequestAttempt {
        self.exchange(body.clone(), &body, now).await
    }

    /// `sent` is the text of the body.
    async fn exchange(&self, body: impl Into<reqwest::Body>, sent: &str, now: DateTime<Utc>) -> RequestAttempt {
        let started = Instant::now();
        let answer = self.http.post(self.endpoint.clone()).body(body).send().await;
        match answer {
            Ok(response) => {
                let status = response.status().as_u16();
                let header = |name: HeaderName| {
                    response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
                };
                let retry_after = header(RETRY_AFTER).and_then(|value| outcome::retry_after(&value, now));
                let (content_type, encoding) = (header(CONTENT_TYPE), header(CONTENT_ENCODING));
                let text = read_body(encoding.as_deref(), &read_bytes(response).await);
                let (class, halt) = outcome::of_answer(status, content_type.as_deref(), &text, sent);
                let chars = if class == OutcomeClass::Accepted { ACCEPTED_EXCERPT_CHARS } else { EXCERPT_CHARS };
                let detail = match text {
                    AnswerText::Text(text) => excerpt_of(&text, chars),
                    AnswerText::Unreadable(encoding) => {
                        Some(format!("(an answer in the encoding {encoding}, which cannot be read)"))
                    }
                };
                RequestAttempt {
                    class,
                    halt,
                    http_status: Some(status),
                    detail,
                    fault: None,
                    retry_after,
                    duration: started.elapsed(),
                }
            }
            Err(error) => RequestAttempt {
                class: outcome::of_transport(failure(&error)),
                halt: None,
                http_status: None,
                detail: Some(describe(&error)),
                fault: match failure(&error) {
                    TransportFailure::NotSent => Some(ConnectionFault::of_request(&error, &self.route)),
                    TransportFailure::Unanswered => None,
                },
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

/// A connection error before the request was sent is certain; after any later error, the outcome is unknown.
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

/// Reads the answer to its end, so that the connection can be reused, but no more than is needed. A cut answer is judged by the
/// part that arrived: it has a status line.
async fn read_bytes(mut response: reqwest::Response) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < TEXT_BYTES {
        match response.chunk().await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) | Err(_) => break,
        }
    }
    bytes
}
