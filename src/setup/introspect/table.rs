//! A table of the database, as `init` sees it.

use crate::db;
use crate::rules::source_column::{RelationKind, TypeFamily};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableColumn {
    pub name: String,
    /// The database's own name of the type.
    pub type_name: String,
    pub family: TypeFamily,
    /// Whether its values have a plain text: not arrays, composites, binary.
    pub readable: bool,
    pub not_null: bool,
    /// One value per sampled row.
    pub samples: Vec<Option<String>>,
}

impl TableColumn {
    /// The sampled values that are not blank.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        self.samples.iter().flatten().map(|value| value.trim()).filter(|value| !value.is_empty())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignKey {
    pub column: String,
    pub schema: Option<String>,
    pub table: String,
    /// `None` means its primary key.
    pub target: Option<String>,
}

/// A table or view and its properties.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InspectedTable {
    /// `None` where the name alone identifies the table.
    pub schema: Option<String>,
    pub name: String,
    pub relation: RelationKind,
    pub columns: Vec<TableColumn>,
    /// The columns of the primary key and of every other unique index without a condition, the primary key first.
    pub unique: Vec<UniqueKey>,
    /// References of one column to one column.
    pub references: Vec<ForeignKey>,
    /// The number of rows, at most `COUNT_UP_TO` plus one; `None` where the rows were not counted.
    pub rows: Option<i64>,
    /// The number of sampled rows.
    pub sampled: usize,
}

impl InspectedTable {
    /// The name for `[source] table`.
    pub fn setting(&self) -> String {
        let part = |name: &str| match name.contains(['.', '"']) || name.trim() != name || name.is_empty() {
            true => db::quote(name),
            false => name.to_owned(),
        };
        match &self.schema {
            Some(schema) => format!("{}.{}", part(schema), part(&self.name)),
            None => part(&self.name),
        }
    }

    /// The name in SQL.
    pub fn sql(&self) -> String {
        match &self.schema {
            Some(schema) => format!("{}.{}", db::quote(schema), db::quote(&self.name)),
            None => db::quote(&self.name),
        }
    }

    pub fn column(&self, name: &str) -> Option<&TableColumn> {
        let exact = self.columns.iter().find(|column| column.name == name);
        exact.or_else(|| self.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name)))
    }

    /// The primary key, if it is one column.
    pub fn primary_key(&self) -> Option<&str> {
        let primary = self.unique.iter().find(|unique| unique.primary)?;
        match primary.columns.as_slice() {
            [column] => Some(column),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UniqueKey {
    pub columns: Vec<String>,
    pub primary: bool,
}

/// Whether a reference leads to a table.
pub fn leads_to(reference: &ForeignKey, table: &InspectedTable) -> bool {
    table.schema == reference.schema && table.name.eq_ignore_ascii_case(&reference.table)
}
