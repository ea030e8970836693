//! Lists of leads: of one status or of all that wait or need the operator, page by page, or found by id.

use std::sync::Arc;

use askama::Template;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};

use super::frame::{PageFrame, QueryParameters, ShownMoment, away, lead_link, lead_name, moment, note, page, query};
use crate::admin::dashboard::board::DashboardContext;
use crate::admin::dashboard::session::{DashboardVisitor, PeopleVisitor};
use crate::clock;
use crate::console::printable;
use crate::conversica::lead::LeadId;
use crate::rules::lead_status::LeadStatus;
use crate::status::StatusReport;
use crate::store::heard::reading;
use crate::store::listing::{ListedLead, ListingCounts, ListingPages};
use crate::store::state_db::StateDb;
use crate::store::story;
use crate::story::entry::why;
use crate::wording::{meaning, number};

/// Leads per page.
const PAGE: i64 = 50;

/// The selection and the start of a page.
#[derive(Debug, Clone, Default)]
pub struct ListRequest {
    /// `None` selects all leads that wait or need the operator.
    pub status: Option<LeadStatus>,
    pub reason: String,
    /// Start behind that lead of that status.
    pub after: Option<(LeadStatus, LeadId)>,
}

impl ListRequest {
    pub fn read(asked: &QueryParameters) -> Self {
        let after = LeadStatus::from_name(asked.get("from")).zip(asked.given("after")).map(|(status, id)| {
            (status, LeadId { id: id.to_owned(), client_id: asked.get("after_client").to_owned() })
        });
        Self {
            status: LeadStatus::from_name(asked.get("status")),
            reason: asked.get("reason").trim().to_owned(),
            after,
        }
    }

    /// In the order of the list.
    fn statuses(&self) -> Vec<LeadStatus> {
        let wanted = |status: &LeadStatus| match self.status {
            Some(only) => *status == only,
            None => !status.is_settled(),
        };
        LeadStatus::ALL.into_iter().filter(wanted).collect()
    }

    /// How many leads have the statuses, whatever the reason.
    pub fn leads(&self, report: &StatusReport) -> i64 {
        self.statuses().into_iter().map(|status| report.leads(status)).sum()
    }

    /// One page of leads, and whether more follow.
    pub async fn page(
        &self,
        db: &StateDb,
        report: &StatusReport,
        limit: i64,
    ) -> Result<(Vec<ListedLead>, bool), sqlx::Error> {
        let reason = (!self.reason.is_empty()).then_some(self.reason.as_str());
        let all = report.leads.values().sum();
        let mut listed = Vec::new();
        let begun = self.after.as_ref().map(|(status, _)| *status);
        for status in self.statuses().into_iter().skip_while(|status| begun.is_some_and(|begun| begun != *status)) {
            let left = limit + 1 - i64::try_from(listed.len()).unwrap_or(limit);
            // Settled leads have no reason; a search among millions would take long and find none.
            if left <= 0 || (reason.is_some() && matches!(status, LeadStatus::InSync | LeadStatus::Assumed)) {
                continue;
            }
            let mut pages = ListingPages::new(
                db,
                status,
                reason,
                ListingCounts { of_status: report.leads(status), all, wanted: left },
            );
            if let Some((_, lead)) = self.after.as_ref().filter(|(begun, _)| *begun == status) {
                pages = pages.behind(lead.clone());
            }
            listed.extend(pages.next(left).await?);
        }
        let limit = usize::try_from(limit).unwrap_or(0);
        let more = listed.len() > limit;
        listed.truncate(limit);
        Ok((listed, more))
    }

    /// The rows are read after the counts: if they show a whole status, or more than was counted, the rows count.
    pub fn agree(&self, report: &mut StatusReport, listed: &[ListedLead], more: bool) {
        if !self.reason.is_empty() {
            return;
        }
        for status in self.statuses() {
            let rows = listed.iter().filter(|lead| lead.status == status).count();
            let rows = i64::try_from(rows).unwrap_or(i64::MAX);
            if self.after.is_none() && !more {
                report.set_leads(status, rows);
            } else {
                report.set_leads(status, report.leads(status).max(rows + i64::from(more && self.status.is_some())));
            }
        }
    }

    /// The address of the page behind that lead.
    fn link(&self, after: Option<&ListedLead>) -> String {
        let status = self.status.map_or("", LeadStatus::name);
        let (from, id, client) = after
            .map_or(("", "", ""), |last| (last.status.name(), last.lead.id.as_str(), last.lead.client_id.as_str()));
        let asked =
            [("status", status), ("reason", &self.reason), ("from", from), ("after", id), ("after_client", client)];
        let asked = query(&asked);
        if asked.is_empty() { "/leads".to_owned() } else { format!("/leads?{asked}") }
    }
}

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
    status: &'static str,
    reason: String,
    action: Option<(&'static str, String)>,
    rows: Vec<ListRow>,
    /// Without any reason the list has no column for reasons and no search.
    has_reasons: bool,
    nothing: &'static str,
    first: Option<String>,
    next: Option<String>,
    per_page: i64,
}

struct StatusTab {
    name: &'static str,
    link: String,
    leads: String,
    is_here: bool,
}

struct ListRow {
    link: String,
    name: String,
    status: &'static str,
    why: String,
    since: ShownMoment,
}

pub async fn show(
    State(board): State<Arc<DashboardContext>>,
    PeopleVisitor(visitor): PeopleVisitor,
    RawQuery(asked): RawQuery,
) -> Response {
    let asked = QueryParameters::read(asked.unwrap_or_default().as_bytes());
    let sought = asked.get("q").trim();
    if !sought.is_empty() {
        return find(&board, &visitor, sought).await;
    }
    let wanted = ListRequest::read(&asked);
    let window = &board.desk.window;
    let Some(report) = window.report().await else { return away(&board, &visitor) };
    let looked = window.read(async |db| Ok(wanted.page(db, &report, PAGE).await?)).await;
    let Some((listed, more)) = looked else { return away(&board, &visitor) };
    let mut report = (*report).clone();
    wanted.agree(&mut report, &listed, more);
    let (now, veil) = (clock::now(), board.veil());
    let row = |lead: &ListedLead| ListRow {
        link: lead_link(&lead.lead),
        name: lead_name(&lead.lead),
        status: lead.status.name(),
        // Conversica's text may quote the sent lead.
        why: printable(&veil.text(&why(lead))).into_owned(),
        since: moment(lead.since, now),
    };
    let what = wanted.status.map_or("Leads that wait or need a person", |status| status.name());
    let heading = if wanted.status.is_some() { format!("Leads: {what}") } else { what.to_owned() };
    let rows: Vec<ListRow> = listed.iter().map(row).collect();
    let list = ListPage {
        has_reasons: !wanted.reason.is_empty() || rows.iter().any(|row| !row.why.is_empty()),
        frame: PageFrame::of(&board, &visitor, heading.clone()),
        may_act: visitor.may_act(),
        heading,
        meaning: wanted.status.filter(|status| *status == LeadStatus::Assumed).map(meaning),
        tabs: tabs(&wanted, &report),
        status: wanted.status.map_or("", LeadStatus::name),
        action: action(&wanted, &listed),
        rows,
        nothing: if wanted.reason.is_empty() { "No lead has this status." } else { "No lead matches." },
        first: wanted.after.is_some().then(|| ListRequest { after: None, ..wanted.clone() }.link(None)),
        next: more.then(|| wanted.link(listed.last())),
        per_page: PAGE,
        reason: wanted.reason,
    };
    page(StatusCode::OK, &list)
}

fn tabs(wanted: &ListRequest, report: &StatusReport) -> Vec<StatusTab> {
    let tab = |name, status: Option<LeadStatus>| {
        let of = ListRequest { status, ..ListRequest::default() };
        let leads = number(u64::try_from(of.leads(report)).unwrap_or(0));
        StatusTab { name, link: of.link(None), leads, is_here: wanted.status == status }
    };
    let all = std::iter::once(tab("waiting or stuck", None));
    all.chain(LeadStatus::ALL.into_iter().map(|status| tab(status.name(), Some(status)))).collect()
}

/// The action that applies to all listed leads.
fn action(wanted: &ListRequest, listed: &[ListedLead]) -> Option<(&'static str, String)> {
    let status = wanted.status.filter(|_| !listed.is_empty() && wanted.reason.is_empty())?;
    let retry = format!("/act/retry?{}", query(&[("status", status.name())]));
    match status {
        LeadStatus::Rejected => Some(("Retry all rejected", retry)),
        LeadStatus::Exhausted => Some(("Retry all exhausted", retry)),
        _ => None,
    }
}

/// Redirects to the lead with that id.
async fn find(board: &DashboardContext, visitor: &DashboardVisitor, id: &str) -> Response {
    let Some(clients) = board.desk.window.read(async |db| Ok(clients(db, id).await?)).await else {
        return away(board, visitor);
    };
    let lead = |client_id: &str| LeadId { id: id.to_owned(), client_id: client_id.to_owned() };
    match clients.as_slice() {
        [only] => Redirect::to(&lead_link(&lead(only))).into_response(),
        [] => {
            let what = format!("No lead with the id {} is known.", printable(id));
            let cure = "Ids are written as the database writes the value of [source] key. `conversica-sync plan` shows whether it is in \
                        the source.";
            note(
                StatusCode::NOT_FOUND,
                PageFrame::of(board, visitor, "Not found"),
                &what,
                cure,
                Some(("All that wait", "/leads")),
            )
        }
        // The lead's page lists the clients.
        [..] => Redirect::to(&lead_link(&lead(""))).into_response(),
    }
}
