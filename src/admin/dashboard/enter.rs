//! Signing in, with the admin token or with a link from the command line, and out.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use askama::Template;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, RawQuery, State};
use axum::http::header::{RETRY_AFTER, SET_COOKIE};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use secrecy::ExposeSecret;
use tracing::{info, warn};

use super::door::{TokenHolder, is_https, is_of_our_pages, same_secret};
use super::frame::{PageFrame, QueryParameters, TextPiece, note, page, pieces};
use super::session::{LASTS, VisitorSession};
use super::visitor::{self, TokenRefusal, page_of_ours};
use crate::admin::dashboard::board::DashboardContext;
use crate::clock;
use crate::db::discreet::in_words;
use crate::store::state_db::StateDb;
use crate::store::{file_lock, sign_in};

#[derive(Template)]
#[template(path = "admin/dashboard/login.html", config = ".askama.toml")]
struct LoginPage<'a> {
    frame: PageFrame,
    has_token: bool,
    has_sign_on: bool,
    next: &'a str,
    problem: Option<Vec<TextPiece>>,
}

pub async fn form(State(board): State<Arc<DashboardContext>>, RawQuery(query): RawQuery) -> Response {
    let asked = QueryParameters::read(query.unwrap_or_default().as_bytes());
    login(&board, StatusCode::OK, asked.get("next"), None)
}

fn login(board: &DashboardContext, status: StatusCode, next: &str, problem: Option<&str>) -> Response {
    let (frame, next, problem) = (PageFrame::plain("Sign in"), page_of_ours(next), problem.map(pieces));
    let (has_token, has_sign_on) = (board.door.has_token(), board.door.has_sign_on());
    page(status, &LoginPage { frame, has_token, has_sign_on, next, problem })
}

pub async fn sign_in(
    State(board): State<Arc<DashboardContext>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if !board.door.has_token() {
        return login(&board, StatusCode::NOT_FOUND, "/", None);
    }
    if !is_of_our_pages(&headers) {
        return not_ours();
    }
    let (form, now, address) = (QueryParameters::read(&body), Instant::now(), peer.ip().to_canonical());
    let next = form.get("next");
    match board.judge(form.get("token"), address, now) {
        Ok(holder) => {
            info!(%address, operator = holder.name, "a user signed in to the dashboard");
            enter(&board, &headers, page_of_ours(next), (holder, now))
        }
        Err(TokenRefusal::Wrong) => {
            let problem = match board.settings.admin.operator.is_empty() {
                true => "That is not the admin token.",
                false => "That is neither the admin token nor an operator's.",
            };
            login(&board, StatusCode::UNAUTHORIZED, next, Some(problem))
        }
        Err(TokenRefusal::NotJudged(wait)) => {
            let problem = "Too many wrong tokens: for up to a minute none is tried. Look at [admin] token meanwhile.";
            let answer = login(&board, StatusCode::TOO_MANY_REQUESTS, next, Some(problem));
            ([(RETRY_AFTER, visitor::seconds(wait))], answer).into_response()
        }
    }
}

/// Signs in with a link from the command line.
pub async fn by_link(
    State(board): State<Arc<DashboardContext>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    (method, headers): (Method, HeaderMap),
    RawQuery(query): RawQuery,
) -> Response {
    let asked = QueryParameters::read(query.unwrap_or_default().as_bytes());
    // A preview of the link must not use it up.
    if method == Method::GET && board.redeem(asked.get("code")).await {
        info!(address = %peer.ip().to_canonical(), "a user signed in to the dashboard with a link");
        return enter(&board, &headers, "/", (TokenHolder::unnamed(), Instant::now()));
    }
    let problem = "This link was used, or is older than ten minutes. `conversica-sync dashboard` prints a new one.";
    login(&board, StatusCode::UNAUTHORIZED, "/", Some(problem))
}

fn enter(board: &DashboardContext, headers: &HeaderMap, next: &str, (holder, now): (TokenHolder, Instant)) -> Response {
    let cookie = board.sessions.begin(holder, now);
    ([(SET_COOKIE, set_cookie(board, headers, &cookie, LASTS.as_secs()))], Redirect::to(next)).into_response()
}

impl DashboardContext {
    /// Whether a link with this code was valid; then it is used up.
    async fn redeem(&self, code: &str) -> bool {
        // The state is opened for writing only for a valid link.
        let offered = self.desk.window.read(async |db| Ok(sign_in::is_offered(db, code, clock::now()).await?)).await;
        if offered != Some(true) {
            return false;
        }
        let redeemed = async {
            let _turn = self.acting.lock().await;
            let url = self.settings.state.url.expose_secret();
            file_lock::refuse_lost(url)?;
            let db = StateDb::open_existing_state(url).await?;
            let redeemed = sign_in::redeem(&db, code, clock::now()).await;
            db.close().await;
            anyhow::Ok(redeemed?)
        };
        redeemed.await.unwrap_or_else(|error: anyhow::Error| {
            warn!(error = in_words(&error), "a link to the dashboard could not be used: the state cannot be written");
            false
        })
    }
}

pub async fn sign_out(State(board): State<Arc<DashboardContext>>, headers: HeaderMap, body: Bytes) -> Response {
    // A foreign page has no cookie of ours to show, but could take it away.
    if !is_of_our_pages(&headers) {
        return not_ours();
    }
    let cookie = visitor::cookie(&headers, &board.cookie);
    if let Some(VisitorSession { key, form_token, .. }) =
        cookie.and_then(|cookie| board.sessions.find(cookie, Instant::now()))
    {
        if !same_secret(QueryParameters::read(&body).get("form_token"), &form_token) {
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
