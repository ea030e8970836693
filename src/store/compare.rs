//! The state's side of a full compare: every lead in the order of the source's rows, with the hash of its row.

use std::collections::{HashMap, VecDeque};

use chrono::{DateTime, Utc};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::conversica::lead::{IdOrder, LeadId, RowHash};
use crate::store::lead_status::UNSETTLED;
use crate::store::micros;
use crate::store::packed::ComparedLead;
use crate::store::packed::{self, PackedLeads};
use crate::store::state_db::StateDb;
use crate::store::statement::StateStatement;

/// Leads in one page.
const PAGE: i64 = 2000;
/// Pages that are read ahead while the compare works on one.
const PAGES_AHEAD: usize = 3;

/// The leads that a full compare maps again although their rows have not changed: leads that are not in sync or only assumed,
/// leads that Conversica does not work, and leads that Conversica has had for long without posting anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DoubtedLeads {
    /// A lead accepted before this moment should have been heard of; `None` if no posts are expected.
    pub silent_since: Option<DateTime<Utc>>,
}

impl DoubtedLeads {
    /// A condition on `lead`. A silent lead was accepted, for the first time before parameter 5; the parameter may be null.
    const CONDITION: &str = "status <> 'in_sync' or assumed_at is not null \
         or exists (select 1 from conversation c where c.id = lead.id and c.client_id = lead.client_id and c.not_worked is not null) \
         or first_contact_at <= $5 and last_outcome = 'accepted' and not exists \
            (select 1 from conversation c where c.id = lead.id and c.client_id = lead.client_id)";
}

/// A stream of leads, in order. Dropping it stops the reading.
#[derive(Debug)]
pub struct KnownLeads {
    pages: mpsc::Receiver<Result<VecDeque<ComparedLead>, sqlx::Error>>,
    page: VecDeque<ComparedLead>,
    at_end: bool,
    _reader: AbortOnDropHandle<()>,
}

impl KnownLeads {
    /// All leads after `after`.
    pub fn read(db: &StateDb, order: IdOrder, after: Option<LeadId>, doubted: Option<DoubtedLeads>) -> Self {
        let (sender, pages) = mpsc::channel(PAGES_AHEAD);
        let db = db.clone();
        let reader = tokio::spawn(async move {
            let mut after = after;
            loop {
                let page = page(&db, order, after.as_ref(), PAGE, doubted).await;
                let last = page.as_ref().ok().and_then(|page| page.back()).map(|compared| compared.lead.clone());
                let is_last = page.as_ref().map_or(true, |page| (page.len() as i64) < PAGE);
                if sender.send(page).await.is_err() || is_last {
                    return;
                }
                after = last;
            }
        });
        Self { pages, page: VecDeque::new(), at_end: false, _reader: AbortOnDropHandle::new(reader) }
    }

    /// Loads the next lead, if there is one. Call it before each [`KnownLeads::peek`].
    pub async fn fill(&mut self) -> Result<(), sqlx::Error> {
        while self.page.is_empty() && !self.at_end {
            match self.pages.recv().await.transpose()? {
                Some(page) => self.page = page,
                None => self.at_end = true,
            }
        }
        Ok(())
    }

    pub fn peek(&self) -> Option<&ComparedLead> {
        self.page.front()
    }

    pub fn pop(&mut self) -> Option<ComparedLead> {
        self.page.pop_front()
    }
}

/// At most `limit` leads after `after`, in this order.
pub async fn page(
    db: &StateDb,
    order: IdOrder,
    after: Option<&LeadId>,
    limit: i64,
    doubted: Option<DoubtedLeads>,
) -> Result<VecDeque<ComparedLead>, sqlx::Error> {
    let (columns, beyond) = match (order, after.is_some()) {
        // Without `after`, blank keys are included: a lead with a blank key is invalid, but it is a lead.
        (_, false) => (order_columns(order), "$1 = '' and $2 = '' and $3 = 0"),
        (IdOrder::Bytes, true) => ("id, client_id", "(id, client_id) > ($1, $2) and $3 >= 0"),
        (IdOrder::ByLength, true) => ("id_length, id, client_id", "(id_length, id, client_id) > ($3, $1, $2)"),
    };
    // Without doubts, an index covers the query.
    let row_hash = match doubted {
        None => "row_hash, $5 as since".to_owned(),
        Some(_) => format!("case when {} then null else row_hash end as row_hash", DoubtedLeads::CONDITION),
    };
    let since = doubted.and_then(|doubted| doubted.silent_since).map(micros);
    let sql = format!(
        "select {} from (select id, client_id, {row_hash}, gone_at, hold_reason from lead where {beyond} order by {columns} \
         limit $4) as page",
        packed::column(db)
    );
    let (id, client_id) = after.map_or(("", ""), |lead| (&lead.id, &lead.client_id));
    let length = i64::try_from(id.len()).unwrap_or(i64::MAX);
    let page = StateStatement::new(sql).bind(id).bind(client_id).bind(length).bind(limit).bind(since);
    let page: PackedLeads = db.fetch_one(page).await?;
    Ok(page.0)
}

/// The stored row hashes of these leads: one statement for any number of leads (at most 5,000).
pub async fn hashes(db: &StateDb, leads: &[LeadId]) -> Result<HashMap<LeadId, RowHash>, sqlx::Error> {
    if leads.is_empty() {
        return Ok(HashMap::new());
    }
    let mut hashes = StateStatement::new("with asked (asked_id, asked_client_id) as (");
    hashes.push_values(leads, |row, lead| {
        row.push_bind(&lead.id).push_bind(&lead.client_id);
    });
    hashes.push(") select ").push(&packed::column(db));
    hashes.push(" from asked join lead on lead.id = asked_id and lead.client_id = asked_client_id");
    let leads: PackedLeads = db.fetch_one(hashes).await?;
    Ok(leads.0.into_iter().filter_map(|known| Some((known.lead, known.row_hash?))).collect())
}

const fn order_columns(order: IdOrder) -> &'static str {
    match order {
        IdOrder::Bytes => "id, client_id",
        IdOrder::ByLength => "id_length, id, client_id",
    }
}

/// Invalid leads with these words in their reasons, at most `limit`.
pub async fn invalid_because(db: &StateDb, words: &str, limit: i64) -> Result<Vec<LeadId>, sqlx::Error> {
    let invalid = StateStatement::new(format!(
        "select id, client_id from lead where status = 'invalid' and {UNSETTLED} and invalid_reasons like $1 \
         order by id, client_id limit $2"
    ));
    let leads: Vec<(String, String)> = db.fetch_all(invalid.bind(format!("%{words}%")).bind(limit)).await?;
    Ok(leads.into_iter().map(|(id, client_id)| LeadId { id, client_id }).collect())
}

/// Whether any lead has a name that ends in `.0`. Earlier versions wrote whole numbers of floating-point columns this way.
pub async fn has_decimal_names(db: &StateDb) -> Result<bool, sqlx::Error> {
    let named =
        "select cast(1 as bigint) where exists (select 1 from lead where id like '%.0' or client_id like '%.0')";
    Ok(db.fetch_optional::<(i64,)>(named).await?.is_some())
}

/// Stores the hashes of rows whose leads have not changed: one statement for any number of rows (at most 5,000).
pub async fn remember(db: &StateDb, rows: &[(LeadId, RowHash)]) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    // See `lead::InOrder`.
    let mut rows: Vec<&(LeadId, RowHash)> = rows.iter().collect();
    rows.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    let order = super::lead::InOrder::of(db, "select row_id, row_client_id from read");
    let mut statement = StateStatement::new("with read (row_id, row_client_id, hash) as (");
    statement.push_values(&rows, |row, (lead, hash)| {
        row.push_bind(&lead.id).push_bind(&lead.client_id).push_bind(hash.0);
    });
    statement
        .push(")")
        .push(&order.cte)
        .push(" update lead set row_hash = hash, version = version + 1 from read")
        .push(order.from);
    statement.push(" where lead.id = row_id and lead.client_id = row_client_id").push(order.condition);
    db.execute(statement).await.map(drop)
}
