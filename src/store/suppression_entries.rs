//! Table `suppression`: the entries that `suppression_query` returns.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::rules::contact::{ContactKind, ContactPoint};
use crate::store::state_db::StateDb;
use crate::store::statement::StateStatement;
use crate::store::suppression::{ENTRIES_AT_ONCE, note_change};
use crate::store::{contact_key, micros};

/// A condition for rows of a personal table that are about a lead. The list's entries have a blank id, and so may a lead.
pub(crate) fn of_leads_only(table: &str) -> &'static str {
    if table == "suppression" { " and id <> ''" } else { "" }
}

/// Writes entries that the query has returned at `read_at`.
pub async fn put_read(db: &StateDb, points: &[ContactPoint], read_at: DateTime<Utc>) -> Result<(), sqlx::Error> {
    for some in points.chunks(ENTRIES_AT_ONCE) {
        let mut transaction = db.begin().await?;
        let key = contact_key::make_key(&mut transaction, micros(read_at)).await?;
        let entries: BTreeMap<Vec<u8>, ContactKind> = some.iter().map(|point| (key.tag(point), point.kind)).collect();
        let mut insert = StateStatement::new(
            "insert into suppression (tag, kind, source, id, client_id, at, read_at) select * from (",
        );
        insert.push_values(&entries, |row, (tag, kind)| {
            row.push_bind(tag.clone()).push_bind(kind.name()).push_bind("query").push_bind("").push_bind("");
            row.push_bind(micros(read_at)).push_bind(micros(read_at));
        });
        insert.push(
            ") as new where true on conflict (tag, source, id, client_id) do update set read_at = excluded.read_at, \
             at = case when suppression.removed_at is null then suppression.at else excluded.at end, removed_at = null",
        );
        transaction.execute(insert).await?;
        note_change(&mut transaction, read_at).await?;
        transaction.commit().await?;
    }
    Ok(())
}

/// Removes the entries that the reading at `read_at` has not returned.
pub async fn remove_unread(db: &StateDb, read_at: DateTime<Utc>, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    let mut transaction = db.begin().await?;
    let remove = StateStatement::new(
        "update suppression set removed_at = $1 where source = 'query' and read_at is not null and read_at < $2 and removed_at is null",
    );
    if transaction.execute(remove.bind(micros(now)).bind(micros(read_at))).await? > 0 {
        note_change(&mut transaction, now).await?;
    }
    transaction.commit().await
}
