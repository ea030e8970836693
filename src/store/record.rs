//! All data of one person in the state: which tables hold it, in which rows, and how they are read. Reads only; [`super::erase`]
//! deletes by the same lists.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use crate::conversica::lead::LeadId;
use crate::conversica::{heard, lenient};
use crate::store::heard::reading::{self, EventFilter, HeardEvent};
use crate::store::state_db::StateDb;
use crate::store::statement::{StateReader, StateStatement};
use crate::store::told::OnItsWay;
use crate::store::{instant, suppression_entries};

/// The tables with data of people, each with its look-up (by `id` and `client_id`, or by the event) and a description.
pub const PERSONAL: [(&str, RecordLookup, &str); 12] = [
    ("writeback", RecordLookup::Event, "posts on their way to the CRM"),
    ("event", RecordLookup::Event, "posts of Conversica"),
    ("conversation", RecordLookup::Lead, "what these come to"),
    ("consent", RecordLookup::Lead, "words about consent"),
    ("possible_opt_out", RecordLookup::Lead, "possible opt-outs"),
    ("suppression", RecordLookup::Lead, "opt-outs that hold for the person"),
    ("alert", RecordLookup::Lead, "alerts"),
    ("payload", RecordLookup::Lead, "earlier contents"),
    ("outcome", RecordLookup::Lead, "attempts to send"),
    ("decided", RecordLookup::Lead, "decisions about it"),
    ("lead_address", RecordLookup::Lead, "the hash of its address"),
    ("lead", RecordLookup::Lead, "the lead with its contents"),
];

/// The tables without names. An erasure also searches the facts in `control` that may quote a person.
pub const IMPERSONAL: [&str; 10] = [
    "_sqlx_migrations",
    "control",
    "conversation_progress",
    "decision",
    "instance",
    "outcome_count",
    "outcome_minute",
    "received_count",
    "tombstone",
    "turn",
];

/// How the rows about a person are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordLookup {
    Lead,
    /// By the number of an event, see [`events`].
    Event,
}

/// If clients do not tell our leads apart, the id alone counts, even if the post has a client.
pub(crate) fn seems_to_be_about(body: &[u8], lead: &LeadId) -> bool {
    heard::identity(body)
        .is_some_and(|about| about.id == lead.id && (about.client_id == lead.client_id || lead.client_id.is_empty()))
}

pub(crate) fn is_chat_of(body: &[u8], addresses: &BTreeSet<String>) -> bool {
    let post = lenient::read_object(body).ok().map(|object| object.members.into_iter().collect::<Map<_, _>>());
    post.is_some_and(|post| address(&post).is_some_and(|address| addresses.contains(&address)))
}

fn address(object: &Map<String, Value>) -> Option<String> {
    let address = object.get("email")?.as_str()?.trim().to_lowercase();
    (!address.is_empty()).then_some(address)
}

/// The e-mail addresses in the contents of a lead.
pub fn addresses(contents: &HashMap<Vec<u8>, String>) -> BTreeSet<String> {
    contents.values().filter_map(|body| address(&serde_json::from_str(body).ok()?)).collect()
}

/// How many rows of each table are about a person; tables without any are left out.
pub async fn holdings(
    db: &StateDb,
    lead: &LeadId,
    addresses: &BTreeSet<String>,
) -> Result<Vec<(&'static str, u64)>, sqlx::Error> {
    let events = events(db, lead, addresses).await?.len();
    let mut holdings = Vec::new();
    for (table, by, words) in PERSONAL.iter().rev() {
        let rows = match (by, *table) {
            (RecordLookup::Event, "event") => i64::try_from(events).unwrap_or(i64::MAX),
            // These rows are deleted with their events.
            (RecordLookup::Event, _) => 0,
            (RecordLookup::Lead, _) => {
                let named = suppression_entries::of_leads_only(table);
                let sql = format!("select count(*) from {table} where id = $1 and client_id = $2{named}");
                db.fetch_one::<(i64,)>(StateStatement::new(sql).bind(&lead.id).bind(&lead.client_id)).await?.0
            }
        };
        if rows > 0 {
            holdings.push((*words, u64::try_from(rows).unwrap_or(0)));
        }
    }
    Ok(holdings)
}

/// See `events_read_by`.
pub async fn events(db: &StateDb, lead: &LeadId, addresses: &BTreeSet<String>) -> Result<Vec<i64>, sqlx::Error> {
    let mut reader = db;
    events_read_by(&mut reader, lead, addresses).await
}

/// The numbers of all events about a person. These are the lead's events, unreadable events that seem to be about it or were
/// fixed into one of them, and Website Chats with one of its addresses.
pub(crate) async fn events_read_by(
    reader: &mut impl StateReader,
    lead: &LeadId,
    addresses: &BTreeSet<String>,
) -> Result<Vec<i64>, sqlx::Error> {
    let own = StateStatement::new("select seq from event where id = $1 and client_id = $2 and id <> ''");
    let own: Vec<(i64,)> = reader.read_all(own.bind(&lead.id).bind(&lead.client_id)).await?;
    let mut seqs: BTreeSet<i64> = own.into_iter().map(|(seq,)| seq).collect();
    let mut after = 0_i64;
    loop {
        let page = StateStatement::new(
            "select seq, body, mended_as from event where problem is not null and seq > $1 order by seq limit 500",
        );
        let rows: Vec<(i64, Vec<u8>, Option<i64>)> = reader.read_all(page.bind(after)).await?;
        let Some((last, _, _)) = rows.last() else { break };
        after = *last;
        for (seq, body, mended_as) in rows {
            let is_mended = mended_as.is_some_and(|fixed| seqs.contains(&fixed));
            if is_mended || seems_to_be_about(&body, lead) {
                seqs.insert(seq);
            }
        }
    }
    after = 0;
    while !addresses.is_empty() {
        let page = StateStatement::new(
            "select seq, body from event where id = '' and kind = 'chat_lead' and seq > $1 order by seq limit 500",
        );
        let rows: Vec<(i64, Vec<u8>)> = reader.read_all(page.bind(after)).await?;
        let Some((last, _)) = rows.last() else { break };
        after = *last;
        seqs.extend(rows.into_iter().filter(|(_, body)| is_chat_of(body, addresses)).map(|(seq, _)| seq));
    }
    Ok(seqs.into_iter().collect())
}

/// All posts about a person, oldest first, each with the state of its write-back if that is not finished.
pub async fn received(
    db: &StateDb,
    lead: &LeadId,
    addresses: &BTreeSet<String>,
) -> Result<Vec<(HeardEvent, Option<OnItsWay>)>, sqlx::Error> {
    let mut received = Vec::new();
    for seqs in events(db, lead, addresses).await?.chunks(100) {
        let wanted = EventFilter { seqs: seqs.to_vec(), ..EventFilter::default() };
        let mut page = reading::list(db, &wanted, 100).await?;
        page.reverse();
        for heard in page {
            let seq = heard.seq;
            type RecordLine = (String, i64, i64, Option<String>);
            let waits =
                StateStatement::new("select status, attempts, due_at, detail from writeback where event_seq = $1");
            let waits: Option<RecordLine> = db.fetch_optional(waits.bind(seq)).await?;
            let waits = waits.map(|(status, attempts, due_at, detail)| OnItsWay {
                status,
                attempts,
                due_at: instant(due_at),
                detail,
            });
            received.push((heard, waits));
        }
    }
    Ok(received)
}

/// The picture that all posts about a lead add up to.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedConversation {
    pub picture: Value,
    pub versions: Value,
    pub not_worked: Option<String>,
    pub first_heard_at: DateTime<Utc>,
    pub last_heard_at: DateTime<Utc>,
}

pub async fn conversation(db: &StateDb, lead: &LeadId) -> Result<Option<RecordedConversation>, sqlx::Error> {
    let stored = StateStatement::new(
        "select picture, versions, not_worked, first_heard_at, last_heard_at from conversation \
         where id = $1 and client_id = $2",
    );
    type ConversationRow = (String, String, Option<String>, i64, i64);
    let row: Option<ConversationRow> = db.fetch_optional(stored.bind(&lead.id).bind(&lead.client_id)).await?;
    let json = |text: &str| serde_json::from_str(text).unwrap_or_default();
    let of = |(picture, versions, not_worked, first, last): ConversationRow| RecordedConversation {
        picture: json(&picture),
        versions: json(&versions),
        not_worked,
        first_heard_at: instant(first),
        last_heard_at: instant(last),
    };
    Ok(row.map(of))
}

/// The row of a person in table `lead` (or the only one in another table), column by column, without contents. Numbers are as
/// stored, bytes are hexadecimal digits.
pub async fn rows(db: &StateDb, table: &'static str, lead: &LeadId) -> Result<Vec<Value>, sqlx::Error> {
    let sql = match db {
        // The column names come from the schema, so that columns added later are included.
        StateDb::Sqlite(_) => {
            let columns = StateStatement::new("select name from pragma_table_info($1)").bind(table);
            let columns: Vec<(String,)> = db.fetch_all(columns).await?;
            let pair = |(name,): &(String,)| {
                format!("'{name}', case typeof({name}) when 'blob' then hex({name}) else {name} end")
            };
            let pairs: Vec<String> = columns.iter().map(pair).collect();
            format!("select json_object({}) from {table} where id = $1 and client_id = $2", pairs.join(", "))
        }
        StateDb::Postgres(_) => {
            format!("select cast(to_jsonb({table}) as text) from {table} where id = $1 and client_id = $2")
        }
    };
    let rows: Vec<(String,)> = db.fetch_all(StateStatement::new(sql).bind(&lead.id).bind(&lead.client_id)).await?;
    let value = |(row,): (String,)| {
        let mut value: Value = serde_json::from_str(&row).unwrap_or_default();
        if let Some(columns) = value.as_object_mut() {
            columns.retain(|name, _| !["desired", "delivered", "sent"].contains(&name.as_str()));
        }
        value
    };
    Ok(rows.into_iter().map(value).collect())
}
