//! Leads whose ids differ from those in posts only in spelling. The search reads every lead, so it runs once for all posts of a
//! batch, before their transaction begins: an SQLite state stores no post during a transaction.

use std::collections::BTreeSet;

use crate::conversica::lead::LeadId;
use crate::conversica::lead_name::normal_id;
use crate::store::heard::fold::FoldedEvents;
use crate::store::heard::withdraw::{named_ids, unknown_names};
use crate::store::possible_opt_out;
use crate::store::state_db::StateDb;
use crate::store::statement::StateStatement;

/// More names than this are compared in this process, because the database would compare each name with every id.
const NAMES_IN_SQL: usize = 10;

const IDS_AT_ONCE: i64 = 10_000;

/// The ids of leads that posts may mean by a name that matches no lead exactly.
pub(crate) async fn find_similar_ids(db: &StateDb, folded: &FoldedEvents) -> Result<Vec<String>, sqlx::Error> {
    let ids = named_ids(folded);
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut known = Vec::new();
    for some in ids.chunks(1000) {
        let rows: Vec<(String, String)> = db.fetch_all(possible_opt_out::known_statement(some)).await?;
        known.extend(rows.into_iter().map(|(id, client_id)| LeadId { id, client_id }));
    }
    let names = unknown_names(folded, &known);
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let mut similar = BTreeSet::new();
    let wanted: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    if names.len() <= NAMES_IN_SQL {
        let rows: Vec<(String, String)> = db.fetch_all(possible_opt_out::similar_statement(&names)).await?;
        similar.extend(rows.into_iter().map(|(id, _)| id).filter(|id| wanted.contains(normal_id(id).as_str())));
    } else {
        // A page at a time, so that a million ids are not in memory at once.
        let mut page = StateStatement::new("select id from lead order by id limit $1").bind(IDS_AT_ONCE);
        loop {
            let ids: Vec<(String,)> = db.fetch_all(page).await?;
            let Some((last,)) = ids.last() else { break };
            page = StateStatement::new("select id from lead where id > $1 order by id limit $2");
            page = page.bind(last).bind(IDS_AT_ONCE);
            similar.extend(ids.into_iter().map(|(id,)| id).filter(|id| wanted.contains(normal_id(id).as_str())));
        }
    }
    Ok(similar.into_iter().collect())
}
