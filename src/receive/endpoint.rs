//! Answers posts. The receiver checks path, method and credentials, in this order, before it reads a byte of the body; then it
//! reads, stores and acknowledges the post. After an answer to a request without credentials it closes the connection, so that
//! strangers occupy no place. Every answer is the JSON document that Conversica prescribes. A body with the right credentials but
//! a wrong path or method is stored as an unreadable post: it may be an opt-out.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::from_fn;
use axum::response::Response;
use futures_util::StreamExt;
use secrecy::ExposeSecret;
use tokio::sync::Semaphore;
use tracing::warn;

use crate::config::{ReceiveSettings, ServiceSettings};
use crate::conversica::heard::TOO_LARGE;
use crate::conversica::post::PostKind;
use crate::http::absolute_form::refuse_foreign;
use crate::http::crowd::ConnectionTrust;
use crate::receive::credentials::{LoginFailures, ReceiverCredentials, forwarded_for};
use crate::receive::intake::{NotStored, PostIntake};
use crate::store::event::PostArrival;

/// For a whole body, from its first byte to its last.
const BODY_WITHIN: Duration = Duration::from_secs(15);
/// A larger body is read on a thread of its own: searching it takes longer than answering a post.
const LARGE: usize = 16 << 10;
/// The receiver reads this many bytes past the limit, so that the sender gets to read the refusal.
const READ_PAST: usize = 64 << 20;
const WRONG_PATH: &str = "It came to a path that nothing is posted to";
const WRONG_METHOD: &str = "It came with another method than POST";
/// The delay of an answer to a failed authentication.
const DELAY: Duration = Duration::from_secs(1);
/// Delayed answers at the same time; further ones are sent at once, because a delay occupies a connection.
const DELAYED: usize = 32;

/// Shared by the handlers.
pub struct EndpointContext {
    kinds: HashMap<String, PostKind>,
    credentials: RwLock<ReceiverCredentials>,
    failures: Mutex<LoginFailures>,
    delays: Semaphore,
    behind_proxy: bool,
    max_body: usize,
    has_clients: bool,
    intake: PostIntake,
}

impl EndpointContext {
    /// From now on only these credentials work.
    pub fn let_in(&self, receive: &ReceiveSettings) {
        *self.credentials.write().unwrap_or_else(PoisonError::into_inner) = credentials(receive);
    }

    fn is_let_in(&self, headers: &HeaderMap) -> bool {
        self.credentials.read().unwrap_or_else(PoisonError::into_inner).shown_in(headers)
    }

    pub fn new(settings: &ServiceSettings, receive: &ReceiveSettings, intake: PostIntake) -> Self {
        let kinds = receive.paths().into_iter().flat_map(|(kind, paths)| {
            paths.into_iter().flat_map(move |path| [(format!("{path}/"), kind), (path, kind)])
        });
        Self {
            kinds: kinds.collect(),
            credentials: RwLock::new(credentials(receive)),
            failures: Mutex::default(),
            delays: Semaphore::new(DELAYED),
            behind_proxy: receive.behind_proxy,
            max_body: receive.max_body_bytes(),
            has_clients: settings.source.client.is_some(),
            intake,
        }
    }
}

fn credentials(receive: &ReceiveSettings) -> ReceiverCredentials {
    ReceiverCredentials::new(&receive.username, receive.password.expose_secret())
}

/// Paths are compared literally, after removing slashes that a proxy has doubled: a configured path is no pattern.
pub fn router(desk: Arc<EndpointContext>) -> Router {
    Router::new().fallback(take).with_state(desk).layer(from_fn(refuse_foreign))
}

async fn take(State(desk): State<Arc<EndpointContext>>, request: Request) -> Response {
    let path = plain_path(request.uri().path());
    let kind = desk.kinds.get(request.uri().path()).or_else(|| desk.kinds.get(&path)).copied();
    let Some(kind) = kind.filter(|_| request.method() == Method::POST) else {
        let kept = match desk.is_let_in(request.headers()) {
            true if kind.is_none() => desk.keep_misdirected(likely_kind(&path), WRONG_PATH, request).await,
            true => desk.keep_misdirected(kind.unwrap_or(PostKind::LeadUpdate), WRONG_METHOD, request).await,
            false => Ok(()),
        };
        let Ok(()) = kept else { return not_stored() };
        if kind.is_none() {
            return closing(answer(StatusCode::NOT_FOUND, "Nothing is posted to this path"));
        }
        let answer = answer(StatusCode::METHOD_NOT_ALLOWED, "Only POST is understood here");
        return closing(with(answer, header::ALLOW, HeaderValue::from_static("POST")));
    };
    if !desk.is_let_in(request.headers()) {
        return closing(desk.refuse(request).await);
    }
    if let Some(trust) = request.extensions().get::<ConnectionTrust>() {
        trust.establish();
    }
    let (received, body) = read(request.into_body(), desk.max_body).await;
    let (bytes, is_empty) = (body.len(), body.is_empty());
    let has_clients = desk.has_clients;
    let (refusal, problem) = match received {
        BodyRead::Whole => (StatusCode::BAD_REQUEST, None),
        BodyRead::TooLong => (StatusCode::PAYLOAD_TOO_LARGE, Some(TOO_LARGE)),
        BodyRead::TooSlow => (StatusCode::REQUEST_TIMEOUT, Some("The body did not come to its end in time")),
        BodyRead::Cut => (StatusCode::BAD_REQUEST, Some("The body ended early")),
    };
    let read = move || match problem {
        None => PostArrival::of(kind, body, has_clients),
        Some(problem) => PostArrival::unreadable(kind, body, problem),
    };
    // The client has gone, and this handler may be dropped at its next await.
    if matches!(received, BodyRead::Cut) {
        if !is_empty {
            desk.intake.leave(read());
        }
        return answer(refusal, problem.unwrap_or_default());
    }
    if is_empty && matches!(received, BodyRead::TooSlow) {
        // The body is empty.
        return answer(refusal, problem.unwrap_or_default());
    }
    let Ok(arrival) = read_post(bytes, read).await else { return not_stored() };
    let problem = arrival.problem.clone();
    match (desk.intake.store(arrival).await, problem) {
        (Err(NotStored), _) => not_stored(),
        (Ok(()), None) => answer(StatusCode::OK, "Received"),
        (Ok(()), Some(problem)) => answer(refusal, &problem),
    }
}

fn not_stored() -> Response {
    answer(StatusCode::INTERNAL_SERVER_ERROR, "Not stored; post it again later")
}

/// Reads a post; a large one beside the threads that answer other requests.
async fn read_post(
    bytes: usize,
    read: impl FnOnce() -> PostArrival + Send + 'static,
) -> Result<PostArrival, NotStored> {
    if bytes < LARGE {
        return Ok(read());
    }
    tokio::task::spawn_blocking(read).await.map_err(|_| NotStored)
}

/// Some proxies write `//conversica/lead`.
fn plain_path(path: &str) -> String {
    let mut plain = String::with_capacity(path.len());
    for c in path.chars() {
        if c != '/' || !plain.ends_with('/') {
            plain.push(c);
        }
    }
    plain
}

/// The likely kind of a post to an unknown path.
fn likely_kind(path: &str) -> PostKind {
    let path = path.to_ascii_lowercase();
    match () {
        () if path.contains("message") => PostKind::Message,
        () if path.contains("create") || path.contains("chat") => PostKind::ChatLead,
        () => PostKind::LeadUpdate,
    }
}

impl EndpointContext {
    /// Stores a body with a wrong path or method.
    async fn keep_misdirected(&self, kind: PostKind, problem: &'static str, request: Request) -> Result<(), NotStored> {
        let (received, body) = read(request.into_body(), self.max_body).await;
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        let problem = if matches!(received, BodyRead::TooLong) { TOO_LARGE } else { problem };
        let arrival = read_post(body.len(), move || PostArrival::unreadable(kind, body, problem)).await?;
        self.intake.store(arrival).await
    }

    /// Refuses slowly, and after several failures in a minute with a time to wait.
    async fn refuse(&self, request: Request) -> Response {
        let answered_at = tokio::time::Instant::now() + DELAY;
        let address = self.address_of(&request);
        let failure = {
            let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
            failures.note(address, Instant::now())
        };
        if failure.first {
            warn!(
                %address,
                "a post without the right credentials was refused; further ones from this address are not logged for a minute"
            );
        }
        if let Ok(_place) = self.delays.try_acquire() {
            // Reads the body and drops it: an answer that overtakes a body may be lost on its way. A client that asks first
            // (`Expect`) has not sent the body.
            if !request.headers().contains_key(header::EXPECT) {
                let _ = tokio::time::timeout_at(answered_at, read_past(request.into_body(), self.max_body)).await;
            }
            tokio::time::sleep_until(answered_at).await;
        }
        match failure.come_back {
            None => {
                let answer = answer(StatusCode::UNAUTHORIZED, "Wrong username or password");
                let scheme = HeaderValue::from_static("Basic realm=\"conversica-sync\", charset=\"UTF-8\"");
                with(answer, header::WWW_AUTHENTICATE, scheme)
            }
            Some(left) => {
                let answer = answer(StatusCode::TOO_MANY_REQUESTS, "Wrong username or password, too often");
                with(answer, header::RETRY_AFTER, HeaderValue::from(left.as_secs().max(1)))
            }
        }
    }

    fn address_of(&self, request: &Request) -> IpAddr {
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
        let peer = peer.map_or(IpAddr::from([0; 4]), |ConnectInfo(peer)| peer.ip());
        let forwarded = |headers: &HeaderMap| forwarded_for(headers);
        if self.behind_proxy { forwarded(request.headers()).unwrap_or(peer) } else { peer }
    }
}

/// How reading a body ended.
#[derive(Debug, Clone, Copy)]
enum BodyRead {
    Whole,
    TooLong,
    TooSlow,
    Cut,
}

/// The part of a body that arrived, up to `most`.
async fn read(body: Body, most: usize) -> (BodyRead, Vec<u8>) {
    let deadline = tokio::time::Instant::now() + BODY_WITHIN;
    let mut bytes = Vec::new();
    let mut chunks = body.into_data_stream();
    loop {
        let chunk = match tokio::time::timeout_at(deadline, chunks.next()).await {
            Err(_) => return (BodyRead::TooSlow, bytes),
            Ok(None) => return (BodyRead::Whole, bytes),
            Ok(Some(Err(_))) => return (BodyRead::Cut, bytes),
            Ok(Some(Ok(chunk))) => chunk,
        };
        let room = most - bytes.len();
        bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            let rest = read_past(Body::from_stream(chunks), READ_PAST);
            let _ = tokio::time::timeout_at(deadline, rest).await;
            return (BodyRead::TooLong, bytes);
        }
    }
}

/// Reads to the end, or up to `most`.
async fn read_past(body: Body, most: usize) {
    let (mut chunks, mut past) = (body.into_data_stream(), 0);
    while let Some(Ok(chunk)) = chunks.next().await
        && past < most
    {
        past += chunk.len();
    }
}

/// The body has the status as a text, one of the four that Conversica lists; HTTP's own status may be more specific.
fn answer(status: StatusCode, message: &str) -> Response {
    let told = match status.as_u16() {
        200..=299 => "200",
        401 => "401",
        500..=599 => "500",
        _ => "400",
    };
    let document = serde_json::json!({ "status": told, "message": message }).to_string();
    let mut response = Response::new(Body::from(document));
    *response.status_mut() = status;
    with(response, header::CONTENT_TYPE, HeaderValue::from_static("application/json"))
}

fn with(mut response: Response, name: header::HeaderName, value: HeaderValue) -> Response {
    response.headers_mut().insert(name, value);
    response
}

/// The connection ends after this answer.
fn closing(response: Response) -> Response {
    with(response, header::CONNECTION, HeaderValue::from_static("close"))
}
