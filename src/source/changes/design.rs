//! Finds the tables that the triggers watch, and names the log: what would be made today.

use crate::config::SourceSettings;
use crate::db::{self, discreet};
use crate::error::SetupError;
use crate::nearest::nearest;
use crate::rules::source_column::{ColumnForm, SourceColumn};
use crate::source::changes::ddl::{
    LogClients, QualifiedName, SourceEngine, TriggerDesign, log_name_bytes, watch_suffix,
};
use crate::source::changes::triggered::{LoggedKeys, TriggeredTable};
use crate::source::changes::watch_query::{self, WatchEntry};
use crate::source::columns;
use crate::source::source_db::SourceDb;

pub(super) fn no_mysql() -> SetupError {
    SetupError::new(
        "conversica-sync makes no change-log triggers on MySQL and MariaDB",
        "write [source] changes = \"poll\" and set changed_at: full compares find deletes there",
    )
}

/// A table that can have triggers.
struct FoundTable {
    name: QualifiedName,
    /// PostgreSQL.
    owner: Option<String>,
}

/// Where a setting names a table, for messages.
struct TablePlace<'a> {
    table: &'a str,
    /// The setting and its value.
    text: String,
    cure: &'static str,
}

impl TablePlace<'_> {
    /// `known` are the tables that are there.
    fn no_table(&self, known: &[String]) -> SetupError {
        let near = nearest(self.table, known.iter().map(String::as_str));
        let hint = near.map(|near| format!(" (did you mean {near}?)")).unwrap_or_default();
        let cure = match known {
            [] => "fix the name; there is no table that the user of [source] url sees".to_owned(),
            _ => format!("name a table that is there: {}", first_names(known)),
        };
        SetupError::new(format!("{}: there is no such table{hint}", self.text), cure)
    }

    fn no_triggers(&self, what: &str) -> SetupError {
        SetupError::new(format!("{} is {what}, which can have no triggers of this kind", self.text), self.cure)
    }
}

/// The most tables that a message names.
const MOST_TABLES: usize = 20;

fn first_names(names: &[String]) -> String {
    let more = if names.len() > MOST_TABLES { ", …" } else { "" };
    format!("{}{more}", names[..names.len().min(MOST_TABLES)].join(", "))
}

const BASE_CURE: &str = "set [source] table to the table itself, or write changes = \"poll\" and set changed_at";
const WATCH_CURE: &str = "name the table itself, of a view each table below it in an entry of its own";

/// Finds the tables, as the reader's session sees them.
///
/// # Errors
/// [`SetupError`] for a source that cannot have triggers; the database's error when it is unreachable.
pub async fn design(db: &SourceDb, source: &SourceSettings) -> anyhow::Result<TriggerDesign> {
    if source.table.is_none() && source.watch.is_empty() {
        return Err(SetupError::new(
            "[source] query is set, and triggers watch one table only, unless [[source.watch]] names the tables of the query",
            "add a [[source.watch]] for each table that the query reads, or write changes = \"poll\" and set changed_at",
        )
        .into());
    }
    let engine = match db {
        SourceDb::Mysql(_) => return Err(no_mysql().into()),
        SourceDb::Sqlite(_) => SourceEngine::Sqlite,
        SourceDb::Postgres(_) => SourceEngine::Postgres,
    };
    let base = match &source.table {
        None => None,
        Some(table) => {
            let place = TablePlace { table, text: columns::place(source), cure: BASE_CURE };
            Some(find_table(db, &place).await?)
        }
    };
    let names = logged_columns(db, source).await?;
    let mut tables = Vec::new();
    let mut owners = Vec::new();
    if let Some(base) = base {
        let own = names.iter().map(|column| column.name.clone()).collect();
        tables.push(TriggeredTable { table: base.name, suffix: String::new(), keys: LoggedKeys::Own(own) });
        owners.push(base.owner);
    }
    for (number, settings) in source.watch.iter().enumerate() {
        let text = format!("`source.watch.{number}.table` = \"{}\"", settings.table);
        let place = TablePlace { table: &settings.table, text, cure: WATCH_CURE };
        let FoundTable { name: table, owner } = find_table(db, &place).await?;
        let prepared = watch_query::prepare(db, WatchEntry { number, settings, table: &table }, &names).await?;
        tables.push(TriggeredTable { table, suffix: watch_suffix(number), keys: LoggedKeys::Found(prepared.query) });
        owners.push(owner);
    }
    refuse_several_owners(&tables, &owners)?;
    let log = log_name(source, &tables)?;
    let owner = owners.into_iter().next().flatten();
    Ok(TriggerDesign { engine, tables, owner, log, clients: clients(source) })
}

fn clients(source: &SourceSettings) -> LogClients {
    if source.client.is_some() { LogClients::WithClient } else { LogClients::KeyAlone }
}

/// The source's key, and its client where there is one.
async fn logged_columns(db: &SourceDb, source: &SourceSettings) -> anyhow::Result<Vec<SourceColumn>> {
    let described = columns::describe(db, source).await?;
    // The column's own spelling: SQLite ignores case, but the trigger's text is compared letter by letter.
    let column = |name: &str| -> anyhow::Result<SourceColumn> {
        let column = columns::find(db, &described, name).ok_or_else(|| {
            SetupError::new(
                format!("{}: there is no column \"{name}\"", columns::place(source)),
                "fix [source] key and client; `conversica-sync check` names the columns that are there",
            )
        })?;
        if column.form != ColumnForm::Plain {
            return Err(SetupError::new(
                format!("{}: the triggers cannot log \"{name}\", of type {}", columns::place(source), column.type_name),
                "choose another [source] key or client, or write changes = \"poll\"",
            )
            .into());
        }
        Ok(column.clone())
    };
    std::iter::once(source.key.as_str()).chain(source.client.as_deref()).map(column).collect()
}

async fn find_table(db: &SourceDb, place: &TablePlace<'_>) -> anyhow::Result<FoundTable> {
    match db {
        SourceDb::Mysql(_) => Err(no_mysql().into()),
        SourceDb::Sqlite(pool) => {
            let found: Option<(String, String, Option<String>)> = sqlx::query_as(
                "select type, name, sql from sqlite_master where type in ('table', 'view') and name = $1 collate nocase",
            )
            .bind(db::table_parts(place.table).pop().unwrap_or_default())
            .fetch_optional(pool)
            .await
            .map_err(discreet::of_source)?;
            let Some((kind, name, sql)) = found else { return Err(place.no_table(&tables_there(db).await?).into()) };
            let is_virtual = sql.is_some_and(|sql| sql.to_ascii_lowercase().starts_with("create virtual"));
            if kind != "table" || is_virtual {
                return Err(place.no_triggers(if is_virtual { "a virtual table" } else { "a view" }).into());
            }
            Ok(FoundTable { name: QualifiedName { schema: None, name }, owner: None })
        }
        SourceDb::Postgres(pool) => {
            let found: Option<(String, String, String, String)> = sqlx::query_as(
                "select n.nspname::text, c.relname::text, c.relkind::text, pg_get_userbyid(c.relowner)::text \
                 from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.oid = to_regclass($1)",
            )
            .bind(db::quote_table(place.table))
            .fetch_optional(pool)
            .await
            .map_err(discreet::of_source)?;
            let Some((schema, name, kind, owner)) = found else {
                return Err(place.no_table(&tables_there(db).await?).into());
            };
            match kind.as_str() {
                "r" | "p" => {}
                "v" => return Err(place.no_triggers("a view").into()),
                "m" => return Err(place.no_triggers("a materialized view").into()),
                "f" => return Err(place.no_triggers("a foreign table").into()),
                _ => return Err(place.no_triggers("no ordinary table").into()),
            }
            Ok(FoundTable { name: QualifiedName { schema: Some(schema), name }, owner: Some(owner) })
        }
    }
}

/// The tables that a setting can name without a schema, without ours.
async fn tables_there(db: &SourceDb) -> Result<Vec<String>, sqlx::Error> {
    let found = match db {
        SourceDb::Mysql(_) => return Ok(Vec::new()),
        SourceDb::Sqlite(pool) => {
            sqlx::query_scalar(
                "select name from sqlite_master where type = 'table' and name not like 'sqlite!_%' escape '!' \
                 and name not like 'conversica!_sync!_%' escape '!' order by name",
            )
            .fetch_all(pool)
            .await
        }
        SourceDb::Postgres(pool) => {
            sqlx::query_scalar(
                "select c.relname::text from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
                 where c.relkind in ('r', 'p') and pg_catalog.pg_table_is_visible(c.oid) \
                 and n.nspname !~ '^pg_' and c.relname not like 'conversica!_sync!_%' escape '!' order by 1",
            )
            .fetch_all(pool)
            .await
        }
    };
    found.map_err(discreet::of_source)
}

/// One role owns the log and the functions, and its rights are those that they run with.
fn refuse_several_owners(tables: &[TriggeredTable], owners: &[Option<String>]) -> Result<(), SetupError> {
    let Some((first, Some(owner))) = tables.first().zip(owners.first().cloned()) else { return Ok(()) };
    let other = tables.iter().zip(owners.iter().flatten()).find(|(_, other)| **other != owner);
    let Some((table, other)) = other else { return Ok(()) };
    let (first, table) = (first.table.quoted(), table.table.quoted());
    let (owner, other) = (db::quote(&owner), db::quote(other));
    Err(SetupError::new(
        format!(
            "{first} belongs to {owner} and {table} to {other}: the triggers run with the rights of one role, which has to own \
             every watched table"
        ),
        format!(
            "run `alter table {table} owner to {owner}`, or leave that table out of [[source.watch]] and set changed_at"
        ),
    ))
}

/// The design for the removal of triggers: tables, key and client may no longer exist.
///
/// # Errors
/// As [`design`].
pub async fn design_of_removal(db: &SourceDb, source: &SourceSettings) -> anyhow::Result<TriggerDesign> {
    let error = match design(db, source).await {
        Ok(design) => return Ok(design),
        Err(error) => error,
    };
    let first = source.table.as_ref().or(source.watch.first().map(|watch| &watch.table));
    let Some(first) = first.filter(|_| error.is::<SetupError>()) else { return Err(error) };
    let mut parts = db::table_parts(first);
    let name = parts.pop().unwrap_or_default();
    let (engine, schema) = match db {
        SourceDb::Mysql(_) => return Err(no_mysql().into()),
        SourceDb::Sqlite(_) => (SourceEngine::Sqlite, None),
        SourceDb::Postgres(pool) => {
            let log = source.change_log.clone().unwrap_or_else(|| db::quote(&default_log(source, &name)));
            // In the schema where the reader finds the function, as for the table.
            let schema: Option<String> = sqlx::query_scalar(
                "select coalesce($2, (select n.nspname::text from pg_catalog.pg_class c \
                 join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.oid = to_regclass($1)), \
                 current_schema()::text)",
            )
            .bind(db::quote_table(&log))
            .bind(parts.pop())
            .fetch_one(pool)
            .await
            .map_err(discreet::of_source)?;
            (SourceEngine::Postgres, schema)
        }
    };
    let keys = std::iter::once(source.key.clone()).chain(source.client.clone()).collect();
    let table = QualifiedName { schema, name };
    // Triggers on watched tables are found by the log that they fill.
    let tables = vec![TriggeredTable { table, suffix: String::new(), keys: LoggedKeys::Own(keys) }];
    let log = log_name(source, &tables)?;
    Ok(TriggerDesign { engine, tables, owner: None, log, clients: clients(source) })
}

fn default_log(source: &SourceSettings, table: &str) -> String {
    match &source.table {
        Some(_) => format!("conversica_sync_{table}"),
        None => "conversica_sync_changes".to_owned(),
    }
}

/// In the same schema as the first table, unless the setting names another.
fn log_name(source: &SourceSettings, tables: &[TriggeredTable]) -> Result<QualifiedName, SetupError> {
    let first = &tables.first().expect("there is at least one table").table;
    let mut parts = source.change_log.as_deref().map(db::table_parts).unwrap_or_default();
    let name = parts.pop().unwrap_or_else(|| default_log(source, &first.name));
    let schema = first.schema.as_ref().map(|schema| parts.pop().unwrap_or_else(|| schema.clone()));
    let most = log_name_bytes(source.watch.len());
    if name.len() > most {
        return Err(SetupError::new(
            format!("[source] change_log: the name {name} is longer than {most} bytes"),
            "set [source] change_log to a shorter one",
        ));
    }
    for TriggeredTable { table, .. } in tables {
        if name.eq_ignore_ascii_case(&table.name) && schema == table.schema {
            return Err(SetupError::new(
                "[source] change_log and table are the same table",
                "set [source] change_log to a name of its own, or leave it out",
            ));
        }
    }
    Ok(QualifiedName { schema, name })
}
