//! Table `lead`, for operators who list leads: pages of one status, in order of their ids.
//!
//! Each page is one statement that begins after the last lead of the previous page, so that ten million leads need no memory and
//! hold no snapshot open. If a lead changes its status meanwhile, the list may show it twice or not at all.

use chrono::{DateTime, Utc};
use sqlx::FromRow;

use crate::conversica::lead::LeadId;
use crate::rules::lead_status::LeadStatus;
use crate::store::instant;
use crate::store::state_db::StateDb;
use crate::store::statement::StateStatement;

/// Leads in one page.
pub const PAGE: i64 = 1000;

/// A lead of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedLead {
    pub lead: LeadId,
    pub status: LeadStatus,
    pub hold_reason: Option<String>,
    pub invalid_reasons: Vec<String>,
    pub last_outcome: Option<LastOutcome>,
    /// Set while the lead waits to be sent.
    pub due_at: Option<DateTime<Utc>>,
    pub changed_at: DateTime<Utc>,
    /// Since when the lead has its present status.
    pub since: DateTime<Utc>,
    pub attempts: i64,
}

/// The outcome of the newest attempt.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct LastOutcome {
    pub class: String,
    pub http_status: Option<i64>,
    pub detail: Option<String>,
    pub at: Option<DateTime<Utc>>,
}

/// How a page finds its leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ListingWay {
    /// All leads of the status, by the index over unfinished leads, sorted for each page.
    Sort,
    /// All leads in order of their ids, skipping those of other statuses.
    Walk,
    /// The first leads of the status, in any order.
    Any,
}

/// The leads of one status, page by page.
#[derive(Debug)]
pub struct ListingPages<'a> {
    db: &'a StateDb,
    status: LeadStatus,
    reason: Option<&'a str>,
    way: ListingWay,
    after: Option<LeadId>,
    at_end: bool,
}

/// How many leads there are: which way to list them is shorter depends on it.
#[derive(Debug, Clone, Copy)]
pub struct ListingCounts {
    /// Leads of the status that is listed.
    pub of_status: i64,
    /// Leads of any status.
    pub all: i64,
    /// Leads that are asked for, about.
    pub wanted: i64,
}

impl<'a> ListingPages<'a> {
    pub fn new(db: &'a StateDb, status: LeadStatus, reason: Option<&'a str>, counts: ListingCounts) -> Self {
        let ListingCounts { of_status, all, wanted } = counts;
        let way = shorter_way(status, of_status, all, if reason.is_some() { of_status } else { wanted });
        Self { db, status, reason, way, after: None, at_end: false }
    }

    /// Any leads of the status, one page. The cost does not depend on the number of leads.
    pub fn some(db: &'a StateDb, status: LeadStatus) -> Self {
        Self { db, status, reason: None, way: ListingWay::Any, after: None, at_end: false }
    }

    /// The same, beginning after that lead.
    #[must_use]
    pub fn behind(mut self, lead: LeadId) -> Self {
        self.after = Some(lead);
        self
    }

    /// The next page, of at most `limit` leads (and [`PAGE`]); empty at the end.
    pub async fn next(&mut self, limit: i64) -> Result<Vec<ListedLead>, sqlx::Error> {
        if self.at_end || limit <= 0 {
            return Ok(Vec::new());
        }
        let limit = limit.min(PAGE);
        let page = self.read(limit).await?;
        self.at_end = i64::try_from(page.len()).is_ok_and(|rows| rows < limit);
        self.after = page.last().map(|listed| listed.lead.clone()).or(self.after.take());
        Ok(page)
    }

    async fn read(&self, limit: i64) -> Result<Vec<ListedLead>, sqlx::Error> {
        let mut page = StateStatement::new(format!("select {LISTED_COLUMNS} from lead where "));
        push_condition(&mut page, self.db, self.status, self.reason, self.way);
        if let Some(after) = &self.after {
            page.push(" and (id, client_id) > (").push_bind(&after.id).push(", ");
            page.push_bind(&after.client_id).push(")");
        }
        if self.way != ListingWay::Any {
            page.push(" order by id, client_id");
        }
        page.push(&format!(" limit {limit}"));
        let rows: Vec<ListedRow> = self.db.fetch_all(page).await?;
        Ok(rows.into_iter().map(|row| row.into_listed(self.status)).collect())
    }
}

/// The columns that [`ListedRow`] reads.
pub(crate) const LISTED_COLUMNS: &str = "id, client_id, hold_reason, invalid_reasons, last_outcome, last_http_status, last_detail, \
     last_outcome_at, due_at, changed_at, attempts, claimed_at, delivered_at, gone_at, assumed_at";

/// A row of table `lead`.
#[derive(FromRow)]
pub(crate) struct ListedRow {
    id: String,
    client_id: String,
    hold_reason: Option<String>,
    invalid_reasons: Option<String>,
    last_outcome: Option<String>,
    last_http_status: Option<i64>,
    last_detail: Option<String>,
    last_outcome_at: Option<i64>,
    due_at: Option<i64>,
    changed_at: i64,
    attempts: i64,
    claimed_at: Option<i64>,
    delivered_at: Option<i64>,
    gone_at: Option<i64>,
    assumed_at: Option<i64>,
}

impl ListedRow {
    pub(crate) fn into_listed(self, status: LeadStatus) -> ListedLead {
        let since = match status {
            LeadStatus::InSync => self.delivered_at,
            LeadStatus::InFlight => self.claimed_at,
            LeadStatus::Retrying | LeadStatus::Rejected | LeadStatus::Exhausted => self.last_outcome_at,
            LeadStatus::Gone => self.gone_at,
            LeadStatus::Assumed => self.assumed_at,
            LeadStatus::Pending | LeadStatus::Held | LeadStatus::Invalid | LeadStatus::Suppressed => None,
        };
        let (http_status, detail, at) = (self.last_http_status, self.last_detail, self.last_outcome_at.map(instant));
        ListedLead {
            lead: LeadId { id: self.id, client_id: self.client_id },
            status,
            hold_reason: self.hold_reason,
            invalid_reasons: reasons_of(self.invalid_reasons),
            last_outcome: self.last_outcome.map(|class| LastOutcome { class, http_status, detail, at }),
            due_at: due(status, self.due_at),
            changed_at: instant(self.changed_at),
            since: instant(since.unwrap_or(self.changed_at)),
            attempts: self.attempts,
        }
    }
}

/// How many leads of that status match.
pub async fn count(db: &StateDb, status: LeadStatus, reason: &str) -> Result<i64, sqlx::Error> {
    let mut count = StateStatement::new("select count(*) from lead where ");
    push_condition(&mut count, db, status, Some(reason), ListingWay::Sort);
    let (leads,) = db.fetch_one(count).await?;
    Ok(leads)
}

/// Compares the rows that each way reads: sorting reads the whole status for each page, walking also reads leads of other
/// statuses.
fn shorter_way(status: LeadStatus, of_status: i64, all: i64, wanted: i64) -> ListingWay {
    let (of_status, all, wanted) = (i128::from(of_status), i128::from(all), i128::from(wanted.min(of_status)));
    let pages = wanted / i128::from(PAGE) + 1;
    // Assumed leads have an index in the order of their ids; leads in sync have none.
    if status == LeadStatus::Assumed {
        return ListingWay::Sort;
    }
    let walk = status == LeadStatus::InSync || all * wanted < pages * of_status * of_status;
    if walk { ListingWay::Walk } else { ListingWay::Sort }
}

fn push_condition(
    statement: &mut StateStatement,
    db: &StateDb,
    status: LeadStatus,
    reason: Option<&str>,
    way: ListingWay,
) {
    match way {
        // No index matches this expression, so the planner uses the primary key.
        ListingWay::Walk if status != LeadStatus::InSync && status != LeadStatus::Assumed => {
            statement.push(&format!("status || '' = '{}'", status.name()))
        }
        ListingWay::Sort | ListingWay::Walk | ListingWay::Any => statement.push(&status.condition()),
    };
    if let Some(reason) = reason {
        push_reason(statement, db, reason);
    }
}

/// Appends a condition for leads with this text in the reason of their hold, in the reasons why they are invalid, or in Conversica's
/// last answer, by its words, its number or its class.
pub(crate) fn push_reason(statement: &mut StateStatement, db: &StateDb, reason: &str) {
    let like = match db {
        // Ignores case, of ASCII letters.
        StateDb::Sqlite(_) => "like",
        StateDb::Postgres(_) => "ilike",
    };
    // Reasons are stored as JSON, with their quotes escaped.
    let in_json = serde_json::Value::from(reason).to_string();
    let in_json = in_json.trim_start_matches('"').strip_suffix('"').unwrap_or(&in_json).to_owned();
    statement.push(&format!(" and (hold_reason {like} ")).push_bind(containing(reason));
    statement.push(" escape '!' or case when status = 'invalid' then invalid_reasons ");
    statement.push(like).push(" ").push_bind(containing(&in_json));
    statement.push(&format!(" escape '!' else last_detail {like} ")).push_bind(containing(reason));
    statement.push(" escape '!' or last_outcome = ").push_bind(reason);
    statement.push(" or cast(last_http_status as text) = ").push_bind(reason).push(" end)");
}

/// A pattern for texts that contain this text; `!` escapes.
fn containing(text: &str) -> String {
    let mut pattern = String::from("%");
    for c in text.chars() {
        if matches!(c, '%' | '_' | '!') {
            pattern.push('!');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}

/// The stored reasons; empty if there are none.
pub(crate) fn reasons_of(json: Option<String>) -> Vec<String> {
    json.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default()
}

/// When the lead may be sent; `None` unless it waits for that. A withdrawal of consent has no such time.
pub(crate) fn due(status: LeadStatus, stored: Option<i64>) -> Option<DateTime<Utc>> {
    let waits = matches!(status, LeadStatus::Pending | LeadStatus::Retrying);
    stored.filter(|at| waits && *at > 0).map(instant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_searched_for_is_no_pattern() {
        assert_eq!(containing("100%_sure!"), "%100!%!_sure!!%");
    }

    #[test]
    fn few_leads_are_sorted_and_many_are_walked_over() {
        const ALL: i64 = 10_000_000;
        assert_eq!(shorter_way(LeadStatus::Invalid, 5, ALL, 5), ListingWay::Sort);
        assert_eq!(shorter_way(LeadStatus::Invalid, 10_000, ALL, 10_000), ListingWay::Sort);
        assert_eq!(shorter_way(LeadStatus::Held, ALL, ALL, 50), ListingWay::Walk);
        assert_eq!(shorter_way(LeadStatus::Held, ALL, ALL, ALL), ListingWay::Walk);
        assert_eq!(shorter_way(LeadStatus::InSync, 5, 5, 5), ListingWay::Walk);
        assert_eq!(shorter_way(LeadStatus::Held, 0, 0, 0), ListingWay::Sort);
    }
}
