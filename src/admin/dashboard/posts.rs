//! What is left lying between Conversica, the CRM and people: posts that cannot be read, posts that the CRM has refused, and alerts.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use chrono::{DateTime, Utc};

use super::frame::{PageFrame, ShownMoment, away, lead_link, lead_name, moment, page};
use crate::admin::dashboard::board::DashboardContext;
use crate::admin::dashboard::session::PeopleVisitor;
use crate::clock;
use crate::console::printable;
use crate::conversica::lead::LeadId;
use crate::store::alert_list::{self, ListedAlert};
use crate::store::heard::reading::{self, EventFilter, HeardEvent};
use crate::store::state_db::StateDb;
use crate::store::writeback::{self, StoppedEvent};

/// Rows in each list.
const SHOWN: usize = 50;
/// Characters of a post that are shown.
const EXCERPT: usize = 160;

#[derive(Template)]
#[template(path = "admin/dashboard/posts.html", config = ".askama.toml")]
struct PostsPage {
    frame: PageFrame,
    unreadable: Vec<PostRow>,
    stopped: Vec<PostRow>,
    alerts: Vec<PostRow>,
    /// Whether a list goes on.
    more: [bool; 3],
}

/// A line of one of the lists.
struct PostRow {
    at: ShownMoment,
    what: String,
    lead: Option<(String, String)>,
    why: String,
    note: String,
}

pub async fn show(State(board): State<Arc<DashboardContext>>, PeopleVisitor(visitor): PeopleVisitor) -> Response {
    let Some((unreadable, stopped, alerts)) = board.desk.window.read(async |db| Ok(read(db).await?)).await else {
        return away(&board, &visitor);
    };
    let now = clock::now();
    let more = [unreadable.len() > SHOWN, stopped.len() > SHOWN, alerts.len() > SHOWN];
    let shown = PostsPage {
        frame: PageFrame::of(&board, &visitor, "Posts and alerts"),
        unreadable: unreadable.iter().take(SHOWN).map(|event| of_event(event, now)).collect(),
        stopped: stopped.iter().take(SHOWN).map(|event| of_stopped(event, now)).collect(),
        alerts: alerts.iter().take(SHOWN).map(|alert| of_alert(alert, now)).collect(),
        more,
    };
    page(StatusCode::OK, &shown)
}

async fn read(db: &StateDb) -> Result<(Vec<HeardEvent>, Vec<StoppedEvent>, Vec<ListedAlert>), sqlx::Error> {
    let limit = i64::try_from(SHOWN + 1).unwrap_or(i64::MAX);
    let unreadable = reading::list(db, &EventFilter { unreadable: true, ..EventFilter::default() }, limit).await?;
    Ok((unreadable, writeback::stopped(db, limit).await?, alert_list::newest(db, limit).await?))
}

fn named(lead: &LeadId) -> Option<(String, String)> {
    (!lead.id.is_empty()).then(|| (lead_name(lead), lead_link(lead)))
}

fn of_event(event: &HeardEvent, now: DateTime<Utc>) -> PostRow {
    let text = String::from_utf8_lossy(&event.body);
    let cut = text.char_indices().nth(EXCERPT).map_or(text.len(), |(end, _)| end);
    let rest = if cut < text.len() { "…" } else { "" };
    PostRow {
        at: moment(event.received_at, now),
        what: format!("Post {} ({})", event.seq, event.kind.name().replace('_', " ")),
        lead: named(&event.lead),
        why: printable(event.problem.as_deref().unwrap_or_default()).into_owned(),
        note: format!("{}{rest}", printable(&text[..cut])),
    }
}

fn of_stopped(event: &StoppedEvent, now: DateTime<Utc>) -> PostRow {
    let behind = match event.behind {
        0 => String::new(),
        1 => "1 later post waits behind it".to_owned(),
        many => format!("{many} later posts wait behind it"),
    };
    PostRow {
        at: moment(event.since, now),
        what: format!("Post {} ({}), tried {} times", event.seq, event.kind.name().replace('_', " "), event.attempts),
        lead: named(&event.lead),
        why: printable(event.detail.as_deref().unwrap_or_default()).into_owned(),
        note: behind,
    }
}

fn of_alert(alert: &ListedAlert, now: DateTime<Utc>) -> PostRow {
    let state = match (alert.done_at, alert.attempts) {
        (Some(at), _) => format!("done {}", moment(at, now).ago),
        (None, 0) => "waits to be told".to_owned(),
        (None, tries) => format!("not told yet, tried {tries} times"),
    };
    PostRow {
        at: moment(alert.created_at, now),
        what: printable(&alert.kind.replace('_', " ")).into_owned(),
        lead: named(&alert.lead),
        why: state,
        note: printable(alert.detail.as_deref().unwrap_or_default()).into_owned(),
    }
}
