//! The source's columns and their types, found by preparing a statement, without reading a row.
//!
//! The check reports every mismatch between settings and source at once, before the poll reads a row.

use secrecy::ExposeSecret;
use sqlx::error::DatabaseError;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgColumn, PgRow, PgTypeInfo, PgTypeKind};
use sqlx::{Column as _, Connection as _, Executor, PgConnection, Row as _, Statement, TypeInfo};

use crate::config::SourceSettings;
use crate::conversica::lead::ContentFingerprint;
use crate::db::failure_cure::{self, FailureSubject};
use crate::db::{self, discreet};
use crate::error::SetupError;
use crate::nearest::nearest;
use crate::rules::mapping::LeadMapping;
use crate::rules::source_column::TypeFamily;
use crate::rules::source_column::{ColumnForm, SourceColumn};
use crate::source::dialect::SourceDialect;
use crate::source::guest::SourcePool;
use crate::source::source_db::SourceDb;
use crate::source::source_file::unopened_source;
use crate::source::{mysql, mysql_catalog};

/// `"leads" as t where (…)` or `(select …) as t`: the from clause of every statement on the source.
pub fn from_clause(source: &SourceSettings) -> String {
    let dialect = SourceDialect::of_url(source.url.expose_secret());
    match (&source.table, &source.query) {
        (Some(table), _) => match &source.filter {
            // On its own lines, as the query below, because it may end in a comment.
            Some(filter) => format!("{} as t where (\n{filter}\n)", dialect.quote_table(table)),
            None => format!("{} as t where true", dialect.quote_table(table)),
        },
        (None, query) => {
            format!("(\n{}\n) as t where true", without_semicolon(query.as_deref().unwrap_or_default()))
        }
    }
}

/// The query without its final semicolon, even if comments follow it.
fn without_semicolon(query: &str) -> &str {
    let bytes = query.as_bytes();
    let skip_past = |end: &str, from: usize| query[from..].find(end).map_or(bytes.len(), |at| from + at + end.len());
    let (mut at, mut end) = (0, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'-' if bytes[at..].starts_with(b"--") => at = skip_past("\n", at),
            b'/' if bytes[at..].starts_with(b"/*") => at = skip_past("*/", at),
            b';' | b' ' | b'\t' | b'\r' | b'\n' => at += 1,
            quote => {
                at = match quote {
                    b'\'' => skip_past("'", at + 1),
                    b'"' => skip_past("\"", at + 1),
                    b'`' => skip_past("`", at + 1),
                    _ => at + 1,
                };
                end = at;
            }
        }
    }
    if query[end..].contains(';') { &query[..end] } else { query }
}

/// The source's columns.
///
/// # Errors
/// [`SetupError`] when the table is missing or the statement does not parse; the database's error when it is unreachable.
pub async fn describe(db: &SourceDb, source: &SourceSettings) -> anyhow::Result<Vec<SourceColumn>> {
    let sql = format!("select t.* from {}", from_clause(source));
    let described: Result<Vec<SourceColumn>, sqlx::Error> = match db {
        SourceDb::Sqlite(pool) => describe_sqlite(pool, db::trusted(sql)).await,
        SourceDb::Postgres(pool) => describe_postgres(pool, &sql).await,
        SourceDb::Mysql(pool) => mysql_catalog::describe(pool, source, &sql).await,
    };
    match described.map_err(discreet::of_source) {
        Ok(columns) => Ok(columns),
        Err(error) if let Some(unopened) = unopened_source(source.url.expose_secret(), &error) => Err(unopened),
        Err(error) if db::is_outage(&error) => Err(error.into()),
        Err(error) => Err(explain(db, source, &error).await.into()),
    }
}

async fn describe_sqlite(pool: &sqlx::SqlitePool, sql: sqlx::SqlStr) -> Result<Vec<SourceColumn>, sqlx::Error> {
    let mut connection = fresh_sqlite(pool).await?;
    let statement = connection.prepare(sql).await?;
    let column = |c: &sqlx::sqlite::SqliteColumn| SourceColumn {
        name: c.name().to_owned(),
        type_name: c.type_info().name().to_lowercase(),
        plain_type: c.type_info().name().to_lowercase(),
        family: TypeFamily::of_sqlite(c.type_info().name()),
        form: ColumnForm::Plain,
        entry: None,
    };
    Ok(statement.columns().iter().map(column).collect())
}

/// Selects a row of nulls, which carries the columns: a statement that is only prepared would stay in the customer's session.
async fn describe_postgres(pool: &SourcePool, sql: &str) -> Result<Vec<SourceColumn>, sqlx::Error> {
    Ok(columns_of(pool, sql).await?.iter().map(postgres_column).collect())
}

/// The source's columns, over a connection in a transaction, which survives any failure here.
///
/// # Errors
/// The database's.
pub async fn describe_within(
    connection: &mut PgConnection,
    source: &SourceSettings,
) -> Result<Vec<SourceColumn>, sqlx::Error> {
    let sql = format!("select t.* from {}", from_clause(source));
    connection.execute("savepoint described").await?;
    let columns = match null_row_within(connection, &sql).await {
        Ok(row) => row.columns().to_vec(),
        Err(error) if needs_a_name(&error) => {
            connection.execute("rollback to savepoint described").await?;
            prepared_columns_within(connection, sql).await?
        }
        Err(error) => return Err(error),
    };
    connection.execute("release savepoint described").await?;
    Ok(columns.iter().map(postgres_column).collect())
}

fn postgres_column(column: &PgColumn) -> SourceColumn {
    SourceColumn {
        name: column.name().to_owned(),
        type_name: column.type_info().name().to_lowercase(),
        plain_type: plain_type(column.type_info()),
        family: postgres_family(column.type_info()),
        form: postgres_form(column.type_info()),
        entry: None,
    }
}

/// The columns of a query.
pub(crate) async fn columns_of(pool: &SourcePool, sql: &str) -> Result<Vec<PgColumn>, sqlx::Error> {
    match null_row(pool, sql).await {
        Ok(row) => Ok(row.columns().to_vec()),
        Err(error) if needs_a_name(&error) => prepared_columns(pool, sql).await,
        Err(error) => Err(error),
    }
}

/// Whether a named statement, which is prepared and never run, may still describe the columns. It can in three cases: the role
/// may read only a few of them; the driver does not know a type and looks it up with a statement that replaces the unnamed one; a
/// foreign table below this one has an unreachable server.
fn needs_a_name(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some() && !db::is_outage(error)
}

/// The columns of a statement that is prepared and closed in the same transaction.
async fn prepared_columns(pool: &SourcePool, sql: &str) -> Result<Vec<PgColumn>, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    let columns = prepared_columns_within(&mut transaction, sql.to_owned()).await?;
    transaction.commit().await?;
    Ok(columns)
}

/// The same over a connection in a transaction.
pub(crate) async fn prepared_columns_within(
    connection: &mut PgConnection,
    sql: String,
) -> Result<Vec<PgColumn>, sqlx::Error> {
    let statement = (&mut *connection).prepare(db::trusted(sql)).await?;
    let columns = statement.columns().to_vec();
    connection.clear_cached_statements().await?;
    Ok(columns)
}

/// One row with the columns of this query, all null, on a connection without cached types of an earlier check.
async fn null_row(pool: &SourcePool, sql: &str) -> Result<PgRow, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    let row = null_row_within(&mut transaction, sql).await?;
    transaction.commit().await?;
    Ok(row)
}

async fn null_row_within(connection: &mut PgConnection, sql: &str) -> Result<PgRow, sqlx::Error> {
    connection.clear_cached_statements().await?;
    let sql = db::trusted(format!("select t.* from (select 1) as one left join (\n{sql}\nlimit 0) as t on true"));
    sqlx::query(sql).persistent(false).fetch_one(connection).await
}

/// SQLite prepares statements with its cached schema and notices a change only when a statement runs.
pub(crate) async fn fresh_sqlite(pool: &sqlx::SqlitePool) -> Result<PoolConnection<sqlx::Sqlite>, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    connection.clear_cached_statements().await?;
    sqlx::query("select count(*) from sqlite_master").execute(&mut *connection).await?;
    Ok(connection)
}

pub(crate) fn plain_type(type_info: &PgTypeInfo) -> String {
    match type_info.kind() {
        PgTypeKind::Domain(base) => plain_type(base),
        // The CRM's owner may have named another type `numeric`.
        PgTypeKind::Enum(_) => format!("enum {}", type_info.name()),
        _ => type_info.name().to_lowercase(),
    }
}

fn postgres_family(type_info: &PgTypeInfo) -> TypeFamily {
    match type_info.kind() {
        PgTypeKind::Domain(base) => postgres_family(base),
        PgTypeKind::Enum(_) => TypeFamily::Text,
        _ => TypeFamily::of_postgres(type_info.name()),
    }
}

/// Identifies the schema of an SQLite file by its number, which SQLite increments, and by its text, because another file copied
/// over this one may have the same number. `None` on PostgreSQL, and where it cannot be read; the next check reports why.
pub async fn schema_version(db: &SourceDb) -> Option<ContentFingerprint> {
    let SourceDb::Sqlite(pool) = db else { return None };
    let sql = "select v.schema_version || ' ' || coalesce((select group_concat(sql, ';') from sqlite_master), '') \
               from pragma_schema_version v";
    let schema: String = sqlx::query_scalar(sql).fetch_one(pool).await.ok()?;
    Some(ContentFingerprint::of(schema.as_bytes()))
}

fn postgres_form(type_info: &PgTypeInfo) -> ColumnForm {
    match type_info.kind() {
        PgTypeKind::Domain(base) => postgres_form(base),
        PgTypeKind::Array(_) | PgTypeKind::Composite(_) | PgTypeKind::Range(_) | PgTypeKind::Pseudo => {
            ColumnForm::Unfit
        }
        PgTypeKind::Enum(_) => ColumnForm::Plain,
        PgTypeKind::Simple => match type_info.name().to_ascii_uppercase().as_str() {
            "JSON" | "JSONB" => ColumnForm::Json,
            "BYTEA" | "POINT" | "LINE" | "LSEG" | "BOX" | "PATH" | "POLYGON" | "CIRCLE" | "BIT" | "VARBIT"
            | "TSVECTOR" | "VOID" | "RECORD" => ColumnForm::Unfit,
            name if name.ends_with("[]") => ColumnForm::Unfit,
            _ => ColumnForm::Plain,
        },
    }
}

/// Checks every column that the settings name.
///
/// # Errors
/// One [`SetupError`] that lists all missing columns and all of an impossible type, with the nearest names.
pub fn check(
    db: &SourceDb,
    source: &SourceSettings,
    mapping: &LeadMapping,
    columns: &[SourceColumn],
) -> Result<(), SetupError> {
    let mut problems = Vec::new();
    for (name, used_by) in wanted(source, mapping) {
        match find(db, columns, name) {
            None => {
                let near = nearest(name, columns.iter().map(|column| column.name.as_str()));
                let hint = near.map(|near| format!(" (did you mean \"{near}\"?)")).unwrap_or_default();
                problems.push(format!("there is no column \"{name}\", which {used_by} asks for{hint}"));
            }
            Some(column) if column.form == ColumnForm::Unfit => problems.push(format!(
                "column \"{name}\", which {used_by} asks for, is of type {}, which has no plain text",
                column.type_name
            )),
            // The database would refuse it as "ambiguous", without the setting's name.
            Some(column) => {
                let namesakes = columns.iter().filter(|other| other.name == column.name).count();
                if namesakes > 1 {
                    problems.push(format!("{namesakes} columns are called \"{name}\", which {used_by} asks for"));
                }
            }
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    let names = columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ");
    let is_of_bytes = |(name, _): (&str, String)| {
        find(db, columns, name).is_some_and(|column| mysql_catalog::is_binary(&column.type_name))
    };
    if matches!(db, SourceDb::Mysql(_)) && wanted(source, mapping).into_iter().any(is_of_bytes) {
        return Err(SetupError::new(
            format!("{}: {}", place(source), problems.join("; ")),
            "use [source] query to write bytes as text: hex(id) AS id, or on MySQL bin_to_uuid(id) AS id for a UUID in binary(16)",
        ));
    }
    Err(SetupError::new(
        format!("{}: {}", place(source), problems.join("; ")),
        format!(
            "name a column that is there ({names}), or use [source] query to rename, convert or pick one value out of an \
             array or a composite"
        ),
    ))
}

/// The columns that the settings name, each with its setting.
pub fn wanted<'a>(source: &'a SourceSettings, mapping: &'a LeadMapping) -> Vec<(&'a str, String)> {
    let mut wanted: Vec<(&str, String)> = vec![(&source.key, "[source] key".to_owned())];
    if let Some(client) = &source.client {
        wanted.push((client, "[source] client".to_owned()));
    }
    wanted.extend(mapping.uses().into_iter().map(|(column, key)| (column, format!("[lead] {key}"))));
    wanted.extend(mapping.given_at_column().map(|column| (column, "[consent] given_at".to_owned())));
    wanted
}

/// The column of that name, as the engine compares names: SQLite and MySQL ignore case.
pub fn find<'a>(db: &SourceDb, columns: &'a [SourceColumn], name: &str) -> Option<&'a SourceColumn> {
    columns.iter().find(|column| match db {
        SourceDb::Sqlite(_) => column.name.eq_ignore_ascii_case(name),
        SourceDb::Mysql(_) => column.name.to_lowercase() == name.to_lowercase(),
        SourceDb::Postgres(_) => column.name == name,
    })
}

/// The source in words, for messages.
pub fn place(source: &SourceSettings) -> String {
    match &source.table {
        Some(table) => format!("[source] table {table}"),
        None => "[source] query".to_owned(),
    }
}

/// Turns the failure of the first statement into a message with a cure.
async fn explain(db: &SourceDb, source: &SourceSettings, error: &sqlx::Error) -> SetupError {
    let Some(database) = error.as_database_error() else {
        return SetupError::new(
            format!("{}: {error}", place(source)),
            "check that [source] url names the database that is meant",
        );
    };
    let refused = refuse_failure(source, database);
    match failure_cure::cure_error(database).subject {
        FailureSubject::Table => {
            let cure = missing_table_cure(db, source, database.message()).await;
            SetupError { cure: cure.unwrap_or(refused.cure), ..refused }
        }
        FailureSubject::Column => {
            let cure = missing_column_cure(db, source, database.message()).await;
            SetupError { cure: cure.unwrap_or(refused.cure), ..refused }
        }
        FailureSubject::Statement | FailureSubject::Rights | FailureSubject::Connection => refused,
    }
}

/// The database's message, the setting that it concerns, and the cure for its code.
pub(crate) fn refuse_failure(source: &SourceSettings, database: &dyn DatabaseError) -> SetupError {
    let cure = failure_cure::cure_error(database);
    let concerned = match cure.subject {
        FailureSubject::Connection => "[source] url".to_owned(),
        FailureSubject::Table | FailureSubject::Column | FailureSubject::Statement | FailureSubject::Rights => {
            place(source)
        }
    };
    SetupError::new(format!("{concerned}: {}", database.message()), cure.text)
}

/// A failure that no edit of the statement cures; `None` for all others.
pub(crate) fn refuse_access(source: &SourceSettings, error: &sqlx::Error) -> Option<SetupError> {
    let database = error.as_database_error()?;
    match failure_cure::cure_error(database).subject {
        FailureSubject::Connection | FailureSubject::Rights => Some(refuse_failure(source, database)),
        FailureSubject::Table | FailureSubject::Column | FailureSubject::Statement => None,
    }
}

/// `None` where the database does not list its tables.
async fn missing_table_cure(db: &SourceDb, source: &SourceSettings, said: &str) -> Option<String> {
    let tables = tables(db).await.ok()?;
    if tables.is_empty() {
        return Some(match db {
            SourceDb::Sqlite(_) => "the file has no table at all: check the path in [source] url".to_owned(),
            SourceDb::Postgres(_) => "the user of [source] url sees no table in this database: grant it usage on the schema and \
                                      select on the table, or check the database in [source] url; a table of a schema that is not \
                                      in the role's search_path is written schema.table"
                .to_owned(),
            SourceDb::Mysql(_) => "the user of [source] url sees no table in this database: grant it select on the tables, or check \
                                   the database in [source] url"
                .to_owned(),
        });
    }
    let list = tables.join(", ");
    let Some(table) = source.table.as_deref().map(|table| table.trim_matches(['"', '`'])) else {
        return Some(format!("fix [source] query; the tables that the user of [source] url sees: {list}"));
    };
    // `relation "laeds" does not exist`, `no such table: laeds`, `Table 'crm.laeds' doesn't exist`. The missing table may come from the condition instead of the
    // table setting.
    let named = said.trim_start_matches("no such table: ").trim_start_matches("relation ");
    let named = named.split(" does not exist").next().unwrap_or(named).trim_matches('"');
    let of_mysql = named.strip_prefix("Table '").and_then(|named| named.split_once('.')?.1.split_once('\''));
    let named = of_mysql.map_or(named, |(table, _)| table);
    if named != table && tables.iter().any(|known| known == table) {
        return Some(format!("fix [source] where; the tables that the user of [source] url sees: {list}"));
    }
    let namesake = tables.iter().map(String::as_str).find(|known| known.rsplit('.').next() == Some(table));
    let near = namesake.or_else(|| nearest(table, tables.iter().map(String::as_str)));
    let hint = near.map(|near| format!("did you mean \"{near}\"? ")).unwrap_or_default();
    Some(format!("{hint}set [source] table to one that the user of [source] url sees: {list}"))
}

/// `None` where the source is a query, whose tables are unknown here.
async fn missing_column_cure(db: &SourceDb, source: &SourceSettings, said: &str) -> Option<String> {
    let table = source.table.as_ref()?;
    let sql = format!("select t.* from {} as t where true", db.dialect().quote_table(table));
    let columns = match db {
        SourceDb::Sqlite(pool) => describe_sqlite(pool, db::trusted(sql)).await.ok()?,
        SourceDb::Postgres(pool) => describe_postgres(pool, &sql).await.ok()?,
        SourceDb::Mysql(pool) => mysql_catalog::describe(pool, source, &sql).await.ok()?,
    };
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    // `column "nmae" does not exist`, `column t.nmae does not exist`, `no such column: t.nmae`, `Unknown column 't.nmae' in …`.
    let named = said.trim_start_matches("no such column: ").trim_start_matches("column ");
    let named = named.split(" does not exist").next().unwrap_or(named).rsplit('.').next().unwrap_or(named);
    let of_mysql = said.strip_prefix("Unknown column '").and_then(|said| said.split('\'').next());
    let named = of_mysql.map_or(named, |column| column.rsplit('.').next().unwrap_or(column));
    let near = nearest(named.trim_matches('"'), names.iter().copied());
    let hint = near.map(|near| format!("did you mean \"{near}\"? ")).unwrap_or_default();
    Some(format!("{hint}fix [source] where: name only columns that are there ({})", names.join(", ")))
}

/// Tables and views that the user may see, at most 50, for messages.
pub async fn tables(db: &SourceDb) -> Result<Vec<String>, sqlx::Error> {
    match db {
        SourceDb::Sqlite(pool) => {
            let sql = "select name from sqlite_master where type in ('table', 'view') and name not like 'sqlite_%' \
                       order by 1 limit 50";
            sqlx::query_scalar(sql).fetch_all(pool).await
        }
        SourceDb::Postgres(pool) => {
            let sql = "select case when table_schema = 'public' then table_name else table_schema || '.' || table_name end \
                       from information_schema.tables where table_schema not in ('pg_catalog', 'information_schema') \
                       order by 1 limit 50";
            sqlx::query_scalar(sql).fetch_all(pool).await
        }
        SourceDb::Mysql(pool) => {
            let tables = mysql::texts(pool, mysql_catalog::TABLES.to_owned()).await?;
            return Ok(tables.into_iter().flatten().flatten().collect());
        }
    }
    .map_err(discreet::of_source)
}
