//! Identifies the visitor of a page and their rights, and answers those without access.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::header::{CONNECTION, COOKIE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use serde_json::json;
use tracing::{info, warn};

use super::door::{self, AnonymousAccess, SignOnWord, TokenHolder};
use super::frame::{PageFrame, note, query};
use crate::admin::dashboard::board::DashboardContext;
use crate::admin::dashboard::session::{DashboardVisitor, PeopleVisitor};
use crate::admin::dashboard::token_guard::{GuardEvent, TokenVerdict};

impl FromRequestParts<Arc<DashboardContext>> for DashboardVisitor {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, board: &Arc<DashboardContext>) -> Result<Self, Response> {
        let address = peer(parts);
        let now = Instant::now();
        let is_live = parts.headers.contains_key("x-live");
        let of = |session, bearer| Self { address, session, bearer, is_live };
        let word = board.door.signed_on(&parts.headers, address);
        if let SignOnWord::Is(holder) = &word {
            let (session, began) = board.sessions.signed_on(holder.clone(), now);
            if began {
                info!(%address, operator = holder.name, "a user signed in to the dashboard by single sign-on");
            }
            return Ok(of(Some(session), None));
        }
        if let Some(session) = cookie(&parts.headers, &board.cookie).and_then(|cookie| board.sessions.find(cookie, now))
        {
            return Ok(of(Some(session), None));
        }
        let is_api = is_api(parts);
        if let Some(token) = door::bearer(&parts.headers) {
            return match board.judge(token, address, now) {
                Ok(holder) => Ok(of(None, Some(holder))),
                Err(refusal) => Err(wrong_token(refusal)),
            };
        }
        if word == SignOnWord::Unknown {
            return Err(unknown_operator(is_api));
        }
        match board.door.stranger(&parts.headers) {
            AnonymousAccess::MayCount => Ok(of(None, None)),
            AnonymousAccess::MustSignIn => Err(must_sign_in(parts, board)),
            AnonymousAccess::IsForeign if is_api => {
                Err((StatusCode::FORBIDDEN, Json(json!({ "error": FOREIGN, "cure": FOREIGN_CURE }))).into_response())
            }
            AnonymousAccess::IsForeign => {
                let link = Some(("Sign in", "/login"));
                Err(note(StatusCode::FORBIDDEN, PageFrame::plain("Not from here"), FOREIGN, FOREIGN_CURE, link))
            }
        }
    }
}

impl FromRequestParts<Arc<DashboardContext>> for PeopleVisitor {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, board: &Arc<DashboardContext>) -> Result<Self, Response> {
        let visitor = DashboardVisitor::from_request_parts(parts, board).await?;
        if visitor.sees_people() { Ok(Self(visitor)) } else { Err(must_sign_in(parts, board)) }
    }
}

fn is_api(parts: &Parts) -> bool {
    parts.uri.path().starts_with("/api/")
}

fn must_sign_in(parts: &Parts, board: &DashboardContext) -> Response {
    if !is_api(parts) {
        return Redirect::to(&sign_in_then(parts)).into_response();
    }
    let (error, cure) = if board.door.has_token() {
        ("a token is needed", "send Authorization: Bearer, with [admin] token or an operator's")
    } else {
        (
            "people are shown to signed-in visitors only",
            "set token_file under [admin] and send it as Authorization: Bearer; or use `conversica-sync lead --json`",
        )
    };
    let answer = Json(json!({ "error": error, "cure": cure }));
    (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer")], answer).into_response()
}

/// The answer to a request of a person that the proxy has signed in, and that the settings do not list.
fn unknown_operator(is_api: bool) -> Response {
    const WHAT: &str = "Single sign-on names a person who is no operator here.";
    const CURE: &str = "Write `[[admin.operator]]` with exactly that `name` and a `role`, and start `run` again; the proxy must set the header \
                        once, in place of any that came with the request.";
    if is_api {
        return (StatusCode::FORBIDDEN, Json(json!({ "error": WHAT, "cure": CURE }))).into_response();
    }
    note(StatusCode::FORBIDDEN, PageFrame::plain("No operator"), WHAT, CURE, Some(("Sign in with a token", "/login")))
}

const FOREIGN: &str = "Without a token the dashboard shows counts to this machine only, under its own names.";
const FOREIGN_CURE: &str =
    "Set `token_file` under [admin] and sign in, or sign in with the link that `conversica-sync dashboard` prints.";

/// The answer to a token that does not let in. It ends the connection, so that each guess costs one.
fn wrong_token(refusal: TokenRefusal) -> Response {
    let wait = match refusal {
        TokenRefusal::NotJudged(wait) => wait,
        TokenRefusal::Wrong => {
            let cure = "look at [admin] token and [[admin.operator]]";
            let error = json!({ "error": "that is not the admin token", "cure": cure });
            let headers = [(WWW_AUTHENTICATE, "Bearer"), (CONNECTION, "close")];
            return (StatusCode::UNAUTHORIZED, headers, Json(error)).into_response();
        }
    };
    let error = json!({ "error": "too many wrong tokens", "cure": "come back later with the right one" });
    let headers = [(RETRY_AFTER, seconds(wait)), (CONNECTION, "close".to_owned())];
    (StatusCode::TOO_MANY_REQUESTS, headers, Json(error)).into_response()
}

/// For a `Retry-After` header.
pub fn seconds(wait: Duration) -> String {
    wait.as_secs().max(1).to_string()
}

/// Why a token does not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenRefusal {
    Wrong,
    /// Too many wrong ones came before it. The time after which tokens are tried again.
    NotJudged(Duration),
}

impl DashboardContext {
    /// Judges a token, unless too many wrong ones came before it. Says so in the log once a minute and address.
    pub fn judge(&self, token: &str, address: IpAddr, now: Instant) -> Result<TokenHolder, TokenRefusal> {
        let mut guard = self.token_guard.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut holder = None;
        let (verdict, event) = guard.judge(address, now, || {
            holder = self.door.holder(token);
            holder.is_some()
        });
        match event {
            None => {}
            Some(GuardEvent::FirstWrong) => warn!(%address, "a request carried a wrong admin token"),
            Some(GuardEvent::LockedOut) => {
                warn!(%address, "too many wrong admin tokens: for up to a minute, none from this address is tried");
            }
            Some(GuardEvent::LockedOutAll) => {
                warn!("too many wrong admin tokens: for up to a minute, none from an unknown address is tried");
            }
        }
        match verdict {
            TokenVerdict::Right => holder.ok_or(TokenRefusal::Wrong),
            TokenVerdict::Wrong => Err(TokenRefusal::Wrong),
            TokenVerdict::NotJudged(wait) => Err(TokenRefusal::NotJudged(wait)),
        }
    }
}

pub fn peer(parts: &Parts) -> IpAddr {
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    peer.map_or(IpAddr::from([0, 0, 0, 0]), |ConnectInfo(peer)| peer.ip().to_canonical())
}

/// A posted form cannot be repeated from its address, so sign-in does not return to it.
fn sign_in_then(parts: &Parts) -> String {
    let path = parts.uri.path_and_query().filter(|_| parts.method == Method::GET);
    let path = path.map_or("/", |path| path.as_str());
    format!("/login?{}", query(&[("next", path)]))
}

pub fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let pairs =
        headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(';'));
    pairs.filter_map(|pair| pair.trim().split_once('=')).find(|(have, _)| *have == name).map(|(_, value)| value)
}

/// The page after sign-in: only one of ours.
pub fn page_of_ours(next: &str) -> &str {
    let is_ours =
        next.starts_with('/') && !next.starts_with("//") && next.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    if is_ours { next } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_sent_elsewhere() {
        for ours in ["/", "/leads?status=rejected", "/leads/a%2Fb?client=x"] {
            assert_eq!(page_of_ours(ours), ours);
        }
        for elsewhere in ["", "//evil.example", "/\\evil.example", "https://evil.example", "evil", "/\r\nx", "/ x"] {
            assert_eq!(page_of_ours(elsewhere), "/", "{elsewhere}");
        }
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, "a=1; sync=abc; b=2".parse().expect("a header"));
        headers.append(COOKIE, "c=3".parse().expect("a header"));
        assert_eq!((cookie(&headers, "sync"), cookie(&headers, "c")), (Some("abc"), Some("3")));
        assert_eq!(cookie(&headers, "yn"), None);
    }
}
