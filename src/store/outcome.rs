//! Table `outcome`: the journal, one row an attempt, written in batches and never changed.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::conversica::lead::LeadId;
use crate::conversica::outcome::OutcomeClass;
use crate::rules::lead_claim::FinishedAttempt;
use crate::store::state_db::StateDb;
use crate::store::statement::StateStatement;
use crate::store::{instant, micros};

/// In microseconds.
const MINUTE: i64 = 60_000_000;

/// One statement that journals a batch of outcomes. It is the first write of its transaction.
pub fn insert_statement(finished: &[FinishedAttempt]) -> StateStatement {
    let mut statement = StateStatement::new(
        "with f (id, client_id, at, class, http_status, detail, duration_ms, attempt, sent_hash) as (",
    );
    statement.push_values(finished, |row, f| {
        row.push_bind(&f.lead.id)
            .push_bind(&f.lead.client_id)
            .push_bind(micros(f.at))
            .push_bind(f.class.name())
            .push_bind(f.http_status.map(i64::from))
            .push_bind(f.detail.as_deref())
            .push_bind(f.duration.map(|duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
            .push_bind(f.attempt)
            .push_bind(f.sent_hash.as_slice());
    });
    // A late answer may belong to a lead that was erased meanwhile. `erase` says why no erasure comes between this check and the
    // insert.
    statement.push(
        ") insert into outcome (id, client_id, at, class, http_status, detail, duration_ms, attempt, sent_hash) \
         select id, client_id, at, class, http_status, detail, duration_ms, attempt, sent_hash from f \
         where not exists (select 1 from tombstone) \
         or exists (select 1 from lead where lead.id = f.id and lead.client_id = f.client_id)",
    );
    statement
}

/// One statement that counts the outcomes. It is the last of its transaction, because instances that share the state wait for
/// each other at these rows.
pub fn count_statement(finished: &[FinishedAttempt]) -> StateStatement {
    let mut counts: BTreeMap<OutcomeClass, i64> = BTreeMap::new();
    for f in finished {
        *counts.entry(f.class).or_default() += 1;
    }
    let mut statement = StateStatement::new("insert into outcome_count (class, count) ");
    statement.push_values(counts, |row, (class, count)| {
        row.push_bind(class.name()).push_bind(count);
    });
    statement.push(" on conflict (class) do update set count = outcome_count.count + excluded.count");
    statement
}

/// One statement that counts the outcomes by the minute, for charts. It runs before [`count_statement`], in the same order in
/// every instance.
pub fn minute_statement(finished: &[FinishedAttempt]) -> StateStatement {
    let mut counts: BTreeMap<(i64, OutcomeClass), i64> = BTreeMap::new();
    for f in finished {
        *counts.entry((micros(f.at).div_euclid(MINUTE), f.class)).or_default() += 1;
    }
    let mut statement = StateStatement::new("insert into outcome_minute (minute, class, count) ");
    statement.push_values(counts, |row, ((minute, class), count)| {
        row.push_bind(minute).push_bind(class.name()).push_bind(count);
    });
    statement.push(" on conflict (minute, class) do update set count = outcome_minute.count + excluded.count");
    statement
}

/// The number of outcomes of each class; all classes are present.
pub async fn counts(db: &StateDb) -> Result<BTreeMap<OutcomeClass, i64>, sqlx::Error> {
    let mut counts: BTreeMap<OutcomeClass, i64> = OutcomeClass::ALL.into_iter().map(|class| (class, 0)).collect();
    let rows: Vec<(String, i64)> = db.fetch_all("select class, count from outcome_count").await?;
    for (name, count) in rows {
        if let Some(class) = OutcomeClass::from_name(&name) {
            counts.insert(class, count);
        }
    }
    Ok(counts)
}

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecordedOutcome {
    pub at: DateTime<Utc>,
    pub class: String,
    pub http_status: Option<i64>,
    pub detail: Option<String>,
    pub duration_ms: Option<i64>,
    /// Its number in its series, from 1.
    pub attempt: i64,
    /// The content that was sent: `desired` is what Conversica should have now, `delivered` is what it accepted last; otherwise
    /// `earlier`.
    pub content: Option<String>,
    /// The content itself, if it is an earlier one and still stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<Map<String, Value>>,
    #[serde(skip)]
    pub sent_hash: Option<Vec<u8>>,
}

/// All journal entries of one lead, oldest first.
pub async fn of_lead(db: &StateDb, id: &str, client_id: &str) -> Result<Vec<RecordedOutcome>, sqlx::Error> {
    type OutcomeLine = (i64, String, Option<i64>, Option<String>, Option<i64>, i64, Option<String>, Option<Vec<u8>>);
    let of_lead = StateStatement::new(
        "select o.at, o.class, o.http_status, o.detail, o.duration_ms, o.attempt, case when o.sent_hash is null then null \
         when o.sent_hash = lead.desired_hash then 'desired' when o.sent_hash = lead.delivered_hash then 'delivered' \
         else 'earlier' end, o.sent_hash from outcome o left join lead on lead.id = o.id and lead.client_id = o.client_id \
         where o.id = $1 and o.client_id = $2 order by o.seq",
    );
    let rows: Vec<OutcomeLine> = db.fetch_all(of_lead.bind(id).bind(client_id)).await?;
    Ok(rows
        .into_iter()
        .map(|(at, class, http_status, detail, duration_ms, attempt, content, sent_hash)| RecordedOutcome {
            at: instant(at),
            class,
            http_status,
            detail,
            duration_ms,
            attempt,
            content,
            body: None,
            sent_hash,
        })
        .collect())
}

/// Outcomes of a class in a stretch of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutcomeStretch {
    /// Its beginning; a whole number of stretches since 1970.
    pub at: DateTime<Utc>,
    pub class: OutcomeClass,
    pub count: i64,
}

/// The outcomes since then, by class and by stretches of `minutes` minutes, in the order of time. Empty stretches are left out.
/// Minutes are kept for a month.
pub async fn by_stretch(db: &StateDb, since: DateTime<Utc>, minutes: i64) -> Result<Vec<OutcomeStretch>, sqlx::Error> {
    let minutes = minutes.max(1);
    // The sum of bigints is a numeric on PostgreSQL.
    let stretches = StateStatement::new(
        "select minute / $2 as stretch, class, cast(sum(count) as bigint) from outcome_minute where minute >= $1 \
         group by 1, 2 order by 1, 2",
    );
    let rows = db.fetch_all(stretches.bind(micros(since).div_euclid(MINUTE)).bind(minutes)).await?;
    let of = |(stretch, class, count): (i64, String, i64)| {
        Some(OutcomeStretch { at: instant(stretch * minutes * MINUTE), class: OutcomeClass::from_name(&class)?, count })
    };
    Ok(rows.into_iter().filter_map(of).collect())
}

/// Records an attempt with the test lead, which is no lead of the state.
pub async fn record_test(db: &StateDb, finished: &FinishedAttempt) -> Result<(), sqlx::Error> {
    let finished = std::slice::from_ref(finished);
    let mut transaction = db.begin().await?;
    transaction.execute(insert_statement(finished)).await?;
    transaction.execute(minute_statement(finished)).await?;
    transaction.execute(count_statement(finished)).await?;
    transaction.commit().await
}

/// An attempt that was not accepted, without its detail, which may quote a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailedAttempt {
    pub lead: LeadId,
    pub at: DateTime<Utc>,
    pub class: String,
    pub http_status: Option<i64>,
}

/// How many of the newest journal entries are searched for failed attempts.
const NEWEST_ENTRIES: i64 = 3000;

/// The newest attempts that were not accepted, newest first, among the newest journal entries.
pub async fn newest_failed(db: &StateDb, limit: i64) -> Result<Vec<FailedAttempt>, sqlx::Error> {
    let newest = StateStatement::new(
        "select id, client_id, at, class, http_status from \
         (select seq, id, client_id, at, class, http_status from outcome order by seq desc limit $1) o \
         where class <> 'accepted' order by seq desc limit $2",
    );
    let rows = db.fetch_all(newest.bind(NEWEST_ENTRIES).bind(limit)).await?;
    let of = |(id, client_id, at, class, http_status): (String, String, i64, String, Option<i64>)| FailedAttempt {
        lead: LeadId { id, client_id },
        at: instant(at),
        class,
        http_status,
    };
    Ok(rows.into_iter().map(of).collect())
}
