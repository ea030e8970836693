//! `check` of change detection by `[source] changed_at`: is it fast and complete?

use chrono::{DateTime, Utc};
use sqlx::Executor;

use crate::check::item::CheckItem;
use crate::db::{self, discreet};
use crate::rules::cursor::{self, NewestStamp, StampBound, StampKind};
use crate::rules::settled::SettledMoment;
use crate::source::changed_at::ChangedAt;
use crate::source::columns;
use crate::source::crm::{ConnectedCrm, FittingSource};
use crate::source::source_db::SourceDb;
use crate::source::{mysql, read};

const SECTION: &str = "changes";

pub(super) async fn of_changes(crm: &ConnectedCrm, now: DateTime<Utc>) -> anyhow::Result<Vec<CheckItem>> {
    let fitting = crm.fitting().await?;
    let FittingSource { changed_at: Some(changed_at), .. } = &fitting else {
        let text = "no [source] changed_at: every poll compares all rows";
        let cure = "set it to a column or expression that changes whenever a row does, or write changes = \"triggers\"";
        return Ok(vec![CheckItem::warn(SECTION, "changed_at", text).cure(cure)]);
    };
    let newest = newest(crm, changed_at).await?;
    let mut items = Vec::new();
    items.extend(changed_at.kind.or(newest.as_ref().map(|newest| newest.kind)).map(of_kind));
    items.push(of_blanks(crm, changed_at).await?);
    let source = &crm.source;
    if newest.as_ref().is_some_and(|newest| cursor::is_ahead(newest, source.time_zone, now)) {
        let text = "the newest changed_at lies in the future: a typing mistake, or the clock of whoever writes it is wrong; what \
             changes until then is found all the same, as long as clocks differ by less than [source] lookback";
        items.push(CheckItem::warn(SECTION, "future", text).cure("fix those rows, and the clock that stamped them"));
    }
    let settled = SettledMoment::at(now);
    let bound = |newest| cursor::bound(newest, source.lookback, source.time_zone, &settled, now);
    let bound = newest.as_ref().and_then(bound);
    match (&newest, &bound) {
        (Some(newest), Some(bound)) => {
            items.extend(of_other_forms(crm, changed_at, newest).await?);
            items.extend(of_zones(crm, changed_at, newest).await?);
            items.push(of_index(crm, changed_at, bound).await?);
        }
        (Some(_), None) => {
            let text =
                "the newest changed_at is no date, time or epoch number that can be read: every poll compares all rows";
            items.push(
                CheckItem::warn(SECTION, "changed_at", text).cure("fix that row, or name a column that holds times"),
            );
        }
        (None, _) => {}
    }
    Ok(items)
}

/// How fine the stamps are.
fn of_kind(kind: StampKind) -> CheckItem {
    let text = match kind {
        StampKind::Number => "changed_at is a number: seconds, milliseconds or microseconds since 1970",
        StampKind::TimestampTz => "changed_at is a timestamp with its zone",
        StampKind::Timestamp => "changed_at is a timestamp without a zone: [source] time_zone says whose time it is",
        StampKind::Date => "changed_at is a date: every poll reads again whatever has changed on the newest day",
        StampKind::Text => "changed_at is a text, compared as text: ISO 8601 sorts like the times it names",
    };
    CheckItem::ok(SECTION, "type", text)
}

/// Rows in another format that sort below the newest stamp's format, however new they are.
async fn of_other_forms(
    crm: &ConnectedCrm,
    changed_at: &ChangedAt,
    newest: &NewestStamp,
) -> anyhow::Result<Option<CheckItem>> {
    let expression = &changed_at.expression;
    let is_other = match (newest.kind, &crm.db) {
        (StampKind::Text, SourceDb::Postgres(_)) => format!(
            "{expression} !~ '^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}\
             ([ T][0-9]{{2}}:[0-9]{{2}}(:[0-9]{{2}}([.,][0-9]+)?)?([Zz]|[+-][0-9]{{2}}(:?[0-9]{{2}})?)?)?$'"
        ),
        (StampKind::Text, SourceDb::Sqlite(_)) => {
            let day = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]";
            format!(
                "typeof({expression}) = 'text' and {expression} not glob '{day}' \
                 and {expression} not glob '{day}[ T][0-9][0-9]:[0-9][0-9]*'"
            )
        }
        (StampKind::Text, SourceDb::Mysql(_)) => format!(
            "{expression} not regexp '^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}\
             ([ T][0-9]{{2}}:[0-9]{{2}}(:[0-9]{{2}}([.,][0-9]+)?)?([Zz]|[+-][0-9]{{2}}(:?[0-9]{{2}})?)?)?$'"
        ),
        (StampKind::Number, _) => format!("{expression} < {}", cursor::LEAST_EPOCH),
        (StampKind::TimestampTz | StampKind::Timestamp | StampKind::Date, _) => return Ok(None),
    };
    let sql = format!("select count(*) from {} and {is_other}", columns::from_clause(&crm.source));
    let rows: i64 = crm.db.fetch_number(sql).await.map_err(discreet::of_source)?;
    let text = format!(
        "{rows} row(s) have a changed_at of another form than the newest, which does not sort by time: only full compares are \
         sure to see them"
    );
    let cure = "write all of them in one form: ISO 8601, or numbers of one unit";
    Ok((rows > 0).then(|| CheckItem::warn(SECTION, "form", text).cure(cure)))
}

/// Texts of several time zones do not sort like their times.
async fn of_zones(
    crm: &ConnectedCrm,
    changed_at: &ChangedAt,
    newest: &NewestStamp,
) -> anyhow::Result<Option<CheckItem>> {
    let Some(tell_tale) = newest.tell_tale() else { return Ok(None) };
    let (from, shows) = (columns::from_clause(&crm.source), changed_at.shows(tell_tale));
    let sql = format!("select count(*) from {from} and {shows}");
    let rows: i64 = crm.db.fetch_number(sql).await.map_err(discreet::of_source)?;
    let text = format!(
        "{rows} row(s) have a changed_at of another zone than the newest, or say none where others do: every poll reads again \
         what was stamped in the last 26 hours"
    );
    Ok((rows > 0)
        .then(|| CheckItem::warn(SECTION, "zones", text).cure("write all of them in UTC, with a Z at the end")))
}

async fn of_blanks(crm: &ConnectedCrm, changed_at: &ChangedAt) -> anyhow::Result<CheckItem> {
    let from = columns::from_clause(&crm.source);
    let sql = format!("select count(*) from {from} and {} is null", changed_at.expression);
    let blank: i64 = crm.db.fetch_number(sql).await.map_err(discreet::of_source)?;
    Ok(if blank == 0 {
        CheckItem::ok(SECTION, "blank", "every row has a changed_at")
    } else {
        let text = format!("{blank} row(s) have no changed_at: only full compares see them");
        CheckItem::warn(SECTION, "blank", text)
            .cure("fill it, give the column a default, or write coalesce(changed_at, created_at)")
    })
}

/// The newest stamp; `None` where no row has one.
pub(super) async fn newest(crm: &ConnectedCrm, changed_at: &ChangedAt) -> Result<Option<NewestStamp>, sqlx::Error> {
    let (from, expression) = (columns::from_clause(&crm.source), &changed_at.expression);
    let found = match &crm.db {
        SourceDb::Sqlite(pool) => {
            let sql = format!("select cast(max({expression}) as text), typeof(max({expression})) from {from}");
            let found: (Option<String>, String) =
                sqlx::query_as(db::trusted(sql)).fetch_one(pool).await.map_err(discreet::of_source)?;
            found
                .0
                .map(|text| NewestStamp::new(text, if found.1 == "text" { StampKind::Text } else { StampKind::Number }))
        }
        SourceDb::Postgres(pool) => {
            // A type that is no time need not have a maximum.
            let Some(kind) = changed_at.kind else {
                return Ok(Some(NewestStamp::new(String::new(), StampKind::Text)));
            };
            let sql = format!("select max({expression})::text from {from}");
            let text: Option<String> =
                sqlx::query_scalar(db::trusted(sql)).fetch_one(pool).await.map_err(discreet::of_source)?;
            text.map(|text| NewestStamp::new(text, kind))
        }
        SourceDb::Mysql(pool) => {
            let Some(kind) = changed_at.kind else {
                return Ok(Some(NewestStamp::new(String::new(), StampKind::Text)));
            };
            let rows = mysql::texts(pool, format!("select cast(max({expression}) as char) from {from}")).await?;
            rows.into_iter().flatten().next().flatten().map(|text| read::newest_mysql_stamp(text, kind))
        }
    };
    Ok(found)
}

/// Asks the planner: the catalog alone does not tell whether an index serves an expression or a view.
async fn of_index(crm: &ConnectedCrm, changed_at: &ChangedAt, bound: &StampBound) -> Result<CheckItem, sqlx::Error> {
    let select = format!("select 1 from {} and {}", columns::from_clause(&crm.source), changed_at.since(bound));
    let serves = match &crm.db {
        SourceDb::Sqlite(pool) => {
            let sql = db::trusted(format!("explain query plan {select}"));
            let plan: Vec<(i64, i64, i64, String)> =
                sqlx::query_as(sql).fetch_all(pool).await.map_err(discreet::of_source)?;
            plan.iter().any(|(.., detail)| detail.contains(" USING ") && detail.contains(">?"))
        }
        SourceDb::Postgres(pool) => {
            let mut transaction = pool.begin().await?;
            // In a small table the planner avoids an index: the question is only whether one exists.
            transaction.execute("set local enable_seqscan = off").await?;
            let plan: Vec<String> = sqlx::query_scalar(db::trusted(format!("explain {select}")))
                .persistent(false)
                .fetch_all(&mut *transaction)
                .await
                .map_err(discreet::of_source)?;
            transaction.commit().await?;
            let least = bound.least();
            let is_served = |line: &String| least.iter().any(|value| line.contains(value));
            plan.iter().any(|line| line.contains("Index Cond:") && is_served(line))
        }
        // In a small table the optimiser reads all rows; it names the indexes that it could use all the same.
        SourceDb::Mysql(pool) => {
            let sql = format!(
                "explain select 1 from {} and {}",
                columns::from_clause(&crm.source),
                changed_at.ranges(bound).first().cloned().unwrap_or_default()
            );
            match mysql::may_use_index(pool, sql).await {
                Ok(serves) => serves,
                Err(error) if mysql::hides_view(&error) => {
                    let text = "whether an index serves changed_at cannot be seen: the server does not show this user the plan of a view";
                    let cure = "nothing, or let an administrator grant show view, and select on the tables below, to this user";
                    return Ok(CheckItem::warn(SECTION, "index", text).cure(cure));
                }
                Err(error) => return Err(error),
            }
        }
    };
    Ok(if serves {
        CheckItem::ok(SECTION, "index", "an index serves changed_at: a poll reads only what has changed")
    } else {
        let text = "no index serves changed_at: every poll looks through the whole table for what has changed";
        CheckItem::warn(SECTION, "index", text).cure("in a large table, create an index on that column or expression")
    })
}
