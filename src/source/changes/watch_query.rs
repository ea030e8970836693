//! `leads` of `[[source.watch]]`: prepared against the database with nulls of the parameters' types, so that a mistake is found
//! before it is part of a trigger, where it would make the CRM's own statement fail.

use sqlx::postgres::PgColumn;
use sqlx::{Column as _, Connection as _, Executor as _, Statement as _};

use crate::config::{SourceSettings, WatchSettings};
use crate::db::{self, discreet};
use crate::error::SetupError;
use crate::nearest::nearest;
use crate::rules::source_column::SourceColumn;
use crate::source::changes::ddl::DOLLARS;
use crate::source::changes::triggered::{KEY_COLUMNS, LoggedKeys, QualifiedName, TriggeredTable, WatchQuery};
use crate::source::columns;
use crate::source::guest::{SourcePool, SourceTransaction};
use crate::source::named::{self, NamedStatement};
use crate::source::relations::{self, ReadRelation};
use crate::source::source_db::SourceDb;

/// An entry of `[[source.watch]]` whose table has been found.
#[derive(Debug, Clone, Copy)]
pub struct WatchEntry<'a> {
    /// Counted from 0, as in the names of settings.
    pub number: usize,
    pub settings: &'a WatchSettings,
    pub table: &'a QualifiedName,
}

/// A query that fits, and what it reads.
#[derive(Debug, Clone)]
pub struct PreparedWatch {
    pub query: WatchQuery,
    /// PostgreSQL.
    pub relations: Vec<ReadRelation>,
}

impl WatchEntry<'_> {
    fn refused(&self, what: impl std::fmt::Display, cure: impl Into<String>) -> SetupError {
        let (number, table) = (self.number, self.table.quoted());
        SetupError::new(format!("`source.watch.{number}.leads` (table {table}): {what}"), cure)
    }

    /// The statement, which is one and has no text of ours in it.
    fn parse(&self, db: &SourceDb) -> Result<NamedStatement, SetupError> {
        let text = &self.settings.leads;
        let mut statements = named::parse(text, db.dialect())
            .map_err(|error| self.refused(error, "fix the SQL; a value of the touched row is written `:column`"))?;
        if statements.len() != 1 {
            return Err(self.refused("there are several statements", "write one SELECT that returns all the keys"));
        }
        if text.contains(DOLLARS) {
            return Err(self.refused(format!("it contains {DOLLARS}"), "write that text in another way"));
        }
        Ok(statements.remove(0))
    }

    /// The table's column for each place of the statement.
    fn find_columns(
        &self,
        statement: &NamedStatement,
        known: &[String],
        db: &SourceDb,
    ) -> Result<Vec<String>, SetupError> {
        let is_same = |column: &str, name: &str| match db {
            SourceDb::Postgres(_) => column == name,
            SourceDb::Sqlite(_) | SourceDb::Mysql(_) => column.eq_ignore_ascii_case(name),
        };
        let column = |name: &String| {
            known.iter().find(|column| is_same(column, name)).cloned().ok_or_else(|| {
                let near = nearest(name, known.iter().map(String::as_str));
                let hint = near.map(|near| format!(" (did you mean :{near}?)")).unwrap_or_default();
                self.refused(
                    format!("the table has no column \"{name}\", which :{name} asks for{hint}"),
                    format!("name a column that is there: {}", known.join(", ")),
                )
            })
        };
        statement.places().iter().map(column).collect()
    }

    fn check_width(&self, found: usize, wanted: usize) -> Result<(), SetupError> {
        if found == wanted {
            return Ok(());
        }
        let cure = match wanted {
            1 => "let it return one column, the lead's [source] key",
            _ => "let it return two columns, the lead's [source] key and its client, because [source] client is set",
        };
        Err(self.refused(format!("it returns {found} column(s)"), cure))
    }

    /// A key of another type is written in another way, and names no lead.
    fn check_types(&self, found: &[PgColumn], wanted: &[SourceColumn]) -> Result<(), SetupError> {
        for (found, wanted) in found.iter().zip(wanted) {
            let kind = columns::plain_type(found.type_info());
            if !are_written_alike(&kind, &wanted.plain_type) {
                return Err(self.refused(
                    format!(
                        "it returns \"{}\" as {kind}, but \"{}\" of the source is {}, and such keys name no lead",
                        found.name(),
                        wanted.name,
                        wanted.plain_type
                    ),
                    format!("return the column that is the key, or cast to it: …::{}", wanted.plain_type),
                ));
            }
        }
        Ok(())
    }

    fn unfit(&self, error: sqlx::Error) -> anyhow::Error {
        let error = discreet::of_source(error);
        if db::is_outage(&error) {
            return error.into();
        }
        let said =
            error.as_database_error().map_or_else(|| error.to_string(), |database| database.message().to_owned());
        let cure = match &self.table.schema {
            Some(schema) => format!(
                "fix the query; a name without a schema is looked up in the schema {}, and the user of [source] url needs usage on \
                 the schemas",
                db::quote(schema)
            ),
            None => "fix the query: one SELECT over tables and columns that are there".to_owned(),
        };
        self.refused(said, cure).into()
    }
}

fn are_written_alike(one: &str, other: &str) -> bool {
    const WHOLE: [&str; 3] = ["int2", "int4", "int8"];
    const TEXTS: [&str; 3] = ["text", "varchar", "name"];
    one == other || [WHOLE, TEXTS].iter().any(|family| family.contains(&one) && family.contains(&other))
}

/// Prepares the query of an entry. `names` are the source's key, and its client if there is one.
///
/// # Errors
/// [`SetupError`] where it does not fit; the database's error when it is unreachable.
pub async fn prepare(db: &SourceDb, entry: WatchEntry<'_>, names: &[SourceColumn]) -> anyhow::Result<PreparedWatch> {
    let statement = entry.parse(db)?;
    match db {
        SourceDb::Sqlite(pool) => {
            let known: Vec<String> = sqlx::query_scalar("select name from pragma_table_xinfo($1) where hidden <> 1")
                .bind(&entry.table.name)
                .fetch_all(pool)
                .await
                .map_err(discreet::of_source)?;
            let columns = entry.find_columns(&statement, &known, db)?;
            let query = WatchQuery { statement, columns, schema: None };
            let width = prepare_sqlite(pool, &entry, &query, names.len()).await.map_err(|error| entry.unfit(error))?;
            entry.check_width(width, names.len())?;
            Ok(PreparedWatch { query, relations: Vec::new() })
        }
        SourceDb::Postgres(pool) => {
            let mut transaction = pool.begin().await.map_err(discreet::of_source)?;
            let known = typed_columns(&mut transaction, entry.table).await.map_err(discreet::of_source)?;
            let known_names: Vec<String> = known.iter().map(|(name, _)| name.clone()).collect();
            let columns = entry.find_columns(&statement, &known_names, db)?;
            let kind = |column: &String| known.iter().find(|(name, _)| name == column).map(|(_, kind)| kind.clone());
            let types: Vec<String> = columns.iter().filter_map(kind).collect();
            let query = WatchQuery { statement, columns, schema: entry.table.schema.clone() };
            let (query, found) =
                prepare_postgres(&mut transaction, query, &types).await.map_err(|error| entry.unfit(error))?;
            entry.check_width(found.len(), names.len())?;
            entry.check_types(&found, names)?;
            let relations = relations::locked_relations(&mut transaction).await.map_err(discreet::of_source)?;
            transaction.commit().await.map_err(discreet::of_source)?;
            Ok(PreparedWatch { query, relations })
        }
        SourceDb::Mysql(_) => Err(entry.refused("MySQL has no triggers of ours", "write changes = \"poll\"").into()),
    }
}

/// The number of the columns. Also prepares a trigger with the query, because SQLite allows less within one.
async fn prepare_sqlite(
    pool: &sqlx::SqlitePool,
    entry: &WatchEntry<'_>,
    query: &WatchQuery,
    width: usize,
) -> Result<usize, sqlx::Error> {
    let mut connection = columns::fresh_sqlite(pool).await?;
    let text = query.statement.with(|_| "null".to_owned());
    let statement = connection.prepare(db::trusted(format!("select * from (\n{text}\n)"))).await?;
    let found = statement.columns().len();
    let keys = LoggedKeys::Found(query.clone());
    let probe = TriggeredTable { table: entry.table.clone(), suffix: String::new(), keys };
    let log = db::quote("conversica_sync_probe");
    let body = probe.sqlite_body("update", &log, width.min(KEY_COLUMNS.len()));
    let trigger = format!("CREATE TRIGGER {log} after update on {}\nbegin\n{body}end", entry.table.quoted());
    connection.prepare(db::trusted(trigger)).await?;
    connection.clear_cached_statements().await?;
    Ok(found)
}

/// The table's columns with their types, as a session with our search path writes them. It sets that path until the transaction
/// ends.
async fn typed_columns(
    transaction: &mut SourceTransaction,
    table: &QualifiedName,
) -> Result<Vec<(String, String)>, sqlx::Error> {
    set_path(transaction, None).await?;
    sqlx::query_as(
        "select a.attname::text, format_type(a.atttypid, a.atttypmod) from pg_attribute a \
         where a.attrelid = to_regclass($1) and a.attnum > 0 and not a.attisdropped order by a.attnum",
    )
    .bind(table.quoted())
    .persistent(false)
    .fetch_all(&mut **transaction)
    .await
}

async fn set_path(transaction: &mut SourceTransaction, schema: Option<&str>) -> Result<(), sqlx::Error> {
    let sql = db::trusted(format!("set local search_path = {}", WatchQuery::search_path(schema)));
    transaction.execute(sqlx::raw_sql(sql)).await.map(drop)
}

/// Without a schema if every name says its own, and else in the schema of the watched table.
async fn prepare_postgres(
    transaction: &mut SourceTransaction,
    query: WatchQuery,
    types: &[String],
) -> Result<(WatchQuery, Vec<PgColumn>), sqlx::Error> {
    transaction.execute("savepoint watch_query").await?;
    let qualified = WatchQuery { schema: None, ..query.clone() };
    match columns::prepared_columns_within(transaction, qualified.probe(types)).await {
        Ok(found) => return Ok((qualified, found)),
        Err(error) if error.as_database_error().is_none() => return Err(error),
        Err(_) => {}
    }
    transaction.execute("rollback to savepoint watch_query").await?;
    set_path(transaction, query.schema.as_deref()).await?;
    let found = columns::prepared_columns_within(transaction, query.probe(types)).await?;
    Ok((query, found))
}

/// Refuses a query with which another role could run its code with the rights of the tables' owner, who also has to be able to
/// run it. It looks at tables, views and types, and not at the functions that the query calls.
///
/// # Errors
/// [`SetupError`] with the role; the database's error when it is unreachable.
pub async fn refuse_unsafe(
    db: &SourceDb,
    source: &SourceSettings,
    design: (&[TriggeredTable], Option<&str>),
) -> anyhow::Result<()> {
    let ((tables, Some(owner)), SourceDb::Postgres(pool)) = (design, db) else { return Ok(()) };
    let watched = tables.iter().filter(|one| matches!(one.keys, LoggedKeys::Found(_)));
    for ((number, settings), one) in source.watch.iter().enumerate().zip(watched) {
        let entry = WatchEntry { number, settings, table: &one.table };
        let LoggedKeys::Found(query) = &one.keys else { continue };
        let relations = relations_of(pool, &entry, query).await?;
        if let Some(schema) = &query.schema
            && let Some(maker) = foreign_maker(pool, schema, owner).await.map_err(discreet::of_source)?
        {
            let (schema, owner) = (db::quote(schema), db::quote(owner));
            return Err(entry
                .refused(
                    format!(
                        "it has names without a schema, which are looked up in {schema}, where {maker} may create functions that \
                         would run with the rights of {owner}"
                    ),
                    format!("write the schema before each name, or run `revoke create on schema {schema} from {maker}`"),
                )
                .into());
        }
        if let Some((name, trouble)) = foreign_relation(pool, &relations, owner).await.map_err(discreet::of_source)? {
            return Err(entry.refused(format!("it reads {name}, {trouble}"), FOREIGN_CURE).into());
        }
    }
    Ok(())
}

const FOREIGN_CURE: &str = "let the query read tables of that owner alone, which it may select from, or leave the entry out and set changed_at";

async fn relations_of(pool: &SourcePool, entry: &WatchEntry<'_>, query: &WatchQuery) -> anyhow::Result<Vec<i64>> {
    let mut transaction = pool.begin().await.map_err(discreet::of_source)?;
    let known = typed_columns(&mut transaction, entry.table).await.map_err(discreet::of_source)?;
    let kind = |column: &String| known.iter().find(|(name, _)| name == column).map(|(_, kind)| kind.clone());
    let types: Vec<String> = query.columns.iter().filter_map(kind).collect();
    set_path(&mut transaction, query.schema.as_deref()).await.map_err(discreet::of_source)?;
    columns::prepared_columns_within(&mut transaction, query.probe(&types))
        .await
        .map_err(|error| entry.unfit(error))?;
    let mut relations: Vec<i64> = relations::locked_relations(&mut transaction)
        .await
        .map_err(discreet::of_source)?
        .into_iter()
        .map(|relation| relation.oid)
        .collect();
    transaction.commit().await.map_err(discreet::of_source)?;
    let table: Option<i64> = sqlx::query_scalar("select to_regclass($1)::oid::bigint")
        .bind(entry.table.quoted())
        .fetch_one(pool)
        .await
        .map_err(discreet::of_source)?;
    relations.extend(table);
    Ok(relations)
}

/// A role that may create in the schema and does not have the owner's rights anyway.
async fn foreign_maker(pool: &SourcePool, schema: &str, owner: &str) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar(
        "select maker from (select 'public' as maker, 0 as place from pg_catalog.pg_namespace n \
           cross join aclexplode(n.nspacl) a where n.nspname = $1 and a.grantee = 0 and a.privilege_type = 'CREATE' \
         union all select quote_ident(r.rolname), 1 from pg_catalog.pg_roles r join pg_catalog.pg_namespace n on n.nspname = $1 \
           join pg_catalog.pg_roles o on o.rolname = $2 \
           where not r.rolsuper and r.rolname !~ '^pg_' and has_schema_privilege(r.oid, n.oid, 'create') \
           and not pg_has_role(r.oid, o.oid, 'member')) m order by place, maker limit 1",
    )
    .bind(schema)
    .bind(owner)
    .fetch_optional(pool)
    .await
}

/// A relation that the owner cannot read, or with which another role can run code: as the owner of the relation (by a policy or
/// the functions of a view) or of the type of a column (by a cast or an operator).
async fn foreign_relation(
    pool: &SourcePool,
    relations: &[i64],
    owner: &str,
) -> Result<Option<(String, String)>, sqlx::Error> {
    sqlx::query_as(
        "with recursive r as (select c.oid, c.relowner, c.relnamespace, o.oid as owner from pg_catalog.pg_class c \
           join pg_catalog.pg_roles o on o.rolname = $2 where c.oid::bigint = any($1)), \
         kind (relation, name, oid, base, maker, owner) as (\
           select r.oid, a.attname, y.oid, y.typbasetype, y.typowner, r.owner from r \
           join pg_catalog.pg_attribute a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped \
           join pg_catalog.pg_type y on y.oid = a.atttypid \
           union all select kind.relation, kind.name, y.oid, y.typbasetype, y.typowner, kind.owner from kind \
           join pg_catalog.pg_type y on y.oid = kind.base), \
         under as (select d.refobjid as oid from pg_catalog.pg_rewrite w join pg_catalog.pg_depend d \
           on d.classid = 'pg_catalog.pg_rewrite'::regclass and d.objid = w.oid and d.refobjid <> w.ev_class \
           join r on r.oid = w.ev_class), \
         found (oid, trouble) as (\
           select r.oid, 'which belongs to ' || quote_ident(m.rolname) || ' and not to ' || quote_ident($2) \
           from r join pg_catalog.pg_roles m on m.oid = r.relowner \
           where not m.rolsuper and not pg_has_role(m.oid, r.owner, 'member') \
           union all select kind.relation, 'whose column ' || quote_ident(kind.name) || ' has a type of ' || quote_ident(m.rolname) \
           from kind join pg_catalog.pg_roles m on m.oid = kind.maker \
           where kind.base = 0 and not m.rolsuper and not pg_has_role(m.oid, kind.owner, 'member') \
           union all select r.oid, 'which ' || quote_ident($2) || ' may not read' from r \
           where r.oid not in (select oid from under) and not (has_schema_privilege(r.owner, r.relnamespace, 'usage') \
           and (has_table_privilege(r.owner, r.oid, 'select') or has_any_column_privilege(r.owner, r.oid, 'select')))) \
         select f.oid::regclass::text, f.trouble from found f order by 1, 2 limit 1",
    )
    .bind(relations)
    .bind(owner)
    .fetch_optional(pool)
    .await
}
