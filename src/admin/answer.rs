//! The admin server's routes, and its HTTP answers with health reasons and numbers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;

use crate::admin::exposition::MetricsFormat;
use crate::admin::judgement::{self, UnreadyReason};
use crate::admin::metrics::{self, ProcessMetrics};
use crate::admin::window::StatusCache;
use crate::clock;
use crate::pulse::{ProcessVitals, StateHealth};
use crate::status::ServiceStanding;
use crate::store::free_disk::{DiskReserve, DiskShortage};

/// Shared by the handlers.
pub struct AdminContext {
    pub window: StatusCache,
    pub vitals: ProcessVitals,
    pub statement_timeout: Duration,
    /// The room that posts have to leave on the disk of the state.
    pub disk: Option<DiskReserve>,
}

impl AdminContext {
    pub(super) fn readiness(&self, standing: Option<&ServiceStanding>) -> Vec<UnreadyReason> {
        let pulse = &self.vitals.pulse;
        // A state that was lost just now may be unreadable before the deliverer notices the loss.
        let loss = if standing.is_none() { self.window.find_loss() } else { None };
        let mut reasons =
            judgement::readiness(standing, pulse.beats(), loss.map_or_else(|| pulse.state(), StateHealth::Lost));
        if let Some(shortage) = self.disk.as_ref().and_then(DiskReserve::shortage) {
            let detail = format!("{shortage}: posts are refused");
            reasons.push(UnreadyReason { reason: "disk", detail, cure: DiskShortage::CURE });
        }
        reasons
    }
}

pub fn router(desk: Arc<AdminContext>) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(numbers))
        .fallback(nowhere)
        .method_not_allowed_fallback(wrong_method)
        .with_state(desk)
}

/// Reads no database: a daemon with unreachable databases is still alive.
async fn healthz(State(desk): State<Arc<AdminContext>>) -> Response {
    let reasons = judgement::health(desk.vitals.pulse.beats(), desk.statement_timeout, Instant::now());
    if reasons.is_empty() {
        return Json(json!({ "healthy": true })).into_response();
    }
    unavailable(json!({ "healthy": false, "reasons": reasons }))
}

async fn readyz(State(desk): State<Arc<AdminContext>>) -> Response {
    let standing = desk.window.standing().await;
    let reasons: Vec<UnreadyReason> = desk.readiness(standing.as_deref());
    let ready = reasons.is_empty();
    let mut answer = json!({ "ready": ready, "reasons": reasons });
    // A hold waits for approval and is no fault: all other leads go on being sent.
    if let Some(hold) = standing.as_ref().and_then(|standing| standing.hold.as_ref()) {
        answer["held"] = json!({ "reason": hold.reason, "leads": hold.leads, "new_people": hold.new_people });
    }
    if ready { Json(answer).into_response() } else { unavailable(answer) }
}

async fn numbers(State(desk): State<Arc<AdminContext>>, headers: HeaderMap) -> Response {
    let Some(report) = desk.window.report().await else {
        return unavailable(json!({ "reasons": [judgement::state_unreadable()] }));
    };
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let format = MetricsFormat::accepted(accept.unwrap_or_default());
    let ProcessVitals { pulse, tally, began_at } = &desk.vitals;
    let ready = desk.readiness(Some(&ServiceStanding::from(&*report))).is_empty();
    let process =
        ProcessMetrics { tally, began_at: *began_at, ready, writable: pulse.state() == StateHealth::Writable };
    let text = metrics::render(&report, &process, format, clock::now());
    ([(header::CONTENT_TYPE, format.content_type())], text).into_response()
}

async fn nowhere() -> Response {
    refusal(StatusCode::NOT_FOUND, "there is nothing here")
}

async fn wrong_method() -> Response {
    refusal(StatusCode::METHOD_NOT_ALLOWED, "this can only be read")
}

fn refusal(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({ "error": error, "cure": "GET /healthz, /readyz or /metrics" }))).into_response()
}

fn unavailable(answer: serde_json::Value) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, Json(answer)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pulse::{DaemonLoop, LoopPulse};
    use crate::send::tally::RunTally;

    #[tokio::test]
    async fn a_loop_that_hangs_is_told_with_its_reason() {
        let now = Instant::now();
        let pulse = Arc::new(LoopPulse::new(now.checked_sub(Duration::from_secs(100)).unwrap()));
        let window = StatusCache::new("sqlite:///nowhere/state.db".into());
        let vitals =
            ProcessVitals { pulse: pulse.clone(), tally: Arc::new(RunTally::default()), began_at: clock::now() };
        let desk = Arc::new(AdminContext { window, vitals, statement_timeout: Duration::from_secs(600), disk: None });
        let ask = async || {
            let answer = healthz(State(desk.clone())).await;
            let status = answer.status().as_u16();
            let body = axum::body::to_bytes(answer.into_body(), 10_000).await.unwrap();
            (status, serde_json::from_slice::<serde_json::Value>(&body).unwrap())
        };
        pulse.beat(DaemonLoop::Poll, now);
        pulse.beat(DaemonLoop::Deliver, now.checked_sub(Duration::from_secs(90)).unwrap());
        let (status, answer) = ask().await;
        assert_eq!((status, &answer["healthy"]), (503, &json!(false)));
        assert_eq!(answer["reasons"].as_array().map(Vec::len), Some(1), "{answer}");
        assert_eq!(answer["reasons"][0]["reason"], "deliver_loop");
        assert_eq!(answer["reasons"][0]["detail"], "no sign of life for 90 s");
        pulse.beat(DaemonLoop::Deliver, now);
        assert_eq!(ask().await, (200, json!({ "healthy": true })), "and a state that is away is not looked at");
    }
}
