//! Table `consent`: the ledger of what people have said about being written to. Entries are only added; each query computes from
//! them which consent is withdrawn.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use crate::conversica::consent::{HeardWord, WithdrawnConsent, WordSource};
use crate::conversica::consent_word::{ChannelWord, ConsentChannel};
use crate::conversica::lead::{ContentFingerprint, LeadId, RowHash};
use crate::rules::lead_change::LeadChange;
use crate::rules::lead_record::LeadRecord;
use crate::rules::lead_status::LeadStatus;
use crate::rules::person_word::PersonWord;
use crate::store::lead::{InOrder, write_changes};
use crate::store::state_db::StateDb;
use crate::store::state_transaction::StateTransaction;
use crate::store::statement::StateStatement;
use crate::store::{instant, lead_record, micros, person_consent, tombstone};

/// Returns a row if the ledger has any entry, or any post may be an opt-out. If not, no further query is needed.
pub(crate) const ANY: &str =
    "select cast(1 as bigint) where exists (select 1 from consent) or exists (select 1 from possible_opt_out)";

/// In a transaction: the withdrawn consent of these leads, in one statement (at most 2,000 leads).
pub(crate) async fn withdrawn_of(
    transaction: &mut StateTransaction,
    leads: &[LeadId],
) -> Result<HashMap<LeadId, WithdrawnConsent>, sqlx::Error> {
    Ok(standing_of(transaction.fetch_all(standing_statement(leads)).await?))
}

fn standing_statement(leads: &[LeadId]) -> StateStatement {
    let mut statement = StateStatement::new("with asked (asked_id, asked_client_id) as (");
    statement.push_values(leads, |row, lead| {
        row.push_bind(&lead.id).push_bind(&lead.client_id);
    });
    statement.push(
        ") select w.id, w.client_id, w.channel, max(w.at), cast(0 as bigint) from asked \
         join consent w on w.id = asked_id and w.client_id = asked_client_id where w.given = 0 and not exists ( \
           select 1 from consent g where g.id = w.id and g.client_id = w.client_id and g.channel = w.channel and g.given = 1 \
           and g.at > w.at and g.heard_at > w.at and (g.source <> 'crm' or g.at <= g.heard_at) \
           and (g.seq > w.seq or g.source = 'crm' and g.heard_at <= w.heard_at) \
         ) group by w.id, w.client_id, w.channel",
    );
    // Until an operator has decided on a possible opt-out, no later post gives consent again.
    statement.push(
        " union all select id, client_id, channel, max(at), cast(1 as bigint) from asked \
         join possible_opt_out on id = asked_id and client_id = asked_client_id where settled_at is null and settled_by is null \
         group by id, client_id, channel",
    );
    statement
}

/// A channel of a lead, when its consent was withdrawn, and 1 if an operator has to decide.
type StandingRow = (String, String, String, i64, i64);

fn standing_of(rows: Vec<StandingRow>) -> HashMap<LeadId, WithdrawnConsent> {
    let mut standing: HashMap<LeadId, WithdrawnConsent> = HashMap::new();
    for (id, client_id, channel, at, unsettled) in rows {
        let Some(channel) = ConsentChannel::from_name(&channel) else { continue };
        let standing = standing.entry(LeadId { id, client_id }).or_default();
        if unsettled == 1 {
            standing.set_unsettled(channel, instant(at));
        } else {
            standing.set(channel, standing.get(channel).max(Some(instant(at))));
        }
    }
    standing
}

/// The withdrawn consent of these leads (at most 2,000).
pub async fn stands(db: &StateDb, leads: &[LeadId]) -> Result<HashMap<LeadId, WithdrawnConsent>, sqlx::Error> {
    if leads.is_empty() {
        return Ok(HashMap::new());
    }
    if db.fetch_optional::<(i64,)>(ANY).await?.is_none() {
        return Ok(HashMap::new());
    }
    Ok(standing_of(db.fetch_all(standing_statement(leads)).await?))
}

/// A number that grows with every ledger entry and with every post that may be an opt-out.
const NEWEST: &str =
    "select coalesce((select max(seq) from consent), 0) + coalesce((select max(seq) from possible_opt_out), 0)";

/// The number of the newest entry; 0 if there is none. While it stays the same, no new withdrawal has arrived.
pub async fn newest(db: &StateDb) -> Result<i64, sqlx::Error> {
    let (newest,) = db.fetch_one(NEWEST).await?;
    Ok(newest)
}

/// A withdrawal or grant of consent, with its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerEntry {
    pub lead: LeadId,
    pub word: ChannelWord,
    pub heard_at: DateTime<Utc>,
    /// The Lead Update that reported it; `None` if the CRM did.
    pub event_seq: Option<i64>,
}

impl LedgerEntry {
    pub fn heard_word(&self) -> HeardWord {
        let source = if self.event_seq.is_some() { WordSource::Conversica } else { WordSource::Crm };
        HeardWord { word: self.word, heard_at: self.heard_at, source }
    }
}

/// Adds 1 to 2,000 entries to the ledger.
pub(crate) fn insert_statement(entries: &[LedgerEntry]) -> StateStatement {
    let mut statement =
        StateStatement::new("insert into consent (id, client_id, channel, given, at, heard_at, source, event_seq) ");
    statement.push_values(entries, |row, entry| {
        row.push_bind(&entry.lead.id)
            .push_bind(&entry.lead.client_id)
            .push_bind(entry.word.channel.name())
            .push_bind(i64::from(entry.word.given))
            .push_bind(micros(entry.word.at))
            .push_bind(micros(entry.heard_at))
            .push_bind(if entry.event_seq.is_some() { "conversica" } else { "crm" })
            .push_bind(entry.event_seq);
    });
    statement
}

/// Adds to the ledger what the CRM says.
pub async fn record(db: &StateDb, entries: &[LedgerEntry]) -> Result<(), sqlx::Error> {
    for some in entries.chunks(1000) {
        let mut transaction = db.begin().await?;
        let leads = some.iter().map(|entry| entry.lead.clone());
        let erased = tombstone::erased_among(&mut transaction, leads).await?;
        let some: Vec<LedgerEntry> = some.iter().filter(|entry| !erased.has(&entry.lead)).cloned().collect();
        if !some.is_empty() {
            transaction.execute(insert_statement(&some)).await?;
        }
        transaction.commit().await?;
    }
    Ok(())
}

/// The whole ledger of a lead, in the order of its entries.
pub async fn of_lead(db: &StateDb, lead: &LeadId) -> Result<Vec<LedgerEntry>, sqlx::Error> {
    let entries = StateStatement::new(
        "select channel, given, at, heard_at, event_seq from consent where id = $1 and client_id = $2 order by seq",
    );
    let rows: Vec<(String, i64, i64, i64, Option<i64>)> =
        db.fetch_all(entries.bind(&lead.id).bind(&lead.client_id)).await?;
    let entry = |(channel, given, at, heard_at, event_seq): (String, i64, i64, i64, Option<i64>)| {
        let channel =
            ConsentChannel::from_name(&channel).ok_or_else(|| sqlx::Error::Decode("unknown channel".into()))?;
        let word = ChannelWord { channel, given: given == 1, at: instant(at) };
        Ok(LedgerEntry { lead: lead.clone(), word, heard_at: instant(heard_at), event_seq })
    };
    rows.into_iter().map(entry).collect()
}

/// In a transaction: writes opt-outs in force into the desired content of these leads. Requests in flight end first. The rows
/// stay locked until the transaction ends, so that no claim and no poll comes between reading and writing them. Returns how many
/// leads were changed.
pub(crate) async fn keep(
    transaction: &mut StateTransaction,
    leads: &[LeadId],
    now: DateTime<Utc>,
) -> Result<u64, sqlx::Error> {
    let (mut records, standing) = record_heard(transaction, leads, now).await?;
    records.retain(|record| record.gone_at.is_none());
    let changes = changes(&records, &standing);
    write_changes(transaction, &changes, now, now).await?;
    Ok(changes.len() as u64)
}

/// In a transaction: makes the ledger of people agree with what was heard of these leads. Returns their records, which stay locked,
/// and the opt-outs in force.
pub(crate) async fn record_heard(
    transaction: &mut StateTransaction,
    leads: &[LeadId],
    now: DateTime<Utc>,
) -> Result<(Vec<LeadRecord>, HashMap<LeadId, WithdrawnConsent>), sqlx::Error> {
    let records = lead_record::lock(transaction, leads).await?;
    let standing = withdrawn_of(transaction, leads).await?;
    let heard = |record| person_consent::heard_of(record, standing.get(&record.lead));
    let words: Vec<PersonWord> = records.iter().flat_map(heard).collect();
    person_consent::record_words(transaction, &words, now).await?;
    Ok((records, standing))
}

/// The changes that make desired contents agree with the opt-outs in force.
fn changes(records: &[LeadRecord], standing: &HashMap<LeadId, WithdrawnConsent>) -> Vec<LeadChange> {
    let change = |record: &LeadRecord| {
        let kept = standing.get(&record.lead)?.keep(record.desired.as_deref()?)?;
        // `upsert` sets `urgent` by what was delivered. Without a row hash, the next poll reads the row again.
        let desired_hash = ContentFingerprint::of(kept.as_bytes());
        Some(LeadChange {
            lead: record.lead.clone(),
            desired_hash,
            desired: Ok(kept),
            hold_reason: None,
            urgent: false,
            suppressed: record.status == LeadStatus::Suppressed,
            row_hash: None,
        })
    };
    records.iter().filter_map(change).collect()
}

/// As [`super::lead::upsert`]. `words` is the number of the newest ledger entry when the poll judged these leads. If newer
/// opt-outs have arrived since, they are written into the content too, because `upsert` may have overwritten them.
pub async fn upsert(
    db: &StateDb,
    changes: &[LeadChange],
    words: i64,
    now: DateTime<Utc>,
    written_at: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    if changes.is_empty() {
        return Ok(());
    }
    let mut transaction = db.begin().await?;
    let leads = changes.iter().map(|change| change.lead.clone());
    let erased = tombstone::erased_among(&mut transaction, leads).await?;
    let changes = super::lead::spared(changes, &erased);
    if changes.is_empty() {
        return Ok(());
    }
    write_changes(&mut transaction, &changes, now, written_at).await?;
    // Read only now that these leads are locked: any later writer waits and then finds these changes.
    let (newest,): (i64,) = transaction.fetch_one(NEWEST).await?;
    if newest != words {
        let leads: Vec<LeadId> = changes.iter().map(|change| change.lead.clone()).collect();
        keep(&mut transaction, &leads, written_at).await?;
        // A grant of consent that arrived before the lead was created could not clear the row's hash, so it is cleared here.
        transaction.execute(look_again_statement(db, &leads)).await?;
    }
    transaction.commit().await
}

/// As [`super::compare::remember`]. If the ledger has entries newer than `words`, the number of the newest entry when the poll
/// judged these leads, the rows are read again instead.
pub async fn remember(db: &StateDb, rows: &[(LeadId, RowHash)], words: i64) -> Result<(), sqlx::Error> {
    super::compare::remember(db, rows).await?;
    if rows.is_empty() || newest(db).await? == words {
        return Ok(());
    }
    let leads: Vec<LeadId> = rows.iter().map(|(lead, _)| lead.clone()).collect();
    db.execute(look_again_statement(db, &leads)).await.map(drop)
}

/// Makes the next poll map the rows of these leads again: values that were withheld from them may count now.
pub(crate) fn look_again_statement(db: &StateDb, leads: &[LeadId]) -> StateStatement {
    let order = InOrder::of(db, "select given_id, given_client_id from given");
    let mut statement = StateStatement::new("with given (given_id, given_client_id) as (");
    statement.push_values(leads, |row, lead| {
        row.push_bind(&lead.id).push_bind(&lead.client_id);
    });
    statement
        .push(")")
        .push(&order.cte)
        .push(" update lead set row_hash = null, version = version + 1 from given")
        .push(order.from);
    statement.push(
        " where lead.id = given_id and lead.client_id = given_client_id and (exists (select 1 from consent \
         where consent.id = given_id and consent.client_id = given_client_id and consent.given = 0) \
         or exists (select 1 from possible_opt_out p where p.id = given_id and p.client_id = given_client_id))",
    );
    statement.push(order.condition);
    statement
}
