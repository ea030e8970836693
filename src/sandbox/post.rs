//! `POST /json/`: behaves like Conversica's endpoint, with faults on top.
//!
//! It imitates Conversica's answers to the letter where they were observed. It checks credentials before the body; it reads the
//! body in any case, because closing a connection with unread bytes would reset it under the answer.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use chrono::Utc;
use futures_util::StreamExt;

use crate::sandbox::app::SandboxContext;
use crate::sandbox::check::check;
use crate::sandbox::faults::RequestFault;
use crate::sandbox::line::ConnectionLine;
use crate::sandbox::store::{HeldPlace, PostEnding, RequestAdmission};

/// A lead is some hundred bytes; more than this is a mistake.
const BODY_LIMIT_BYTES: usize = 1 << 20;

/// A longer body is not read to its end, and the client may see a reset instead of the answer.
const PATIENCE_BYTES: usize = 64 << 20;

/// How long an unanswered request stays open, unless the client disconnects.
const HELD_FOR: Duration = Duration::from_secs(600);

const ACCEPTED: &str = r#"{"message": "Lead accepted", "status": true}"#;
const UNAUTHORIZED: &str = "{\"message\":\"Invalid username or password. Additional failed attempts may result in your \
                            account being locked or your IP address being banned.\"}";

const LOGIN_PAGE: &str =
    "<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>A sandbox fault.</body></html>\n";

/// Ends the count of a request when it ends, even if the client has disconnected.
struct InFlight {
    app: Arc<SandboxContext>,
    place: Option<HeldPlace>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.app.store().depart(self.place);
    }
}

/// Every method on `/json/` and `/json`.
pub async fn json(
    State(app): State<Arc<SandboxContext>>,
    ConnectInfo(line): ConnectInfo<ConnectionLine>,
    request: Request,
) -> Response {
    if request.method() != Method::POST {
        let _ = whole(request.into_body()).await;
        let mut response = refusal(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed: a lead is sent with POST.");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return response;
    }
    let admission = app.store().admit(app.credentials.shown_in(request.headers()), app.faults.lock_after);
    let in_flight = InFlight { app: Arc::clone(&app), place: None };
    let body = whole(request.into_body()).await;
    match admission {
        RequestAdmission::Admitted => {}
        RequestAdmission::Unauthorized => {
            let challenge = (WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"Conversica\""));
            return (StatusCode::UNAUTHORIZED, [challenge, json_type()], UNAUTHORIZED).into_response();
        }
        RequestAdmission::Locked => {
            return refusal(StatusCode::FORBIDDEN, "Account locked after too many failed attempts.");
        }
    }
    match body {
        Ok(body) => lead(&app, &line, in_flight, &body).await,
        Err(UnreadBody::TooLarge) => {
            app.store().count_too_large();
            refusal(StatusCode::PAYLOAD_TOO_LARGE, "The body is larger than 1 MiB.")
        }
        Err(UnreadBody::Broken) => {
            app.store().count_rejected();
            refusal(StatusCode::BAD_REQUEST, "The body ended early.")
        }
    }
}

async fn lead(app: &SandboxContext, line: &ConnectionLine, mut in_flight: InFlight, body: &Bytes) -> Response {
    let identity = match check(body) {
        Ok(identity) => identity,
        Err(problems) => {
            app.store().count_rejected();
            return refusal(StatusCode::BAD_REQUEST, &format!("Lead not accepted: {}.", problems.join("; ")));
        }
    };
    let (wait, fault) = app.roll();
    // The usual case, without fault and delay, takes the lock once.
    if wait.is_zero() && fault.is_none() {
        let mut store = app.store();
        let place = store.enter(&identity);
        in_flight.place = Some(place);
        store.accept(place, body, PostEnding::Answered, Utc::now());
        drop(store);
        app.follow(body);
        return accepted();
    }
    let place = app.store().enter(&identity);
    in_flight.place = Some(place);
    tokio::time::sleep(wait).await;
    if fault.is_some() {
        app.store().count_fault();
    }
    match fault {
        None => {
            app.accept(place, body, PostEnding::Answered);
            accepted()
        }
        Some(RequestFault::Status(status)) => status_fault(app, status),
        Some(RequestFault::Refuse) => {
            refusal(StatusCode::BAD_REQUEST, "Lead not accepted: refused by a sandbox fault.")
        }
        Some(RequestFault::StatusFalse) => refusal(StatusCode::OK, "Lead not accepted: refused by a sandbox fault."),
        Some(RequestFault::LoginPage) => {
            ([(CONTENT_TYPE, HeaderValue::from_static("text/html"))], LOGIN_PAGE).into_response()
        }
        Some(RequestFault::Drop) => cut(line),
        Some(RequestFault::Cut) => {
            app.accept(place, body, PostEnding::Cut);
            cut(line)
        }
        Some(RequestFault::Timeout) => {
            app.accept(place, body, PostEnding::Timeout);
            // The work is done, and only the answer is missing: a client that gives up and asks again does not overlap.
            drop(in_flight);
            tokio::select! {
                () = tokio::time::sleep(HELD_FOR) => {}
                () = app.stopping.cancelled() => {}
            }
            cut(line)
        }
    }
}

fn status_fault(app: &SandboxContext, status: u16) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = refusal(status, "Sandbox fault.");
    if let (Some(seconds), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) =
        (app.faults.retry_after, status)
    {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// The client never sees this answer: writing it hits the cut line.
fn cut(line: &ConnectionLine) -> Response {
    line.cut();
    StatusCode::INTERNAL_SERVER_ERROR.into_response()
}

fn accepted() -> Response {
    ([json_type()], ACCEPTED).into_response()
}

/// An answer in Conversica's observed form.
pub fn refusal(status: StatusCode, message: &str) -> Response {
    let body = serde_json::json!({ "message": message, "status": false });
    (status, [json_type()], body.to_string()).into_response()
}

pub fn json_type() -> (axum::http::HeaderName, HeaderValue) {
    (CONTENT_TYPE, HeaderValue::from_static("application/json"))
}

enum UnreadBody {
    TooLarge,
    Broken,
}

/// The body; it is not copied if it came in one piece, as almost every lead does.
async fn whole(body: Body) -> Result<Bytes, UnreadBody> {
    let mut pieces = body.into_data_stream();
    let mut first = Bytes::new();
    let mut joined: Vec<u8> = Vec::new();
    let mut length = 0_usize;
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| UnreadBody::Broken)?;
        length += piece.len();
        if length > PATIENCE_BYTES {
            return Err(UnreadBody::TooLarge);
        }
        if length > BODY_LIMIT_BYTES {
            continue;
        }
        if first.is_empty() && joined.is_empty() {
            first = piece;
        } else {
            joined.extend_from_slice(&std::mem::take(&mut first));
            joined.extend_from_slice(&piece);
        }
    }
    match length > BODY_LIMIT_BYTES {
        true => Err(UnreadBody::TooLarge),
        false if joined.is_empty() => Ok(first),
        false => Ok(joined.into()),
    }
}
