//! `check` of the source: the database, the part of it that is read, and further rights of the role.

use chrono::{DateTime, Utc};
use secrecy::ExposeSecret;
use sqlx::MySqlPool;

use crate::check::item::CheckItem;
use crate::config::{ChangeDetection, ServiceSettings, duration};
use crate::db::{self, discreet};
use crate::source::columns;
use crate::source::crm::ConnectedCrm;
use crate::source::mysql;
use crate::source::mysql_engine::{self, UnversionedTable};
use crate::source::settled::{self, TransactionSight};
use crate::source::source_db::SourceDb;

pub(super) async fn of_source(crm: &ConnectedCrm) -> anyhow::Result<Vec<CheckItem>> {
    let place = columns::place(&crm.source);
    let url = db::display_url(crm.source.url.expose_secret());
    let mut items = vec![
        CheckItem::ok(
            "source",
            "connect",
            format!("{} at {url}", crm.db.engine_version().await.map_err(discreet::of_source)?),
        ),
        CheckItem::ok("source", "columns", format!("{place} can be read, and has every column that is mapped")),
    ];
    let sql = format!("select count(*) from {}", columns::from_clause(&crm.source));
    let rows: Result<i64, _> = crm.db.fetch_number(sql).await;
    items.push(match rows.map_err(discreet::of_source) {
        Ok(0) => CheckItem::warn("source", "rows", "the source has no rows"),
        Ok(1) => CheckItem::ok("source", "rows", "1 row"),
        Ok(rows) => CheckItem::ok("source", "rows", format!("{rows} rows")),
        Err(error) if db::is_outage(&error) => {
            let limit = duration::format(crm.source.statement_timeout);
            let text = format!("the rows could not be counted within [source] statement_timeout ({limit})");
            CheckItem::warn("source", "rows", text).cure("raise it where comparing every row takes longer than that")
        }
        Err(error) => return Err(error.into()),
    });
    if let SourceDb::Mysql(pool) = &crm.db {
        items.extend(of_unversioned_tables(&mysql_engine::unversioned_tables(pool, &crm.source).await?));
    }
    Ok(items)
}

/// Tables whose engine has no snapshots and locks a table as a whole.
fn of_unversioned_tables(tables: &[UnversionedTable]) -> Option<CheckItem> {
    if tables.is_empty() {
        return None;
    }
    let list: Vec<String> = tables.iter().map(|table| format!("{} ({})", table.name, table.engine)).collect();
    let text = format!(
        "tables of an engine without snapshots are read: {}. While a poll reads such a table, the server makes the CRM wait that \
         wants to change its rows, and changes during the reading are found by the next poll or full compare",
        list.join(", ")
    );
    let cures = tables.iter().map(|table| format!("alter table {} engine = InnoDB", table.name)).collect::<Vec<_>>();
    let cure = format!("let the owner of the CRM's database run, if the CRM allows it: {}", cures.join("; "));
    Some(CheckItem::warn("source", "engine", text).cure(cure))
}

/// Rights of the role beyond reading.
pub(super) async fn of_rights(
    crm: &ConnectedCrm,
    settings: &ServiceSettings,
    now: DateTime<Utc>,
) -> anyhow::Result<Vec<CheckItem>> {
    let pool = match &crm.db {
        SourceDb::Postgres(pool) => pool,
        SourceDb::Mysql(pool) => return of_mysql_rights(crm, pool, settings, now).await,
        SourceDb::Sqlite(_) => {
            return Ok(vec![CheckItem::ok("rights", "role", "the file is opened for reading only")]);
        }
    };
    let table = crm.source.table.as_deref().map(db::quote_table);
    let (role, all, some): (String, bool, Option<bool>) = sqlx::query_as(
        "select quote_ident(current_user), (select rolsuper from pg_roles where rolname = current_user), \
         has_table_privilege(to_regclass($1)::oid, 'insert, update, delete')",
    )
    .bind(&table)
    .fetch_one(pool)
    .await
    .map_err(discreet::of_source)?;
    let more = match (all, some) {
        (true, _) => Some(format!("{role} is a superuser")),
        (false, Some(true)) => Some(format!("{role} may write to {}", table.as_deref().unwrap_or_default())),
        (false, _) => None,
    };
    let mut items = vec![match more {
        None => CheckItem::ok(
            "rights",
            "role",
            format!("transactions are read-only, and {role} may not write to what is read"),
        ),
        Some(more) => {
            let text = format!(
                "transactions are read-only, which is no wall, and {more}: a role that may only read could do no harm at all"
            );
            let what = table.unwrap_or_else(|| "the tables of [source] query".to_owned());
            let cure = format!("make a role for it, `grant select on {what}` to it, and name it in [source] url");
            CheckItem::warn("rights", "role", text).cure(cure)
        }
    }];
    if settings.source.changes == ChangeDetection::Poll && crm.source.changed_at.is_some() {
        items.extend(of_open_transactions(crm, &role, now).await?);
    }
    Ok(items)
}

/// The same on MySQL and MariaDB, where every user sees its own grants.
async fn of_mysql_rights(
    crm: &ConnectedCrm,
    pool: &MySqlPool,
    settings: &ServiceSettings,
    now: DateTime<Utc>,
) -> anyhow::Result<Vec<CheckItem>> {
    let role = mysql::texts(pool, "select current_user()".to_owned()).await?;
    let role = role.into_iter().flatten().flatten().next().unwrap_or_default();
    let grants = mysql::texts(pool, "show grants".to_owned()).await?;
    let may_write = grants.into_iter().flatten().flatten().any(|grant| mysql::grants_writing(&grant));
    let mut items = vec![if may_write {
        let text =
            format!("sessions are read-only, but {role} may write: a user that may only read could do no harm at all");
        let cure = "make a user for it, `grant select` on what is read to it, and name it in [source] url";
        CheckItem::warn("rights", "role", text).cure(cure)
    } else {
        CheckItem::ok("rights", "role", format!("sessions are read-only, and {role} may not write"))
    }];
    if settings.source.changes == ChangeDetection::Poll && crm.source.changed_at.is_some() {
        items.extend(of_open_transactions(crm, &role, now).await?);
    }
    Ok(items)
}

/// Whether the view of open transactions or only the look-back keeps a late commit from being missed.
async fn of_open_transactions(crm: &ConnectedCrm, role: &str, now: DateTime<Utc>) -> anyhow::Result<Vec<CheckItem>> {
    const NAME: &str = "open_transactions";
    let outlook = crm.outlook(None, now).await?;
    let lookback = duration::format(crm.source.lookback);
    let alone = format!(
        "so only [source] lookback ({lookback}) finds the rows of a transaction that commits late: longer ones are found by \
         the next full compare"
    );
    let elsewhere = settled::from_elsewhere(&crm.db, &crm.source).await?;
    let mut items = vec![match elsewhere.unwrap_or(outlook.sight) {
        TransactionSight::Everybodys => CheckItem::ok(
            "rights",
            NAME,
            "open transactions can be seen: the cursor waits for them, and however late they commit, nothing is skipped",
        ),
        TransactionSight::Standby => CheckItem::warn(
            "rights",
            NAME,
            format!("this is a standby, where the primary's open transactions cannot be seen, {alone}"),
        )
        .cure("set lookback above the longest transaction, or read from the primary"),
        TransactionSight::Subscriber => CheckItem::warn(
            "rights",
            NAME,
            format!(
                "this database takes rows over by a subscription, and they arrive later than they are stamped, {alone}"
            ),
        )
        .cure("set lookback above the time by which they may be late, or read from the publisher"),
        TransactionSight::Foreign => CheckItem::warn(
            "rights",
            NAME,
            format!("the source reads a foreign table, and open transactions on its server cannot be seen, {alone}"),
        )
        .cure("set lookback above the longest transaction there, or read from that server"),
        TransactionSight::Replicated => CheckItem::warn(
            "rights",
            NAME,
            format!(
                "this server also takes over changes from other servers (a replica that may be written to, or a node of a \
                 cluster), where open transactions cannot be seen, {alone}"
            ),
        )
        .cure(
            "read from the server that the CRM writes to, or set lookback above the longest transaction; where the CRM writes \
             to this server alone, nothing",
        ),
        TransactionSight::Untracked => CheckItem::warn(
            "rights",
            NAME,
            format!("some sessions do not tell of their transactions (track_activities is off for them), {alone}"),
        )
        .cure("let an administrator set track_activities = on, for the server and for each role that has it off"),
        TransactionSight::OwnOnly | TransactionSight::Nobodys => {
            CheckItem::warn("rights", NAME, format!("open transactions of other users cannot be seen, {alone}")).cure(
                match &crm.db {
                    SourceDb::Mysql(_) => format!("let an administrator run: grant process on *.* to {role}"),
                    SourceDb::Sqlite(_) | SourceDb::Postgres(_) => {
                        format!("let an administrator run: grant pg_read_all_stats to {role}")
                    }
                },
            )
        }
    }];
    if outlook.settled.is_of_unknown_age() {
        let text = "a transaction has been prepared, and nobody knows when it began: until it ends, every poll of a daemon that \
             starts now reads every row that has a stamp";
        items.push(
            CheckItem::warn("rights", NAME, text).cure("commit or roll back the transactions in pg_prepared_xacts"),
        );
    }
    if let Some(since) = outlook.settled.long_open() {
        let since = since.format("%F %T UTC");
        let text = format!(
            "a transaction has been open since {since}: until it ends, every poll reads again what has changed since then"
        );
        let cure = "find it in pg_stat_activity (xact_start) or pg_prepared_xacts, on MySQL in information_schema.innodb_trx and \
                    processlist, and end it";
        items.push(CheckItem::warn("rights", NAME, text).cure(cure));
    }
    Ok(items)
}
