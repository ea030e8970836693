//! A proposal in the making, and how it becomes one: a table where columns suffice, a query where anything is joined or
//! computed. Pure.

use std::collections::BTreeMap;

use crate::config::{FieldRule, WhenNull};
use crate::conversica::lead::LeadKey;
use crate::crm::introspect::{Column, Table};
use crate::crm::propose::stamp::{self, Stamp};
use crate::crm::propose::{Choice, Field, Place, Proposal, Unmapped, names, system};
use crate::db;

/// Whose SQL is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    Sqlite,
    Postgres,
}

/// The table's name in a query.
pub const BASE: &str = "l";

pub struct Draft<'a> {
    pub catalog: &'a [Table],
    pub base: &'a Table,
    pub dialect: Dialect,
    pub client: Option<String>,
    pub fields: BTreeMap<LeadKey, Part>,
    pub joins: Vec<Join>,
    /// Columns that take a row out of use, and why.
    pub filters: Vec<(String, String)>,
    /// Instants of other tables that belong to a change of a lead, in SQL.
    pub stamps: Vec<String>,
    pub doubts: Vec<String>,
    pub consent: Vec<Unmapped>,
    /// Keys that a person wants left out.
    pub barred: Vec<LeadKey>,
    taken: Vec<String>,
    reads: Vec<usize>,
}

/// How a key is filled.
pub struct Part {
    pub origin: Origin,
    pub default: Option<String>,
    pub map: BTreeMap<String, String>,
    pub why: String,
    pub doubt: Option<String>,
}

pub enum Origin {
    /// A column of the table.
    Column(String),
    /// An expression, over [`BASE`] and the joined tables, and what to call it.
    Sql(String, &'static str),
    Value(String),
}

pub struct Join {
    pub alias: String,
    table: String,
    on: String,
}

impl Part {
    pub fn new(origin: Origin, why: impl Into<String>) -> Self {
        Self { origin, default: None, map: BTreeMap::new(), why: why.into(), doubt: None }
    }

    pub fn doubt(mut self, doubt: impl Into<String>) -> Self {
        self.doubt = Some(doubt.into());
        self
    }
}

impl<'a> Draft<'a> {
    pub fn new(catalog: &'a [Table], base: usize, dialect: Dialect) -> Self {
        Self {
            catalog,
            base: &catalog[base],
            dialect,
            client: None,
            fields: BTreeMap::new(),
            joins: Vec::new(),
            filters: Vec::new(),
            stamps: Vec::new(),
            doubts: Vec::new(),
            consent: Vec::new(),
            barred: Vec::new(),
            taken: Vec::new(),
            reads: vec![base],
        }
    }

    /// The column has found its use.
    pub fn take(&mut self, column: &str) {
        self.taken.push(column.to_owned());
    }

    pub fn is_taken(&self, column: &str) -> bool {
        self.taken.iter().any(|taken| taken == column) || self.client.as_deref() == Some(column)
    }

    /// Whether a key is still to be filled.
    pub fn wants(&self, key: LeadKey) -> bool {
        !self.fields.contains_key(&key) && !self.barred.contains(&key)
    }

    /// Fills a key, once.
    pub fn fill(&mut self, key: LeadKey, part: Part) {
        if let Origin::Column(column) = &part.origin {
            self.taken.push(column.clone());
        }
        if self.wants(key) {
            self.fields.insert(key, part);
        }
    }

    /// The columns that have no use yet, and have a text.
    pub fn free(&self) -> Vec<&'a Column> {
        let base: &'a Table = self.base;
        base.columns.iter().filter(|column| column.readable && !self.is_taken(&column.name)).collect()
    }

    /// A table joined, once for each condition; `on` is given the alias.
    pub fn join(&mut self, table: usize, hint: &str, on: impl Fn(&str) -> String) -> String {
        let name = self.catalog[table].sql();
        let same = |join: &&Join| join.table == name && join.on == on(&join.alias);
        if let Some(join) = self.joins.iter().find(same) {
            return join.alias.clone();
        }
        let taken = |alias: &str| alias == BASE || self.joins.iter().any(|join| join.alias == alias);
        let numbered = (2..).map(|number| format!("{hint}_{number}"));
        let alias = std::iter::once(hint.to_owned()).chain(numbered).find(|alias| !taken(alias)).unwrap_or_default();
        self.reads.push(table);
        self.joins.push(Join { on: on(&alias), alias: alias.clone(), table: name });
        alias
    }

    pub fn finish(mut self, key: Option<Choice>, stamp: Option<Stamp>) -> Proposal {
        let computed = |part: &Part| matches!(part.origin, Origin::Sql(..));
        let is_query = !self.joins.is_empty() || self.fields.values().any(computed);
        // Only what is mapped is read: of a table nobody joins, a mere column.
        let mut output = Output::default();
        let (place, key, changed_at) = if is_query {
            self.query(&mut output, key, stamp)
        } else {
            let conditions: Vec<String> = self.conditions("");
            let filter = (!conditions.is_empty()).then(|| conditions.join(" AND "));
            let changed_at = stamp.map(|stamp| Choice { what: stamp.setting(), why: stamp.why });
            (Place::Table { filter }, key, changed_at)
        };
        let fields = std::mem::take(&mut self.fields);
        let mapped: Vec<LeadKey> = fields.keys().copied().collect();
        let fields = fields.into_iter().map(|(key, part)| {
            let column = output.names.remove(&key);
            let column = move |name: String| FieldRule::Column {
                column: column.unwrap_or(name),
                default: part.default,
                map: part.map,
                when_null: WhenNull::Omit,
            };
            let rule = match part.origin {
                Origin::Column(name) => column(name),
                Origin::Sql(_, name) => column(name.to_owned()),
                Origin::Value(value) => FieldRule::Value(value),
            };
            Field { key, rule, why: part.why, doubt: part.doubt }
        });
        let fields = fields.collect();
        let (mut consent, mut unmapped) = (self.consent.clone(), Vec::new());
        if mapped.contains(&LeadKey::OptOut) {
            consent.iter_mut().for_each(|unmapped| unmapped.inverse_of = None);
        } else {
            self.doubts.push(
                "optOut is not mapped: who opts out in the CRM goes on getting messages, until Conversica hears of it itself"
                    .to_owned(),
            );
        }
        for name in self.base.columns.iter().map(|column| &column.name).filter(|name| !self.is_taken(name)) {
            if consent.iter().any(|known| known.column == *name) {
                continue;
            }
            if names::is_about_consent(name) {
                let time = self.base.column(name).is_some_and(stamp::is_time);
                let why = match time {
                    true => "is a time, and its name speaks of consent: [consent] given_at may be meant",
                    false => "is not used, but its name speaks of consent",
                };
                consent.push(Unmapped { column: name.clone(), why: why.to_owned(), inverse_of: None });
            } else {
                unmapped.push(name.clone());
            }
        }
        Proposal {
            system: system(self.base),
            table: self.base.setting(),
            place,
            key,
            changed_at,
            client: self.client,
            filters: self.filters.into_iter().map(|(_, why)| why).collect(),
            fields,
            doubts: self.doubts,
            consent,
            unmapped,
            reads: self.reads,
        }
    }

    fn conditions(&self, prefix: &str) -> Vec<String> {
        let of = |(name, _): &(String, String)| {
            self.base.column(name).map(|column| stamp::still_there(column, self.dialect, prefix))
        };
        self.filters.iter().filter_map(of).collect()
    }

    fn query(
        &self,
        output: &mut Output,
        key: Option<Choice>,
        stamp: Option<Stamp>,
    ) -> (Place, Option<Choice>, Option<Choice>) {
        // Plain columns first: they keep their names, and what is computed gets another one.
        for name in key.iter().map(|key| &key.what).chain(&self.client) {
            output.column(name);
        }
        let plain = stamp.as_ref().and_then(|stamp| stamp.column()).filter(|_| self.stamps.is_empty());
        if let Some(name) = plain {
            output.column(name);
        }
        for (key, part) in &self.fields {
            if let Origin::Column(name) = &part.origin {
                let name = output.column(name);
                output.names.insert(*key, name);
            }
        }
        let changed_at = stamp.as_ref().map(|stamp| {
            let what = match plain {
                Some(name) => name.to_owned(),
                None => output.expression(&self.latest(&stamp.sql(&format!("{BASE}."))), "changed_at"),
            };
            let why = match self.stamps.is_empty() {
                true => stamp.why.clone(),
                false => format!("the latest of {} and the times of what is joined to it", stamp.setting()),
            };
            Choice { what, why }
        });
        for (key, part) in &self.fields {
            if let Origin::Sql(sql, name) = &part.origin {
                let name = output.expression(sql, name);
                output.names.insert(*key, name);
            }
        }
        let mut query = format!("SELECT {}\nFROM {} AS {BASE}", output.list.join(",\n       "), self.base.sql());
        for join in &self.joins {
            query.push_str(&format!("\nLEFT JOIN {} AS {} ON {}", join.table, join.alias, join.on));
        }
        let conditions = self.conditions(&format!("{BASE}."));
        if !conditions.is_empty() {
            query.push_str(&format!("\nWHERE {}", conditions.join(" AND ")));
        }
        (Place::Query(query), key, changed_at)
    }

    /// The latest of the table's own instant and those of others, any of which may be NULL.
    fn latest(&self, own: &str) -> String {
        if self.stamps.is_empty() {
            return own.to_owned();
        }
        match self.dialect {
            Dialect::Postgres => format!("greatest({own}, {})", self.stamps.join(", ")),
            // SQLite's `max` is NULL where one of them is.
            Dialect::Sqlite => {
                let others = self.stamps.iter().map(|stamp| format!("coalesce({stamp}, {own})"));
                format!("max({own}, {})", others.collect::<Vec<_>>().join(", "))
            }
        }
    }
}

/// What a query selects, each name once.
#[derive(Default)]
struct Output {
    list: Vec<String>,
    taken: Vec<(String, String)>,
    names: BTreeMap<LeadKey, String>,
}

impl Output {
    fn column(&mut self, name: &str) -> String {
        let sql = qualified(name);
        if !self.taken.iter().any(|(_, known)| *known == sql) {
            self.list.push(sql.clone());
            self.taken.push((name.to_lowercase(), sql));
        }
        name.to_owned()
    }

    fn expression(&mut self, sql: &str, hint: &str) -> String {
        let numbered = (2..).map(|number| format!("{hint}_{number}"));
        let free = |name: &String| !self.taken.iter().any(|(taken, _)| taken == name);
        let name = std::iter::once(hint.to_owned()).chain(numbered).find(free).unwrap_or_default();
        self.list.push(format!("{sql} AS {}", db::quote(&name)));
        self.taken.push((name.clone(), sql.to_owned()));
        name
    }
}

/// A column of the table, in a query.
pub fn qualified(column: &str) -> String {
    format!("{BASE}.{}", db::quote(column))
}
