//! Table `suppression`: the ledger of people, made of what leads say about consent. An entry names the lead that it comes from.
//!
//! The entries of a lead follow its words: see [`crate::rules::person_word`].

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::conversica::consent::WithdrawnConsent;
use crate::conversica::lead::{LeadId, LeadKey};
use crate::rules::contact::ContactKind;
use crate::rules::lead_record::{LeadRecord, says};
use crate::rules::person_word::PersonWord;
use crate::rules::suppression_ground::SuppressionSource;
use crate::store::contact_key::{self, ContactKey};
use crate::store::control::ControlFact;
use crate::store::micros;
use crate::store::state_db::StateDb;
use crate::store::state_transaction::StateTransaction;
use crate::store::statement::{StateReader, StateStatement};

/// The ledger of people has changed: the leads have to be looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeopleChange {
    /// Differs after each change.
    pub token: u64,
    pub at: DateTime<Utc>,
}

impl ControlFact for PeopleChange {
    const NAME: &'static str = "people_changed";
}

/// An entry of the ledger: hash and source.
type EntryKey = (Vec<u8>, SuppressionSource);

/// What has to be written for some leads' words.
#[derive(Default)]
struct WordChanges<'w> {
    added: BTreeMap<(Vec<u8>, SuppressionSource, &'w LeadId), ContactKind>,
    removed: Vec<(Vec<u8>, SuppressionSource, &'w LeadId)>,
}

impl WordChanges<'_> {
    fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }
}

async fn compare_words<'w>(
    reader: &mut impl StateReader,
    key: &ContactKey,
    words: &'w [PersonWord],
) -> Result<WordChanges<'w>, sqlx::Error> {
    let words: Vec<&PersonWord> = words.iter().filter(|word| !word.lead.id.is_empty()).collect();
    let leads: BTreeSet<&LeadId> = words.iter().map(|word| &word.lead).collect();
    let held = entries_of(reader, &leads.into_iter().collect::<Vec<_>>()).await?;
    let nothing = BTreeMap::new();
    let mut changes = WordChanges::default();
    for word in words {
        let held = held.get(&word.lead).unwrap_or(&nothing);
        for point in word.withdrawn_points() {
            let tag = key.tag(&point);
            if !held.contains_key(&(tag.clone(), word.source)) {
                changes.added.insert((tag, word.source, &word.lead), point.kind);
            }
        }
        let over = held.iter().filter(|((_, source), kind)| *source == word.source && !word.withdraws(**kind));
        changes.removed.extend(over.map(|((tag, source), _)| (tag.clone(), *source, &word.lead)));
    }
    Ok(changes)
}

/// What was heard of a lead, once for each of its contents.
pub(crate) fn heard_of(record: &LeadRecord, standing: Option<&WithdrawnConsent>) -> Vec<PersonWord> {
    let contents = record.contents();
    if contents.is_empty() {
        // A record without a content still removes the entries that it no longer supports.
        return vec![PersonWord::heard(&record.lead, standing, None)];
    }
    contents.into_iter().map(|content| PersonWord::heard(&record.lead, standing, Some(content))).collect()
}

/// In a transaction: makes the entries of these leads (at most 2,000) agree with their words.
pub(crate) async fn record_words(
    transaction: &mut StateTransaction,
    words: &[PersonWord],
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    let key = match contact_key::find_key(transaction).await? {
        Some(key) => key,
        None if is_any_withdrawn(words) => contact_key::make_key(transaction, micros(now)).await?,
        None => return Ok(()),
    };
    let changes = compare_words(transaction, &key, words).await?;
    if changes.is_empty() {
        return Ok(());
    }
    if !changes.added.is_empty() {
        let mut insert =
            StateStatement::new("insert into suppression (tag, kind, source, id, client_id, at) select * from (");
        insert.push_values(&changes.added, |row, ((tag, source, lead), kind)| {
            row.push_bind(tag.clone()).push_bind(kind.name()).push_bind(source.name());
            row.push_bind(&lead.id).push_bind(&lead.client_id).push_bind(micros(now));
        });
        insert.push(
            ") as new where true on conflict (tag, source, id, client_id) do update set at = excluded.at, removed_at = null",
        );
        transaction.execute(insert).await?;
    }
    for some in changes.removed.chunks(1000) {
        let mut update = StateStatement::new("with over (o_tag, o_source, o_id, o_client_id, o_at) as (");
        update.push_values(some, |row, (tag, source, lead)| {
            row.push_bind(tag.clone()).push_bind(source.name()).push_bind(&lead.id).push_bind(&lead.client_id);
            row.push_bind(micros(now));
        });
        update.push(
            ") update suppression set removed_at = o_at from over \
             where tag = o_tag and source = o_source and id = o_id and client_id = o_client_id",
        );
        transaction.execute(update).await?;
    }
    note_people_change(transaction, now).await
}

fn is_any_withdrawn(words: &[PersonWord]) -> bool {
    words.iter().any(|word| !word.withdrawn.is_empty())
}

/// Whether these words would change any entry: most batches of a poll have nothing to write.
pub(crate) async fn has_news(db: &StateDb, words: &[PersonWord]) -> Result<bool, sqlx::Error> {
    Ok(match contact_key::find_key(&mut &*db).await? {
        Some(key) => !compare_words(&mut &*db, &key, words).await?.is_empty(),
        None => is_any_withdrawn(words),
    })
}

/// The entries of these leads that count: hash and source, with the kind.
async fn entries_of(
    reader: &mut impl StateReader,
    leads: &[&LeadId],
) -> Result<HashMap<LeadId, BTreeMap<EntryKey, ContactKind>>, sqlx::Error> {
    let mut entries: HashMap<LeadId, BTreeMap<EntryKey, ContactKind>> = HashMap::new();
    for some in leads.chunks(1000) {
        let mut statement = StateStatement::new("with asked (asked_id, asked_client_id) as (");
        statement.push_values(some, |row, lead| {
            row.push_bind(&lead.id).push_bind(&lead.client_id);
        });
        statement.push(
            ") select id, client_id, tag, source, kind from asked join suppression on id = asked_id and client_id = asked_client_id \
             where id <> '' and removed_at is null",
        );
        let rows: Vec<(String, String, Vec<u8>, String, String)> = reader.read_all(statement).await?;
        for (id, client_id, tag, source, kind) in rows {
            let source = SuppressionSource::from_name(&source);
            let Some((source, kind)) = source.zip(ContactKind::from_name(&kind)) else { continue };
            entries.entry(LeadId { id, client_id }).or_default().insert((tag, source), kind);
        }
    }
    Ok(entries)
}

async fn note_people_change(transaction: &mut StateTransaction, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    let change = serde_json::to_string(&PeopleChange { token: rand::random(), at: now });
    let store = StateStatement::new(
        "insert into control (name, body, at) values ($1, $2, $3) \
         on conflict (name) do update set body = excluded.body, at = excluded.at",
    );
    let body = change.map_err(|error| sqlx::Error::Encode(error.into()))?;
    transaction.execute(store.bind(PeopleChange::NAME).bind(body).bind(micros(now))).await.map(drop)
}

/// In the transaction of an erasure: the opt-outs of the lead's person hold on for their other leads, without the id. `words` are
/// what was heard last, once for each content of the lead.
pub(crate) async fn keep_without_id(
    transaction: &mut StateTransaction,
    lead: &LeadId,
    words: &[PersonWord],
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    record_words(transaction, words, now).await?;
    let copy = StateStatement::new(
        "insert into suppression (tag, kind, source, id, client_id, at) select tag, kind, source, '', '', at from suppression \
         where id = $1 and client_id = $2 and id <> '' and removed_at is null on conflict (tag, source, id, client_id) do nothing",
    );
    transaction.execute(copy.bind(&lead.id).bind(&lead.client_id)).await?;
    let forget = StateStatement::new("delete from suppression where id = $1 and client_id = $2 and id <> ''");
    transaction.execute(forget.bind(&lead.id).bind(&lead.client_id)).await.map(drop)
}

/// The opt-outs of a content.
pub fn withdrawn_by_content(content: &str) -> Vec<LeadKey> {
    [LeadKey::OptOut, LeadKey::SmsOptOut].into_iter().filter(|key| says(content, *key)).collect()
}
