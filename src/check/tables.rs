//! `check` of the tables that a query, a view or a condition reads: whether a change in each of them is found, by `changed_at` or
//! by triggers.

use crate::check::item::CheckItem;
use crate::config::{ChangeDetection, SourceSettings, duration};
use crate::db;
use crate::nearest::nearest;
use crate::rules::change_stamp::{self, LatestFunction};
use crate::source::columns;
use crate::source::crm::ConnectedCrm;
use crate::source::dialect::SourceDialect;
use crate::source::mysql_engine;
use crate::source::relations::{self, ReadKind, ReadRelation};
use crate::source::source_db::SourceDb;
use crate::source::stamp_reach::{self, UsedStamp};

const NAME: &str = "tables";

/// Nothing where the source is one table.
pub(super) async fn of_tables(crm: &ConnectedCrm, changes: ChangeDetection) -> anyhow::Result<Vec<CheckItem>> {
    let source = &crm.source;
    if let SourceDb::Mysql(pool) = &crm.db {
        let names = mysql_engine::tables_read(pool, source).await?;
        let is_known = |setting: &str| names.iter().any(|name| name.eq_ignore_ascii_case(last_part(setting).as_str()));
        return Ok(of_mysql(&names).into_iter().chain(misnamed(source, &names, is_known)).collect());
    }
    let sql = format!("select t.* from {}", columns::from_clause(source));
    let mut read = relations::relations_read(&crm.db, &sql).await?;
    read.retain(|relation| relation.kind == ReadKind::Table);
    let names: Vec<String> = read.iter().map(shown).collect();
    let misnamed = misnamed(source, &names, |setting| read.iter().any(|relation| is_named(relation, setting)));
    let mut items = match changes {
        _ if read.len() < 2 => Vec::new(),
        ChangeDetection::Triggers => of_triggers(source, &read),
        ChangeDetection::Poll => of_stamps(crm, &read).await?,
    };
    items.extend(misnamed);
    Ok(items)
}

/// Names in `unwatched` of tables that the source does not read.
fn misnamed(source: &SourceSettings, names: &[String], is_known: impl Fn(&str) -> bool) -> Option<CheckItem> {
    let unknown: Vec<&str> = source.unwatched.iter().map(String::as_str).filter(|name| !is_known(name)).collect();
    let hint = |name: &&str| match nearest(name, names.iter().map(String::as_str)) {
        Some(near) => format!("{name} (did you mean {near}?)"),
        None => (*name).to_owned(),
    };
    let listed: Vec<String> = unknown.iter().map(hint).collect();
    let text = format!("unwatched names {}, which the source does not read", listed.join(", "));
    let cure = format!("remove the name, or write one of those that it reads: {}", names.join(", "));
    (!unknown.is_empty()).then(|| CheckItem::warn("source", NAME, text).cure(cure))
}

fn last_part(setting: &str) -> String {
    db::table_parts(setting).pop().unwrap_or_default()
}

fn of_mysql(names: &[String]) -> Option<CheckItem> {
    let text = format!("the source reads {}: changed_at should take in the stamp of each", names.join(", "));
    (names.len() > 1).then(|| CheckItem::ok("changes", NAME, text))
}

fn list_names<'a>(names: impl IntoIterator<Item = &'a ReadRelation>) -> String {
    names.into_iter().map(shown).collect::<Vec<_>>().join(", ")
}

/// As a setting names it: with its schema, unless that is PostgreSQL's usual one.
fn shown(relation: &ReadRelation) -> String {
    match relation.schema.as_deref() {
        None | Some("public") => relation.name.clone(),
        Some(schema) => format!("{schema}.{}", relation.name),
    }
}

/// Whether a setting names this relation.
fn is_named(relation: &ReadRelation, setting: &str) -> bool {
    let mut parts = db::table_parts(setting);
    let is_name = parts.pop().is_some_and(|name| name.eq_ignore_ascii_case(&relation.name));
    let schema = parts.pop().filter(|_| relation.schema.is_some());
    is_name && schema.is_none_or(|schema| relation.schema.as_ref() == Some(&schema))
}

fn is_unwatched(source: &SourceSettings, relation: &ReadRelation) -> bool {
    source.unwatched.iter().any(|setting| is_named(relation, setting))
}

/// With triggers, each table has an entry or is named as one that does not matter.
fn of_triggers(source: &SourceSettings, read: &[ReadRelation]) -> Vec<CheckItem> {
    let is_watched = |relation: &ReadRelation| {
        let watched = source.watch.iter().map(|watch| &watch.table).chain(&source.table);
        watched.into_iter().any(|setting| is_named(relation, setting))
    };
    let missing = read.iter().filter(|relation| !is_watched(relation) && !is_unwatched(source, relation));
    let missing: Vec<CheckItem> = missing
        .map(|relation| {
            let name = shown(relation);
            let text = format!(
                "the source also reads {name}, which no [[source.watch]] names: what changes there alone is found by full compares only"
            );
            let key = source.key.as_str();
            let cure = format!(
                "add [[source.watch]] table = \"{name}\", leads = \"SELECT …\" (the \"{key}\" of the leads that a row of {name} concerns; \
                 :column is a value of that row); or, if that does not matter, unwatched = [\"{name}\"] under [source]"
            );
            CheckItem::warn("triggers", NAME, text).cure(cure)
        })
        .collect();
    if !missing.is_empty() {
        return missing;
    }
    vec![CheckItem::ok(
        "triggers",
        NAME,
        format!("the source reads {}: each is watched, or named in unwatched", list_names(read)),
    )]
}

/// A table's stamp, and whether `changed_at` takes it in.
struct TableStamp<'a> {
    relation: &'a ReadRelation,
    column: Option<String>,
    is_taken: bool,
}

async fn of_stamps(crm: &ConnectedCrm, read: &[ReadRelation]) -> anyhow::Result<Vec<CheckItem>> {
    let fitting = crm.fitting().await?;
    // Without it, every poll compares all rows.
    let Some(changed_at) = &fitting.changed_at else { return Ok(Vec::new()) };
    let described = stamp_reach::columns_of(&crm.db, read).await?;
    let stamp = |columns: &[String]| {
        let ranked = columns.iter().filter_map(|name| Some((change_stamp::rank_stamp(name)?, name)));
        ranked.min().map(|(_, name)| name.clone())
    };
    let every: Vec<UsedStamp> = described
        .iter()
        .flat_map(|table| {
            let name = |column: &String| (table.relation.schema.clone(), table.relation.name.clone(), column.clone());
            table.columns.iter().filter(|column| change_stamp::rank_stamp(column).is_some()).map(name)
        })
        .collect();
    let from = columns::from_clause(&crm.source);
    let used = stamp_reach::used_columns(&crm.db, &from, &changed_at.expression, &every).await?;
    let stamps: Vec<TableStamp<'_>> = read
        .iter()
        .zip(&described)
        .map(|(relation, table)| {
            let taken = used.iter().find(|(schema, name, _)| (schema, name) == (&relation.schema, &relation.name));
            let column = taken.map(|(.., column)| column.clone()).or_else(|| stamp(&table.columns));
            TableStamp { relation, column, is_taken: taken.is_some() }
        })
        .collect();
    Ok(items_of(crm, &stamps))
}

fn items_of(crm: &ConnectedCrm, stamps: &[TableStamp<'_>]) -> Vec<CheckItem> {
    let source = &crm.source;
    let interval = duration::format(source.full_compare_interval);
    let mut items = vec![CheckItem::ok("changes", NAME, summary(stamps))];
    let is_missing = |stamp: &&TableStamp<'_>| !stamp.is_taken && !is_unwatched(source, stamp.relation);
    for stamp in stamps.iter().filter(is_missing) {
        let name = shown(stamp.relation);
        let Some(column) = &stamp.column else { continue };
        let text = format!(
            "changed_at does not take in \"{column}\" of {name}: what changes there alone is found by full compares only ({interval})"
        );
        let cure =
            format!("{}; or, if that does not matter, unwatched = [\"{name}\"] under [source]", cure_of(crm, stamps));
        items.push(CheckItem::warn("changes", NAME, text).cure(cure));
    }
    items
}

fn summary(stamps: &[TableStamp<'_>]) -> String {
    let of = |stamp: &TableStamp<'_>| match (&stamp.column, stamp.is_taken) {
        (Some(column), true) => format!("{} (changed_at takes in \"{column}\")", shown(stamp.relation)),
        (Some(column), false) => format!("{} (\"{column}\", not in changed_at)", shown(stamp.relation)),
        (None, _) => format!("{} (no stamp: full compares find its changes)", shown(stamp.relation)),
    };
    format!("the source reads {}", stamps.iter().map(of).collect::<Vec<_>>().join(", "))
}

/// The expression with the stamps of all tables.
fn cure_of(crm: &ConnectedCrm, stamps: &[TableStamp<'_>]) -> String {
    let source = &crm.source;
    let Some(query) = &source.query else {
        return "let changed_at take it in, or write changes = \"triggers\" with a [[source.watch]] for that table"
            .to_owned();
    };
    let function = match crm.db.dialect() {
        SourceDialect::Postgres => LatestFunction::Greatest,
        SourceDialect::Sqlite => LatestFunction::MaxOrNull,
        SourceDialect::Mysql => LatestFunction::GreatestOrNull,
    };
    let mut ordered: Vec<&TableStamp<'_>> =
        stamps.iter().filter(|stamp| !is_unwatched(source, stamp.relation)).collect();
    ordered.sort_by_key(|stamp| !stamp.is_taken);
    let named = ordered.into_iter().filter_map(|stamp| {
        let alias = change_stamp::alias_in(query, &stamp.relation.name);
        Some(format!("{alias}.{}", stamp.column.as_ref()?))
    });
    let latest = change_stamp::latest_of(&named.collect::<Vec<_>>(), function);
    format!("let [source] query select {latest} AS changed_at, and write changed_at = \"changed_at\"")
}
