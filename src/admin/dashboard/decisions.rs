//! The list of decisions: who decided what, when, about how many leads, and why.

use std::sync::Arc;

use askama::Template;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;

use super::frame::{PageFrame, QueryParameters, ShownMoment, away, moment, page};
use crate::admin::dashboard::board::DashboardContext;
use crate::admin::dashboard::session::PeopleVisitor;
use crate::clock;
use crate::console::printable;
use crate::store::decision::{self, RecordedDecision};
use crate::wording::number;

/// Decisions per page.
const PAGE: usize = 50;

#[derive(Template)]
#[template(path = "admin/dashboard/decisions.html", config = ".askama.toml")]
struct DecisionsPage {
    frame: PageFrame,
    rows: Vec<ShownDecision>,
    first: Option<&'static str>,
    older: Option<String>,
}

struct ShownDecision {
    at: ShownMoment,
    action: &'static str,
    name: String,
    who: String,
    leads: String,
    reason: String,
    comment: String,
}

pub async fn show(
    State(board): State<Arc<DashboardContext>>,
    PeopleVisitor(visitor): PeopleVisitor,
    RawQuery(asked): RawQuery,
) -> Response {
    let asked = QueryParameters::read(asked.unwrap_or_default().as_bytes());
    let before: Option<i64> = asked.get("before").parse().ok();
    let limit = i64::try_from(PAGE + 1).unwrap_or(i64::MAX);
    let read = board.desk.window.read(async |db| Ok(decision::before(db, before.unwrap_or(i64::MAX), limit).await?));
    let Some(mut decisions) = read.await else { return away(&board, &visitor) };
    let has_more = decisions.len() > PAGE;
    decisions.truncate(PAGE);
    let now = clock::now();
    let older = decisions.last().filter(|_| has_more).map(|(seq, _)| format!("/decisions?before={seq}"));
    let rows = decisions.into_iter().map(|(_, decided)| row(decided, now)).collect();
    let frame = PageFrame::of(&board, &visitor, "Decisions");
    page(StatusCode::OK, &DecisionsPage { frame, rows, first: before.map(|_| "/decisions"), older })
}

fn row(decided: RecordedDecision, now: chrono::DateTime<chrono::Utc>) -> ShownDecision {
    let shown = |text: Option<String>| printable(&text.unwrap_or_default()).into_owned();
    ShownDecision {
        at: moment(decided.at, now),
        action: action_words(&decided.action),
        name: decided.action,
        who: printable(&decided.who).into_owned(),
        leads: if decided.leads > 0 { number(u64::try_from(decided.leads).unwrap_or(0)) } else { String::new() },
        reason: shown(decided.reason),
        comment: shown(decided.comment),
    }
}

fn action_words(action: &str) -> &'static str {
    match action {
        "approve" => "Approved: sent",
        "baseline" => "Taken as delivered, nothing sent",
        "retry" => "Queued again",
        "resend" => "Sent again",
        "resume" => "Halt lifted",
        "pause" => "Sending paused",
        "unpause" => "Pause ended",
        "suppress" => "Put on the suppression list",
        "erase" => "A person erased",
        "restored" => "State restored from a backup",
        "allow" => "Allowed",
        _ => "Other",
    }
}
