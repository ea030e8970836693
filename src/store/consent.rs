//! Table `consent`: the ledger of what people have said about being written to. It is only added to; what stands is asked
//! of it each time.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::{Database, Encode, QueryBuilder, Row as _, Type};

use crate::conversica::consent::{HeardWord, WithdrawnConsent, WordSource};
use crate::conversica::consent_word::{ChannelWord, ConsentChannel};
use crate::conversica::lead::{ContentFingerprint, LeadId, RowHash};
use crate::rules::lead_change::LeadChange;
use crate::store::lead::InOrder;
use crate::store::state_db::{StateDb, on_state};
use crate::store::{instant, micros, tombstone};

/// Whether anybody has ever said anything: where nobody has, nothing more is asked.
macro_rules! any {
    ($executor:expr) => {
        sqlx::query_scalar::<_, i64>(
            "select cast(1 as bigint) where exists (select 1 from consent) or exists (select 1 from possible_opt_out)",
        )
        .fetch_optional($executor)
        .await
        .map(|found| found.is_some())
    };
}
pub(crate) use any;

/// Whose consent stands withdrawn, of these leads: one statement, whatever their number (at most 2,000).
macro_rules! standing {
    ($executor:expr, $leads:expr) => {
        match $crate::store::consent::standing_query($leads).build().fetch_all($executor).await {
            Ok(rows) => {
                let rows = rows.iter().map(|row| {
                    let lead = LeadId { id: row.try_get(0)?, client_id: row.try_get(1)? };
                    Ok((lead, row.try_get(2)?, row.try_get(3)?, row.try_get(4)?))
                });
                rows.collect::<Result<Vec<_>, sqlx::Error>>().map($crate::store::consent::standing_of)
            }
            Err(error) => Err(error),
        }
    };
}
pub(crate) use standing;

/// As [`Standing::of`].
pub(crate) fn standing_query<DB: Database>(leads: &[LeadId]) -> QueryBuilder<DB>
where
    for<'e> &'e str: Encode<'e, DB> + Type<DB>,
{
    let mut query = QueryBuilder::new("with asked (asked_id, asked_client_id) as (");
    query.push_values(leads, |mut row, lead| {
        row.push_bind(lead.id.as_str()).push_bind(lead.client_id.as_str());
    });
    query.push(
        ") select w.id, w.client_id, w.channel, max(w.at), cast(0 as bigint) from asked \
         join consent w on w.id = asked_id and w.client_id = asked_client_id where w.given = 0 and not exists ( \
           select 1 from consent g where g.id = w.id and g.client_id = w.client_id and g.channel = w.channel and g.given = 1 \
           and g.at > w.at and g.heard_at > w.at and (g.source <> 'crm' or g.at <= g.heard_at) \
           and (g.seq > w.seq or g.source = 'crm' and g.heard_at <= w.heard_at) \
         ) group by w.id, w.client_id, w.channel",
    );
    // Until an operator has looked, nothing that is heard later gives consent again.
    query.push(
        " union all select id, client_id, channel, max(at), cast(1 as bigint) from asked \
         join possible_opt_out on id = asked_id and client_id = asked_client_id where settled_at is null and settled_by is null \
         group by id, client_id, channel",
    );
    query
}

/// A channel of a lead: since when its consent is withdrawn, and 1 where an operator has to look.
type StandingRow = (LeadId, String, i64, i64);

pub(crate) fn standing_of(rows: Vec<StandingRow>) -> HashMap<LeadId, WithdrawnConsent> {
    let mut standing: HashMap<LeadId, WithdrawnConsent> = HashMap::new();
    for (lead, channel, at, unsettled) in rows {
        let Some(channel) = ConsentChannel::from_name(&channel) else { continue };
        let standing = standing.entry(lead).or_default();
        if unsettled == 1 {
            standing.set_unsettled(channel, instant(at));
        } else {
            standing.set(channel, standing.get(channel).max(Some(instant(at))));
        }
    }
    standing
}

/// Whose consent stands withdrawn, of these leads (at most 2,000).
pub async fn stands(db: &StateDb, leads: &[LeadId]) -> Result<HashMap<LeadId, WithdrawnConsent>, sqlx::Error> {
    if leads.is_empty() {
        return Ok(HashMap::new());
    }
    on_state!(db, pool => if any!(pool)? { standing!(pool, leads) } else { Ok(HashMap::new()) })
}

/// A number that grows with every word, and with every post that may be one.
const NEWEST: &str =
    "select coalesce((select max(seq) from consent), 0) + coalesce((select max(seq) from possible_opt_out), 0)";

/// The number of the newest word; 0 where there is none. As long as it is the same, no further withdrawal has come.
pub async fn newest(db: &StateDb) -> Result<i64, sqlx::Error> {
    on_state!(db, pool => sqlx::query_scalar(NEWEST).fetch_one(pool).await)
}

/// A word, and who has said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerEntry {
    pub lead: LeadId,
    pub word: ChannelWord,
    pub heard_at: DateTime<Utc>,
    /// The Lead Update that said it; `None`: the CRM.
    pub event_seq: Option<i64>,
}

impl LedgerEntry {
    pub fn heard_word(&self) -> HeardWord {
        let source = if self.event_seq.is_some() { WordSource::Conversica } else { WordSource::Crm };
        HeardWord { word: self.word, heard_at: self.heard_at, source }
    }
}

/// Adds to the ledger. At most 2,000 entries, and not none.
pub(crate) fn insert_query<DB: Database>(entries: &[LedgerEntry]) -> QueryBuilder<DB>
where
    for<'e> &'e str: Encode<'e, DB> + Type<DB>,
    for<'e> i64: Encode<'e, DB> + Type<DB>,
    for<'e> Option<i64>: Encode<'e, DB> + Type<DB>,
{
    let mut query =
        QueryBuilder::new("insert into consent (id, client_id, channel, given, at, heard_at, source, event_seq) ");
    query.push_values(entries, |mut row, entry| {
        row.push_bind(entry.lead.id.as_str())
            .push_bind(entry.lead.client_id.as_str())
            .push_bind(entry.word.channel.name())
            .push_bind(i64::from(entry.word.given))
            .push_bind(micros(entry.word.at))
            .push_bind(micros(entry.heard_at))
            .push_bind(if entry.event_seq.is_some() { "conversica" } else { "crm" })
            .push_bind(entry.event_seq);
    });
    query
}

/// Writes down what the CRM says.
pub async fn record(db: &StateDb, entries: &[LedgerEntry]) -> Result<(), sqlx::Error> {
    for some in entries.chunks(1000) {
        on_state!(db, pool => {
            let mut transaction = pool.begin_with(db.begin_write()).await?;
            let erased = tombstone::erased!(db, transaction, some.iter().map(|entry| entry.lead.clone()));
            let some: Vec<LedgerEntry> = some.iter().filter(|entry| !erased.has(&entry.lead)).cloned().collect();
            if !some.is_empty() {
                insert_query(&some).build().execute(&mut *transaction).await?;
            }
            transaction.commit().await?;
        });
    }
    Ok(())
}

/// The whole ledger of a lead, in the order in which its words were taken in.
pub async fn of_lead(db: &StateDb, lead: &LeadId) -> Result<Vec<LedgerEntry>, sqlx::Error> {
    on_state!(db, pool => {
        let rows = sqlx::query(
            "select channel, given, at, heard_at, event_seq from consent where id = $1 and client_id = $2 order by seq")
            .bind(&lead.id).bind(&lead.client_id).fetch_all(pool).await?;
        rows.iter().map(|row| {
            let channel: String = row.try_get(0)?;
            let word = ChannelWord {
                channel: ConsentChannel::from_name(&channel).ok_or_else(|| sqlx::Error::Decode("unknown channel".into()))?,
                given: row.try_get::<i64, _>(1)? == 1,
                at: instant(row.try_get(2)?),
            };
            Ok(LedgerEntry { lead: lead.clone(), word, heard_at: instant(row.try_get(3)?), event_seq: row.try_get(4)? })
        }).collect()
    })
}

/// In a transaction: puts standing opt-outs into what is to be sent to these leads. What is on its way ends first. Their
/// rows are kept from others until the transaction ends, so that no claim and no poll comes between the look and the word.
macro_rules! keep {
    ($db:expr, $transaction:expr, $leads:expr, $now:expr) => {{
        let locked = $crate::store::consent::locked_query($db, $leads).build().fetch_all(&mut *$transaction).await?;
        let mut desired = Vec::with_capacity(locked.len());
        for row in &locked {
            desired.push((LeadId { id: row.try_get(0)?, client_id: row.try_get(1)? }, row.try_get::<String, _>(2)?));
        }
        let standing = $crate::store::consent::standing!(&mut *$transaction, $leads)?;
        let changes = $crate::store::consent::changes(desired, &standing);
        if !changes.is_empty() {
            $crate::store::lead::upsert_query(&changes, $now, $now).build().execute(&mut *$transaction).await?;
        }
        changes.len()
    }};
}
pub(crate) use keep;

pub(crate) fn locked_query<DB: Database>(db: &StateDb, leads: &[LeadId]) -> QueryBuilder<DB>
where
    for<'e> &'e str: Encode<'e, DB> + Type<DB>,
{
    let mut query = QueryBuilder::new(
        "select id, client_id, desired from lead where gone_at is null and desired is not null and (id, client_id) in (",
    );
    query.push_values(leads, |mut row, lead| {
        row.push_bind(lead.id.as_str()).push_bind(lead.client_id.as_str());
    });
    query.push(") order by id, client_id");
    // See `InOrder`. SQLite has one writer at a time.
    query.push(match db {
        StateDb::Sqlite(_) => "",
        StateDb::Postgres(_) => " for update",
    });
    query
}

/// What has to be written so that nothing contradicts what stands.
pub(crate) fn changes(desired: Vec<(LeadId, String)>, standing: &HashMap<LeadId, WithdrawnConsent>) -> Vec<LeadChange> {
    let change = |(lead, body): (LeadId, String)| {
        let kept = standing.get(&lead)?.keep(&body)?;
        // Whether it is urgent follows from what was delivered; the row is looked at again.
        let desired_hash = ContentFingerprint::of(kept.as_bytes());
        Some(LeadChange { lead, desired_hash, desired: Ok(kept), hold_reason: None, urgent: false, row_hash: None })
    };
    desired.into_iter().filter_map(change).collect()
}

/// As [`super::lead::upsert`]. An opt-out that was heard after `words` was the newest word, when these leads were looked at,
/// goes in as well: it may have been put into their leads before this.
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
    on_state!(db, pool => {
        let mut transaction = pool.begin_with(db.begin_write()).await?;
        let erased = tombstone::erased!(db, transaction, changes.iter().map(|change| change.lead.clone()));
        let changes = super::lead::spared(changes, &erased);
        if changes.is_empty() {
            return Ok(());
        }
        super::lead::upsert_query(&changes, now, written_at).build().execute(&mut *transaction).await?;
        // Only now that nobody else can write to these leads: whoever waits to do so finds what is written here.
        let newest: i64 = sqlx::query_scalar(NEWEST).fetch_one(&mut *transaction).await?;
        if newest != words {
            let leads: Vec<LeadId> = changes.iter().map(|change| change.lead.clone()).collect();
            keep!(db, transaction, &leads, written_at);
            // Of a lead that was not there yet, a word that gave consent again could not have the row looked at again.
            look_again_query(db, &leads).build().execute(&mut *transaction).await?;
        }
        transaction.commit().await
    })
}

/// As [`super::compare::remember`]. Where something was said after `words` was the newest word, when these leads were looked at,
/// their rows are looked at again instead.
pub async fn remember(db: &StateDb, rows: &[(LeadId, RowHash)], words: i64) -> Result<(), sqlx::Error> {
    super::compare::remember(db, rows).await?;
    if rows.is_empty() || newest(db).await? == words {
        return Ok(());
    }
    let leads: Vec<LeadId> = rows.iter().map(|(lead, _)| lead.clone()).collect();
    on_state!(db, pool => look_again_query(db, &leads).build().execute(pool).await.map(drop))
}

/// The rows of these leads are to be looked at again: what was kept from them may count now.
pub(crate) fn look_again_query<DB: Database>(db: &StateDb, leads: &[LeadId]) -> QueryBuilder<DB>
where
    for<'e> &'e str: Encode<'e, DB> + Type<DB>,
{
    let order = InOrder::of(db, "select given_id, given_client_id from given");
    let mut query = QueryBuilder::new("with given (given_id, given_client_id) as (");
    query.push_values(leads, |mut row, lead| {
        row.push_bind(lead.id.as_str()).push_bind(lead.client_id.as_str());
    });
    query.push(")").push(&order.cte).push(" update lead set row_hash = null from given").push(order.from);
    query.push(
        " where lead.id = given_id and lead.client_id = given_client_id and (exists (select 1 from consent \
         where consent.id = given_id and consent.client_id = given_client_id and consent.given = 0) \
         or exists (select 1 from possible_opt_out p where p.id = given_id and p.client_id = given_client_id))",
    );
    query.push(order.condition);
    query
}
