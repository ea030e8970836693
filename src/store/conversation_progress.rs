//! Table `conversation_progress`: how many people of each conversation were contacted for the first time, and since when Conversica
//! works them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::config::ServiceSettings;
use crate::conversica::lead::LeadId;
use crate::conversica::sign_of_life;
use crate::rules::first_contact::{ConversationProgress, FirstContent, SILENT_AFTER};
use crate::rules::lead_record::LeadRecord;
use crate::store::control::{self, ControlFact};
use crate::store::lead_record::{self, ChangedLead};
use crate::store::lead_status::UNSETTLED;
use crate::store::state_db::StateDb;
use crate::store::state_transaction::StateTransaction;
use crate::store::statement::StateStatement;
use crate::store::{instant, micros};

/// A conversation of one client.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConversationName {
    pub client_id: String,
    /// Blank for leads that go without a conversation.
    pub name: String,
}

impl ConversationName {
    /// The conversation of a lead with this content.
    pub(crate) fn of(lead: &LeadId, content: &str) -> Self {
        Self { client_id: lead.client_id.clone(), name: FirstContent::read(content).conversation().to_owned() }
    }
}

/// A conversation as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConversationShown {
    pub client_id: String,
    /// Blank for leads that go without a conversation.
    pub name: String,
    /// People contacted for the first time.
    pub contacted: i64,
    pub contacted_at: Option<DateTime<Utc>>,
    /// The first sign that Conversica works one of its leads.
    pub worked_at: Option<DateTime<Utc>>,
}

/// In the transaction that recorded these answers: counts the people who were contacted for the first time. The rows are
/// written in one order, because sessions that lock them in different orders would deadlock.
pub(crate) async fn count_contacted(
    transaction: &mut StateTransaction,
    answered: &[ChangedLead],
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    let is_first = |lead: &&ChangedLead| {
        let was_new = lead.before.first_contact_at.is_none() || lead.before.assumed_at.is_some();
        was_new && lead.after.first_contact_at.is_some() && lead.after.assumed_at.is_none()
    };
    let mut people: BTreeMap<ConversationName, i64> = BTreeMap::new();
    for lead in answered.iter().filter(is_first) {
        let content = lead.before.content_in_flight().or(lead.after.accepted_content()).unwrap_or_default();
        *people.entry(ConversationName::of(&lead.before.lead, content)).or_default() += 1;
    }
    if people.is_empty() {
        return Ok(());
    }
    let mut statement =
        StateStatement::new("insert into conversation_progress (client, name, contacted, contacted_at) ");
    statement.push_values(&people, |row, (conversation, people)| {
        row.push_bind(&conversation.client_id).push_bind(&conversation.name).push_bind(*people).push_bind(micros(now));
    });
    statement.push(
        " on conflict (client, name) do update set contacted = conversation_progress.contacted + excluded.contacted, \
         contacted_at = coalesce(conversation_progress.contacted_at, excluded.contacted_at)",
    );
    transaction.execute(statement).await.map(drop)
}

/// How these conversations have gone, with the first contacts in flight. The caller keeps other claims out.
pub(crate) async fn progress(
    transaction: &mut StateTransaction,
    of: &BTreeSet<ConversationName>,
) -> Result<HashMap<ConversationName, ConversationProgress>, sqlx::Error> {
    let mut statement = StateStatement::new(
        "select client, name, contacted, worked_at from conversation_progress where (client, name) in (",
    );
    statement.push_values(of, |row, conversation| {
        row.push_bind(&conversation.client_id).push_bind(&conversation.name);
    });
    statement.push(")");
    let rows: Vec<(String, String, i64, Option<i64>)> = transaction.fetch_all(statement).await?;
    let entry = |(client_id, name, contacted, worked_at): (String, String, i64, Option<i64>)| {
        (ConversationName { client_id, name }, ConversationProgress { contacted, is_worked: worked_at.is_some() })
    };
    let mut progress: HashMap<_, _> = rows.into_iter().map(entry).collect();
    let mut in_flight = lead_record::choose();
    in_flight.push("status = 'in_flight' and ").push(UNSETTLED);
    in_flight.push(" and (first_contact_at is null or assumed_at is not null)");
    for record in lead_record::read(transaction, in_flight).await? {
        let content = record.content_in_flight().unwrap_or_default();
        progress.entry(ConversationName::of(&record.lead, content)).or_default().contacted += 1;
    }
    Ok(progress)
}

/// Notes that Conversica works these leads, of which it has posted something at that time. Usually every conversation is known to be
/// worked, and this is one query.
pub(crate) async fn note_worked(
    transaction: &mut StateTransaction,
    signs: &BTreeMap<LeadId, DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    if signs.is_empty() {
        return Ok(());
    }
    let is_any_open = "select cast(1 as bigint) from conversation_progress where worked_at is null limit 1";
    if transaction.fetch_optional::<(i64,)>(is_any_open).await?.is_none() {
        return Ok(());
    }
    let leads: Vec<LeadId> = signs.keys().cloned().collect();
    // An older post may be about an earlier conversation of the lead.
    let is_newer = |record: &LeadRecord| signs.get(&record.lead).copied() >= record.delivered_at;
    let mut worked = BTreeSet::new();
    for some in leads.chunks(1000) {
        let mut known = lead_record::choose();
        known.push("(id, client_id) in (").push_values(some, |row, lead| {
            row.push_bind(&lead.id).push_bind(&lead.client_id);
        });
        known.push(")");
        let known = lead_record::read(transaction, known).await?;
        worked.extend(known.iter().filter(|record| is_newer(record)).filter_map(worked_conversation));
    }
    set_worked(transaction, &worked, now).await
}

/// The conversation that Conversica knows the lead by.
fn worked_conversation(record: &LeadRecord) -> Option<ConversationName> {
    let content = record.accepted_content().or(record.content_in_flight())?;
    Some(ConversationName::of(&record.lead, content))
}

async fn set_worked(
    transaction: &mut StateTransaction,
    worked: &BTreeSet<ConversationName>,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    if worked.is_empty() {
        return Ok(());
    }
    let mut statement = StateStatement::new("insert into conversation_progress (client, name, worked_at) ");
    statement.push_values(worked, |row, conversation| {
        row.push_bind(&conversation.client_id).push_bind(&conversation.name).push_bind(micros(now));
    });
    statement.push(
        " on conflict (client, name) do update set worked_at = \
         coalesce(conversation_progress.worked_at, excluded.worked_at)",
    );
    transaction.execute(statement).await.map(drop)
}

/// The configuration has a receiver for Conversica's posts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ReceiverSet {
    at: DateTime<Utc>,
}

impl ControlFact for ReceiverSet {
    const NAME: &'static str = "receiver";
}

/// Notes whether Conversica's posts are received.
pub async fn note_receiver(db: &StateDb, settings: &ServiceSettings, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    match (settings.receive.is_some(), control::read::<ReceiverSet>(db).await?) {
        (true, None) => control::write(db, &ReceiverSet { at: now }, now).await,
        (false, Some(_)) => control::clear::<ReceiverSet>(db).await.map(drop),
        (true, Some(_)) | (false, None) => Ok(()),
    }
}

/// The table has the leads that an earlier version contacted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ProgressMade {
    at: DateTime<Utc>,
}

impl ControlFact for ProgressMade {
    const NAME: &'static str = "conversation_progress";
}

/// Whether a claim can rely on the table.
pub(crate) async fn is_made(transaction: &mut StateTransaction) -> Result<bool, sqlx::Error> {
    let made = StateStatement::new("select cast(1 as bigint) from control where name = $1").bind(ProgressMade::NAME);
    Ok(transaction.fetch_optional::<(i64,)>(made).await?.is_some())
}

/// Makes the table from the leads of a state that an earlier version has written, once. Interrupted, it begins again.
pub async fn make_progress(db: &StateDb, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    if control::read::<ProgressMade>(db).await?.is_some() {
        return Ok(());
    }
    let mut after = LeadId::default();
    let (mut contacted, mut worked) = (BTreeMap::<ConversationName, (i64, DateTime<Utc>)>::new(), BTreeSet::new());
    loop {
        let mut choice = lead_record::choose();
        choice.push("first_contact_at is not null and assumed_at is null");
        let mut transaction = db.begin().await?;
        let records = lead_record::read_some(&mut transaction, choice, &after).await?;
        let leads: Vec<&LeadId> = records.iter().map(|record| &record.lead).collect();
        let pictures = pictures_of(&mut transaction, &leads).await?;
        transaction.commit().await?;
        let Some(last) = records.last() else { break };
        after = last.lead.clone();
        for record in &records {
            let Some(conversation) = worked_conversation(record) else { continue };
            let at = record.first_contact_at.unwrap_or(now);
            let entry = contacted.entry(conversation.clone()).or_insert((0, at));
            *entry = (entry.0 + 1, entry.1.min(at));
            if pictures.contains(&record.lead) {
                worked.insert(conversation);
            }
        }
    }
    let mut transaction = db.begin().await?;
    // Only now, because claims wait for it.
    if let Some(lock) = db.claim_lock() {
        transaction.execute(lock).await?;
    }
    if is_made(&mut transaction).await? {
        // Another instance has made it meanwhile.
        return transaction.rollback().await;
    }
    for (conversation, (people, at)) in &contacted {
        let known = StateStatement::new("select contacted from conversation_progress where client = $1 and name = $2");
        let known = known.bind(&conversation.client_id).bind(&conversation.name);
        // Answers that were counted since this began are among the leads, or on top of them.
        let counted = transaction.fetch_optional::<(i64,)>(known).await?.map_or(0, |(counted,)| counted);
        let insert = StateStatement::new(
            "insert into conversation_progress (client, name, contacted, contacted_at) values ($1, $2, $3, $4) \
             on conflict (client, name) do update set contacted = excluded.contacted, contacted_at = excluded.contacted_at",
        );
        let insert = insert.bind(&conversation.client_id).bind(&conversation.name);
        transaction.execute(insert.bind((*people).max(counted)).bind(micros(*at))).await?;
    }
    set_worked(&mut transaction, &worked, now).await?;
    let body = serde_json::to_string(&ProgressMade { at: now }).map_err(|error| sqlx::Error::Encode(error.into()))?;
    let made = StateStatement::new("insert into control (name, body, at) values ($1, $2, $3)");
    transaction.execute(made.bind(ProgressMade::NAME).bind(body).bind(micros(now))).await?;
    transaction.commit().await
}

/// Those of these leads that Conversica has shown to work.
async fn pictures_of(transaction: &mut StateTransaction, leads: &[&LeadId]) -> Result<BTreeSet<LeadId>, sqlx::Error> {
    let mut worked = BTreeSet::new();
    for some in leads.chunks(1000) {
        let mut statement =
            StateStatement::new("select id, client_id, picture from conversation where (id, client_id) in (");
        statement.push_values(some, |row, lead| {
            row.push_bind(&lead.id).push_bind(&lead.client_id);
        });
        statement.push(")");
        let rows: Vec<(String, String, String)> = transaction.fetch_all(statement).await?;
        let is_worked =
            |picture: &str| serde_json::from_str(picture).is_ok_and(|picture| sign_of_life::is_worked(&picture));
        worked.extend(
            rows.into_iter()
                .filter(|(_, _, picture)| is_worked(picture))
                .map(|(id, client_id, _)| LeadId { id, client_id }),
        );
        let mut messages = StateStatement::new(
            "select distinct id, client_id from event where kind = 'message' and (id, client_id) in (",
        );
        messages.push_values(some, |row, lead| {
            row.push_bind(&lead.id).push_bind(&lead.client_id);
        });
        messages.push(")");
        let written: Vec<(String, String)> = transaction.fetch_all(messages).await?;
        worked.extend(written.into_iter().map(|(id, client_id)| LeadId { id, client_id }));
    }
    Ok(worked)
}

/// The conversations with the most people, at most `most`.
pub async fn list_largest(db: &StateDb, most: i64) -> Result<Vec<ConversationShown>, sqlx::Error> {
    list(db, StateStatement::new(format!("{SHOWN} order by contacted desc, client, name limit $1")).bind(most)).await
}

/// Conversations whose first person was contacted long ago without a sign that any is worked; the longest first, at most `most`.
/// Empty without a receiver, or with a newer one: without posts there are no signs.
pub async fn list_silent(db: &StateDb, most: i64, now: DateTime<Utc>) -> Result<Vec<ConversationShown>, sqlx::Error> {
    let silent = StateStatement::new(format!(
        "{SHOWN} where worked_at is null and contacted > 0 and contacted_at <= $1 \
         and exists (select 1 from control where name = 'receiver' and at <= $1) order by contacted_at, client, name limit $2"
    ));
    list(db, silent.bind(micros(now - SILENT_AFTER)).bind(most)).await
}

const SHOWN: &str = "select client, name, contacted, contacted_at, worked_at from conversation_progress";

/// client, name, contacted, since when, worked since.
type ProgressRow = (String, String, i64, Option<i64>, Option<i64>);

async fn list(db: &StateDb, statement: StateStatement) -> Result<Vec<ConversationShown>, sqlx::Error> {
    let rows: Vec<ProgressRow> = db.fetch_all(statement).await?;
    let shown = |(client_id, name, contacted, contacted_at, worked_at): ProgressRow| ConversationShown {
        client_id,
        name,
        contacted,
        contacted_at: contacted_at.map(instant),
        worked_at: worked_at.map(instant),
    };
    Ok(rows.into_iter().map(shown).collect())
}
