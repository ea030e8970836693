//! Table `suppression`: people who are not written to under any id, known by keyed hashes ([`super::contact_key`]).
//!
//! An entry has a source: the operator's list, `suppression_query`, or an opt-out of a lead. Removed entries stay, marked, until
//! [`super::suppression_review`] has looked at the leads that they named.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::conversica::consent::WithdrawnConsent;
use crate::conversica::lead::LeadId;
use crate::rules::contact::{ContactKind, ContactPoint};
use crate::rules::lead_record::LeadRecord;
use crate::rules::suppression_ground::{SuppressionGround, SuppressionScope, SuppressionSource, withdrawn_by};
use crate::store::contact_key::{self, ContactKey};
use crate::store::control::{CompareAsked, ControlFact};
use crate::store::state_db::StateDb;
use crate::store::state_transaction::StateTransaction;
use crate::store::statement::{StateReader, StateStatement};
use crate::store::{instant, micros};

/// Entries in one statement.
pub const ENTRIES_AT_ONCE: usize = 2000;

/// The entries have changed: the leads have to be looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuppressionChange {
    /// Differs after each change.
    pub token: u64,
    pub at: DateTime<Utc>,
}

impl ControlFact for SuppressionChange {
    const NAME: &'static str = "suppression_changed";
}

/// An entry that a content has, found by its hash.
struct FoundEntry {
    tag: Vec<u8>,
    ground: SuppressionGround,
    is_removed: bool,
}

/// Which entries concern a content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListedPerson {
    /// The entries that count.
    pub grounds: Vec<SuppressionGround>,
    /// An entry named the person until it was removed.
    pub was_listed: bool,
}

/// The entries that name the people of these Lead objects: one statement for some thousand contents. A lead's own opt-out is not
/// among them. Leads without any are left out. A lead may have several contents.
pub async fn find_listed(
    reader: &mut impl StateReader,
    key: &ContactKey,
    scope: SuppressionScope,
    contents: &[(&LeadId, &str)],
) -> Result<HashMap<LeadId, ListedPerson>, sqlx::Error> {
    let mut asked: BTreeMap<Vec<u8>, Vec<usize>> = BTreeMap::new();
    for (place, (_, body)) in contents.iter().enumerate() {
        for tag in key.tags_of_lead_object(body) {
            asked.entry(tag).or_default().push(place);
        }
    }
    let tags: Vec<&Vec<u8>> = asked.keys().collect();
    let mut listed: HashMap<LeadId, ListedPerson> = HashMap::new();
    for some in tags.chunks(ENTRIES_AT_ONCE) {
        let rows: Vec<EntryRow> = reader.read_all(entries_statement(some, scope)).await?;
        for row in rows {
            let found = found_entry(row)?;
            for (lead, _) in asked.get(&found.tag).into_iter().flatten().filter_map(|place| contents.get(*place)) {
                if found.ground.from == **lead {
                    continue;
                }
                let person = listed.entry((*lead).clone()).or_default();
                if found.is_removed {
                    person.was_listed = true;
                } else {
                    person.grounds.push(found.ground.clone());
                }
            }
        }
    }
    for person in listed.values_mut() {
        let order = |ground: &SuppressionGround| (ground.source, ground.kind, ground.since, ground.from.clone());
        person.grounds.sort_by_cached_key(order);
        person.grounds.dedup();
    }
    Ok(listed)
}

/// As [`find_listed`], for entries that count; a query of the key more. Empty while no person is suppressed.
pub async fn find_grounds(
    reader: &mut impl StateReader,
    scope: SuppressionScope,
    contents: &[(&LeadId, &str)],
) -> Result<HashMap<LeadId, Vec<SuppressionGround>>, sqlx::Error> {
    let Some(key) = contact_key::find_key(reader).await? else { return Ok(HashMap::new()) };
    let listed = find_listed(reader, &key, scope, contents).await?;
    let grounds = listed.into_iter().map(|(lead, person)| (lead, person.grounds));
    Ok(grounds.filter(|(_, grounds)| !grounds.is_empty()).collect())
}

/// The consent that the people behind these leads have withdrawn elsewhere.
pub(crate) async fn find_withdrawn(
    transaction: &mut StateTransaction,
    scope: SuppressionScope,
    records: &[LeadRecord],
) -> Result<HashMap<LeadId, WithdrawnConsent>, sqlx::Error> {
    let contents: Vec<(&LeadId, &str)> = records
        .iter()
        .flat_map(|record| record.contents().into_iter().map(|content| (&record.lead, content)))
        .collect();
    let grounds = find_grounds(transaction, scope, &contents).await?;
    Ok(grounds.into_iter().filter_map(|(lead, grounds)| Some((lead, withdrawn_by(&grounds)?))).collect())
}

/// tag, kind, source, id, client, since, removed.
type EntryRow = (Vec<u8>, String, String, String, String, i64, Option<i64>);

fn entries_statement(tags: &[&Vec<u8>], scope: SuppressionScope) -> StateStatement {
    let mut statement = StateStatement::new("with asked (asked_tag) as (");
    statement.push_values(tags, |row, tag| {
        row.push_bind((*tag).clone());
    });
    let sources: Vec<String> = scope.sources().iter().map(|source| format!("'{}'", source.name())).collect();
    statement.push(
        ") select tag, kind, source, id, client_id, at, removed_at from asked join suppression on tag = asked_tag",
    );
    statement.push(&format!(" where source in ({})", sources.join(", ")));
    statement
}

fn found_entry((tag, kind, source, id, client_id, at, removed_at): EntryRow) -> Result<FoundEntry, sqlx::Error> {
    let unknown = || sqlx::Error::Decode("unknown kind or source of a suppression".into());
    let kind = ContactKind::from_name(&kind).ok_or_else(unknown)?;
    let source = SuppressionSource::from_name(&source).ok_or_else(unknown)?;
    let ground = SuppressionGround { kind, source, from: LeadId { id, client_id }, since: instant(at) };
    Ok(FoundEntry { tag, ground, is_removed: removed_at.is_some() })
}

/// Puts people on the operator's list. Returns how many were not on it.
pub async fn add(db: &StateDb, points: &[ContactPoint], now: DateTime<Utc>) -> Result<u64, sqlx::Error> {
    let mut added = 0;
    for some in points.chunks(ENTRIES_AT_ONCE) {
        let mut transaction = db.begin().await?;
        let key = contact_key::make_key(&mut transaction, micros(now)).await?;
        let entries: BTreeMap<Vec<u8>, ContactKind> = some.iter().map(|point| (key.tag(point), point.kind)).collect();
        let mut insert =
            StateStatement::new("insert into suppression (tag, kind, source, id, client_id, at) select * from (");
        insert.push_values(&entries, |row, (tag, kind)| {
            row.push_bind(tag.clone()).push_bind(kind.name()).push_bind("list").push_bind("").push_bind("");
            row.push_bind(micros(now));
        });
        insert.push(
            ") as new where true on conflict (tag, source, id, client_id) do update set at = excluded.at, removed_at = null \
             where suppression.removed_at is not null",
        );
        let new = transaction.execute(insert).await?;
        if new > 0 {
            note_change(&mut transaction, now).await?;
        }
        transaction.commit().await?;
        added += new;
    }
    Ok(added)
}

/// Takes people off the operator's list. Returns those that were not on it.
pub async fn remove(
    db: &StateDb,
    points: &[ContactPoint],
    now: DateTime<Utc>,
) -> Result<Vec<ContactPoint>, sqlx::Error> {
    let mut unlisted = Vec::new();
    for some in points.chunks(ENTRIES_AT_ONCE) {
        let mut transaction = db.begin().await?;
        let key = contact_key::make_key(&mut transaction, micros(now)).await?;
        let mut update = StateStatement::new("update suppression set removed_at = ");
        update.push_bind(micros(now)).push(" where source = 'list' and removed_at is null and tag in (");
        update.push_list(some.iter().map(|point| key.tag(point))).push(") returning tag");
        let removed: Vec<(Vec<u8>,)> = transaction.fetch_all(update).await?;
        if !removed.is_empty() {
            note_change(&mut transaction, now).await?;
        }
        transaction.commit().await?;
        let is_removed = |point: &&ContactPoint| removed.iter().any(|(tag,)| *tag == key.tag(point));
        unlisted.extend(some.iter().filter(|point| !is_removed(point)).cloned());
    }
    Ok(unlisted)
}

/// In the transaction of a change: the next pass looks at all leads and compares all rows.
pub(crate) async fn note_change(transaction: &mut StateTransaction, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    let body = |fact: Result<String, serde_json::Error>| fact.map_err(|error| sqlx::Error::Encode(error.into()));
    let change = body(serde_json::to_string(&SuppressionChange { token: rand::random(), at: now }))?;
    let compare = body(serde_json::to_string(&CompareAsked { at: now }))?;
    for (name, body) in [(SuppressionChange::NAME, change), (CompareAsked::NAME, compare)] {
        let store = StateStatement::new(
            "insert into control (name, body, at) values ($1, $2, $3) \
             on conflict (name) do update set body = excluded.body, at = excluded.at",
        );
        transaction.execute(store.bind(name).bind(body).bind(micros(now))).await?;
    }
    Ok(())
}

/// How many entries of a source and kind there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryCount {
    pub source: SuppressionSource,
    pub kind: ContactKind,
    pub entries: i64,
}

/// The numbers of entries, without those that count no more. Sources and kinds without entries are left out.
pub async fn count(db: &StateDb) -> Result<Vec<EntryCount>, sqlx::Error> {
    let rows: Vec<(String, String, i64)> = db
        .fetch_all("select source, kind, count(*) from suppression where removed_at is null group by source, kind order by source, kind")
        .await?;
    let count = |(source, kind, entries): (String, String, i64)| {
        let (source, kind) = (SuppressionSource::from_name(&source)?, ContactKind::from_name(&kind)?);
        Some(EntryCount { source, kind, entries })
    };
    Ok(rows.into_iter().filter_map(count).collect())
}

/// The entries that name one address, number or domain; for an address also those of its domains.
pub async fn find_entries(db: &StateDb, point: &ContactPoint) -> Result<Vec<SuppressionGround>, sqlx::Error> {
    let Some(key) = contact_key::find_key(&mut &*db).await? else { return Ok(Vec::new()) };
    let mut grounds = Vec::new();
    let points = point.with_domains();
    let tags: Vec<Vec<u8>> = points.iter().map(|point| key.tag(point)).collect();
    let tags: Vec<&Vec<u8>> = tags.iter().collect();
    let rows: Vec<EntryRow> = db.fetch_all(entries_statement(&tags, SuppressionScope::Person)).await?;
    for row in rows {
        let found = found_entry(row)?;
        if !found.is_removed {
            grounds.push(found.ground);
        }
    }
    Ok(grounds)
}
