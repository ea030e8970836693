//! Posts to the receiver as Conversica does, and retries until the receiver acknowledges. It follows no redirect, and gives up on
//! posts that the receiver rejects.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Certificate, StatusCode, redirect};
use tokio::sync::Semaphore;
use url::Url;

use crate::conversica::post::PostKind;

/// Posts under way at the same time.
const AT_ONCE: usize = 16;
/// The time limit for an answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Pauses between retries of a post without acknowledgement: the first and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// The receiver of the posts.
#[derive(Debug, Clone)]
pub struct PlayReceiver {
    /// Its address without a path: `http://127.0.0.1:8443`.
    pub url: Url,
    pub username: String,
    pub password: String,
    /// PEM of the authority that signed its certificate, if the system does not know it.
    pub certificate: Option<Vec<u8>>,
}

pub struct PostCourier {
    http: reqwest::Client,
    receiver: PlayReceiver,
    turn: Semaphore,
    pub posts: AtomicU64,
    pub acknowledged: AtomicU64,
    pub refused: AtomicU64,
    pub conversations: AtomicU64,
}

impl PostCourier {
    /// # Errors
    /// For an invalid certificate.
    pub fn new(receiver: PlayReceiver) -> anyhow::Result<Self> {
        let mut http = reqwest::Client::builder()
            .redirect(redirect::Policy::none())
            .timeout(TIMEOUT)
            .no_proxy()
            .user_agent(concat!("conversica-sync-sandbox/", env!("CARGO_PKG_VERSION")));
        if let Some(pem) = &receiver.certificate {
            http = http.tls_certs_merge([Certificate::from_pem(pem).context("the receiver's certificate is no PEM")?]);
        }
        let http =
            http.build().context("setting up the HTTPS client; are the system's root certificates installed?")?;
        let zero = AtomicU64::default;
        let (posts, acknowledged, refused, conversations) = (zero(), zero(), zero(), zero());
        Ok(Self { http, receiver, turn: Semaphore::new(AT_ONCE), posts, acknowledged, refused, conversations })
    }

    /// Returns once the post is acknowledged, or rejected for good.
    pub async fn deliver(&self, kind: PostKind, body: &str) {
        let path = match kind {
            PostKind::LeadUpdate => "/conversica/lead",
            PostKind::Message => "/conversica/message",
            PostKind::ChatLead => "/conversica/create",
        };
        let mut url = self.receiver.url.clone();
        url.set_path(path);
        let mut pause = PAUSES.0;
        loop {
            let Ok(turn) = self.turn.acquire().await else { return };
            self.posts.fetch_add(1, Ordering::Relaxed);
            let PlayReceiver { username, password, .. } = &self.receiver;
            let request = self.http.post(url.clone()).basic_auth(username, Some(password));
            let answer = request.header(CONTENT_TYPE, "application/json").body(body.to_owned()).send().await;
            drop(turn);
            match answer.map(|answer| answer.status()) {
                Ok(status) if status.is_success() => {
                    self.acknowledged.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                Ok(status) if status.is_client_error() && !passes(status) => {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                Ok(_) | Err(_) => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}

/// Whether a retry of the same post may succeed.
fn passes(status: StatusCode) -> bool {
    matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
}
