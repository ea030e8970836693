//! Checks the surroundings of the table that matter to triggers: limits of triggers on it, side effects on others, and remains of
//! earlier ones. It only reads. Nearly all of it concerns PostgreSQL.

use sqlx::SqliteConnection;

use crate::db::{self, discreet};
use crate::error::SetupError;
use crate::source::changes::ddl::{
    COLUMNS, ListenerWake, QualifiedName, TriggerDesign, TriggerName, TriggerRemains, WATCH_SUFFIX,
};
use crate::source::changes::triggered::{LoggedKeys, TriggeredTable};
use crate::source::guest::SourcePool;
use crate::source::source_db::SourceDb;

/// Triggers and functions that fill our log and are not part of the design: the table was renamed, and another one has its name
/// now, or an entry of `[[source.watch]]` has gone.
///
/// # Errors
/// The database's.
pub async fn remains(db: &SourceDb, design: &TriggerDesign) -> Result<TriggerRemains, sqlx::Error> {
    match db {
        SourceDb::Mysql(_) => Ok(TriggerRemains::default()),
        SourceDb::Sqlite(pool) => {
            let mut connection = pool.acquire().await.map_err(discreet::of_source)?;
            let found = sqlite_triggers(&mut connection, design).await.map_err(discreet::of_source)?;
            let triggers = strays(&found, design).into_iter().map(SqliteTrigger::named).collect();
            Ok(TriggerRemains { triggers, functions: Vec::new() })
        }
        SourceDb::Postgres(pool) => postgres_remains(pool, design).await.map_err(discreet::of_source),
    }
}

/// A trigger in an SQLite file.
pub(super) struct SqliteTrigger {
    pub name: String,
    pub table: String,
    pub sql: String,
}

impl SqliteTrigger {
    fn named(&self) -> TriggerName {
        TriggerName { table: QualifiedName { schema: None, name: self.table.clone() }, name: self.name.clone() }
    }
}

/// The triggers whose names say that they fill the log.
pub(super) async fn sqlite_triggers(
    connection: &mut SqliteConnection,
    design: &TriggerDesign,
) -> Result<Vec<SqliteTrigger>, sqlx::Error> {
    let found: Vec<(String, String, String)> = sqlx::query_as(
        "select name, tbl_name, sql from sqlite_master where type = 'trigger' and substr(name, 1, length($1) + 1) = $1 || '_' \
         order by name",
    )
    .bind(&design.log.name)
    .fetch_all(connection)
    .await?;
    Ok(found.into_iter().map(|(name, table, sql)| SqliteTrigger { name, table, sql }).collect())
}

/// Those of them that these settings do not ask for.
pub(super) fn strays<'t>(found: &'t [SqliteTrigger], design: &TriggerDesign) -> Vec<&'t SqliteTrigger> {
    let wanted: Vec<String> = design.tables.iter().flat_map(|one| design.trigger_names(one)).collect();
    let into = format!("insert into {} (key, ", design.log.quoted());
    let is_ours = |trigger: &&SqliteTrigger| {
        let rest = trigger.name.strip_prefix(&design.log.name).unwrap_or_default();
        let event = rest.rsplit('_').next().unwrap_or_default();
        let suffix = rest.strip_suffix(&format!("_{event}")).unwrap_or_default();
        let is_named = suffix.is_empty() || suffix.starts_with(WATCH_SUFFIX);
        is_named && ["insert", "update", "delete"].contains(&event) && trigger.sql.contains(&into)
    };
    found.iter().filter(|trigger| !wanted.contains(&trigger.name)).filter(is_ours).collect()
}

async fn postgres_remains(pool: &SourcePool, design: &TriggerDesign) -> Result<TriggerRemains, sqlx::Error> {
    let wanted: Vec<String> = design.tables.iter().map(|one| design.function(one).quoted()).collect();
    let tables: Vec<String> = design.tables.iter().map(|one| one.table.quoted()).collect();
    let functions: Vec<(String, String)> = sqlx::query_as(
        "select n.nspname::text, p.proname::text from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace \
         where n.nspname = $1 and left(p.proname, length($2) + 6) = $2 || $3 and p.pronargs = 0 \
         and position('insert into ' || $4 || ' (key' in p.prosrc) > 0 \
         and p.oid not in (select f.oid from unnest($5::text[]) as w (name) \
           cross join lateral (select to_regprocedure(w.name || '()')::oid as oid) f where f.oid is not null) order by 2",
    )
    .bind(design.log.schema.clone().unwrap_or_default())
    .bind(&design.log.name)
    .bind(WATCH_SUFFIX)
    .bind(design.log.quoted())
    .bind(&wanted)
    .fetch_all(pool)
    .await?;
    let functions: Vec<QualifiedName> =
        functions.into_iter().map(|(schema, name)| QualifiedName { schema: Some(schema), name }).collect();
    let calling: Vec<String> = functions.iter().map(QualifiedName::quoted).chain(wanted.iter().cloned()).collect();
    let triggers: Vec<(String, String, String)> = sqlx::query_as(
        "select n.nspname::text, c.relname::text, g.tgname::text from pg_catalog.pg_trigger g \
         join unnest($1::text[]) as f (name) on g.tgfoid = to_regprocedure(f.name || '()') \
         join pg_catalog.pg_class c on c.oid = g.tgrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
         left join unnest($2::text[], $3::text[]) as w (function, on_table) on w.function = f.name \
         where g.tgrelid is distinct from to_regclass(w.on_table) and not g.tgisinternal order by 1, 2, 3",
    )
    .bind(calling)
    .bind(wanted)
    .bind(tables)
    .fetch_all(pool)
    .await?;
    let trigger =
        |(schema, table, name)| TriggerName { table: QualifiedName { schema: Some(schema), name: table }, name };
    Ok(TriggerRemains { triggers: triggers.into_iter().map(trigger).collect(), functions })
}

/// Another log that is filled from a table of the design.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherLog {
    pub table: QualifiedName,
    pub log: QualifiedName,
}

/// Other logs of conversica-sync that are filled from these tables: of another configuration, or of this one before a table got
/// its present name.
///
/// # Errors
/// The database's.
pub async fn other_logs(db: &SourceDb, design: &TriggerDesign) -> Result<Vec<OtherLog>, sqlx::Error> {
    let mut others: Vec<OtherLog> = Vec::new();
    for one in &design.tables {
        let logs = logs_of(db, &one.table).await.map_err(discreet::of_source)?;
        let found = logs.into_iter().filter(|log| *log != design.log);
        let found = found.map(|log| OtherLog { table: one.table.clone(), log });
        others.extend(found.filter(|other| !others.contains(other)).collect::<Vec<_>>());
    }
    Ok(others)
}

async fn logs_of(db: &SourceDb, table: &QualifiedName) -> Result<Vec<QualifiedName>, sqlx::Error> {
    match db {
        SourceDb::Mysql(_) => Ok(Vec::new()),
        SourceDb::Sqlite(pool) => {
            let triggers: Vec<(String, String)> = sqlx::query_as(
                "select name, sql from sqlite_master where type = 'trigger' and tbl_name = $1 collate nocase \
                 and name like '%!_insert' escape '!' order by name",
            )
            .bind(&table.name)
            .fetch_all(pool)
            .await?;
            let log = |(name, sql): (String, String)| {
                let name = name.strip_suffix("_insert")?;
                let watched = name.rsplit_once(WATCH_SUFFIX).map(|(log, _)| log);
                let log = |name: &str| QualifiedName { schema: None, name: name.to_owned() };
                let logs = watched.into_iter().chain([name]).map(log);
                logs.into_iter().find(|log| sql.contains(&format!("insert into {} (key, ", log.quoted())))
            };
            Ok(triggers.into_iter().filter_map(log).collect())
        }
        SourceDb::Postgres(pool) => {
            let found: Vec<(String, String)> = sqlx::query_as(
                "select distinct n.nspname::text, l.relname::text from pg_catalog.pg_trigger g \
                 join pg_catalog.pg_proc p on p.oid = g.tgfoid join pg_catalog.pg_namespace n on n.oid = p.pronamespace \
                 join pg_catalog.pg_class l on l.relname in (p.proname, regexp_replace(p.proname, $2 || '[0-9]+$', '')) \
                 and l.relnamespace = p.pronamespace \
                 where g.tgrelid = to_regclass($1) and p.prosrc like '%conversica!_new%' escape '!' \
                 and (select string_agg(a.attname, ' ' order by a.attnum) from pg_catalog.pg_attribute a \
                 where a.attrelid = l.oid and a.attnum > 0 and not a.attisdropped) = $3 order by 1, 2",
            )
            .bind(table.quoted())
            .bind(WATCH_SUFFIX)
            .bind(COLUMNS.join(" "))
            .fetch_all(pool)
            .await?;
            Ok(found.into_iter().map(|(schema, name)| QualifiedName { schema: Some(schema), name }).collect())
        }
    }
}

/// The message about another log.
pub fn other_log(other: &OtherLog) -> SetupError {
    let (table, other) = (other.table.quoted(), other.log.quoted());
    SetupError::new(
        format!("triggers on {table} fill another change log too, {other}"),
        "nothing, if another configuration drains it; if it is from before the table was renamed, set [source] change_log to \
         it, and `conversica-sync triggers remove` removes it",
    )
}

/// Refuses a setup that would make the CRM's own writes fail.
///
/// # Errors
/// [`SetupError`] for a table with foreign tables below it; the database's error when it is unreachable.
pub async fn refuse_foreign_parts(db: &SourceDb, design: &TriggerDesign) -> anyhow::Result<()> {
    match foreign_part(db, design).await? {
        None => Ok(()),
        Some((table, part)) => Err(foreign(&table, &part).into()),
    }
}

fn foreign(table: &str, part: &str) -> SetupError {
    SetupError::new(
        format!(
            "{table} has a foreign table below it, {part}, and PostgreSQL fails every write to a table with triggers of this kind \
             and such a partition or child"
        ),
        "write changes = \"poll\" and set changed_at, or detach the foreign table first; triggers that are there already are \
         removed by `conversica-sync triggers remove`",
    )
}

/// The table, in SQL, and its foreign part.
async fn foreign_part(db: &SourceDb, design: &TriggerDesign) -> Result<Option<(String, String)>, sqlx::Error> {
    let SourceDb::Postgres(pool) = db else { return Ok(None) };
    sqlx::query_as(
        "with recursive part (top, oid) as (select w.name, i.inhrelid from unnest($1::text[]) as w (name) \
         join pg_catalog.pg_inherits i on i.inhparent = to_regclass(w.name) \
         union select part.top, i.inhrelid from pg_catalog.pg_inherits i join part on i.inhparent = part.oid) \
         select part.top, c.oid::regclass::text from part join pg_catalog.pg_class c on c.oid = part.oid \
         where c.relkind = 'f' order by 1, 2 limit 1",
    )
    .bind(design.tables.iter().map(|one| one.table.quoted()).collect::<Vec<_>>())
    .fetch_optional(pool)
    .await
    .map_err(discreet::of_source)
}

/// Refuses an installation in which the table's owner could not own log and function.
///
/// # Errors
/// [`SetupError`] where the owner may not create in the log's schema; the database's error when it is unreachable.
pub async fn refuse_powerless_owner(db: &SourceDb, design: &TriggerDesign) -> anyhow::Result<()> {
    let (SourceDb::Postgres(pool), Some(owner)) = (db, &design.owner) else { return Ok(()) };
    let schema = design.log.schema.clone().unwrap_or_default();
    let table = design.tables.first().map(|one| one.table.quoted()).unwrap_or_default();
    let may_create: Option<bool> = sqlx::query_scalar(
        "select has_schema_privilege(t.relowner, n.oid, 'create') and has_schema_privilege(t.relowner, n.oid, 'usage') \
         from pg_catalog.pg_class t join pg_catalog.pg_namespace n on n.nspname = $2 where t.oid = to_regclass($1)",
    )
    .bind(&table)
    .bind(&schema)
    .fetch_optional(pool)
    .await
    .map_err(discreet::of_source)?;
    let (role, schema) = (db::quote(owner), db::quote(&schema));
    let refusal = match may_create {
        Some(true) => return Ok(()),
        Some(false) => SetupError::new(
            format!(
                "change log and function have to belong to {role}, who owns {}, and {role} may not create them in the schema \
                 {schema}",
                design.place()
            ),
            format!(
                "run `grant usage, create on schema {schema} to {role}`, or set [source] change_log to \"schema.name\" in a \
                 schema where that role may"
            ),
        ),
        None => SetupError::new(
            format!("[source] change_log: there is no schema {schema}"),
            format!("run `create schema {schema} authorization {role}`, or name another one"),
        ),
    };
    Err(refusal.into())
}

/// Refuses a key whose cast to text another role can define: the triggers call it with the rights of the table's owner.
///
/// # Errors
/// [`SetupError`] where the type's owner does not already have the rights of the table's owner; the database's error when it is
/// unreachable.
pub async fn refuse_foreign_type(db: &SourceDb, design: &TriggerDesign) -> anyhow::Result<()> {
    let (SourceDb::Postgres(pool), Some(owner)) = (db, &design.owner) else { return Ok(()) };
    // A cast treats a domain as its base type.
    let found: Option<(String, String, String)> = sqlx::query_as(
        "with recursive kind (name, oid, base, maker, owner) as (\
           select a.attname, y.oid, y.typbasetype, y.typowner, t.relowner from pg_catalog.pg_class t \
           join pg_catalog.pg_attribute a on a.attrelid = t.oid and a.attname = any($2) and not a.attisdropped \
           join pg_catalog.pg_type y on y.oid = a.atttypid where t.oid = to_regclass($1) \
           union all select kind.name, y.oid, y.typbasetype, y.typowner, kind.owner from kind \
           join pg_catalog.pg_type y on y.oid = kind.base) \
         select kind.name::text, format_type(kind.oid, null), r.rolname::text from kind \
         join pg_catalog.pg_roles r on r.oid = kind.maker \
         where kind.base = 0 and not r.rolsuper and not pg_has_role(kind.maker, kind.owner, 'member') limit 1",
    )
    .bind(design.tables.first().map(|one| one.table.quoted()))
    .bind(design.key_columns())
    .fetch_optional(pool)
    .await
    .map_err(discreet::of_source)?;
    let Some((column, kind, maker)) = found else { return Ok(()) };
    let (role, maker) = (db::quote(owner), db::quote(&maker));
    Err(SetupError::new(
        format!(
            "the type {kind} of \"{column}\" belongs to {maker}, and the triggers would call its cast with the rights of \
             {role}, who owns the table"
        ),
        format!(
            "run `alter type {kind} owner to {role}`, choose another [source] key or client, or write changes = \"poll\""
        ),
    )
    .into())
}

/// Refuses to create a table that replication would publish to servers without that table.
///
/// # Errors
/// [`SetupError`] where the log would be published; the database's error when it is unreachable.
pub async fn refuse_published(db: &SourceDb, design: &TriggerDesign) -> anyhow::Result<()> {
    match publications(db, design).await?.as_slice() {
        [] => Ok(()),
        names => Err(published(design, names).into()),
    }
}

fn published(design: &TriggerDesign, names: &[String]) -> SetupError {
    let log = design.log.quoted();
    SetupError::new(
        format!(
            "the change log {log} would be published by {}, and a subscriber without that table stops, while this server \
             keeps its write-ahead log for it",
            names.join(", ")
        ),
        "set [source] change_log to a schema that is not published, or have the publication name its tables; or make that \
         table on every subscriber first (its `create table` is in what `triggers print --published` shows) and give \
         --published",
    )
}

/// Publications that include every table of the log's schema automatically.
async fn publications(db: &SourceDb, design: &TriggerDesign) -> Result<Vec<String>, sqlx::Error> {
    let SourceDb::Postgres(pool) = db else { return Ok(Vec::new()) };
    let by_schema: bool = sqlx::query_scalar("select to_regclass('pg_catalog.pg_publication_namespace') is not null")
        .fetch_one(pool)
        .await
        .map_err(discreet::of_source)?;
    // Publications by schema exist since version 15.
    let of_schema = match by_schema {
        true => {
            "exists (select 1 from pg_catalog.pg_publication_namespace s join pg_catalog.pg_namespace n on n.oid = s.pnnspid \
             where s.pnpubid = p.oid and n.nspname = $1)"
        }
        false => "$1 is null",
    };
    let sql = format!(
        "select quote_ident(p.pubname) from pg_catalog.pg_publication p where p.puballtables or {of_schema} order by 1"
    );
    sqlx::query_scalar(db::trusted(sql))
        .bind(design.log.schema.clone().unwrap_or_default())
        .fetch_all(pool)
        .await
        .map_err(discreet::of_source)
}

/// Whether transactions may be prepared for two-phase commit; one that has notified cannot be.
///
/// # Errors
/// The database's.
pub async fn has_two_phase_commit(db: &SourceDb) -> Result<bool, sqlx::Error> {
    let SourceDb::Postgres(pool) = db else { return Ok(false) };
    sqlx::query_scalar("select current_setting('max_prepared_transactions')::int > 0")
        .fetch_one(pool)
        .await
        .map_err(discreet::of_source)
}

/// Findings that do not prevent the triggers but deserve a warning, each with its cure.
///
/// # Errors
/// The database's.
pub async fn doubts(
    db: &SourceDb,
    design: &TriggerDesign,
    wake: Option<ListenerWake>,
) -> Result<Vec<SetupError>, sqlx::Error> {
    let mut doubts: Vec<SetupError> = other_logs(db, design).await?.iter().map(other_log).collect();
    let SourceDb::Postgres(pool) = db else { return Ok(doubts) };
    for one in &design.tables {
        doubts.extend(doubts_of_table(pool, one).await?);
    }
    if let Some((table, part)) = foreign_part(db, design).await? {
        doubts.push(foreign(&table, &part));
    }
    if wake == Some(ListenerWake::Notify) && has_two_phase_commit(db).await? {
        doubts.push(SetupError::new(
            "the triggers notify, and this server has max_prepared_transactions above 0: PREPARE TRANSACTION fails for a \
             transaction that has touched leads",
            "nothing, if two-phase commit is not in use; else `conversica-sync triggers install --no-notify`",
        ));
    }
    match publications(db, design).await?.as_slice() {
        [] => {}
        names => doubts.push(SetupError::new(
            format!("the change log {} is published by {}", design.log.quoted(), names.join(", ")),
            "see that every subscriber has a table of that name, or have the publication name its tables",
        )),
    }
    Ok(doubts)
}

async fn doubts_of_table(pool: &SourcePool, one: &TriggeredTable) -> Result<Vec<SetupError>, sqlx::Error> {
    let table = one.table.quoted();
    let mut doubts = Vec::new();
    let (parts, row_security): (i64, bool) = sqlx::query_as(
        "select (select count(*) from pg_catalog.pg_inherits where inhparent = to_regclass($1)), \
         coalesce(row_security_active(to_regclass($1)::oid), false)",
    )
    .bind(&table)
    .fetch_one(pool)
    .await
    .map_err(discreet::of_source)?;
    if parts > 0 {
        let what = format!(
            "{table} has {parts} partition(s) or child tables: what is written to those directly is found by full compares only"
        );
        doubts.push(SetupError::new(what, "nothing, if the CRM writes to the table itself"));
    }
    // Only the table of the leads is read through its policies: the owner's function asks about the others.
    if row_security && matches!(one.keys, LoggedKeys::Own(_)) {
        doubts.push(SetupError::new(
            format!("row level security applies to the user of [source] url: of {table} it sees what its policies allow"),
            "nothing, if that is every row that is a lead: a row that is touched and not seen counts as deleted. Else give \
             that user `bypassrls`",
        ));
    }
    Ok(doubts)
}
