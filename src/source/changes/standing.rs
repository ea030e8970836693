//! The condition of log and triggers in the database: as designed, missing, different, or a table of another program.

use sqlx::Row as _;

use crate::config::SourceSettings;
use crate::db::{self, discreet};
use crate::error::SetupError;
use crate::rules::source_column::ColumnForm;
use crate::source::changes::ddl::{
    COLUMNS, EXACT_FLOATS, LOG_NAME_BYTES, ListenerWake, QualifiedName, SourceEngine, TriggerDesign,
};
use crate::source::columns;
use crate::source::guest::SourcePool;
use crate::source::source_db::SourceDb;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TriggerStanding {
    /// Everything exists as it would be created today. `generation` changes when a part is recreated or was disabled in between,
    /// and when the table got other columns or was rewritten: no trigger fires for the values that this changes.
    Complete {
        generation: String,
        wake: ListenerWake,
        /// PostgreSQL: a description, where the function or the log belongs to another role than the table. It works, and it is
        /// unsafe.
        misowned: Option<String>,
    },
    Absent,
    /// The missing or different parts, in words.
    Incomplete(String),
    /// A table of that name exists and is not our log.
    Foreign,
}

const CURE: &str = "conversica-sync triggers install";

impl TriggerStanding {
    /// The generation of a reliable log.
    ///
    /// # Errors
    /// [`SetupError`] with the fault and the command that fixes it.
    pub fn complete(self, design: &TriggerDesign) -> Result<String, SetupError> {
        let what = match self {
            TriggerStanding::Complete { generation, .. } => return Ok(generation),
            TriggerStanding::Absent => "its triggers are not installed".to_owned(),
            TriggerStanding::Incomplete(what) => what,
            TriggerStanding::Foreign => return Err(foreign(design)),
        };
        let (table, log) = (design.table.quoted(), design.log.quoted());
        Err(SetupError::new(
            format!("[source] changes is \"triggers\", but on {table} with the change log {log} {what}"),
            format!("run `{CURE}`, or write changes = \"poll\""),
        ))
    }
}

/// The message for a log that can be read but not drained.
pub fn unwritable(design: &TriggerDesign, error: &sqlx::Error) -> SetupError {
    SetupError::new(
        format!("what has been read cannot be taken out of the change log {}: {error}", design.log.quoted()),
        "let the user of [source] url delete from it: on PostgreSQL `conversica-sync triggers install --role USER` grants it \
         and a standby will not do; on SQLite the file and its directory have to be writable",
    )
}

/// Whether no listener is notified at a commit although PostgreSQL could do so.
pub fn is_silent(standing: &TriggerStanding, design: &TriggerDesign) -> bool {
    design.engine == SourceEngine::Postgres
        && matches!(standing, TriggerStanding::Complete { wake: ListenerWake::Silent, .. })
}

/// The message for a change log whose name is another program's table.
pub fn foreign(design: &TriggerDesign) -> SetupError {
    SetupError::new(
        format!("[source] change_log: {} is there, and is not a change log of conversica-sync", design.log.quoted()),
        "set [source] change_log to a name of its own; it is made, and removed, by `conversica-sync triggers`",
    )
}

fn no_mysql() -> SetupError {
    SetupError::new(
        "conversica-sync makes no change-log triggers on MySQL and MariaDB",
        "write [source] changes = \"poll\" and set changed_at: full compares find deletes there",
    )
}

/// Finds the table, as the reader's session sees it.
///
/// # Errors
/// [`SetupError`] for a source that cannot have triggers; the database's error when it is unreachable.
pub async fn design(db: &SourceDb, source: &SourceSettings) -> anyhow::Result<TriggerDesign> {
    let Some(table) = &source.table else {
        return Err(SetupError::new(
            "[source] query is set, and triggers watch one table only",
            "set [source] table instead, or write changes = \"poll\" and set changed_at",
        )
        .into());
    };
    let parts = db::table_parts(table);
    let name = parts.last().cloned().unwrap_or_default();
    let (engine, table, owner) = match db {
        SourceDb::Mysql(_) => return Err(no_mysql().into()),
        SourceDb::Sqlite(pool) => {
            let found: Option<(String, String, Option<String>)> = sqlx::query_as(
                "select type, name, sql from sqlite_master where type in ('table', 'view') and name = $1 collate nocase",
            )
            .bind(&name)
            .fetch_optional(pool)
            .await
            .map_err(discreet::of_source)?;
            let (kind, name, sql) = found.ok_or_else(|| no_table(source))?;
            let is_virtual = sql.is_some_and(|sql| sql.to_ascii_lowercase().starts_with("create virtual"));
            if kind != "table" || is_virtual {
                return Err(no_triggers(source, if is_virtual { "a virtual table" } else { "a view" }).into());
            }
            (SourceEngine::Sqlite, QualifiedName { schema: None, name }, None)
        }
        SourceDb::Postgres(pool) => {
            let found: Option<(String, String, String, String)> = sqlx::query_as(
                "select n.nspname::text, c.relname::text, c.relkind::text, pg_get_userbyid(c.relowner)::text \
                 from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.oid = to_regclass($1)",
            )
            .bind(db::quote_table(table))
            .fetch_optional(pool)
            .await
            .map_err(discreet::of_source)?;
            let (schema, name, kind, owner) = found.ok_or_else(|| no_table(source))?;
            match kind.as_str() {
                "r" | "p" => {}
                "v" => return Err(no_triggers(source, "a view").into()),
                "m" => return Err(no_triggers(source, "a materialized view").into()),
                "f" => return Err(no_triggers(source, "a foreign table").into()),
                _ => return Err(no_triggers(source, "no ordinary table").into()),
            }
            (SourceEngine::Postgres, QualifiedName { schema: Some(schema), name }, Some(owner))
        }
    };
    let described = columns::describe(db, source).await?;
    // The column's own spelling: SQLite ignores case, but the trigger's text is compared letter by letter.
    let column = |name: &str| -> Result<String, SetupError> {
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
            ));
        }
        Ok(column.name.clone())
    };
    let key = column(&source.key)?;
    let client = source.client.as_deref().map(column).transpose()?;
    let log = log_name(source, &table)?;
    Ok(TriggerDesign { engine, table, owner, log, key, client })
}

/// The design for the removal of triggers: the table, its key and its client may no longer exist.
///
/// # Errors
/// As [`design`].
pub async fn design_of_removal(db: &SourceDb, source: &SourceSettings) -> anyhow::Result<TriggerDesign> {
    let error = match design(db, source).await {
        Ok(design) => return Ok(design),
        Err(error) => error,
    };
    let Some(table) = source.table.as_deref().filter(|_| error.is::<SetupError>()) else { return Err(error) };
    let mut parts = db::table_parts(table);
    let name = parts.pop().unwrap_or_default();
    let (engine, schema) = match db {
        SourceDb::Mysql(_) => return Err(no_mysql().into()),
        SourceDb::Sqlite(_) => (SourceEngine::Sqlite, None),
        SourceDb::Postgres(pool) => {
            let log = source.change_log.clone().unwrap_or_else(|| db::quote(&format!("conversica_sync_{name}")));
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
    let table = QualifiedName { schema, name };
    let log = log_name(source, &table)?;
    Ok(TriggerDesign { engine, table, owner: None, log, key: source.key.clone(), client: source.client.clone() })
}

/// In the same schema as the table, unless the setting names another.
fn log_name(source: &SourceSettings, table: &QualifiedName) -> Result<QualifiedName, SetupError> {
    let mut parts = source.change_log.as_deref().map(db::table_parts).unwrap_or_default();
    let name = parts.pop().unwrap_or_else(|| format!("conversica_sync_{}", table.name));
    let schema = table.schema.as_ref().map(|schema| parts.pop().unwrap_or_else(|| schema.clone()));
    if name.len() > LOG_NAME_BYTES {
        return Err(SetupError::new(
            format!("[source] change_log: the name {name} is longer than {LOG_NAME_BYTES} bytes"),
            "set [source] change_log to a shorter one",
        ));
    }
    if name.eq_ignore_ascii_case(&table.name) && schema == table.schema {
        return Err(SetupError::new(
            "[source] change_log and table are the same table",
            "set [source] change_log to a name of its own, or leave it out",
        ));
    }
    Ok(QualifiedName { schema, name })
}

fn no_table(source: &SourceSettings) -> SetupError {
    SetupError::new(
        format!("{}: there is no such table", columns::place(source)),
        "fix [source] table; `conversica-sync check` names the tables that are there",
    )
}

fn no_triggers(source: &SourceSettings, what: &str) -> SetupError {
    SetupError::new(
        format!("{} is {what}, which can have no triggers of this kind", columns::place(source)),
        "set [source] table to the table itself, or write changes = \"poll\" and set changed_at",
    )
}

/// Compares the database with the triggers that would be created today.
pub async fn look(db: &SourceDb, design: &TriggerDesign) -> Result<TriggerStanding, sqlx::Error> {
    match db {
        SourceDb::Sqlite(pool) => look_sqlite(pool, design).await,
        SourceDb::Postgres(pool) => look_postgres(pool, design).await,
        SourceDb::Mysql(_) => Err(sqlx::Error::Configuration(no_mysql().into())),
    }
    .map_err(discreet::of_source)
}

async fn look_sqlite(pool: &sqlx::SqlitePool, design: &TriggerDesign) -> Result<TriggerStanding, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    // Grows with every change of the schema, and with VACUUM: one unnecessary full compare does no harm.
    let (generation,): (i64,) = sqlx::query_as("pragma schema_version").fetch_one(&mut *connection).await?;
    let columns: Vec<String> = sqlx::query_scalar("select name from pragma_table_info($1)")
        .bind(&design.log.name)
        .fetch_all(&mut *connection)
        .await?;
    let triggers: Vec<(String, String)> = sqlx::query_as(
        "select name, sql from sqlite_master where type = 'trigger' and name in (select value from json_each($1))",
    )
    .bind(serde_json::json!(design.trigger_names()).to_string())
    .fetch_all(&mut *connection)
    .await?;
    if !columns.is_empty() && columns != COLUMNS {
        return Ok(TriggerStanding::Foreign);
    }
    if columns.is_empty() && triggers.is_empty() {
        return Ok(TriggerStanding::Absent);
    }
    if columns.is_empty() {
        return Ok(TriggerStanding::Incomplete("the table of the change log is missing".to_owned()));
    }
    for (name, sql) in design.sqlite_triggers() {
        match triggers.iter().find(|(found, _)| *found == name) {
            None => return Ok(TriggerStanding::Incomplete(format!("the trigger {name} is missing"))),
            Some((_, found)) if *found != sql => return Ok(TriggerStanding::Incomplete(different(&name))),
            Some(_) => {}
        }
    }
    Ok(TriggerStanding::Complete {
        generation: format!("schema {generation}"),
        wake: ListenerWake::Silent,
        misowned: None,
    })
}

fn different(name: &str) -> String {
    format!("the trigger {name} is not as these settings want it (another key or client, or another version made it)")
}

async fn look_postgres(pool: &SourcePool, design: &TriggerDesign) -> Result<TriggerStanding, sqlx::Error> {
    let log = design.log.quoted();
    let row = sqlx::query(
        "select l.oid::bigint as log, \
         (select string_agg(a.attname, ' ' order by a.attnum) from pg_catalog.pg_attribute a \
          where a.attrelid = l.oid and a.attnum > 0 and not a.attisdropped) as columns, \
         coalesce(has_table_privilege(l.oid, 'select') and has_table_privilege(l.oid, 'delete'), false) as allowed, \
         p.oid || ' ' || p.xmin::text as function, p.prosrc as body, p.prosecdef as definer, \
         (select md5(string_agg(concat_ws(' ', a.attnum, a.atttypid, a.atttypmod, a.attname), ',' order by a.attnum)) \
          from pg_catalog.pg_attribute a where a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped) as shape, \
         (with recursive part (oid) as (select t.oid union all \
           select i.inhrelid from pg_catalog.pg_inherits i join part on i.inhparent = part.oid) \
          select md5(string_agg(concat_ws(' ', part.oid, pg_relation_filenode(part.oid)), ',' order by part.oid)) \
          from part) as files, \
         not coalesce($3 = any(p.proconfig), false) and exists (select 1 from pg_catalog.pg_attribute a \
          join pg_catalog.pg_type y on y.oid = a.atttypid where a.attrelid = t.oid and a.attname = any($4) \
          and coalesce(nullif(y.typbasetype, 0), y.oid) in ('float4'::regtype, 'float8'::regtype)) as rounds, \
         (select r.rolname || case when r.rolsuper then ' (a superuser)' else '' end from pg_catalog.pg_roles r \
          where r.oid = case when p.proowner <> t.relowner then p.proowner when l.relowner <> t.relowner then l.relowner end) \
          as misowned \
         from (select 1) one \
         left join pg_catalog.pg_class l on l.oid = to_regclass($1) \
         left join pg_catalog.pg_class t on t.oid = to_regclass($2) \
         left join pg_catalog.pg_proc p on p.oid = to_regprocedure($1 || '()')",
    )
    .bind(&log)
    .bind(design.table.quoted())
    .bind(EXACT_FLOATS.replace(' ', ""))
    .bind(design.key_columns())
    .fetch_one(pool)
    .await?;
    // `xmin` changes when a trigger is disabled and enabled again, for a bulk load say: the log missed the changes in between.
    let triggers: Vec<(String, String, bool, String)> = sqlx::query_as(
        "select g.tgname::text, g.tgenabled::text, g.tgfoid = coalesce(to_regprocedure($3 || '()'), 0), \
         g.oid || ' ' || g.xmin::text from pg_catalog.pg_trigger g \
         where g.tgrelid = to_regclass($1) and not g.tgisinternal and g.tgname = any($2) order by g.tgname",
    )
    .bind(design.table.quoted())
    .bind(design.trigger_names())
    .bind(&log)
    .fetch_all(pool)
    .await?;
    let oid: Option<i64> = row.try_get("log")?;
    let columns: Option<String> = row.try_get("columns")?;
    let (function, body): (Option<String>, Option<String>) = (row.try_get("function")?, row.try_get("body")?);
    let Some(oid) = oid else {
        let absent = function.is_none() && triggers.is_empty();
        let missing = TriggerStanding::Incomplete("the table of the change log is missing".to_owned());
        return Ok(if absent { TriggerStanding::Absent } else { missing });
    };
    if columns.is_some_and(|columns| columns != COLUMNS.join(" ")) {
        return Ok(TriggerStanding::Foreign);
    }
    let wake = [ListenerWake::Notify, ListenerWake::Silent]
        .into_iter()
        .find(|wake| body.as_ref() == Some(&design.function_body(*wake)))
        .filter(|_| row.try_get("definer").unwrap_or(false));
    let Some(wake) = wake else { return Ok(TriggerStanding::Incomplete(different(&design.log.name))) };
    for name in design.trigger_names() {
        match triggers.iter().find(|(found, ..)| *found == name) {
            None => return Ok(TriggerStanding::Incomplete(format!("the trigger {name} is missing"))),
            Some((_, enabled, ..)) if !["O", "A"].contains(&enabled.as_str()) => {
                return Ok(TriggerStanding::Incomplete(format!("the trigger {name} is switched off")));
            }
            Some((_, _, false, _)) => return Ok(TriggerStanding::Incomplete(different(&name))),
            Some(_) => {}
        }
    }
    if row.try_get::<bool, _>("rounds")? {
        let what = "the function was made by an earlier version, and may log keys rounded";
        return Ok(TriggerStanding::Incomplete(what.to_owned()));
    }
    if !row.try_get::<bool, _>("allowed")? {
        let what = "the user of this session may not read the change log and delete from it";
        return Ok(TriggerStanding::Incomplete(what.to_owned()));
    }
    let made: Vec<&str> = triggers.iter().map(|(.., made)| made.as_str()).collect();
    let (shape, files): (Option<String>, Option<String>) = (row.try_get("shape")?, row.try_get("files")?);
    let generation = format!(
        "log {oid}, function {}, triggers {}, columns {}, files {}",
        function.unwrap_or_default(),
        made.join(", "),
        shape.unwrap_or_default(),
        files.unwrap_or_default()
    );
    let misowned = row.try_get::<Option<String>, _>("misowned")?.map(|maker| {
        let owner = design.owner.as_deref().unwrap_or_default();
        format!(
            "the triggers run with the rights of {maker}, and not of {owner}, who owns the table and could make them run what they \
             like by a cast of their own"
        )
    });
    Ok(TriggerStanding::Complete { generation, wake, misowned })
}
