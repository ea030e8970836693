//! What identifies a row, what says when it changed, and what says that it is gone. Pure.

use crate::conversica::lead::LeadKey;
use crate::crm::drift::Family;
use crate::crm::introspect::Column;
use crate::crm::propose::draft::{Dialect, Draft};
use crate::crm::propose::shape::{self, Fit};
use crate::crm::propose::{Choice, Wishes, names, system};
use crate::db;

/// What says when a row has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    from: From,
    pub why: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum From {
    Column(String),
    /// The second where the first is NULL.
    Either(String, String),
    /// A person's own words.
    Expression(String),
}

impl Stamp {
    pub fn column(&self) -> Option<&str> {
        match &self.from {
            From::Column(name) => Some(name),
            From::Either(..) | From::Expression(_) => None,
        }
    }

    /// As `[source] changed_at` names it.
    pub fn setting(&self) -> String {
        self.column().map_or_else(|| self.sql(""), str::to_owned)
    }

    pub fn sql(&self, prefix: &str) -> String {
        match &self.from {
            From::Column(name) => format!("{prefix}{}", db::quote(name)),
            From::Either(first, second) => {
                format!("coalesce({prefix}{}, {prefix}{})", db::quote(first), db::quote(second))
            }
            From::Expression(text) => format!("({text})"),
        }
    }
}

pub fn key(draft: &Draft<'_>, wishes: &Wishes) -> Option<Choice> {
    let table = draft.base;
    let choice = |what: &str, why: &str| Some(Choice { what: what.to_owned(), why: why.to_owned() });
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
    let single: Vec<&Column> = single.collect();
    let of_family = |family: Family| single.iter().find(move |column| column.family == family);
    let whole = single.iter().filter(|column| column.family == Family::Integer).count();
    if let Some(column) = of_family(Family::Integer) {
        return choice(
            &column.name,
            if whole == 1 { "only unique NOT NULL integer" } else { "unique NOT NULL integer" },
        );
    }
    if let Some(column) = of_family(Family::Uuid).or(single.first()) {
        return choice(&column.name, "unique and NOT NULL");
    }
    // A view, or a table without an index: what is called so, and does not repeat itself in the sample.
    let named = table.columns.iter().filter(|column| column.readable && is_distinct(column, table.sampled));
    let best = named.filter_map(|column| Some((names::likeness(&column.name, names::KEY)?, column)));
    let (_, column) = best.max_by_key(|(likeness, _)| *likeness)?;
    choice(&column.name, "column name, and no value comes twice in the sample; nothing in the database enforces it")
}

/// Whether no sampled value is missing or comes twice; with nothing sampled, nothing speaks against it.
fn is_distinct(column: &Column, sampled: usize) -> bool {
    let values: std::collections::BTreeSet<&str> = column.values().collect();
    values.len() == sampled.min(column.samples.len())
}

/// The tables' flags that take a row out of use.
pub fn deleted(draft: &mut Draft<'_>) {
    for column in draft.free() {
        let flag = names::likeness(&column.name, names::DELETED).is_some_and(|likeness| likeness > 60);
        let in_use = names::likeness(&column.name, names::ACTIVE).is_some_and(|likeness| likeness > 60);
        let readable = is_time(column) || shape::fit(column, |text| shape::truth(text).is_some()) != Fit::Misfits;
        if flag && readable {
            draft.take(&column.name);
            let why = format!("\"{}\" marks rows that are deleted: they are left out", column.name);
            draft.filters.push((column.name.clone(), why));
        } else if in_use && system(draft.base) == Some("Odoo") {
            draft.take(&column.name);
            let why = format!("\"{}\" is false for what is archived or lost: left out", column.name);
            draft.filters.push((column.name.clone(), why));
        } else if in_use {
            draft.doubts.push(format!(
                "\"{}\" may take rows out of use; if so, leave them out with [source] where",
                column.name
            ));
        }
    }
    if !draft.filters.is_empty() {
        draft.doubts.push(
            "a row that is left out later counts as gone: with on_delete = \"stop_messaging\" Conversica is told to stop for it"
                .to_owned(),
        );
    }
}

/// The condition by which a row with this flag is still there.
pub fn still_there(column: &Column, dialect: Dialect, prefix: &str) -> String {
    let name = format!("{prefix}{}", db::quote(&column.name));
    let is_use = names::likeness(&column.name, names::ACTIVE).is_some();
    if is_time(column) && !is_use {
        return format!("{name} IS NULL");
    }
    match (&column.family, dialect) {
        (Family::Boolean, Dialect::Postgres) => format!("{name} IS {}TRUE", if is_use { "" } else { "NOT " }),
        // SQLite keeps booleans as numbers.
        (Family::Boolean | Family::Integer | Family::Number, _) => {
            format!("coalesce({name}, {}) {} 0", u8::from(is_use), if is_use { "<>" } else { "=" })
        }
        _ => {
            let word = format!("lower(trim(coalesce(CAST({name} AS text), '')))");
            format!(
                "{word} {}IN ('1', 't', 'true', 'y', 'yes', 'on', 'x', 'ja', 'j', 'oui', 'si', 'sí')",
                if is_use { "" } else { "NOT " }
            )
        }
    }
}

pub fn is_time(column: &Column) -> bool {
    match column.family {
        Family::Date | Family::Timestamp | Family::TimestampTz => true,
        Family::Text | Family::Other(_) => {
            shape::fit(column, shape::is_time) == Fit::Fits && column.values().next().is_some()
        }
        _ => false,
    }
}

/// Whether the values can be compared with a time: not those of which nobody knows the month.
fn can_be_followed(column: &Column) -> bool {
    match column.family {
        Family::Timestamp | Family::TimestampTz | Family::Date => shape::fit(column, shape::is_time) != Fit::Misfits,
        Family::Text | Family::Integer | Family::Number | Family::Other(_) => {
            shape::fit(column, shape::is_time) == Fit::Fits && column.values().next().is_some()
        }
        _ => false,
    }
}

pub fn changed_at(draft: &mut Draft<'_>, wishes: &Wishes) -> Option<Stamp> {
    let table = draft.base;
    if let Some(asked) = &wishes.changed_at {
        let from = match table.column(asked) {
            Some(column) => {
                draft.take(&column.name);
                From::Column(column.name.clone())
            }
            None => From::Expression(asked.clone()),
        };
        return Some(Stamp { from, why: "as you said".to_owned() });
    }
    let best = |list: &str| {
        let of = table.columns.iter().filter(|column| column.readable);
        let mut named: Vec<(u32, &Column)> =
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
    let Some((_, column)) = named.iter().find(|(_, column)| can_be_followed(column)) else {
        draft.doubts.push("no column says when a row was changed: every poll compares all rows".to_owned());
        return None;
    };
    draft.take(&column.name);
    let blanks = column.samples.iter().any(Option::is_none) && !column.not_null;
    let created = best(names::of(LeadKey::Date)).into_iter().map(|(_, column)| column);
    let created =
        created.filter(|other| other.family == column.family && other.name != column.name).find(|c| can_be_followed(c));
    let like_times = if column.values().next().is_some() { ", and its values are times" } else { "" };
    Some(match created.filter(|_| blanks) {
        Some(created) => Stamp {
            why: format!("column name; some rows have no \"{}\", so \"{}\" stands in", column.name, created.name),
            from: From::Either(column.name.clone(), created.name.clone()),
        },
        None => {
            if blanks {
                draft.doubts.push(format!(
                    "some rows have no \"{}\": only the daily comparison of everything finds their changes",
                    column.name
                ));
            }
            Stamp { why: format!("column name{like_times}"), from: From::Column(column.name.clone()) }
        }
    })
}
