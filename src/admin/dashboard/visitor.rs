//! Identifies the visitor of a page and their rights, and answers those without access.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::header::{COOKIE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use serde_json::json;
use tracing::warn;

use super::door::{self, AnonymousAccess};
use super::frame::{PageFrame, note, query};
use crate::admin::dashboard::board::DashboardContext;
use crate::admin::dashboard::session::DashboardVisitor;

impl FromRequestParts<Arc<DashboardContext>> for DashboardVisitor {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, board: &Arc<DashboardContext>) -> Result<Self, Response> {
        let address = peer(parts);
        let now = Instant::now();
        let is_live = parts.headers.contains_key("x-live");
        if let Some(session) = cookie(&parts.headers, &board.cookie).and_then(|cookie| board.sessions.find(cookie, now))
        {
            return Ok(Self { address, session: Some(session), is_live });
        }
        if let Some(token) = door::bearer(&parts.headers) {
            if board.door.is_token(token) {
                return Ok(Self { address, session: None, is_live });
            }
            return Err(wrong_token(board, address));
        }
        let is_api = parts.uri.path().starts_with("/api/");
        match board.door.stranger(&parts.headers) {
            AnonymousAccess::MayRead => Ok(Self { address, session: None, is_live }),
            AnonymousAccess::MustSignIn if is_api => Err((
                StatusCode::UNAUTHORIZED,
                [(WWW_AUTHENTICATE, "Bearer")],
                Json(json!({ "error": "the admin token is needed", "cure": "send Authorization: Bearer, with [admin] token" })),
            )
                .into_response()),
            AnonymousAccess::MustSignIn => Err(Redirect::to(&sign_in_then(parts)).into_response()),
            AnonymousAccess::IsForeign if is_api => {
                Err((StatusCode::FORBIDDEN, Json(json!({ "error": FOREIGN, "cure": FOREIGN_CURE }))).into_response())
            }
            AnonymousAccess::IsForeign => {
                Err(note(StatusCode::FORBIDDEN, PageFrame::plain("Not from here"), FOREIGN, FOREIGN_CURE, None))
            }
        }
    }
}

const FOREIGN: &str = "Without a token the dashboard is served to this machine only, under its own names.";
const FOREIGN_CURE: &str = "Open it as http://127.0.0.1 or http://localhost with the port of [admin] listen, or set `token_file` \
     under [admin] and sign in.";

/// Too many wrong tokens get a time to wait; the right one always works.
pub fn wrong_token(board: &DashboardContext, address: IpAddr) -> Response {
    let Some(seconds) = board.refuse(address, Instant::now()) else {
        let error = json!({ "error": "that is not the admin token", "cure": "look at [admin] token" });
        return (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer")], Json(error)).into_response();
    };
    let error = json!({ "error": "too many wrong tokens", "cure": "come back later with the right one" });
    (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, seconds.to_string())], Json(error)).into_response()
}

impl DashboardContext {
    /// Records a wrong token; returns how long its sender has to wait, if at all.
    pub fn refuse(&self, address: IpAddr, now: Instant) -> Option<u64> {
        let failure = self.failures.lock().unwrap_or_else(std::sync::PoisonError::into_inner).note(address, now);
        if failure.first {
            warn!(%address, "a request carried a wrong admin token");
        }
        failure.come_back.map(|wait| wait.as_secs().max(1))
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
