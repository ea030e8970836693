//! Table `alert`: the messages to send to people, and how far each has got.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::horizon;
use crate::rules::service_alert::{AlertAccount, AlertNews};
use crate::store::state_db::StateDb;
use crate::store::statement::StateStatement;
use crate::store::{instant, micros};

/// An alert that one instance has leased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenAlert {
    pub seq: i64,
    pub kind: String,
    /// The lead that the alert is about; blank for an alert about the service.
    pub id: String,
    pub body: String,
    pub created_at: DateTime<Utc>,
    /// Tries, including this one.
    pub attempts: i64,
    /// The result of the previous try.
    pub detail: Option<String>,
}

/// Alerts that are neither delivered nor given up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct AlertBacklog {
    pub waiting: i64,
    /// When the oldest of them was created.
    pub since: Option<DateTime<Utc>>,
}

pub async fn backlog(db: &StateDb) -> Result<AlertBacklog, sqlx::Error> {
    let sql = "select count(*), min(created_at) from alert where done_at is null";
    let (waiting, since) = db.fetch_one::<(i64, Option<i64>)>(sql).await?;
    Ok(AlertBacklog { waiting, since: since.map(instant) })
}

/// No alert waits longer for its next try. A later time was written by a clock that ran ahead.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

/// Leases the due alerts, oldest first. The end of a condition waits until people have been told of its beginning. No other instance gets them before `lease_until`; after a crash the lease runs out.
pub async fn take(
    db: &StateDb,
    limit: i64,
    lease_until: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<Vec<TakenAlert>, sqlx::Error> {
    let sql = format!(
        "update alert set due_at = $1, attempts = attempts + 1, \
           created_at = case when created_at > $2 then $2 else created_at end where seq in ( \
           select seq from alert where done_at is null and (due_at <= $2 or due_at > $4) \
           and not (id = '' and exists (select 1 from alert earlier where earlier.kind = alert.kind and earlier.id = '' \
             and earlier.done_at is null and earlier.seq < alert.seq)) order by due_at, seq limit $3 {} \
         ) returning seq, kind, id, body, created_at, attempts, detail",
        db.skip_locked()
    );
    let take = StateStatement::new(sql)
        .bind(micros(lease_until))
        .bind(micros(now))
        .bind(limit)
        .bind(micros(horizon::latest(LONGEST_WAIT, now)));
    type Line = (i64, String, String, String, i64, i64, Option<String>);
    let rows: Vec<Line> = db.fetch_all(take).await?;
    let of = |(seq, kind, id, body, created_at, attempts, detail): Line| TakenAlert {
        seq,
        kind,
        id,
        body,
        created_at: instant(created_at),
        attempts,
        detail,
    };
    Ok(rows.into_iter().map(of).collect())
}

/// The name of this fact in table `control`.
const ACCOUNT: &str = "service_told";

/// What people have been told about the service, with the stored text of that fact.
#[derive(Debug, Clone, Default)]
pub struct NotedAccount {
    pub account: AlertAccount,
    text: Option<String>,
}

pub async fn noted(db: &StateDb) -> Result<NotedAccount, sqlx::Error> {
    let found =
        db.fetch_optional(StateStatement::new("select body from control where name = $1").bind(ACCOUNT)).await?;
    let text = found.map(|(text,): (String,)| text);
    let account = text.as_deref().map(serde_json::from_str).transpose();
    let account = account.map_err(|error| sqlx::Error::Decode(error.into()))?.unwrap_or_default();
    Ok(NotedAccount { account, text })
}

/// Adds these alerts, and writes what people will then have been told, in one transaction. Returns `false` and changes nothing if
/// another instance has sent alerts since `before` was read.
pub async fn tell(
    db: &StateDb,
    before: &NotedAccount,
    after: &AlertAccount,
    news: &[AlertNews],
    now: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    let text = serde_json::to_string(after).map_err(|error| sqlx::Error::Encode(error.into()))?;
    let mut transaction = db.begin().await?;
    let note = StateStatement::new(
        "insert into control (name, body, at) values ($1, $2, $3) on conflict (name) do update \
         set body = excluded.body, at = excluded.at where control.body = $4",
    );
    let note = note.bind(ACCOUNT).bind(text).bind(micros(now)).bind(before.text.as_deref());
    if transaction.execute(note).await? == 0 {
        return Ok(false);
    }
    let mut add = StateStatement::new("insert into alert (kind, id, client_id, occasion, body, created_at, due_at) ");
    add.push_values(news, |row, news| {
        row.push_bind(news.kind)
            .push_bind("")
            .push_bind("")
            .push_bind(format!("service/{}/{}", news.kind, after.revision))
            .push_bind(news.document.to_string())
            .push_bind(micros(now))
            .push_bind(micros(now));
    });
    transaction.execute(add).await?;
    transaction.commit().await?;
    Ok(true)
}

/// Closes an alert that is delivered or given up.
pub async fn over(db: &StateDb, seq: i64, detail: &str, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    let close = StateStatement::new("update alert set done_at = $1, detail = $2 where seq = $3");
    db.execute(close.bind(micros(now)).bind(detail).bind(seq)).await.map(drop)
}

/// Schedules the next try of an alert.
pub async fn again(db: &StateDb, seq: i64, detail: &str, due_at: DateTime<Utc>) -> Result<(), sqlx::Error> {
    let schedule = StateStatement::new("update alert set due_at = $1, detail = $2 where seq = $3");
    db.execute(schedule.bind(micros(due_at)).bind(detail).bind(seq)).await.map(drop)
}
