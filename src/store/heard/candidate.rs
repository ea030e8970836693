//! The next events to apply. They are read and searched before the transaction begins, because a large body takes time and an
//! SQLite state stores no post during a transaction. The transaction then checks which events still wait.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use crate::conversica::lead::LeadId;
use crate::store::heard::fold::{ExaminedEvent, PendingEvent};
use crate::store::heard::reading::kind_of;
use crate::store::state_db::StateDb;
use crate::store::state_transaction::StateTransaction;
use crate::store::statement::StateStatement;
use crate::store::{instant, tombstone};

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
    let sizes: Vec<(i64,)> = db.fetch_all(StateStatement::new(sizes).bind(most)).await?;
    let sizes: Vec<i64> = sizes.into_iter().map(|(size,)| size).collect();
    let count = rows_at_once(&sizes);
    if count == 0 {
        return Ok(Vec::new());
    }
    let rows: Vec<EventRow> = db.fetch_all(StateStatement::new(rows).bind(count)).await?;
    let events = rows.into_iter().map(event_of).collect::<Result<_, _>>()?;
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
        let with_email = StateStatement::new(
            "select id, client_id from lead where desired is not null and lower(desired) like $1 escape '\\' limit 100",
        );
        let rows: Vec<(String, String)> = db.fetch_all(with_email.bind(pattern)).await?;
        leads.extend(rows.into_iter().map(|(id, client_id)| LeadId { id, client_id }));
    }
    Ok(leads.into_iter().collect())
}

/// Begins the transaction that writes what these events, not none, have to say, and returns those that still wait. `None` if
/// another instance does it at this moment. No person is erased until the transaction ends.
pub(crate) async fn begin_with_waiting(
    db: &StateDb,
    which: EventCandidates,
    events: Vec<ExaminedEvent>,
) -> Result<Option<(StateTransaction, Vec<ExaminedEvent>)>, sqlx::Error> {
    let mut transaction = db.begin().await?;
    tombstone::keep_erasures_out(&mut transaction).await?;
    let lock = match which {
        EventCandidates::Readable => db.apply_lock(),
        EventCandidates::Unexamined => search_lock(db),
    };
    if let Some(lock) = lock {
        let (is_mine,): (bool,) = transaction.fetch_one(lock).await?;
        if !is_mine {
            transaction.rollback().await?;
            return Ok(None);
        }
    }
    let received: Vec<(i64, i64)> = transaction.fetch_all(still_waiting_statement(which, &events)).await?;
    let waiting = still_waiting(events, &received.into_iter().collect());
    Ok(Some((transaction, waiting)))
}

/// A lock, held until the transaction ends, for the instance that writes what it found in unreadable posts. It differs from the
/// lock for readable posts, so that those are applied meanwhile.
fn search_lock(db: &StateDb) -> Option<&'static str> {
    match db {
        StateDb::Sqlite(_) => None,
        // The letters "csyncsea".
        StateDb::Postgres(_) => Some("select pg_try_advisory_xact_lock(7166204947098461537)"),
    }
}

/// In a transaction: which of these events still wait, and when each was last received. The list must not be empty.
fn still_waiting_statement(which: EventCandidates, events: &[ExaminedEvent]) -> StateStatement {
    let mut statement = StateStatement::new("select seq, ");
    statement.push(which.received_at()).push(" from event where ").push(which.condition()).push(" and seq in (");
    statement.push_list(events.iter().map(|event| event.event.seq)).push(")");
    statement
}

/// The events that still wait, in their order, with the times when they were last received.
fn still_waiting(mut events: Vec<ExaminedEvent>, received: &BTreeMap<i64, i64>) -> Vec<ExaminedEvent> {
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

/// A row of [`next_candidates`].
type EventRow = (i64, String, String, String, i64, Vec<u8>, Option<String>);

fn event_of((seq, kind, id, client_id, received_at, body, problem): EventRow) -> Result<PendingEvent, sqlx::Error> {
    let (kind, lead) = (kind_of(&kind)?, LeadId { id, client_id });
    Ok(PendingEvent { seq, kind, lead, received_at: instant(received_at), body, problem })
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
