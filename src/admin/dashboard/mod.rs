//! The dashboard: pages that show whether the service works, which leads are stuck, why, and what to do; and forms for the
//! operator's decisions.
//!
//! Each request comes from a [`session::DashboardVisitor`], by the rules of [`door`]. Pages read the state in a few bounded
//! statements; only the notes on a lead's row come from the source. A decision uses the same code as the command line
//! ([`crate::decide`]), after a page that shows its effect. No page loads a script, a style or an image from another server.

mod act;
mod act_pause;
mod act_people;
mod act_preview;
mod act_release;
mod api;
mod attempts;
mod backlog;
mod bars;
pub mod board;
mod charts;
mod conversations;
mod conversations_kept;
mod counts_only;
mod decisions;
mod details;
mod door;
mod effect;
mod enter;
mod frame;
mod halt_help;
mod instance_line;
mod lead;
mod list;
mod list_export;
mod list_request;
mod list_view;
mod overview;
mod posts;
mod row_link;
mod row_notes;
mod sending;
mod session;
mod settings_page;
mod status_words;
mod token_guard;
mod verdict;
mod visitor;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use crate::admin::dashboard::board::DashboardContext;

/// The longest form: a few ids and a token.
const FORM_BYTES: usize = 64 * 1024;

pub fn router(board: Arc<DashboardContext>) -> Router {
    Router::new()
        .route("/", get(overview::show))
        .route("/leads", get(list::show))
        .route("/leads.csv", get(list_export::export))
        .route("/conversations", get(conversations::show))
        .route("/charts", get(charts::show))
        .route("/decisions", get(decisions::show))
        .route("/halted", get(halt_help::show))
        .route("/posts", get(posts::show))
        .route("/settings", get(settings_page::show))
        .route("/leads/", get(lead::show_asked))
        .route("/leads/{*id}", get(lead::show))
        .route("/act/{deed}", get(act::ask).post(act::act))
        .route("/login", get(enter::form).post(enter::sign_in))
        .route("/enter", get(enter::by_link))
        .route("/logout", post(enter::sign_out))
        .route("/api/status", get(api::status))
        .route("/api/leads", get(api::leads))
        .route("/api/lead/", get(api::lead_asked))
        .route("/api/lead/{*id}", get(api::lead))
        .layer(from_fn(private))
        .route("/assets/style.css", get(|| asset("text/css; charset=utf-8", include_str!("style.css"))))
        .route("/assets/live.js", get(|| asset("text/javascript; charset=utf-8", include_str!("live.js"))))
        .route("/assets/icon.svg", get(|| asset("image/svg+xml", include_str!("icon.svg"))))
        .layer(from_fn(strict))
        .layer(DefaultBodyLimit::max(FORM_BYTES))
        .with_state(board)
}

/// Only our own resources, from this server, in no frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

async fn strict(request: Request, next: Next) -> Response {
    let mut answer = next.run(request).await;
    let headers = answer.headers_mut();
    let mut set = |name: HeaderName, value| headers.insert(name, HeaderValue::from_static(value));
    set(CONTENT_SECURITY_POLICY, POLICY);
    set(X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(X_FRAME_OPTIONS, "DENY");
    set(REFERRER_POLICY, "no-referrer");
    set(HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
    set(HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    answer
}

/// Pages hold personal data: no cache on the way may store them.
async fn private(request: Request, next: Next) -> Response {
    let mut answer = next.run(request).await;
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// Assets are part of the program; pages add the version to the address.
async fn asset(kind: &'static str, text: &'static str) -> Response {
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "public, max-age=86400")], text).into_response()
}
