//! Table `lead_address`: which leads have the same e-mail address, as keyed hashes. It is filled while `[safety] duplicates` holds
//! leads, so that a claim can ask for the other leads of an address.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::config::DuplicateLeads;
use crate::conversica::lead::LeadId;
use crate::rules::contact::ContactPoint;
use crate::rules::first_contact::{AddressHolder, FirstContent, HolderStanding};
use crate::rules::lead_change::LeadChange;
use crate::rules::lead_record::LeadRecord;
use crate::store::contact_key::{self, ContactKey};
use crate::store::control::{self, ControlFact};
use crate::store::state_db::StateDb;
use crate::store::state_transaction::StateTransaction;
use crate::store::statement::StateStatement;
use crate::store::{instant, lead_record, micros, tombstone};

/// Leads of one address that a claim looks at, those that come first by the setting. Thousands may have a placeholder for an address.
const MOST_HOLDERS: i64 = 50;

/// The table has the addresses of all leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct AddressesKept {
    at: DateTime<Utc>,
}

impl ControlFact for AddressesKept {
    const NAME: &'static str = "lead_addresses";
}

/// Whether a claim can rely on the table.
pub(crate) async fn is_kept(transaction: &mut StateTransaction) -> Result<bool, sqlx::Error> {
    let kept = StateStatement::new("select cast(1 as bigint) from control where name = $1").bind(AddressesKept::NAME);
    Ok(transaction.fetch_optional::<(i64,)>(kept).await?.is_some())
}

/// An address with its place among the leads that have it.
struct KeptAddress<'l> {
    lead: &'l LeadId,
    tag: Vec<u8>,
    date: Option<i64>,
}

impl<'l> KeptAddress<'l> {
    fn of(lead: &'l LeadId, content: &str, key: &ContactKey) -> Option<Self> {
        let content = FirstContent::read(content);
        let address = ContactPoint::address(&content.email)?;
        Some(Self { lead, tag: key.tag(&address), date: content.date.map(micros) })
    }
}

/// Fills the table with the leads that are known, where the setting needs it, and empties it where it does not. Interrupted, it
/// begins again.
pub async fn keep_addresses(db: &StateDb, duplicates: DuplicateLeads, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    let is_kept = control::read::<AddressesKept>(db).await?.is_some();
    match (duplicates, is_kept) {
        (DuplicateLeads::Send, false) | (DuplicateLeads::Hold | DuplicateLeads::Newest, true) => Ok(()),
        (DuplicateLeads::Send, true) => {
            let mut transaction = db.begin().await?;
            if let Some(lock) = db.claim_lock() {
                transaction.execute(lock).await?;
            }
            transaction.execute(not_kept()).await?;
            transaction.execute("delete from lead_address").await?;
            transaction.commit().await
        }
        (DuplicateLeads::Hold | DuplicateLeads::Newest, false) => fill(db, now).await,
    }
}

fn not_kept() -> StateStatement {
    StateStatement::new("delete from control where name = $1").bind(AddressesKept::NAME)
}

/// Before a poll without the setting writes leads: another instance, with the setting, may have filled the table meanwhile, and would
/// not know these leads.
pub async fn note_unkept(db: &StateDb) -> Result<(), sqlx::Error> {
    db.execute(not_kept()).await.map(drop)
}

async fn fill(db: &StateDb, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    let mut after = LeadId::default();
    loop {
        let mut transaction = db.begin().await?;
        let key = contact_key::make_key(&mut transaction, micros(now)).await?;
        let mut choice = lead_record::choose();
        choice.push("desired is not null");
        let records = lead_record::lock_some(&mut transaction, choice, &after).await?;
        let Some(last) = records.last() else { break };
        after = last.lead.clone();
        let all =
            records.iter().flat_map(|record| record.contents().into_iter().map(|content| (&record.lead, content)));
        let kept: BTreeMap<_, _> = all
            .filter_map(|(lead, content)| KeptAddress::of(lead, content, &key))
            .map(|kept| ((kept.lead, kept.tag.clone()), kept))
            .collect();
        write(&mut transaction, &Vec::from_iter(kept.into_values())).await?;
        transaction.commit().await?;
    }
    control::write(db, &AddressesKept { at: now }, now).await
}

/// Keeps the addresses of rows that a poll is about to write. Those of erased people are left out.
pub async fn keep_changed(db: &StateDb, changes: &[LeadChange], now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    if changes.is_empty() {
        return Ok(());
    }
    let mut transaction = db.begin().await?;
    let erased = tombstone::erased_among(&mut transaction, changes.iter().map(|change| change.lead.clone())).await?;
    let key = contact_key::make_key(&mut transaction, micros(now)).await?;
    let changes = changes.iter().filter(|change| !erased.has(&change.lead));
    // Of several changes of one lead the last one counts.
    let kept: BTreeMap<&LeadId, KeptAddress<'_>> = changes
        .filter_map(|change| {
            Some((&change.lead, KeptAddress::of(&change.lead, change.desired.as_deref().ok()?, &key)?))
        })
        .collect();
    let kept: Vec<KeptAddress<'_>> = kept.into_values().collect();
    write(&mut transaction, &kept).await?;
    transaction.commit().await
}

/// After these rows are written: forgets the former addresses of their leads, except of those that Conversica knows, because there it may
/// still have the former one.
pub async fn forget_former(db: &StateDb, changes: &[LeadChange], now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    if changes.is_empty() {
        return Ok(());
    }
    let mut transaction = db.begin().await?;
    let key = contact_key::make_key(&mut transaction, micros(now)).await?;
    for some in changes.chunks(1000) {
        let tags: Vec<Vec<u8>> = some
            .iter()
            .filter_map(|change| Some(KeptAddress::of(&change.lead, change.desired.as_deref().ok()?, &key)?.tag))
            .collect();
        let mut forget = StateStatement::new("delete from lead_address where (id, client_id) in (");
        forget.push_values(some, |row, change| {
            row.push_bind(&change.lead.id).push_bind(&change.lead.client_id);
        });
        forget.push(
            ") and not exists (select 1 from lead where lead.id = lead_address.id and lead.client_id = lead_address.client_id \
             and (lead.first_contact_at is not null or lead.status = 'in_flight'))",
        );
        if !tags.is_empty() {
            forget.push(" and tag not in (").push_list(tags).push(")");
        }
        transaction.execute(forget).await?;
    }
    transaction.commit().await
}

async fn write(transaction: &mut StateTransaction, kept: &[KeptAddress<'_>]) -> Result<(), sqlx::Error> {
    if kept.is_empty() {
        return Ok(());
    }
    let mut statement = StateStatement::new("insert into lead_address (id, client_id, tag, date) select * from (");
    statement.push_values(kept, |row, kept| {
        row.push_bind(&kept.lead.id).push_bind(&kept.lead.client_id);
        row.push_bind(kept.tag.clone()).push_bind(kept.date);
    });
    statement.push(
        ") as new where true on conflict (id, client_id, tag) do update set date = excluded.date \
         where lead_address.date is distinct from excluded.date",
    );
    transaction.execute(statement).await.map(drop)
}

/// The leads of one address: those that come first by the setting, and one that Conversica knows.
pub(crate) struct AddressCrowd {
    pub holders: Vec<AddressHolder>,
    /// More leads come before this one than were looked at.
    pub is_far_behind: bool,
}

/// For each of these leads: the leads that have its address, those that come first by the setting.
pub(crate) async fn crowds(
    transaction: &mut StateTransaction,
    duplicates: DuplicateLeads,
    records: &[&LeadRecord],
    now: DateTime<Utc>,
) -> Result<HashMap<LeadId, AddressCrowd>, sqlx::Error> {
    let key = contact_key::make_key(transaction, micros(now)).await?;
    let mut crowds = HashMap::new();
    for record in records {
        let content = record.desired.as_deref().unwrap_or_default();
        let Some(own) = KeptAddress::of(&record.lead, content, &key) else { continue };
        let order = match duplicates {
            DuplicateLeads::Send => continue,
            DuplicateLeads::Hold => "date nulls first, length(a.id), a.id",
            DuplicateLeads::Newest => "date desc nulls last, length(a.id) desc, a.id desc",
        };
        let mut same = StateStatement::new(format!("select {} from ", lead_record::columns_of("lead")));
        same.push("(select id, client_id, date from lead_address a where tag = ").push_bind(own.tag.clone());
        same.push(" and client_id = ").push_bind(&record.lead.client_id);
        same.push(" order by ").push(order).push(" limit ").push_bind(MOST_HOLDERS);
        same.push(") a join lead on lead.id = a.id and lead.client_id = a.client_id");
        let leads = lead_record::read(transaction, same).await?;
        // Rows without a lead may be among those that were looked at.
        let is_cut = i64::try_from(leads.len()).is_ok_and(|leads| leads >= MOST_HOLDERS / 2);
        let mut holders: Vec<AddressHolder> = leads.iter().map(holder).collect();
        let is_far_behind = is_cut && holders.iter().all(|holder| holder.lead != record.lead);
        if is_cut && !is_far_behind {
            let known = lead_record::read(transaction, known_holder(own.tag, record)).await?;
            holders.extend(known.iter().map(holder));
        }
        crowds.insert(record.lead.clone(), AddressCrowd { holders, is_far_behind });
    }
    Ok(crowds)
}

/// One lead of the address that Conversica knows or is about to, if there is any.
fn known_holder(tag: Vec<u8>, record: &LeadRecord) -> StateStatement {
    let mut known = StateStatement::new(format!("select {} from lead_address a ", lead_record::columns_of("lead")));
    known.push("join lead on lead.id = a.id and lead.client_id = a.client_id where a.tag = ").push_bind(tag);
    known.push(" and a.client_id = ").push_bind(&record.lead.client_id);
    known.push(" and a.id <> ").push_bind(&record.lead.id);
    known.push(" and (lead.first_contact_at is not null or lead.status = 'in_flight') limit 1");
    known
}

/// What a lead is to the others of its address.
pub(crate) fn holder(record: &LeadRecord) -> AddressHolder {
    let date = record.desired.as_deref().and_then(|content| FirstContent::read(content).date);
    // The state keeps microseconds.
    let date = date.map(|date| instant(micros(date)));
    AddressHolder { lead: record.lead.clone(), date, standing: HolderStanding::of(record) }
}
