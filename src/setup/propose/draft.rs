//! A proposal under construction, and its final form: a table where columns suffice, a query where it joins or computes anything.
//! Pure.

use std::collections::BTreeMap;

use crate::config::{FieldRule, WhenNull};
use crate::conversica::lead::LeadKey;
use crate::db;
use crate::rules::change_stamp::{self, LatestFunction};
use crate::rules::source_column::TypeFamily;
use crate::setup::introspect::table::{InspectedTable, TableColumn};
use crate::setup::propose::dialect::SqlDialect;
use crate::setup::propose::flag;
use crate::setup::propose::proposal::{
    ChangeStamp, ProposedChoice, ProposedField, RowsKept, RowsPlace, SourceProposal, UnmappedColumn, system,
};
use crate::setup::propose::record_lineage::BASE;
use crate::setup::propose::record_lineage::RecordLineage;

pub struct ProposalDraft<'a> {
    pub catalog: &'a [InspectedTable],
    /// The table, with the columns that it inherits.
    pub base: &'a InspectedTable,
    /// The tables behind `base`, by their aliases: its own first, then its ancestors.
    homes: Vec<(String, usize)>,
    pub dialect: SqlDialect,
    pub client: Option<String>,
    pub fields: BTreeMap<LeadKey, DraftPart>,
    pub joins: Vec<DraftJoin>,
    pub filters: Vec<RowFilter>,
    pub exclusions: Vec<RowExclusion>,
    /// Further conditions of the query, over the joined tables, and why.
    pub conditions: Vec<(String, String)>,
    /// The type of the change stamp.
    pub stamp_family: Option<TypeFamily>,
    /// Change stamps of joined tables, in SQL.
    pub stamps: Vec<String>,
    pub doubts: Vec<String>,
    pub consent: Vec<UnmappedColumn>,
    /// Keys that the operator wants left out.
    pub barred: Vec<LeadKey>,
    taken: Vec<String>,
    reads: Vec<usize>,
}

/// How a key is filled.
pub struct DraftPart {
    pub origin: PartOrigin,
    pub default: Option<String>,
    pub map: BTreeMap<String, String>,
    pub why: String,
    pub doubt: Option<String>,
}

pub enum PartOrigin {
    /// A column of the table.
    Column(String),
    /// An expression over [`BASE`] and the joined tables, and its name in the query.
    Sql(String, &'static str),
    Value(String),
}

pub struct DraftJoin {
    pub alias: String,
    table: String,
    on: String,
    kind: &'static str,
}

/// A column that takes a row out of use.
pub struct RowFilter {
    pub column: String,
    pub kept: RowsKept,
    pub why: String,
}

/// Rows that are left out because another table also has them.
pub struct RowExclusion {
    pub column: String,
    /// The values of the column whose rows are left out, as a query.
    pub values: String,
    pub why: String,
}

impl DraftPart {
    pub fn new(origin: PartOrigin, why: impl Into<String>) -> Self {
        Self { origin, default: None, map: BTreeMap::new(), why: why.into(), doubt: None }
    }

    pub fn doubt(mut self, doubt: impl Into<String>) -> Self {
        self.doubt = Some(doubt.into());
        self
    }
}

/// What a condition is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ConditionPlace {
    /// `[source] where`: columns alone.
    Table,
    /// A query: columns with the aliases of their tables.
    Query,
}

impl<'a> ProposalDraft<'a> {
    pub fn new(
        catalog: &'a [InspectedTable],
        base: usize,
        lineage: &'a RecordLineage<'a>,
        dialect: SqlDialect,
    ) -> Self {
        let ancestors = &lineage.ancestors;
        let homes = ancestors.iter().map(|ancestor| (ancestor.alias.clone(), ancestor.table));
        // A record whose parent row is missing is incomplete: no LEFT JOIN.
        let joins = ancestors.iter().map(|ancestor| DraftJoin {
            alias: ancestor.alias.clone(),
            table: catalog[ancestor.table].sql(),
            on: ancestor.on.clone(),
            kind: "JOIN",
        });
        Self {
            catalog,
            base: &lineage.table,
            homes: std::iter::once((BASE.to_owned(), base)).chain(homes).collect(),
            dialect,
            client: None,
            fields: BTreeMap::new(),
            joins: joins.collect(),
            filters: Vec::new(),
            exclusions: Vec::new(),
            conditions: Vec::new(),
            stamp_family: None,
            stamps: Vec::new(),
            doubts: Vec::new(),
            consent: Vec::new(),
            barred: Vec::new(),
            taken: Vec::new(),
            reads: std::iter::once(base).chain(ancestors.iter().map(|ancestor| ancestor.table)).collect(),
        }
    }

    /// Marks the column as used.
    pub fn take(&mut self, column: &str) {
        self.taken.push(column.to_owned());
    }

    pub fn is_taken(&self, column: &str) -> bool {
        self.taken.iter().any(|taken| taken == column) || self.client.as_deref() == Some(column)
    }

    /// Whether a key still needs a source.
    pub fn wants(&self, key: LeadKey) -> bool {
        !self.fields.contains_key(&key) && !self.barred.contains(&key)
    }

    /// Fills a key, once.
    pub fn fill(&mut self, key: LeadKey, part: DraftPart) {
        if let PartOrigin::Column(column) = &part.origin {
            self.taken.push(column.clone());
        }
        if self.wants(key) {
            self.fields.insert(key, part);
        }
    }

    /// The unused readable columns.
    pub fn free(&self) -> Vec<&'a TableColumn> {
        let base: &'a InspectedTable = self.base;
        base.columns.iter().filter(|column| column.readable && !self.is_taken(&column.name)).collect()
    }

    /// The tables of the record, by their aliases: the table itself first, then its ancestors.
    pub fn record_tables(&self) -> impl Iterator<Item = (&str, &'a InspectedTable)> {
        let catalog: &'a [InspectedTable] = self.catalog;
        self.homes.iter().map(move |(alias, table)| (alias.as_str(), &catalog[*table]))
    }

    /// Whether the proposal reads this table of the catalog.
    pub fn is_read(&self, table: usize) -> bool {
        self.reads.contains(&table)
    }

    /// The tables of the record, as indices of the catalog.
    pub fn record(&self) -> Vec<usize> {
        self.homes.iter().map(|(_, table)| *table).collect()
    }

    /// Every column of this name in the tables of the record, with the alias of its table; the nearest first.
    pub fn find_columns(&self, name: &str) -> Vec<(&str, &'a TableColumn)> {
        let of = |(alias, table): (_, &'a InspectedTable)| {
            let column = table.columns.iter().find(|column| column.name == name);
            let column = column.or_else(|| table.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name)));
            Some((alias, column.filter(|column| column.readable)?))
        };
        self.record_tables().filter_map(of).collect()
    }

    /// A column of the record, in a query.
    pub fn qualified(&self, name: &str) -> String {
        let found = self.find_columns(name);
        let (alias, name) = found.first().map_or((BASE, name), |(alias, column)| (*alias, column.name.as_str()));
        format!("{alias}.{}", db::quote(name))
    }

    /// The condition that keeps rows, over all columns of this name.
    fn write_condition(&self, name: &str, kept: RowsKept, place: ConditionPlace) -> Vec<String> {
        let of = |(alias, column): (&str, &TableColumn)| {
            let prefix = match place {
                ConditionPlace::Table => String::new(),
                ConditionPlace::Query => format!("{alias}."),
            };
            flag::write_condition(column, kept, self.dialect, &prefix)
        };
        self.find_columns(name).into_iter().map(of).collect()
    }

    /// Joins a table once for each condition; `on` receives the alias.
    pub fn join(&mut self, table: usize, hint: &str, on: impl Fn(&str) -> String) -> String {
        let name = self.catalog[table].sql();
        let same = |join: &&DraftJoin| join.table == name && join.on == on(&join.alias);
        if let Some(join) = self.joins.iter().find(same) {
            return join.alias.clone();
        }
        let taken = |alias: &str| alias == BASE || self.joins.iter().any(|join| join.alias == alias);
        let numbered = (2..).map(|number| format!("{hint}_{number}"));
        let alias = std::iter::once(hint.to_owned()).chain(numbered).find(|alias| !taken(alias)).unwrap_or_default();
        self.reads.push(table);
        self.joins.push(DraftJoin { on: on(&alias), alias: alias.clone(), table: name, kind: "LEFT JOIN" });
        alias
    }

    pub fn finish(
        mut self,
        key: Option<ProposedChoice>,
        stamp: Option<ChangeStamp>,
        unmapped: Vec<String>,
    ) -> SourceProposal {
        let computed = |part: &DraftPart| matches!(part.origin, PartOrigin::Sql(..));
        let is_query = !self.joins.is_empty() || self.fields.values().any(computed);
        if !self.fields.contains_key(&LeadKey::OptOut) {
            self.doubts.push(
                "optOut is not mapped: who opts out in the CRM goes on getting messages, until Conversica hears of it itself"
                    .to_owned(),
            );
        }
        self.write_suggestions(if is_query { ConditionPlace::Query } else { ConditionPlace::Table });
        // The query reads only mapped columns; a table without joins needs no query.
        let mut output = QueryOutput::default();
        let (place, key, changed_at) = if is_query {
            self.query(&mut output, key, stamp)
        } else {
            let conditions = self.conditions(ConditionPlace::Table);
            let filter = (!conditions.is_empty()).then(|| conditions.join(" AND "));
            let changed_at = stamp.map(|stamp| ProposedChoice { what: stamp.setting(), why: stamp.why });
            (RowsPlace::Table { filter }, key, changed_at)
        };
        let fields = std::mem::take(&mut self.fields);
        let fields = fields.into_iter().map(|(key, part)| {
            let column = output.names.remove(&key);
            let column = move |name: String| FieldRule::Column {
                column: column.unwrap_or(name),
                default: part.default,
                map: part.map,
                when_null: WhenNull::Omit,
            };
            let rule = match part.origin {
                PartOrigin::Column(name) => column(name),
                PartOrigin::Sql(_, name) => column(name.to_owned()),
                PartOrigin::Value(value) => FieldRule::Value(value),
            };
            ProposedField { key, rule, why: part.why, doubt: part.doubt }
        });
        let fields = fields.collect();
        SourceProposal {
            system: system(self.base),
            table: self.base.setting(),
            place,
            key,
            changed_at,
            client: self.client,
            filters: self
                .filters
                .into_iter()
                .map(|filter| filter.why)
                .chain(self.exclusions.into_iter().map(|exclusion| exclusion.why))
                .chain(self.conditions.into_iter().map(|(_, why)| why))
                .collect(),
            fields,
            doubts: self.doubts,
            consent: self.consent,
            unmapped,
            reads: self.reads,
        }
    }

    fn conditions(&self, place: ConditionPlace) -> Vec<String> {
        let excluded = self.exclusions.iter().map(|exclusion| {
            let column = match place {
                ConditionPlace::Table => db::quote(&exclusion.column),
                ConditionPlace::Query => self.qualified(&exclusion.column),
            };
            format!("{column} NOT IN ({})", exclusion.values)
        });
        let filters = self.filters.iter();
        let own = filters.flat_map(|filter| self.write_condition(&filter.column, filter.kept, place));
        own.chain(excluded).chain(self.conditions.iter().map(|(condition, _)| condition.clone())).collect()
    }

    /// Writes the suggestions for columns that are only named; if optOut has a source already, only the condition.
    fn write_suggestions(&mut self, place: ConditionPlace) {
        let has_opt_out = self.fields.contains_key(&LeadKey::OptOut);
        let mut consent = std::mem::take(&mut self.consent);
        for unmapped in &mut consent {
            if has_opt_out {
                unmapped.inverse_of = None;
                unmapped.rule = None;
            }
            let kept = unmapped.kept;
            let conditions = kept.map(|kept| self.write_condition(&unmapped.column, kept, place));
            unmapped.condition = conditions.filter(|some| !some.is_empty()).map(|all| all.join(" AND "));
        }
        self.consent = consent;
    }

    fn query(
        &self,
        output: &mut QueryOutput,
        key: Option<ProposedChoice>,
        stamp: Option<ChangeStamp>,
    ) -> (RowsPlace, Option<ProposedChoice>, Option<ProposedChoice>) {
        // Plain columns first: they keep their names, and computed ones get other names.
        for name in key.iter().map(|key| &key.what).chain(&self.client) {
            output.column(name, self.qualified(name));
        }
        let plain = stamp.as_ref().filter(|_| self.stamps.is_empty());
        let plain = plain.and_then(|stamp| stamp.column().filter(|name| self.qualified(name) == stamp.sql()));
        if let Some(name) = plain {
            output.column(name, self.qualified(name));
        }
        for (key, part) in &self.fields {
            if let PartOrigin::Column(name) = &part.origin {
                let name = output.column(name, self.qualified(name));
                output.names.insert(*key, name);
            }
        }
        // Columns that a comment suggests to map must be in the query.
        for unmapped in self.consent.iter().filter(|unmapped| unmapped.rule.is_some()) {
            output.column(&unmapped.column, self.qualified(&unmapped.column));
        }
        let changed_at = stamp.as_ref().map(|stamp| {
            let what = match plain {
                Some(name) => name.to_owned(),
                None => output.expression(&self.latest(&stamp.sql()), "changed_at"),
            };
            let why = match self.stamps.is_empty() {
                true => stamp.why.clone(),
                false => format!("{}; the latest of it and the times of what is joined", stamp.why),
            };
            ProposedChoice { what, why }
        });
        for (key, part) in &self.fields {
            if let PartOrigin::Sql(sql, name) = &part.origin {
                let name = output.expression(sql, name);
                output.names.insert(*key, name);
            }
        }
        let mut query = format!("SELECT {}\nFROM {} AS {BASE}", output.list.join(",\n       "), self.base.sql());
        for join in &self.joins {
            query.push_str(&format!("\n{} {} AS {} ON {}", join.kind, join.table, join.alias, join.on));
        }
        let conditions = self.conditions(ConditionPlace::Query);
        if !conditions.is_empty() {
            query.push_str(&format!("\nWHERE {}", conditions.join(" AND ")));
        }
        (RowsPlace::Query(query), key, changed_at)
    }

    /// The latest of the table's own stamp and those of joined tables; each may be NULL.
    fn latest(&self, own: &str) -> String {
        if self.stamps.is_empty() {
            return own.to_owned();
        }
        let function = match self.dialect {
            SqlDialect::Postgres => LatestFunction::Greatest,
            SqlDialect::Sqlite => LatestFunction::MaxOrNull,
            SqlDialect::Mysql => LatestFunction::GreatestOrNull,
        };
        let all: Vec<String> = std::iter::once(own.to_owned()).chain(self.stamps.iter().cloned()).collect();
        change_stamp::latest_of(&all, function)
    }
}

/// The columns that a query selects, each name once.
#[derive(Default)]
struct QueryOutput {
    list: Vec<String>,
    taken: Vec<(String, String)>,
    names: BTreeMap<LeadKey, String>,
}

impl QueryOutput {
    fn column(&mut self, name: &str, sql: String) -> String {
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
