//! Table `lead`, for operators who look through leads: pages in both directions, in the order of the ids or of the last changes,
//! with the Lead object of each lead.
//!
//! A page is one statement that begins at a lead of the page before, so that it costs the same wherever it is.

use chrono::{DateTime, Utc};
use sqlx::FromRow;

use crate::conversica::lead::LeadId;
use crate::rules::lead_person::LeadPerson;
use crate::rules::lead_status::LeadStatus;
use crate::store::lead_status::{IS_ASSUMED, SHOWN_STATUS, UNSETTLED, status_named};
use crate::store::listing::{LISTED_COLUMNS, ListedLead, ListedRow, push_reason};
use crate::store::micros;
use crate::store::state_db::StateDb;
use crate::store::statement::StateStatement;

/// The leads that are looked through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeadScope {
    All,
    /// Those that wait to be sent or need the operator.
    Waiting,
    Status(LeadStatus),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeadOrder {
    Id,
    /// The lead whose content changed last comes first.
    Newest,
    Oldest,
}

/// A lead's place in any order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeadPlace {
    pub changed_at: DateTime<Utc>,
    pub lead: LeadId,
}

/// Where a page begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PageStart {
    First,
    /// Behind that lead.
    After(LeadPlace),
    /// It ends in front of that lead.
    Before(LeadPlace),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeadFilter {
    pub scope: LeadScope,
    /// A part of the reason, as [`super::listing`] finds it.
    pub reason: Option<String>,
    /// Leads whose content changed at this moment or later, and before the other.
    pub changed_from: Option<DateTime<Utc>>,
    pub changed_to: Option<DateTime<Utc>>,
}

/// How many leads there are: the way to a page depends on it.
#[derive(Debug, Clone, Copy)]
pub struct TableCounts {
    /// Leads of the scope.
    pub of_scope: i64,
    pub all: i64,
    /// Leads in the index over unfinished leads.
    pub unfinished: i64,
    /// Leads that are read in all, page by page, about.
    pub wanted: i64,
}

/// A lead with the person that it is about.
#[derive(Debug, Clone, PartialEq)]
pub struct SeenLead {
    pub listed: ListedLead,
    pub person: LeadPerson,
}

impl SeenLead {
    pub fn place(&self) -> LeadPlace {
        LeadPlace { changed_at: self.listed.changed_at, lead: self.listed.lead.clone() }
    }
}

/// A page in its order, and whether there are leads on either side of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LeadTablePage {
    pub leads: Vec<SeenLead>,
    pub has_earlier: bool,
    pub has_later: bool,
}

/// A row with the columns of [`seen_columns`].
#[derive(FromRow)]
pub(crate) struct SeenRow {
    #[sqlx(flatten)]
    listed: ListedRow,
    shown_status: String,
    body: Option<String>,
}

impl SeenRow {
    pub(crate) fn into_seen(self) -> Result<SeenLead, sqlx::Error> {
        let status = status_named(&self.shown_status)?;
        let person = LeadPerson::of_lead_object(self.body.as_deref().unwrap_or_default());
        Ok(SeenLead { listed: self.listed.into_listed(status), person })
    }
}

/// What [`SeenRow`] reads. A lead whose row makes no valid Lead object is shown as it was last sent.
pub(crate) fn seen_columns() -> String {
    format!("{LISTED_COLUMNS}, {SHOWN_STATUS} as shown_status, coalesce(desired, delivered) as body")
}

/// The way to the leads of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TableWay {
    /// The leads of the scope by the index over unfinished leads, sorted.
    Sort,
    /// All leads in the order of the page, without those of other scopes.
    Walk,
    /// Assumed leads by the index over them, which has the order of the ids.
    AssumedIndex,
    /// The report counts no lead of the scope.
    Nothing,
}

/// Sorting this many leads takes a moment, wherever they are. A walk may pass millions of other leads before it finds the first.
const QUICKLY_SORTED: i64 = 200_000;

impl LeadFilter {
    fn way(&self, order: LeadOrder, counts: TableCounts, limit: i64) -> TableWay {
        let TableCounts { of_scope, all, unfinished, wanted } = counts;
        let has_more_parts = wanted > limit;
        // A sort reads all of them once for each part.
        let is_sorted = |leads: i64| {
            let reads = (i128::from(wanted / limit.max(1)) + 1) * i128::from(leads);
            let is_shorter = if has_more_parts { reads <= i128::from(all) } else { self.reason.is_some() };
            reads <= i128::from(QUICKLY_SORTED) || is_shorter
        };
        let sorted = |leads| if is_sorted(leads) { TableWay::Sort } else { TableWay::Walk };
        match self.scope {
            LeadScope::Status(LeadStatus::InSync) if of_scope == 0 && all > QUICKLY_SORTED => TableWay::Nothing,
            LeadScope::Status(LeadStatus::InSync) => TableWay::Walk,
            LeadScope::Status(LeadStatus::Assumed) if order == LeadOrder::Id || is_sorted(of_scope) => {
                TableWay::AssumedIndex
            }
            LeadScope::Status(LeadStatus::Assumed) => TableWay::Walk,
            LeadScope::All if self.reason.is_none() => TableWay::Walk,
            LeadScope::All => sorted(unfinished),
            LeadScope::Waiting | LeadScope::Status(_) => sorted(of_scope),
        }
    }

    fn push(&self, statement: &mut StateStatement, db: &StateDb, way: TableWay) {
        // No index matches an expression, so the planner takes the one of the order.
        let status = match way {
            TableWay::Sort | TableWay::AssumedIndex | TableWay::Nothing => "status",
            TableWay::Walk => "status || ''",
        };
        let unsettled = if way == TableWay::Sort { format!(" and {UNSETTLED}") } else { String::new() };
        match (self.scope, way) {
            (_, TableWay::Nothing) => statement.push("1 = 0"),
            (LeadScope::All, TableWay::Sort) => statement.push(UNSETTLED),
            (LeadScope::All, _) if self.reason.is_some() => statement.push(&format!("{status} <> 'in_sync'")),
            (LeadScope::All, _) => statement.push("1 = 1"),
            (LeadScope::Waiting, _) => {
                let waiting = LeadStatus::ALL.into_iter().filter(|status| !status.is_settled());
                let names: Vec<String> = waiting.map(|status| format!("'{}'", status.name())).collect();
                statement.push(&format!("{status} in ({}){unsettled}", names.join(", ")))
            }
            (LeadScope::Status(LeadStatus::Assumed), TableWay::AssumedIndex) => statement.push(IS_ASSUMED),
            (LeadScope::Status(LeadStatus::Assumed), _) => {
                statement.push("status || '' = 'in_sync' and assumed_at is not null")
            }
            (LeadScope::Status(LeadStatus::InSync), _) => statement.push(&LeadStatus::InSync.condition()),
            (LeadScope::Status(other), _) => statement.push(&format!("{status} = '{}'{unsettled}", other.name())),
        };
        let changed_at = changed_at(way);
        if let Some(from) = self.changed_from {
            statement.push(&format!(" and {changed_at} >= ")).push_bind(micros(from));
        }
        if let Some(to) = self.changed_to {
            statement.push(&format!(" and {changed_at} < ")).push_bind(micros(to));
        }
        if let Some(reason) = &self.reason {
            push_reason(statement, db, reason);
        }
    }
}

/// The column, in a form that an index matches only if the leads are walked over.
fn changed_at(way: TableWay) -> &'static str {
    match way {
        TableWay::Sort | TableWay::AssumedIndex => "+changed_at",
        TableWay::Walk | TableWay::Nothing => "changed_at",
    }
}

/// One page of at most `limit` leads.
pub async fn page(
    db: &StateDb,
    filter: &LeadFilter,
    (order, start): (LeadOrder, &PageStart),
    counts: TableCounts,
    limit: i64,
) -> Result<LeadTablePage, sqlx::Error> {
    let way = filter.way(order, counts, limit);
    let mut statement = StateStatement::new(format!("select {} from lead where ", seen_columns()));
    filter.push(&mut statement, db, way);
    let is_backwards = matches!(start, PageStart::Before(_));
    let is_falling = (order == LeadOrder::Newest) != is_backwards;
    if let PageStart::After(place) | PageStart::Before(place) = start {
        let beyond = if is_falling { "<" } else { ">" };
        match order {
            LeadOrder::Id => statement.push(&format!(" and (id, client_id) {beyond} (")),
            LeadOrder::Newest | LeadOrder::Oldest => {
                statement.push(&format!(" and ({}, id, client_id) {beyond} (", changed_at(way)));
                statement.push_bind(micros(place.changed_at)).push(", ")
            }
        };
        statement.push_bind(&place.lead.id).push(", ").push_bind(&place.lead.client_id).push(")");
    }
    let direction = if is_falling { " desc" } else { "" };
    let first = match order {
        LeadOrder::Id => String::new(),
        LeadOrder::Newest | LeadOrder::Oldest => format!("{}{direction}, ", changed_at(way)),
    };
    statement.push(&format!(" order by {first}id{direction}, client_id{direction} limit {}", limit + 1));
    let rows: Vec<SeenRow> = db.fetch_all(statement).await?;
    let mut leads = rows.into_iter().map(SeenRow::into_seen).collect::<Result<Vec<_>, _>>()?;
    let limit = usize::try_from(limit).unwrap_or(0);
    let has_more = leads.len() > limit;
    leads.truncate(limit);
    if is_backwards {
        leads.reverse();
    }
    Ok(match start {
        PageStart::First => LeadTablePage { leads, has_earlier: false, has_later: has_more },
        PageStart::After(_) => LeadTablePage { leads, has_earlier: true, has_later: has_more },
        PageStart::Before(_) => LeadTablePage { leads, has_earlier: has_more, has_later: true },
    })
}

/// How many leads the filter selects; counted up to `most`.
pub async fn count(db: &StateDb, filter: &LeadFilter, counts: TableCounts, most: i64) -> Result<i64, sqlx::Error> {
    let mut statement = StateStatement::new("select count(*) from (select 1 from lead where ");
    // It is read at once.
    let counts = TableCounts { wanted: most, ..counts };
    filter.push(&mut statement, db, filter.way(LeadOrder::Id, counts, most));
    statement.push(&format!(" limit {most}) counted"));
    let (leads,) = db.fetch_one(statement).await?;
    Ok(leads)
}

/// The leads with these ids, of any client.
pub async fn with_ids(db: &StateDb, ids: &[String]) -> Result<Vec<SeenLead>, sqlx::Error> {
    let mut found = Vec::new();
    for some in ids.chunks(500) {
        let mut statement = StateStatement::new(format!("select {} from lead where id in (", seen_columns()));
        statement.push_list(some).push(") order by id, client_id");
        let rows: Vec<SeenRow> = db.fetch_all(statement).await?;
        found.extend(rows.into_iter().map(SeenRow::into_seen).collect::<Result<Vec<_>, _>>()?);
    }
    Ok(found)
}

/// The Lead objects of the leads with these ids: as they should be, and as they were accepted last.
pub async fn contents_of(db: &StateDb, ids: &[String]) -> Result<Vec<(LeadId, String)>, sqlx::Error> {
    let mut found = Vec::new();
    for some in ids.chunks(500) {
        let mut statement = StateStatement::new("select id, client_id, desired, delivered from lead where id in (");
        statement.push_list(some).push(") order by id, client_id");
        let rows: Vec<(String, String, Option<String>, Option<String>)> = db.fetch_all(statement).await?;
        for (id, client_id, desired, delivered) in rows {
            let lead = LeadId { id, client_id };
            found.extend(desired.into_iter().chain(delivered).map(|body| (lead.clone(), body)));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNFINISHED: i64 = 600_000;

    fn filter(scope: LeadScope, reason: Option<&str>) -> LeadFilter {
        LeadFilter { scope, reason: reason.map(str::to_owned), changed_from: None, changed_to: None }
    }

    fn counts(of_scope: i64, wanted: i64) -> TableCounts {
        TableCounts { of_scope, all: 1_000_000, unfinished: UNFINISHED, wanted }
    }

    #[test]
    fn few_leads_are_sorted_and_many_are_walked_over() {
        let way = |filter: LeadFilter, of_scope| filter.way(LeadOrder::Id, counts(of_scope, 50), 50);
        let held = LeadScope::Status(LeadStatus::Held);
        assert_eq!(way(filter(held, None), 5_000), TableWay::Sort);
        assert_eq!(way(filter(held, None), 90_000), TableWay::Sort, "they may all be at one end");
        assert_eq!(way(filter(held, None), 500_000), TableWay::Walk);
        assert_eq!(way(filter(held, Some("first_run")), 500_000), TableWay::Sort);
        assert_eq!(way(filter(LeadScope::Status(LeadStatus::InSync), None), 5), TableWay::Walk);
        assert_eq!(way(filter(LeadScope::Status(LeadStatus::InSync), None), 0), TableWay::Nothing);
        assert_eq!(way(filter(LeadScope::All, None), 1_000_000), TableWay::Walk);
        assert_eq!(way(filter(LeadScope::All, Some("422")), 1_000_000), TableWay::Sort);
    }

    #[test]
    fn assumed_leads_have_an_index_in_the_order_of_their_ids() {
        let assumed = filter(LeadScope::Status(LeadStatus::Assumed), None);
        let way = |order, of_scope| assumed.way(order, counts(of_scope, 50), 50);
        assert_eq!(way(LeadOrder::Id, 0), TableWay::AssumedIndex);
        assert_eq!(way(LeadOrder::Id, 900_000), TableWay::AssumedIndex);
        assert_eq!(way(LeadOrder::Newest, 5), TableWay::AssumedIndex);
        assert_eq!(way(LeadOrder::Newest, 900_000), TableWay::Walk);
    }

    #[test]
    fn a_file_in_many_parts_does_not_sort_them_all_for_each_part() {
        let way = |filter: LeadFilter, of_scope, wanted| filter.way(LeadOrder::Id, counts(of_scope, wanted), 1000);
        let held = LeadScope::Status(LeadStatus::Held);
        assert_eq!(way(filter(held, Some("first_run")), 500_000, 900), TableWay::Sort, "one part");
        assert_eq!(way(filter(held, Some("first_run")), 500_000, 90_000), TableWay::Walk);
        assert_eq!(way(filter(held, None), 5_000, 5_000), TableWay::Sort);
        assert_eq!(way(filter(held, None), 150_000, 150_000), TableWay::Walk);
        assert_eq!(way(filter(LeadScope::All, Some("422")), 1_000_000, 90_000), TableWay::Walk);
    }
}
