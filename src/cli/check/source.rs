//! What `check` says of the source: whether it can be read, and whether changes in it are found soon and without a gap.

use sqlx::Executor;

use super::Finding;
use crate::clock;
use crate::config::duration;
use crate::crm::columns::{self, ChangedAt};
use crate::crm::cursor::{self, Bound, Kind, Newest};
use crate::crm::settled::Sight;
use crate::crm::{Crm, Fitting};
use crate::db::{self, Db, discreet};
use crate::on_db;

pub(super) async fn of_source(crm: &Crm) -> anyhow::Result<Vec<Finding>> {
    let fitting = crm.fitting().await?;
    let place = columns::place(&crm.source);
    let mut findings = vec![Finding::Good(format!("{place} can be read, and has every column that is mapped"))];
    if crm.log.is_some() {
        return Ok(findings);
    }
    let Fitting { changed_at: Some(changed_at), .. } = &fitting else {
        findings.push(Finding::Doubtful("no [source] changed_at: every poll compares all rows".to_owned()));
        return Ok(findings);
    };
    findings.push(of_blanks(crm, changed_at).await?);
    let newest = newest(crm, changed_at).await?;
    let now = clock::now();
    let source = &crm.source;
    match &newest {
        None => {}
        Some(newest) if cursor::is_ahead(newest, source.time_zone, now) => findings.push(Finding::Doubtful(
            "the newest changed_at lies in the future: a typing mistake, or the clock of whoever writes it is wrong; what \
             changes until then is found all the same, as long as clocks differ by less than [source] lookback"
                .to_owned(),
        )),
        Some(_) => {}
    }
    let bound = newest.as_ref().and_then(|newest| cursor::bound(newest, source.lookback, source.time_zone, now, now));
    match (&newest, &bound) {
        (_, Some(bound)) => findings.push(of_index(crm, changed_at, bound).await?),
        (Some(_), None) => findings.push(Finding::Doubtful(
            "the newest changed_at is no date, time or epoch number that can be read: every poll compares all rows"
                .to_owned(),
        )),
        (None, None) => {}
    }
    findings.extend(of_open_transactions(crm).await?);
    Ok(findings)
}

async fn of_blanks(crm: &Crm, changed_at: &ChangedAt) -> anyhow::Result<Finding> {
    let from = columns::from_clause(&crm.source);
    let sql = format!("select count(*) from {from} and {} is null", changed_at.expression);
    let blank: i64 = on_db!(&crm.db, pool => sqlx::query_scalar(db::trusted(sql)).fetch_one(pool).await)
        .map_err(discreet::of_source)?;
    Ok(if blank == 0 {
        Finding::Good("every row has a changed_at".to_owned())
    } else {
        Finding::Doubtful(format!("{blank} row(s) have no changed_at: only full compares see them"))
    })
}

async fn newest(crm: &Crm, changed_at: &ChangedAt) -> Result<Option<Newest>, sqlx::Error> {
    let (from, expression) = (columns::from_clause(&crm.source), &changed_at.expression);
    let found = match &crm.db {
        Db::Sqlite(pool) => {
            let sql = format!("select cast(max({expression}) as text), typeof(max({expression})) from {from}");
            let found: (Option<String>, String) =
                sqlx::query_as(db::trusted(sql)).fetch_one(pool).await.map_err(discreet::of_source)?;
            found.0.map(|text| Newest { text, kind: if found.1 == "text" { Kind::Text } else { Kind::Number } })
        }
        Db::Postgres(pool) => {
            // Of a type that is no time, there need be no newest.
            let Some(kind) = changed_at.kind else {
                return Ok(Some(Newest { text: String::new(), kind: Kind::Text }));
            };
            let sql = format!("select max({expression})::text from {from}");
            let text: Option<String> =
                sqlx::query_scalar(db::trusted(sql)).fetch_one(pool).await.map_err(discreet::of_source)?;
            text.map(|text| Newest { text, kind })
        }
    };
    Ok(found)
}

/// Asks the planner: the catalog alone does not say whether an index serves an expression or a view.
async fn of_index(crm: &Crm, changed_at: &ChangedAt, bound: &Bound) -> Result<Finding, sqlx::Error> {
    let value = match bound {
        Bound::Number(number) => number.to_string(),
        Bound::Text(text) => text.clone(),
    };
    let literal = match bound {
        Bound::Number(_) => value.clone(),
        Bound::Text(text) => format!("'{text}'"),
    };
    let condition = changed_at.since(bound).replace("$1", &literal);
    let select = format!("select 1 from {} and {condition}", columns::from_clause(&crm.source));
    let serves = match &crm.db {
        Db::Sqlite(pool) => {
            let sql = db::trusted(format!("explain query plan {select}"));
            let plan: Vec<(i64, i64, i64, String)> =
                sqlx::query_as(sql).fetch_all(pool).await.map_err(discreet::of_source)?;
            plan.iter().any(|(.., detail)| detail.contains(" USING ") && detail.contains(">?"))
        }
        Db::Postgres(pool) => {
            let mut transaction = pool.begin().await?;
            // In a small table no index is worth its while: the question is whether there is one.
            transaction.execute("set local enable_seqscan = off").await?;
            let plan: Vec<String> = sqlx::query_scalar(db::trusted(format!("explain {select}")))
                .fetch_all(&mut *transaction)
                .await
                .map_err(discreet::of_source)?;
            transaction.rollback().await?;
            plan.iter().any(|line| line.contains("Index Cond:") && line.contains(&value))
        }
    };
    Ok(if serves {
        Finding::Good("an index serves changed_at: a poll reads only what has changed".to_owned())
    } else {
        Finding::Doubtful(
            "no index serves changed_at: every poll looks through the whole table for what has changed; in a large one, \
             create an index on that column or expression"
                .to_owned(),
        )
    })
}

/// Which of the two keeps a late commit from being skipped: the sight of open transactions, or the look-back alone.
async fn of_open_transactions(crm: &Crm) -> anyhow::Result<Vec<Finding>> {
    let Db::Postgres(pool) = &crm.db else { return Ok(Vec::new()) };
    let outlook = crm.outlook(None, clock::now()).await?;
    let lookback = duration::format(crm.source.lookback);
    let alone = format!(
        "so only [source] lookback ({lookback}) finds the rows of a transaction that commits late: longer ones are found by \
         the next full compare"
    );
    let mut findings = vec![match outlook.sight {
        Sight::Everybodys => Finding::Good(
            "open transactions can be seen: the cursor waits for them, and however late they commit, nothing is skipped"
                .to_owned(),
        ),
        Sight::Standby => Finding::Doubtful(format!(
            "this is a standby, where the primary's open transactions cannot be seen, {alone}. cure: set lookback above \
             the longest transaction, or read from the primary"
        )),
        Sight::OwnOnly | Sight::Nobodys => {
            let role: String = sqlx::query_scalar("select quote_ident(current_user)").fetch_one(pool).await?;
            Finding::Doubtful(format!(
                "open transactions of other users cannot be seen, {alone}. cure: let an administrator run: grant \
                 pg_read_all_stats to {role}"
            ))
        }
    }];
    if let Some(since) = outlook.settled.long_open() {
        findings.push(Finding::Doubtful(format!(
            "a transaction has been open since {}: until it ends, every poll reads again what has changed since then. cure: \
             find it in pg_stat_activity (xact_start) or pg_prepared_xacts, and end it",
            since.format("%F %T UTC")
        )));
    }
    Ok(findings)
}
