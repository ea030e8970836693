//! The condition of log and triggers in the database: as designed, missing, different, or a table of another program.

use sqlx::Row as _;
use sqlx::postgres::PgRow;

use crate::db::discreet;
use crate::error::SetupError;
use crate::source::changes::ddl::{COLUMNS, EXACT_FLOATS, ListenerWake, SourceEngine, TriggerDesign};
use crate::source::changes::design::no_mysql;
use crate::source::changes::ground;
use crate::source::changes::triggered::TriggeredTable;
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
        let (table, log) = (design.place(), design.log.quoted());
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
    let found = ground::sqlite_triggers(&mut connection, design).await?;
    drop(connection);
    let wanted = design.sqlite_triggers();
    let has_ours = found.iter().any(|trigger| wanted.iter().any(|(name, _)| *name == trigger.name));
    if !columns.is_empty() && columns != COLUMNS {
        return Ok(TriggerStanding::Foreign);
    }
    if columns.is_empty() && !has_ours {
        return Ok(TriggerStanding::Absent);
    }
    if columns.is_empty() {
        return Ok(TriggerStanding::Incomplete("the table of the change log is missing".to_owned()));
    }
    for (name, sql) in &wanted {
        match found.iter().find(|trigger| trigger.name == *name) {
            None => return Ok(TriggerStanding::Incomplete(format!("the trigger {name} is missing"))),
            Some(trigger) if trigger.sql != *sql => return Ok(TriggerStanding::Incomplete(different(name))),
            Some(_) => {}
        }
    }
    if let Some(stray) = ground::strays(&found, design).first() {
        return Ok(TriggerStanding::Incomplete(unwanted(&stray.name)));
    }
    Ok(TriggerStanding::Complete {
        generation: format!("schema {generation}"),
        wake: ListenerWake::Silent,
        misowned: None,
    })
}

fn different(name: &str) -> String {
    format!(
        "the trigger {name} is not as these settings want it (another key, client or [[source.watch]], or another version made it)"
    )
}

fn unwanted(name: &str) -> String {
    format!(
        "the trigger {name} fills the log too, which these settings do not ask for (an entry of [[source.watch]] has gone)"
    )
}

/// One row for each table of the design, in its order.
const IN_POSTGRES: &str = "select l.oid::bigint as log, \
    (select string_agg(a.attname, ' ' order by a.attnum) from pg_catalog.pg_attribute a \
     where a.attrelid = l.oid and a.attnum > 0 and not a.attisdropped) as columns, \
    coalesce(has_table_privilege(l.oid, 'select') and has_table_privilege(l.oid, 'delete'), false) as allowed, \
    p.oid || ' ' || p.xmin::text as function, p.prosrc as body, coalesce(p.prosecdef, false) as definer, \
    (select md5(string_agg(concat_ws(' ', a.attnum, a.atttypid, a.atttypmod, a.attname), ',' order by a.attnum)) \
     from pg_catalog.pg_attribute a where a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped) as shape, \
    (with recursive part (oid) as (select t.oid union all \
      select i.inhrelid from pg_catalog.pg_inherits i join part on i.inhparent = part.oid) \
     select md5(string_agg(concat_ws(' ', part.oid, pg_relation_filenode(part.oid)), ',' order by part.oid)) \
     from part) as files, \
    not coalesce($4 = any(p.proconfig), false) and exists (select 1 from pg_catalog.pg_attribute a \
     join pg_catalog.pg_type y on y.oid = a.atttypid where a.attrelid = t.oid and a.attname = any($5) \
     and coalesce(nullif(y.typbasetype, 0), y.oid) in ('float4'::regtype, 'float8'::regtype)) as rounds, \
    (select r.rolname || case when r.rolsuper then ' (a superuser)' else '' end from pg_catalog.pg_roles r \
     where r.oid = case when p.proowner <> t.relowner then p.proowner when l.relowner <> t.relowner then l.relowner end) \
     as misowned, \
    (select min(s.proname::text) from pg_catalog.pg_proc s where s.pronamespace = l.relnamespace \
     and s.proname >= (l.relname || '_watch')::name and s.proname < (l.relname || '_watci')::name \
     and s.proname <> all($6::name[]) and position('insert into ' || $1 || ' (key' in s.prosrc) > 0) as stray \
    from unnest($2::text[], $3::text[]) with ordinality as one (function, on_table, place) \
    left join pg_catalog.pg_class l on l.oid = to_regclass($1) \
    left join pg_catalog.pg_class t on t.oid = to_regclass(one.on_table) \
    left join pg_catalog.pg_proc p on p.oid = to_regprocedure(one.function || '()') order by one.place";

/// A trigger that exists.
struct PostgresTrigger {
    table: String,
    name: String,
    enabled: String,
    is_ours: bool,
    /// Changes when the trigger is disabled and enabled again, for a bulk load say: the log missed the changes in between.
    made: String,
}

async fn postgres_triggers(pool: &SourcePool, design: &TriggerDesign) -> Result<Vec<PostgresTrigger>, sqlx::Error> {
    let (tables, functions) = names_in(design);
    let names: Vec<String> = design.tables.iter().flat_map(|one| design.trigger_names(one)).collect();
    let found: Vec<(String, String, String, bool, String)> = sqlx::query_as(
        "select one.on_table, g.tgname::text, g.tgenabled::text, g.tgfoid = coalesce(to_regprocedure(one.function || '()'), 0), \
         g.oid || ' ' || g.xmin::text from unnest($1::text[], $2::text[]) as one (on_table, function) \
         join pg_catalog.pg_trigger g on g.tgrelid = to_regclass(one.on_table) and not g.tgisinternal and g.tgname = any($3) \
         order by g.tgname",
    )
    .bind(tables)
    .bind(functions)
    .bind(names)
    .fetch_all(pool)
    .await?;
    let trigger = |(table, name, enabled, is_ours, made)| PostgresTrigger { table, name, enabled, is_ours, made };
    Ok(found.into_iter().map(trigger).collect())
}

/// The tables of the design and their functions, in SQL.
fn names_in(design: &TriggerDesign) -> (Vec<String>, Vec<String>) {
    design.tables.iter().map(|one| (one.table.quoted(), design.function(one).quoted())).unzip()
}

async fn look_postgres(pool: &SourcePool, design: &TriggerDesign) -> Result<TriggerStanding, sqlx::Error> {
    let (tables, functions) = names_in(design);
    let known: Vec<String> = design.tables.iter().map(|one| design.function(one).name).collect();
    let rows = sqlx::query(IN_POSTGRES)
        .bind(design.log.quoted())
        .bind(functions)
        .bind(tables)
        .bind(EXACT_FLOATS.replace(' ', ""))
        .bind(design.key_columns())
        .bind(known)
        .fetch_all(pool)
        .await?;
    let triggers = postgres_triggers(pool, design).await?;
    let Some(first) = rows.first() else { return Ok(TriggerStanding::Absent) };
    let oid: Option<i64> = first.try_get("log")?;
    let columns: Option<String> = first.try_get("columns")?;
    let Some(oid) = oid else {
        let has_function =
            |row: &PgRow| row.try_get::<Option<String>, _>("function").is_ok_and(|found| found.is_some());
        let absent = !rows.iter().any(has_function) && triggers.is_empty();
        let missing = TriggerStanding::Incomplete("the table of the change log is missing".to_owned());
        return Ok(if absent { TriggerStanding::Absent } else { missing });
    };
    if columns.is_some_and(|columns| columns != COLUMNS.join(" ")) {
        return Ok(TriggerStanding::Foreign);
    }
    let mut wake = None;
    let mut parts = Vec::new();
    for (one, row) in design.tables.iter().zip(&rows) {
        match look_table(design, one, row, &triggers)? {
            Ok((found, _)) if wake.is_some_and(|wake| wake != found) => {
                return Ok(TriggerStanding::Incomplete(different(&design.function(one).name)));
            }
            Ok((found, part)) => {
                wake = Some(found);
                parts.push(part);
            }
            Err(fault) => return Ok(TriggerStanding::Incomplete(fault)),
        }
    }
    if let Some(stray) = first.try_get::<Option<String>, _>("stray")? {
        return Ok(TriggerStanding::Incomplete(unwanted(&stray)));
    }
    if !first.try_get::<bool, _>("allowed")? {
        let what = "the user of this session may not read the change log and delete from it";
        return Ok(TriggerStanding::Incomplete(what.to_owned()));
    }
    let generation = format!("log {oid}, {}", parts.join(", "));
    let makers = rows.iter().find_map(|row| row.try_get::<Option<String>, _>("misowned").ok().flatten());
    let misowned = makers.map(|maker| {
        let owner = design.owner.as_deref().unwrap_or_default();
        format!(
            "the triggers run with the rights of {maker}, and not of {owner}, who owns the table and could make them run what they \
             like by a cast of their own"
        )
    });
    Ok(TriggerStanding::Complete { generation, wake: wake.unwrap_or(ListenerWake::Silent), misowned })
}

/// What a table's function does beside logging, and its part of the generation; or its fault.
type TableStanding = Result<(ListenerWake, String), String>;

fn look_table(
    design: &TriggerDesign,
    one: &TriggeredTable,
    row: &PgRow,
    triggers: &[PostgresTrigger],
) -> Result<TableStanding, sqlx::Error> {
    let body: Option<String> = row.try_get("body")?;
    let is_definer: bool = row.try_get("definer")?;
    let wake = [ListenerWake::Notify, ListenerWake::Silent]
        .into_iter()
        .find(|wake| body.as_ref() == Some(&design.function_body(one, *wake)))
        .filter(|_| is_definer);
    let Some(wake) = wake else { return Ok(Err(different(&design.function(one).name))) };
    let table = one.table.quoted();
    let mut made = Vec::new();
    for name in design.trigger_names(one) {
        match triggers.iter().find(|found| found.table == table && found.name == name) {
            None => return Ok(Err(format!("the trigger {name} is missing"))),
            Some(found) if !["O", "A"].contains(&found.enabled.as_str()) => {
                return Ok(Err(format!("the trigger {name} is switched off")));
            }
            Some(found) if !found.is_ours => return Ok(Err(different(&name))),
            Some(found) => made.push(found.made.as_str()),
        }
    }
    if row.try_get::<bool, _>("rounds")? {
        return Ok(Err("the function was made by an earlier version, and may log keys rounded".to_owned()));
    }
    let function: Option<String> = row.try_get("function")?;
    let (shape, files): (Option<String>, Option<String>) = (row.try_get("shape")?, row.try_get("files")?);
    let generation = format!(
        "function {}, triggers {}, columns {}, files {}",
        function.unwrap_or_default(),
        made.join(", "),
        shape.unwrap_or_default(),
        files.unwrap_or_default()
    );
    Ok(Ok((wake, generation)))
}
