//! Signing in with the admin token, and out.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use askama::Template;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, RawQuery, State};
use axum::http::header::{RETRY_AFTER, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use tracing::info;

use super::door::{is_https, is_of_our_pages, same_secret};
use super::frame::{PageFrame, QueryParameters, note, page};
use super::session::LASTS;
use super::visitor::{self, page_of_ours};
use crate::admin::dashboard::board::DashboardContext;

#[derive(Template)]
#[template(path = "admin/dashboard/login.html", config = ".askama.toml")]
struct LoginPage<'a> {
    frame: PageFrame,
    next: &'a str,
    problem: Option<&'a str>,
}

pub async fn form(State(board): State<Arc<DashboardContext>>, RawQuery(query): RawQuery) -> Response {
    if !board.door.has_token() {
        return no_token();
    }
    let asked = QueryParameters::read(query.unwrap_or_default().as_bytes());
    page(
        StatusCode::OK,
        &LoginPage { frame: PageFrame::plain("Sign in"), next: page_of_ours(asked.get("next")), problem: None },
    )
}

fn no_token() -> Response {
    const WHAT: &str = "There is no admin token to sign in with.";
    const CURE: &str = "Set `token_file` under [admin], start `run` again, and come back.";
    note(StatusCode::NOT_FOUND, PageFrame::plain("Sign in"), WHAT, CURE, None)
}

pub async fn sign_in(
    State(board): State<Arc<DashboardContext>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if !board.door.has_token() {
        return no_token();
    }
    if !is_of_our_pages(&headers) {
        return not_ours();
    }
    let (form, now) = (QueryParameters::read(&body), Instant::now());
    let next = page_of_ours(form.get("next"));
    if !board.door.is_token(form.get("token")) {
        let frame = PageFrame::plain("Sign in");
        return match board.refuse(peer.ip().to_canonical(), now) {
            None => {
                let problem = Some("That is not the admin token.");
                page(StatusCode::UNAUTHORIZED, &LoginPage { frame, next, problem })
            }
            Some(seconds) => {
                let problem = Some("Too many wrong tokens. Wait a minute, and look at [admin] token.");
                let answer = page(StatusCode::TOO_MANY_REQUESTS, &LoginPage { frame, next, problem });
                ([(RETRY_AFTER, seconds.to_string())], answer).into_response()
            }
        };
    }
    info!(address = %peer.ip().to_canonical(), "a user signed in to the dashboard");
    let cookie = board.sessions.begin(now);
    ([(SET_COOKIE, set_cookie(&board, &headers, &cookie, LASTS.as_secs()))], Redirect::to(next)).into_response()
}

pub async fn sign_out(State(board): State<Arc<DashboardContext>>, headers: HeaderMap, body: Bytes) -> Response {
    let cookie = visitor::cookie(&headers, &board.cookie);
    if let Some((key, form_token)) = cookie.and_then(|cookie| board.sessions.find(cookie, Instant::now())) {
        if !is_of_our_pages(&headers) || !same_secret(QueryParameters::read(&body).get("form_token"), &form_token) {
            return not_ours();
        }
        board.sessions.end(&key);
    }
    ([(SET_COOKIE, set_cookie(&board, &headers, "", 0))], Redirect::to("/")).into_response()
}

/// `Secure` if the browser uses HTTPS to a proxy. Without HTTPS, a browser on another machine would drop such a cookie.
fn set_cookie(board: &DashboardContext, headers: &HeaderMap, value: &str, seconds: u64) -> String {
    let secure = if is_https(headers) { "; Secure" } else { "" };
    format!("{}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}", board.cookie)
}

/// The answer to a form that is not from one of our pages, or from an old one.
pub fn not_ours() -> Response {
    const WHAT: &str =
        "This form did not come from a page of this dashboard, or its session has ended. Nothing was done.";
    note(
        StatusCode::FORBIDDEN,
        PageFrame::plain("Not done"),
        WHAT,
        "Go back to the overview and try again.",
        Some(("Overview", "/")),
    )
}
