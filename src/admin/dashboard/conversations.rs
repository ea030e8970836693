//! The page for people who lead a team: who is hot, at risk or waits for an answer, who has replied or opted out, by conversation, rep
//! and source, and how long people wait for the first message.

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use chrono::{DateTime, TimeDelta, Utc};

use super::bars::BarPicture;
use super::conversations_kept::{SPANS, USUAL};
use super::frame::{PageFrame, QueryParameters, ShownMoment, away, lead_link, lead_name, moment, page};
use super::row_link::row_link;
use crate::admin::dashboard::board::DashboardContext;
use crate::admin::dashboard::session::PeopleVisitor;
use crate::clock;
use crate::console::printable;
use crate::conversica::token::TokenVeil;
use crate::rules::conversation_report::{
    ConversationReport, OTHERS, PeopleCounts, PeopleList, ReportedPerson, WaitingTime,
};
use crate::store::conversation_facts;
use crate::store::state_db::StateDb;
use crate::wording::{number, roughly};

/// Counting a million conversations takes seconds; a page does not wait for it.
const WITHIN: Duration = Duration::from_secs(120);
const PATIENCE: Duration = Duration::from_millis(250);

#[derive(Template)]
#[template(path = "admin/dashboard/conversations.html", config = ".askama.toml")]
struct ConversationsPage {
    frame: PageFrame,
    spans: Vec<(String, &'static str, bool)>,
    span: &'static str,
    /// `None` while the first count is under way.
    report: Option<ShownReport>,
}

struct ShownReport {
    at: ShownMoment,
    numbers: Vec<(&'static str, String)>,
    is_empty: bool,
    lists: Vec<ShownPeople>,
    tables: Vec<ShownNames>,
    stages: Vec<ShownStage>,
    hot_days: BarPicture,
    speed: Vec<(&'static str, String)>,
}

struct ShownPeople {
    id: &'static str,
    title: &'static str,
    /// What to do about them.
    hint: &'static str,
    all: String,
    people: Vec<ShownPerson>,
    more: Option<String>,
}

struct ShownPerson {
    name: String,
    link: String,
    rep: String,
    conversation: String,
    at: ShownMoment,
    crm: Option<String>,
}

struct ShownNames {
    id: &'static str,
    title: &'static str,
    rows: Vec<(String, [String; 6])>,
}

struct ShownStage {
    name: String,
    people: String,
    /// Of 200.
    width: String,
}

pub async fn show(
    State(board): State<Arc<DashboardContext>>,
    PeopleVisitor(visitor): PeopleVisitor,
    RawQuery(asked): RawQuery,
) -> Response {
    let asked = QueryParameters::read(asked.unwrap_or_default().as_bytes());
    let days: Option<i64> = asked.get("days").parse().ok();
    let place = SPANS.iter().position(|(span, _)| Some(*span) == days).unwrap_or(USUAL);
    let (days, span) = SPANS[place];
    let read = move |db: StateDb| async move {
        let until = clock::now();
        Ok(conversation_facts::read_report(&db, until - TimeDelta::days(days), until).await?)
    };
    // The count goes on when the page has not waited for it.
    let kept = board.conversations.of_span(place);
    let report = tokio::time::timeout(PATIENCE, board.desk.window.see(kept, WITHIN, read)).await;
    let report = match report {
        Ok(Some(report)) => Some(report),
        Ok(None) => return away(&board, &visitor),
        Err(_) => None,
    };
    let (now, veil) = (clock::now(), board.veil());
    let shown = report.map(|report| ShownReport::of(&report, &board, &veil, now));
    let spans = SPANS
        .iter()
        .enumerate()
        .map(|(at, (days, words))| (format!("/conversations?days={days}"), *words, at == place));
    let frame = PageFrame::of(&board, &visitor, "Conversations");
    page(StatusCode::OK, &ConversationsPage { frame, spans: spans.collect(), span, report: shown })
}

impl ShownReport {
    fn of(report: &ConversationReport, board: &DashboardContext, veil: &TokenVeil, now: DateTime<Utc>) -> Self {
        let list = |id, title, hint, list: &PeopleList| {
            let people: Vec<ShownPerson> = list.people.iter().map(|one| person(one, board, veil, now)).collect();
            let more = list.all.saturating_sub(people.len() as u64);
            ShownPeople {
                id,
                title,
                hint,
                all: number(list.all),
                people,
                more: (more > 0).then(|| format!("and {} more, longer ago", number(more))),
            }
        };
        let names = |id, title, none: &str, rows: &[(String, PeopleCounts)]| ShownNames {
            id,
            title,
            rows: rows.iter().map(|(name, counts)| (named(name, none, veil), columns(counts))).collect(),
        };
        let all = &report.all;
        let of_all = |count: u64| match all.heard {
            0 => number(count),
            heard => format!("{} ({} %)", number(count), (count * 100 + heard / 2) / heard),
        };
        Self {
            at: moment(report.until, now),
            is_empty: all.heard == 0 && report.opt_outs.all == 0,
            numbers: vec![
                ("people in conversations", number(all.heard)),
                ("replied", of_all(all.replied)),
                ("became hot", of_all(all.hot)),
                ("at risk", number(all.at_risk)),
                ("wait for an answer", number(all.action_required)),
                ("opted out", number(report.opt_outs.all)),
            ],
            lists: vec![
                list("hot", "Hot leads", "They want to talk: call them.", &report.hot),
                list(
                    "action",
                    "Action required",
                    "The assistant has stopped: look at what they wrote, and answer.",
                    &report.action_required,
                ),
                list("risk", "At risk", "They were promised something and may not have got it.", &report.at_risk),
                list("replied", "Replied", "The newest answers.", &report.replied),
                list("opted-out", "Opted out", "They are not written to any more.", &report.opt_outs),
            ],
            tables: vec![
                names("by-conversation", "By conversation", "(no conversation)", &report.conversations),
                names("by-rep", "By rep", "(no rep)", &report.reps),
                names("by-source", "By source", "(no source)", &report.sources),
            ],
            stages: stages(&report.stages, veil),
            hot_days: BarPicture::of(
                "hot-days",
                "Leads that became hot, day by day",
                &report.hot_days,
                "%-d %b",
                "hot leads",
            ),
            speed: vec![
                ("From the CRM to Conversica", wait(report.speed.created_to_accepted)),
                ("From Conversica to the first message", wait(report.speed.accepted_to_message)),
                ("From the CRM to the first message", wait(report.speed.created_to_message)),
            ],
        }
    }
}

fn named(name: &str, none: &str, veil: &TokenVeil) -> String {
    match name {
        "" => none.to_owned(),
        OTHERS => "all others".to_owned(),
        name => printable(&veil.text(name)).into_owned(),
    }
}

fn columns(counts: &PeopleCounts) -> [String; 6] {
    let PeopleCounts { heard, replied, hot, at_risk, action_required, opted_out } = *counts;
    [heard, replied, hot, at_risk, action_required, opted_out].map(number)
}

fn person(one: &ReportedPerson, board: &DashboardContext, veil: &TokenVeil, now: DateTime<Utc>) -> ShownPerson {
    let shown = |text: &str| printable(&veil.text(text)).into_owned();
    let name =
        if one.person.name.is_empty() { format!("Lead {}", lead_name(&one.lead)) } else { shown(&one.person.name) };
    ShownPerson {
        name,
        link: format!("{}#said-title", lead_link(&one.lead)),
        rep: shown(&one.person.rep),
        conversation: shown(&one.person.conversation),
        at: moment(one.at, now),
        crm: row_link(&board.settings, &one.lead),
    }
}

fn stages(stages: &[(String, u64)], veil: &TokenVeil) -> Vec<ShownStage> {
    let most = stages.iter().map(|(_, people)| *people).max().unwrap_or(0).max(1);
    let stage = |(name, people): &(String, u64)| ShownStage {
        name: named(name, "(no stage heard)", veil),
        people: number(*people),
        width: format!("{:.1}", crate::chart::share(*people, most) * 200.0),
    };
    stages.iter().map(stage).collect()
}

fn wait(time: Option<WaitingTime>) -> String {
    let seconds = |of: TimeDelta| roughly(of.num_seconds().unsigned_abs());
    match time {
        None => "not known in this time".to_owned(),
        Some(WaitingTime { people, median, nine_in_ten }) => format!(
            "half within {}, nine in ten within {} (of {} with a first message)",
            seconds(median),
            seconds(nine_in_ten),
            number(people)
        ),
    }
}
