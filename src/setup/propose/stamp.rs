//! Finds the key of a row, its change stamp, and its mark of deletion. Pure.

use crate::conversica::lead::LeadKey;
use crate::db;
use crate::rules::source_column::TypeFamily;
use crate::setup::introspect::table::{InspectedTable, TableColumn};
use crate::setup::propose::dialect::SqlDialect;
use crate::setup::propose::draft::{ProposalDraft, RowFilter};
use crate::setup::propose::proposal::{
    ChangeStamp, OperatorWishes, ProposedChoice, RowsKept, StampSource, UnmappedColumn,
};
use crate::setup::propose::shape::{self, ShapeFit, is_time_column};
use crate::setup::propose::{flag, names};

pub fn key(draft: &ProposalDraft<'_>, wishes: &OperatorWishes) -> Option<ProposedChoice> {
    let table = draft.base;
    let choice = |what: &str, why: &str| Some(ProposedChoice { what: what.to_owned(), why: why.to_owned() });
    if let Some(asked) = &wishes.key {
        return choice(table.column(asked).map_or(asked, |column| &column.name), "as you said");
    }
    if let Some(primary) = table.primary_key() {
        return choice(primary, "primary key");
    }
    let not_null = |name: &str| table.column(name).filter(|column| column.not_null && column.readable);
    let single = table.unique.iter().filter_map(|unique| match unique.columns.as_slice() {
        [column] => not_null(column),
        _ => None,
    });
    let single: Vec<&TableColumn> = single.collect();
    let of_family = |family: TypeFamily| single.iter().find(move |column| column.family == family);
    let whole = single.iter().filter(|column| column.family == TypeFamily::Integer).count();
    if let Some(column) = of_family(TypeFamily::Integer) {
        return choice(
            &column.name,
            if whole == 1 { "only unique NOT NULL integer" } else { "unique NOT NULL integer" },
        );
    }
    if let Some(column) = of_family(TypeFamily::Uuid).or(single.first()) {
        return choice(&column.name, "unique and NOT NULL");
    }
    // A view, or a table without an index: a column with a key's name whose sampled values are distinct.
    let named = table.columns.iter().filter(|column| column.readable && is_distinct(column, table.sampled));
    let best = named.filter_map(|column| Some((names::likeness(&column.name, names::KEY)?, column)));
    let (_, column) = best.max_by_key(|(likeness, _)| *likeness)?;
    choice(&column.name, "column name, and no value comes twice in the sample; nothing in the database enforces it")
}

/// Whether all sampled values are present and distinct; true without samples.
fn is_distinct(column: &TableColumn, sampled: usize) -> bool {
    let values: std::collections::BTreeSet<&str> = column.values().collect();
    values.len() == sampled.min(column.samples.len())
}

/// Uses the flags that take a row out of use: the table's own and the inherited ones.
pub fn deleted(draft: &mut ProposalDraft<'_>) {
    for column in draft.free() {
        let Some((kept, what)) = way_out(draft.base, column) else { continue };
        draft.take(&column.name);
        let readable = draft.find_columns(&column.name).into_iter().all(|(_, column)| can_be_read(column, kept));
        if !readable {
            let why = format!("may say that a row {what}, but its values are neither yes and no nor times");
            draft.consent.push(UnmappedColumn::new(&column.name, why));
            continue;
        }
        let why = format!("\"{}\" says that a row {what}: those rows are left out", column.name);
        if kept == RowsKept::NotDenied {
            draft.doubts.push(format!(
                "rows whose \"{}\" is no are left out: take the condition away if that does not mean out of use",
                column.name
            ));
        }
        draft.filters.push(RowFilter { column: column.name.clone(), kept, why });
    }
    if !draft.filters.is_empty() {
        draft.doubts.push(
            "a row that is left out later counts as gone: with on_delete = \"stop_messaging\" Conversica is told to stop for it"
                .to_owned(),
        );
    }
}

/// How a column takes a row out of use, if it does.
fn way_out(table: &InspectedTable, column: &TableColumn) -> Option<(RowsKept, &'static str)> {
    if names::likeness(&column.name, names::DELETED).is_some() {
        Some((RowsKept::Unset, "is deleted"))
    } else if names::likeness(&column.name, names::ACTIVE).is_some() && !is_time_column(column) {
        Some((RowsKept::NotDenied, "is in use or not"))
    } else if flag::is_staff_mark(&column.name) {
        let is_reference = table.references.iter().any(|reference| reference.column == column.name);
        let is_plain = !is_reference && flag::is_yes_or_no(column);
        let kept = if is_plain { RowsKept::Unset } else { RowsKept::WithoutReference };
        Some((kept, "is of a user of the CRM"))
    } else {
        None
    }
}

/// The rows that stay in a joined table; `None` where the column is no readable flag.
pub fn find_way_out(table: &InspectedTable, column: &TableColumn) -> Option<RowsKept> {
    way_out(table, column).map(|(kept, _)| kept).filter(|kept| can_be_read(column, *kept))
}

fn can_be_read(column: &TableColumn, kept: RowsKept) -> bool {
    kept == RowsKept::WithoutReference
        || kept == RowsKept::Unset && is_time_column(column)
        || shape::fit(column, |text| shape::truth(text).is_some()) != ShapeFit::Misfits && !is_time_column(column)
}

/// Whether the values can be compared with a time; not if the order of month and day is unclear.
fn can_be_followed(column: &TableColumn) -> bool {
    match column.family {
        TypeFamily::Timestamp | TypeFamily::TimestampTz | TypeFamily::Date => {
            shape::fit(column, shape::is_time) != ShapeFit::Misfits
        }
        TypeFamily::Text | TypeFamily::Integer | TypeFamily::Number | TypeFamily::Other(_) => {
            shape::fit(column, shape::is_time) == ShapeFit::Fits && column.values().next().is_some()
        }
        _ => false,
    }
}

pub fn changed_at(draft: &mut ProposalDraft<'_>, wishes: &OperatorWishes) -> Option<ChangeStamp> {
    if let Some(asked) = &wishes.changed_at {
        let from = match draft.find_columns(asked).first() {
            Some((alias, column)) => StampSource::Column { alias: (*alias).to_owned(), name: column.name.clone() },
            None => StampSource::Expression(asked.clone()),
        };
        if let StampSource::Column { name, .. } = &from {
            draft.take(name);
        }
        return Some(ChangeStamp { from, why: "as you said".to_owned() });
    }
    // A change of an inherited column is a change of the lead: each table of the record has its own stamp.
    let tables: Vec<(String, &InspectedTable)> =
        draft.record_tables().map(|(alias, table)| (alias.to_owned(), table)).collect();
    let mut first: Option<ChangeStamp> = None;
    for (alias, table) in tables {
        let Some((column, found)) = changed_at_of(draft, table, &alias) else { continue };
        draft.take(&column.name);
        if first.is_none() {
            draft.stamp_family = Some(column.family.clone());
            first = Some(found);
        } else {
            add_stamp(draft, table, column, found.sql());
        }
    }
    if first.is_none() {
        draft.doubts.push("no column says when a row was changed: every poll compares all rows".to_owned());
    }
    first
}

/// Adds the stamp of another table, if it is comparable with the table's own.
pub fn add_moment(draft: &mut ProposalDraft<'_>, table: &InspectedTable, column: &TableColumn, alias: &str) {
    if can_be_followed(column) {
        add_stamp(draft, table, column, format!("{alias}.{}", db::quote(&column.name)));
    }
}

fn add_stamp(draft: &mut ProposalDraft<'_>, table: &InspectedTable, column: &TableColumn, sql: String) {
    let Some(family) = &draft.stamp_family else { return };
    if are_comparable(family, &column.family, draft.dialect) {
        draft.stamps.push(sql);
    } else {
        draft.doubts.push(format!(
            "changes of {} are found by the daily comparison of everything: its \"{}\" has another type",
            table.setting(),
            column.name
        ));
    }
}

/// Whether the database can compare two values to find the later one.
fn are_comparable(one: &TypeFamily, other: &TypeFamily, dialect: SqlDialect) -> bool {
    let is_time = |family: &TypeFamily| match family {
        TypeFamily::Date | TypeFamily::Timestamp => true,
        TypeFamily::TimestampTz => dialect == SqlDialect::Postgres,
        _ => false,
    };
    one == other || is_time(one) && is_time(other)
}

/// The change column of one table, and the stamp made from it.
fn changed_at_of<'t>(
    draft: &mut ProposalDraft<'_>,
    table: &'t InspectedTable,
    alias: &str,
) -> Option<(&'t TableColumn, ChangeStamp)> {
    let best = |list: &str| {
        let of = table.columns.iter().filter(|column| column.readable);
        let mut named: Vec<(u32, &TableColumn)> =
            of.filter_map(|column| Some((names::likeness(&column.name, list)?, column))).collect();
        named.sort_by_key(|(likeness, _)| std::cmp::Reverse(*likeness));
        named
    };
    let named = best(names::CHANGED_AT);
    for (_, column) in named.iter().filter(|(_, column)| !can_be_followed(column)) {
        let values = column.values().next().is_some();
        draft.doubts.push(format!(
            "\"{}\" is not proposed as changed_at: its {}",
            column.name,
            if values {
                "values are no dates, times or epoch numbers that can be read"
            } else {
                "type is no time, and there are no values"
            }
        ));
    }
    let (_, column) = *named.iter().find(|(_, column)| can_be_followed(column))?;
    let blanks = column.samples.iter().any(Option::is_none) && !column.not_null;
    let created = best(names::of(LeadKey::Date)).into_iter().map(|(_, column)| column);
    let created =
        created.filter(|other| other.family == column.family && other.name != column.name).find(|c| can_be_followed(c));
    let like_times = if column.values().next().is_some() { ", and its values are times" } else { "" };
    let (alias, name) = (alias.to_owned(), column.name.clone());
    let stamp = match created.filter(|_| blanks) {
        Some(created) => ChangeStamp {
            why: format!("column name; some rows have no \"{}\", so \"{}\" takes its place", name, created.name),
            from: StampSource::Either { alias, first: name, second: created.name.clone() },
        },
        None => {
            if blanks {
                draft.doubts.push(format!(
                    "some rows have no \"{name}\": only the daily comparison of everything finds their changes"
                ));
            }
            ChangeStamp { why: format!("column name{like_times}"), from: StampSource::Column { alias, name } }
        }
    };
    Some((column, stamp))
}
