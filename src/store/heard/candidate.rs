//! The next events to apply. They are read and searched before the transaction begins, because a large body takes time and an
//! SQLite state stores no post during a transaction. The transaction then checks which events still wait.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use sqlx::{Database, Decode, Encode, QueryBuilder, Type};

use crate::conversica::lead::LeadId;
use crate::store::heard::fold::{ExaminedEvent, PendingEvent};
use crate::store::heard::reading::kind_of;
use crate::store::instant;
use crate::store::state_db::{StateDb, on_state};

/// Events in one transaction.
pub(crate) const AT_ONCE: i64 = 500;
/// Bytes of events in one transaction; a single event may have more.
const BYTES_AT_ONCE: i64 = 1 << 20;
/// From this many bytes on, reading and searching use their own thread.
const LARGE: usize = 16 << 10;
/// E-mail addresses of one post that are searched among the leads.
const EMAILS: usize = 5;

/// The group of waiting events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventCandidates {
    /// Events that could be read when they arrived.
    Readable,
    /// Unreadable events that were not searched for a withdrawal yet.
    Unexamined,
}

impl EventCandidates {
    const fn condition(self) -> &'static str {
        match self {
            Self::Readable => "applied_at is null and problem is null",
            Self::Unexamined => "problem is not null and examined_at is null and mended_as is null",
        }
    }

    /// A readable post that arrives again counts as heard again.
    const fn received_at(self) -> &'static str {
        match self {
            Self::Readable => "coalesce(repeated_at, received_at)",
            Self::Unexamined => "received_at",
        }
    }
}

/// The oldest waiting events, at most `most`, read and searched.
pub(crate) async fn next_candidates(
    db: &StateDb,
    which: EventCandidates,
    most: i64,
) -> Result<Vec<ExaminedEvent>, sqlx::Error> {
    let (condition, received_at) = (which.condition(), which.received_at());
    let sizes = format!("select cast(length(body) as bigint) from event where {condition} order by seq limit $1");
    let rows = format!(
        "select seq, kind, id, client_id, {received_at}, body, problem from event where {condition} order by seq limit $1"
    );
    let events: Vec<PendingEvent> = on_state!(db, pool => {
        let sizes: Vec<i64> = sqlx::query_scalar(crate::db::trusted(sizes)).bind(most).fetch_all(pool).await?;
        let count = rows_at_once(&sizes);
        if count == 0 {
            return Ok(Vec::new());
        }
        let rows = sqlx::query(crate::db::trusted(rows)).bind(count).fetch_all(pool).await?;
        rows.iter().map(read_event).collect::<Result<_, _>>()?
    });
    let mut examined = examine(events).await?;
    for event in &mut examined {
        if let Some(emails) = event.emails_to_find() {
            let emails: Vec<String> = emails.iter().take(EMAILS).cloned().collect();
            event.by_email = leads_with_email(db, &emails).await?;
        }
    }
    Ok(examined)
}

/// Large bodies are examined on their own thread, because they would keep this one from answering posts.
async fn examine(events: Vec<PendingEvent>) -> Result<Vec<ExaminedEvent>, sqlx::Error> {
    let bytes: usize = events.iter().map(|event| event.body.len()).sum();
    let examine = move || events.into_iter().map(ExaminedEvent::of).collect();
    if bytes < LARGE {
        return Ok(examine());
    }
    tokio::task::spawn_blocking(examine).await.map_err(|error| sqlx::Error::Io(std::io::Error::other(error)))
}

/// The leads whose Lead object has one of these e-mail addresses, given in lower case; at most 100.
async fn leads_with_email(db: &StateDb, emails: &[String]) -> Result<Vec<LeadId>, sqlx::Error> {
    let mut leads = BTreeSet::new();
    for email in emails {
        // The form in canonical JSON; it also matches keys like `workEmail`.
        let escaped = email.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
        let pattern = format!("%email\":\"{escaped}\"%");
        let rows: Vec<(String, String)> = on_state!(db, pool => {
            sqlx::query_as(
                "select id, client_id from lead where desired is not null and lower(desired) like $1 escape '\\' limit 100")
                .bind(&pattern).fetch_all(pool).await?
        });
        leads.extend(rows.into_iter().map(|(id, client_id)| LeadId { id, client_id }));
    }
    Ok(leads.into_iter().collect())
}

/// A lock, held until the transaction ends, for the instance that writes what it found in unreadable posts. It differs from the
/// lock for readable posts, so that those are applied meanwhile.
pub(crate) fn search_lock(db: &StateDb) -> Option<&'static str> {
    match db {
        StateDb::Sqlite(_) => None,
        // The letters "csyncsea".
        StateDb::Postgres(_) => Some("select pg_try_advisory_xact_lock(7166204947098461537)"),
    }
}

/// In a transaction: which of these events still wait, and when each was last received. The list must not be empty.
pub(crate) fn still_waiting_query<DB: Database>(which: EventCandidates, events: &[ExaminedEvent]) -> QueryBuilder<DB>
where
    for<'e> i64: Encode<'e, DB> + Type<DB>,
{
    let mut query = QueryBuilder::new("select seq, ");
    query.push(which.received_at()).push(" from event where ").push(which.condition()).push(" and seq in (");
    let mut list = query.separated(", ");
    for event in events {
        list.push_bind(event.event.seq);
    }
    query.push(")");
    query
}

/// The events that still wait, in their order, with the times when they were last received.
pub(crate) fn still_waiting(mut events: Vec<ExaminedEvent>, received: &BTreeMap<i64, i64>) -> Vec<ExaminedEvent> {
    events.retain(|event| received.contains_key(&event.event.seq));
    for event in &mut events {
        let at: Option<DateTime<Utc>> = received.get(&event.event.seq).copied().map(instant);
        event.event.received_at = at.unwrap_or(event.event.received_at);
    }
    events
}

/// How many of the next events, with these sizes in bytes, one transaction applies: at least one if there is one.
fn rows_at_once(sizes: &[i64]) -> i64 {
    let mut bytes = 0;
    let fits = |size: &&i64| {
        bytes += **size;
        bytes <= BYTES_AT_ONCE
    };
    let rows = sizes.iter().take_while(fits).count().max(sizes.len().min(1));
    i64::try_from(rows).unwrap_or(AT_ONCE)
}

/// A row of [`next_candidates`], of either engine.
fn read_event<'r, R>(row: &'r R) -> Result<PendingEvent, sqlx::Error>
where
    R: sqlx::Row,
    usize: sqlx::ColumnIndex<R>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
    &'r str: Decode<'r, R::Database> + Type<R::Database>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    Vec<u8>: Decode<'r, R::Database> + Type<R::Database>,
{
    Ok(PendingEvent {
        seq: row.try_get(0)?,
        kind: kind_of(row.try_get(1)?)?,
        lead: LeadId { id: row.try_get(2)?, client_id: row.try_get(3)? },
        received_at: instant(row.try_get(4)?),
        body: row.try_get(5)?,
        problem: row.try_get(6)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_transaction_takes_a_megabyte_of_events_or_one_that_is_larger() {
        let large = BYTES_AT_ONCE / 2;
        assert_eq!(rows_at_once(&[]), 0);
        assert_eq!(rows_at_once(&[BYTES_AT_ONCE * 3, 1]), 1);
        assert_eq!(rows_at_once(&[large, large, 1]), 2);
        assert_eq!(rows_at_once(&[1; 500]), 500);
    }
}
