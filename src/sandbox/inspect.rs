//! The sandbox's own routes outside `/json/`: they show received leads and reset the sandbox.
//!
//! Open without a password to every client that reaches the address: the sandbox holds sample leads, and listens on loopback by
//! default.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use crate::sandbox::app::SandboxContext;
use crate::sandbox::post::{json_type, refusal};
use crate::sandbox::store::SandboxCounts;

const PAGE: &str = "\
This is the sandbox of conversica-sync: a local stand-in for Conversica that writes to nobody.

POST   /json/    takes a lead, as Conversica does (Basic authentication)
GET    /leads    the Lead objects as last received; /leads?id=17 for one, &clientId=… for one client
GET    /posts    every accepted post, in order
GET    /counts   how many leads, posts, refusals, faults, and what was in flight at once
POST   /unlock   unlocks the account after too many wrong passwords
DELETE /leads    forgets leads, posts and counts
";

#[derive(Deserialize)]
pub struct PostsQuery {
    id: Option<String>,
    #[serde(rename = "clientId")]
    client_id: Option<String>,
}

pub async fn page(State(app): State<Arc<SandboxContext>>) -> String {
    format!("{PAGE}\nFaults in play: {}\n", app.faults)
}

pub async fn leads(State(app): State<Arc<SandboxContext>>, Query(wanted): Query<PostsQuery>) -> Response {
    let mut text = vec![b'['];
    for body in app.store().bodies(wanted.id.as_deref(), wanted.client_id.as_deref()) {
        if text.len() > 1 {
            text.push(b',');
        }
        text.extend_from_slice(body);
    }
    text.push(b']');
    ([json_type()], text).into_response()
}

pub async fn posts(State(app): State<Arc<SandboxContext>>) -> Response {
    Json(app.store().posts()).into_response()
}

pub async fn counts(State(app): State<Arc<SandboxContext>>) -> Json<SandboxCounts> {
    Json(app.store().counts())
}

pub async fn unlock(State(app): State<Arc<SandboxContext>>) -> Response {
    app.store().unlock();
    done("Account unlocked")
}

pub async fn forget(State(app): State<Arc<SandboxContext>>) -> Response {
    app.store().forget();
    done("Everything forgotten")
}

pub async fn nowhere() -> Response {
    refusal(StatusCode::NOT_FOUND, "Nothing here: leads are posted to /json/, and / explains the rest.")
}

pub async fn wrong_method() -> Response {
    refusal(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed: / explains what there is.")
}

fn done(message: &str) -> Response {
    Json(serde_json::json!({ "message": message, "status": true })).into_response()
}
