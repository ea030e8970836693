//! Table `lead`, for a search by name, address or number. They are parts of the stored Lead objects, and no index holds them: an
//! index for each would double the time in which a million leads are recorded. The search reads the table part by part until it
//! has found enough or its time is over, and then says where it goes on.

use std::time::{Duration, Instant};

use crate::conversica::lead::LeadId;
use crate::rules::person_search::PersonSearch;
use crate::store::lead_table::{SeenLead, SeenRow, seen_columns};
use crate::store::state_db::StateDb;
use crate::store::statement::StateStatement;

/// Leads that are read at once: some hundredths of a second.
const PART: i64 = 25_000;
/// The most leads of a part that the database takes for possible finds.
const CANDIDATES: i64 = 300;

/// What one search may take.
#[derive(Debug, Clone, Copy)]
pub struct SearchLimits {
    pub leads: usize,
    pub within: Duration,
}

/// What a search has found so far. On SQLite the leads that became known last come first; on PostgreSQL the order is that of the
/// ids.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SearchFinds {
    pub leads: Vec<SeenLead>,
    /// The search goes on behind this lead; `None` if it has seen all.
    pub goes_on_behind: Option<LeadId>,
}

/// Searches behind `after`.
pub async fn find(
    db: &StateDb,
    search: &PersonSearch,
    after: Option<LeadId>,
    limits: SearchLimits,
) -> Result<SearchFinds, sqlx::Error> {
    let began = Instant::now();
    let mut finds = SearchFinds { leads: Vec::new(), goes_on_behind: after };
    loop {
        let Some(last) = end_of_part(db, finds.goes_on_behind.as_ref()).await? else {
            return Ok(SearchFinds { goes_on_behind: None, ..finds });
        };
        let mut candidates = candidates(db, search, finds.goes_on_behind.as_ref(), &last).await?;
        let is_cut = i64::try_from(candidates.len()).is_ok_and(|found| found >= CANDIDATES);
        let mut end = if is_cut { candidates.last().map_or(last, |lead| lead.listed.lead.clone()) } else { last };
        candidates.retain(|lead| search.fits(&lead.listed.lead.id, &lead.person));
        let room = limits.leads.saturating_sub(finds.leads.len());
        if candidates.len() > room {
            candidates.truncate(room);
            end = candidates.last().map_or(end, |lead| lead.listed.lead.clone());
        }
        finds.leads.extend(candidates);
        finds.goes_on_behind = Some(end);
        if finds.leads.len() >= limits.leads || began.elapsed() >= limits.within {
            let more = end_of_part(db, finds.goes_on_behind.as_ref()).await?;
            return Ok(SearchFinds { goes_on_behind: finds.goes_on_behind.filter(|_| more.is_some()), ..finds });
        }
    }
}

/// The last lead of the part behind that lead; `None` if none is left.
async fn end_of_part(db: &StateDb, after: Option<&LeadId>) -> Result<Option<LeadId>, sqlx::Error> {
    let mut end = StateStatement::new("select id, client_id from (select ");
    match db {
        StateDb::Sqlite(_) => {
            end.push("rowid as place, id, client_id from lead where rowid < ");
            push_row_before(&mut end, after);
            end.push(&format!(" order by rowid desc limit {PART}) part order by place limit 1"));
        }
        StateDb::Postgres(_) => {
            end.push("id, client_id from lead where ");
            push_behind(&mut end, after);
            end.push(&format!(" order by id, client_id limit {PART}) part order by id desc, client_id desc limit 1"));
        }
    }
    let found: Option<(String, String)> = db.fetch_optional(end).await?;
    Ok(found.map(|(id, client_id)| LeadId { id, client_id }))
}

/// Leads behind `after` up to and including `last` that may fit.
async fn candidates(
    db: &StateDb,
    search: &PersonSearch,
    after: Option<&LeadId>,
    last: &LeadId,
) -> Result<Vec<SeenLead>, sqlx::Error> {
    let mut part = StateStatement::new(format!("select {} from lead where ", seen_columns()));
    let (like, order) = match db {
        // Ignores case, of ASCII letters.
        StateDb::Sqlite(_) => {
            part.push("rowid < ");
            push_row_before(&mut part, after);
            part.push(" and rowid >= (select rowid from lead where id = ").push_bind(&last.id);
            part.push(" and client_id = ").push_bind(&last.client_id).push(")");
            ("like", "rowid desc")
        }
        StateDb::Postgres(_) => {
            push_behind(&mut part, after);
            part.push(" and (id, client_id) <= (").push_bind(&last.id).push(", ").push_bind(&last.client_id).push(")");
            ("ilike", "id, client_id")
        }
    };
    for any_of in search.patterns() {
        part.push(" and (1 = 0");
        for pattern in any_of {
            part.push(&format!(" or coalesce(desired, delivered, id) {like} ")).push_bind(pattern).push(" escape '!'");
        }
        part.push(")");
    }
    part.push(&format!(" order by {order} limit {CANDIDATES}"));
    let rows: Vec<SeenRow> = db.fetch_all(part).await?;
    rows.into_iter().map(SeenRow::into_seen).collect()
}

/// The row number before which an SQLite part begins.
fn push_row_before(statement: &mut StateStatement, after: Option<&LeadId>) {
    match after {
        None => statement.push("(select coalesce(max(rowid), 0) + 1 from lead)"),
        Some(after) => {
            statement.push("(select rowid from lead where id = ").push_bind(&after.id);
            statement.push(" and client_id = ").push_bind(&after.client_id).push(")")
        }
    };
}

fn push_behind(statement: &mut StateStatement, after: Option<&LeadId>) {
    match after {
        None => statement.push("1 = 1"),
        Some(after) => {
            statement.push("(id, client_id) > (").push_bind(&after.id).push(", ").push_bind(&after.client_id).push(")")
        }
    };
}
