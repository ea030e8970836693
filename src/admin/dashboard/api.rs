//! The dashboard's data for scripts: the documents that the commands print with `--json`.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::counts_only::report_without_people;
use super::frame::QueryParameters;
use super::lead::{LeadDetails, LeadLookup, LeadRequest};
use super::list_request::ListRequest;
use crate::admin::dashboard::board::DashboardContext;
use crate::admin::dashboard::session::{DashboardVisitor, PeopleVisitor};
use crate::admin::judgement;
use crate::console::SCHEMA_VERSION;
use crate::story::document;
use crate::story::entry::StoryEntry;

/// The most leads in one answer.
const MOST: i64 = 1000;

pub async fn status(State(board): State<Arc<DashboardContext>>, visitor: DashboardVisitor) -> Response {
    match board.desk.window.report().await {
        Some(report) if visitor.sees_people() => Json(&*report).into_response(),
        Some(report) => Json(report_without_people(&report)).into_response(),
        None => away(),
    }
}

pub async fn leads(
    State(board): State<Arc<DashboardContext>>,
    _: PeopleVisitor,
    RawQuery(asked): RawQuery,
) -> Response {
    let asked = QueryParameters::read(asked.unwrap_or_default().as_bytes());
    let wanted = ListRequest::read(&asked);
    let limit = asked.get("limit").parse().map_or(MOST, |limit: i64| limit.clamp(1, MOST));
    let window = &board.desk.window;
    let Some(report) = window.report().await else { return away() };
    let looked = window.read(async |db| Ok(wanted.page(db, &report, limit).await?)).await;
    let Some(mut page) = looked else { return away() };
    let mut report = (*report).clone();
    wanted.agree(&mut report, &page);
    let veil = board.veil();
    for lead in &mut page.leads {
        if let Some(detail) = lead.last_outcome.as_mut().and_then(|outcome| outcome.detail.as_mut()) {
            *detail = veil.text(detail).into_owned();
        }
    }
    let next =
        page.leads.last().filter(|_| page.has_later).map(
            |last| json!({ "from": last.status.name(), "after": last.lead.id, "after_client": last.lead.client_id }),
        );
    // Leads are not counted by reason, which may take long.
    let total = wanted.reason.is_empty().then(|| wanted.leads(&report));
    let leads: Vec<StoryEntry<'_>> = page.leads.iter().map(StoryEntry::of).collect();
    Json(json!({ "schema_version": SCHEMA_VERSION, "leads": leads, "total": total, "next": next })).into_response()
}

pub async fn lead(
    State(board): State<Arc<DashboardContext>>,
    _: PeopleVisitor,
    path: Result<Path<String>, PathRejection>,
    RawQuery(asked): RawQuery,
) -> Response {
    match LeadRequest::by_path(path, asked) {
        Some(asked) => tell(&board, &asked).await,
        None => refusal(StatusCode::NOT_FOUND, json!({ "error": "this lead is not known to the state" })),
    }
}

pub async fn lead_asked(
    State(board): State<Arc<DashboardContext>>,
    _: PeopleVisitor,
    RawQuery(asked): RawQuery,
) -> Response {
    tell(&board, &LeadRequest::by_query(asked)).await
}

async fn tell(board: &DashboardContext, asked: &LeadRequest) -> Response {
    match asked.find(board).await {
        None => away(),
        Some(LeadLookup::Told(told)) => Json(told_as_document(&told)).into_response(),
        Some(LeadLookup::Nothing) => {
            refusal(StatusCode::NOT_FOUND, json!({ "error": "this lead is not known to the state" }))
        }
        Some(LeadLookup::Several(leads)) => {
            let clients: Vec<String> = leads.into_iter().map(|lead| lead.client_id).collect();
            let error = "several clients have a lead of that id: say which with ?client=";
            refusal(StatusCode::CONFLICT, json!({ "error": error, "clients": clients }))
        }
    }
}

fn told_as_document(told: &LeadDetails) -> Value {
    let mut of = match &told.story {
        Some(story) => document(story),
        None => json!({"id": told.lead.id, "client_id": told.lead.client_id, "status": null, "desired": null,
            "delivered": null, "due_at": null, "outcomes": []}),
    };
    told.hearing.add_to(&mut of, told.story.as_ref().and_then(|story| story.desired.as_ref()));
    if !told.notes.is_empty() {
        of["notes"] = json!(told.notes);
    }
    told.veil.value(&mut of);
    of["schema_version"] = json!(SCHEMA_VERSION);
    of
}

fn away() -> Response {
    refusal(StatusCode::SERVICE_UNAVAILABLE, json!({ "reasons": [judgement::state_unreadable()] }))
}

fn refusal(status: StatusCode, answer: Value) -> Response {
    (status, Json(answer)).into_response()
}
