//! The page of leads: who they are and how they stand, in an order, page by page in both directions, in a span of time; or found by
//! name, address, number or id.

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};

use super::frame::{PageFrame, QueryParameters, ShownMoment, away, lead_link, lead_name, moment, note, page, query};
use super::list_view::{ListView, of_scope};
use super::status_words::status_words;
use super::verdict::counted;
use crate::admin::dashboard::board::DashboardContext;
use crate::admin::dashboard::session::{DashboardVisitor, PeopleVisitor};
use crate::clock;
use crate::console::printable;
use crate::conversica::lead::LeadId;
use crate::conversica::token::TokenVeil;
use crate::rules::lead_status::LeadStatus;
use crate::rules::person_search::PersonSearch;
use crate::status::StatusReport;
use crate::store::heard::reading;
use crate::store::lead_search::{self, SearchFinds, SearchLimits};
use crate::store::lead_table::{self, LeadOrder, LeadScope, LeadTablePage, PageStart, SeenLead};
use crate::store::state_db::StateDb;
use crate::store::story;
use crate::story::entry::why;
use crate::wording::{meaning, number};

/// Leads per page.
const PAGE: i64 = 50;
/// Leads of a selection are counted up to this many.
const COUNTED: i64 = 100_000;
/// How long one search may read.
const SEARCHED: SearchLimits = SearchLimits { leads: 50, within: Duration::from_millis(120) };

/// The clients that have a lead of that id, as the state knows them.
pub async fn clients(db: &StateDb, id: &str) -> Result<Vec<String>, sqlx::Error> {
    // No database stores such an id.
    if id.contains('\0') {
        return Ok(Vec::new());
    }
    let mut clients = story::clients(db, id).await?;
    clients.extend(reading::clients(db, id).await?);
    clients.sort();
    clients.dedup();
    Ok(clients)
}

#[derive(Template)]
#[template(path = "admin/dashboard/list.html", config = ".askama.toml")]
struct ListPage {
    frame: PageFrame,
    may_act: bool,
    heading: String,
    /// The meaning of the status, if its name does not tell.
    meaning: Option<&'static str>,
    tabs: Vec<StatusTab>,
    view: ListView,
    /// The text that was searched for.
    sought: String,
    total: String,
    action: Option<(&'static str, String)>,
    choices: Vec<ListChoice>,
    rows: Vec<ListRow>,
    /// Without any reason the list has no column for reasons and no search.
    has_reasons: bool,
    nothing: &'static str,
    headers: Vec<OrderHeader>,
    csv: Option<String>,
    here: String,
    first: Option<String>,
    earlier: Option<String>,
    later: Option<String>,
    goes_on: Option<String>,
}

struct StatusTab {
    name: &'static str,
    words: &'static str,
    link: String,
    leads: String,
    is_here: bool,
}

/// A column by which the list can be ordered.
struct OrderHeader {
    words: &'static str,
    link: String,
    /// For `aria-sort`.
    sorted: &'static str,
}

/// A decision about the leads that are marked.
struct ListChoice {
    words: &'static str,
    address: &'static str,
}

struct ListRow {
    link: String,
    id: String,
    shown_id: String,
    name: String,
    email: String,
    rep: String,
    conversation: String,
    status: &'static str,
    words: &'static str,
    why: String,
    since: ShownMoment,
    changed: ShownMoment,
}

pub async fn show(
    State(board): State<Arc<DashboardContext>>,
    PeopleVisitor(visitor): PeopleVisitor,
    RawQuery(asked): RawQuery,
) -> Response {
    let asked = QueryParameters::read(asked.unwrap_or_default().as_bytes());
    if let Some(search) = PersonSearch::parse(asked.get("q")) {
        return find(&board, &visitor, &search, &asked).await;
    }
    let view = ListView::read(&asked);
    let window = &board.desk.window;
    let Some(report) = window.report().await else { return away(&board, &visitor) };
    let looked = window.read(async |db| Ok(look(db, &view, &report).await?)).await;
    let Some((listed, total)) = looked else { return away(&board, &visitor) };
    let rows = listed.leads.len();
    let mut report = (*report).clone();
    if let LeadScope::Status(status) = view.filter.scope
        && view.is_whole()
    {
        agree(&mut report, status, &listed, &view.start);
    }
    let what = view.name();
    let heading = match view.filter.scope {
        LeadScope::Status(_) => format!("Leads: {what}"),
        LeadScope::All | LeadScope::Waiting => what.to_owned(),
    };
    let shown = ShownList {
        heading,
        total: total_words(rows, total.unwrap_or_else(|| of_scope(view.filter.scope, &report))),
        nothing: if view.is_whole() { "No lead has this status." } else { "No lead matches." },
        earlier: listed.leads.first().filter(|_| listed.has_earlier).map(|lead| view.before(&lead.place())),
        later: listed.leads.last().filter(|_| listed.has_later).map(|lead| view.after(&lead.place())),
        goes_on: None,
        sought: String::new(),
        leads: listed.leads,
    };
    page(StatusCode::OK, &ListPage::of(&board, &visitor, view, &report, shown))
}

/// What one page of the list has.
struct ShownList {
    heading: String,
    total: String,
    nothing: &'static str,
    leads: Vec<SeenLead>,
    earlier: Option<String>,
    later: Option<String>,
    goes_on: Option<String>,
    sought: String,
}

/// A page, and the number of leads of the selection, unless it is a whole status, which the report counts.
async fn look(
    db: &StateDb,
    view: &ListView,
    report: &StatusReport,
) -> Result<(LeadTablePage, Option<i64>), sqlx::Error> {
    let counts = view.counts(report);
    let listed = lead_table::page(db, &view.filter, (view.order, &view.start), counts, PAGE).await?;
    let total = match view.is_whole() {
        true => None,
        false => Some(lead_table::count(db, &view.filter, counts, COUNTED).await?),
    };
    Ok((listed, total))
}

/// The rows are read after the counts: if they show a whole status, or more than was counted, the rows count.
fn agree(report: &mut StatusReport, status: LeadStatus, listed: &LeadTablePage, start: &PageStart) {
    let rows = i64::try_from(listed.leads.len()).unwrap_or(i64::MAX);
    if *start == PageStart::First && !listed.has_later {
        report.set_leads(status, rows);
    } else {
        report.set_leads(status, report.leads(status).max(rows + i64::from(listed.has_later)));
    }
}

fn total_words(rows: usize, total: i64) -> String {
    let total = total.max(i64::try_from(rows).unwrap_or(0));
    if total >= COUNTED && rows > 0 && total == COUNTED {
        return format!("{} leads or more", number(u64::try_from(COUNTED).unwrap_or(0)));
    }
    counted(total)
}

impl ListPage {
    fn of(
        board: &DashboardContext,
        visitor: &DashboardVisitor,
        view: ListView,
        report: &StatusReport,
        shown: ShownList,
    ) -> Self {
        let (now, veil) = (clock::now(), board.veil());
        let has = |statuses: &[LeadStatus]| shown.leads.iter().any(|lead| statuses.contains(&lead.listed.status));
        let choices = choices(&has);
        let rows: Vec<ListRow> = shown.leads.iter().map(|lead| row(lead, &veil, now)).collect();
        let only = match view.filter.scope {
            LeadScope::Status(status) => Some(status),
            LeadScope::All | LeadScope::Waiting => None,
        };
        Self {
            has_reasons: view.filter.reason.is_some() || rows.iter().any(|row| !row.why.is_empty()),
            frame: PageFrame::of(board, visitor, shown.heading.clone()),
            may_act: visitor.may_act(),
            heading: shown.heading,
            meaning: only.filter(|status| *status == LeadStatus::Assumed).map(meaning),
            tabs: tabs(&view, report, &shown.sought),
            total: shown.total,
            action: only.filter(|_| view.is_whole() && !rows.is_empty()).and_then(action),
            choices,
            nothing: shown.nothing,
            headers: headers(&view),
            csv: shown.sought.is_empty().then(|| view.csv()),
            here: if shown.sought.is_empty() {
                view.here()
            } else {
                format!("/leads?{}", query(&[("q", &shown.sought)]))
            },
            first: (!view.is_first()).then(|| view.first()),
            earlier: shown.earlier,
            later: shown.later,
            goes_on: shown.goes_on,
            sought: shown.sought,
            rows,
            view,
        }
    }
}

fn row(lead: &SeenLead, veil: &TokenVeil, now: chrono::DateTime<chrono::Utc>) -> ListRow {
    let SeenLead { listed, person } = lead;
    let shown = |text: &str| printable(&veil.text(text)).into_owned();
    ListRow {
        link: lead_link(&listed.lead),
        id: listed.lead.id.clone(),
        shown_id: lead_name(&listed.lead),
        name: shown(&person.name),
        email: shown(&person.email),
        rep: shown(&person.rep),
        conversation: shown(&person.conversation),
        status: listed.status.name(),
        words: status_words(listed.status),
        // Conversica's text may quote the sent lead.
        why: shown(&why(listed)),
        since: moment(listed.since, now),
        changed: moment(listed.changed_at, now),
    }
}

/// No tab is the present one while leads are searched for.
fn tabs(view: &ListView, report: &StatusReport, sought: &str) -> Vec<StatusTab> {
    let tab = |name, words, scope: LeadScope| StatusTab {
        name,
        words,
        link: ListView::of(scope).first(),
        leads: number(u64::try_from(of_scope(scope, report)).unwrap_or(0)),
        is_here: sought.is_empty() && view.filter.scope == scope,
    };
    let first = [
        tab("waiting or stuck", "Leads that wait to be sent or need a person", LeadScope::Waiting),
        tab("all", "All leads", LeadScope::All),
    ];
    let statuses = LeadStatus::ALL.into_iter();
    let statuses = statuses.map(|status| tab(status.name(), status_words(status), LeadScope::Status(status)));
    first.into_iter().chain(statuses).collect()
}

/// The columns that order the list. A link turns the order round if it is the present one.
fn headers(view: &ListView) -> Vec<OrderHeader> {
    let by_id = view.order == LeadOrder::Id;
    let (sorted, turned) = match view.order {
        LeadOrder::Newest => ("descending", LeadOrder::Oldest),
        LeadOrder::Oldest => ("ascending", LeadOrder::Newest),
        LeadOrder::Id => ("none", LeadOrder::Newest),
    };
    vec![
        OrderHeader {
            words: "Lead",
            link: view.ordered(LeadOrder::Id),
            sorted: if by_id { "ascending" } else { "none" },
        },
        OrderHeader { words: "Changed", link: view.ordered(turned), sorted },
    ]
}

/// The action that applies to all leads of the status.
fn action(status: LeadStatus) -> Option<(&'static str, String)> {
    let retry = format!("/act/retry?{}", query(&[("status", status.name())]));
    match status {
        LeadStatus::Rejected => Some(("Retry all rejected", retry)),
        LeadStatus::Exhausted => Some(("Retry all exhausted", retry)),
        LeadStatus::InSync
        | LeadStatus::Pending
        | LeadStatus::InFlight
        | LeadStatus::Retrying
        | LeadStatus::Held
        | LeadStatus::Invalid
        | LeadStatus::Gone
        | LeadStatus::Assumed
        | LeadStatus::Suppressed => None,
    }
}

/// What can be decided about leads of the page.
fn choices(has: &impl Fn(&[LeadStatus]) -> bool) -> Vec<ListChoice> {
    let choice = |words, address| ListChoice { words, address };
    let mut choices = Vec::new();
    if has(&[LeadStatus::Rejected, LeadStatus::Exhausted]) {
        choices.push(choice("Retry", "/act/retry"));
    }
    if has(&[LeadStatus::Held]) {
        choices.push(choice("Approve", "/act/approve"));
        choices.push(choice("Baseline", "/act/baseline"));
    }
    if has(&[LeadStatus::InSync, LeadStatus::Assumed]) {
        choices.push(choice("Send again", "/act/resend"));
    }
    choices.push(choice("Never write to them", "/act/suppress"));
    choices
}

/// Redirects to the lead with that id, or shows those that fit.
async fn find(
    board: &DashboardContext,
    visitor: &DashboardVisitor,
    search: &PersonSearch,
    asked: &QueryParameters,
) -> Response {
    let sought = asked.get("q").trim();
    let behind = asked.given("behind");
    let behind = behind.map(|id| LeadId { id: id.to_owned(), client_id: asked.get("behind_client").to_owned() });
    let window = &board.desk.window;
    if behind.is_none() {
        let Some(clients) = window.read(async |db| Ok(clients(db, sought).await?)).await else {
            return away(board, visitor);
        };
        let lead = |client_id: &str| LeadId { id: sought.to_owned(), client_id: client_id.to_owned() };
        match clients.as_slice() {
            [] => {}
            [only] => return Redirect::to(&lead_link(&lead(only))).into_response(),
            // The lead's page lists the clients.
            [..] => return Redirect::to(&lead_link(&lead(""))).into_response(),
        }
    }
    let is_first = behind.is_none();
    let found = window.read(async |db| Ok(lead_search::find(db, search, behind, SEARCHED).await?)).await;
    let (Some(found), Some(report)) = (found, window.report().await) else { return away(board, visitor) };
    if is_first && found.leads.is_empty() && found.goes_on_behind.is_none() {
        return nobody(board, visitor, sought);
    }
    let shown = found_list(found, sought);
    page(StatusCode::OK, &ListPage::of(board, visitor, ListView::of(LeadScope::All), &report, shown))
}

fn found_list(found: SearchFinds, sought: &str) -> ShownList {
    let leads = counted(i64::try_from(found.leads.len()).unwrap_or(0));
    let goes_on = found.goes_on_behind.map(|behind| {
        format!("/leads?{}", query(&[("q", sought), ("behind", &behind.id), ("behind_client", &behind.client_id)]))
    });
    let nothing = match goes_on {
        Some(_) => "None among the leads that were searched so far.",
        None => "No other lead fits.",
    };
    let rest = if goes_on.is_some() { " here. The search has not seen all leads yet." } else { "." };
    ShownList {
        heading: format!("Leads found for “{}”", printable(sought)),
        total: format!("{leads}{rest}"),
        nothing,
        leads: found.leads,
        earlier: None,
        later: None,
        goes_on,
        sought: sought.to_owned(),
    }
}

fn nobody(board: &DashboardContext, visitor: &DashboardVisitor, sought: &str) -> Response {
    let what = format!(
        "No lead with the id {0} is known, and no name, e-mail address or telephone number fits.",
        printable(sought)
    );
    let cure = "Ids are written as the database writes the value of [source] key. `conversica-sync plan` shows whether it is in \
                the source. A lead whose row never made a valid Lead object has no name here.";
    let frame = PageFrame::of(board, visitor, "Not found");
    note(StatusCode::NOT_FOUND, frame, &what, cure, Some(("All that wait", "/leads")))
}
