//! The columns of the source, as the database describes them.

use std::fmt;

/// The kind of object that a table's name means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelationKind {
    Table,
    View,
    MaterialisedView,
    ForeignTable,
}

impl fmt::Display for RelationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Table => "table",
            Self::View => "view",
            Self::MaterialisedView => "materialised view",
            Self::ForeignTable => "foreign table",
        })
    }
}

/// A column of PostgreSQL's catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CatalogColumn {
    /// The number of its table; another table of the same name has another number.
    pub table: i64,
    /// Its own number; no other column of that table ever has it, before or after.
    pub number: i32,
    /// The type modifier, as the catalog keeps it; -1 for none.
    pub modifier: i32,
}

/// A column of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceColumn {
    pub name: String,
    /// The database's own name of the type, for messages.
    pub type_name: String,
    /// The base type below all domains.
    pub plain_type: String,
    pub family: TypeFamily,
    pub form: ColumnForm,
    /// Further facts from PostgreSQL's catalog; `None` if the source is no table.
    pub entry: Option<CatalogColumn>,
}

/// How a column's values become text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnForm {
    /// The database's own text of the value.
    Plain,
    /// PostgreSQL `json` and `jsonb`: the scalar inside.
    Json,
    /// Arrays, composites, ranges, binary: no key of a lead can hold them.
    Unfit,
}

/// `[source] table` in the catalog; empty for a query, and if the catalog does not have it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CatalogTable {
    pub relation: Option<RelationKind>,
    /// PostgreSQL: row level security applies to this user, who may see only some of the rows, or none.
    pub row_security: bool,
    /// No two rows can have the same key and client, as texts: the database rejects a second one.
    pub has_unique_key: bool,
    pub(crate) columns: Vec<(String, CatalogColumn)>,
}

impl CatalogTable {
    /// Adds to each column its entry of the catalog.
    pub fn entered(&self, columns: Vec<SourceColumn>) -> Vec<SourceColumn> {
        let entry = |name: &str| self.columns.iter().find(|(found, _)| found == name).map(|(_, entry)| *entry);
        columns.into_iter().map(|column| SourceColumn { entry: entry(&column.name), ..column }).collect()
    }
}

/// Types whose values have the same texts. Within a family a column may change: `varchar(50)` to `text`, `int4` to `int8`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TypeFamily {
    Text,
    Integer,
    /// Floating or decimal.
    Number,
    Boolean,
    Date,
    Timestamp,
    TimestampTz,
    Uuid,
    Json,
    /// Any other, by its name.
    Other(String),
}

impl TypeFamily {
    /// The family of a PostgreSQL type, by its plain name.
    pub fn of_postgres(name: &str) -> Self {
        match name.to_ascii_uppercase().as_str() {
            "TEXT" | "VARCHAR" | "CHAR" | "BPCHAR" | "\"CHAR\"" | "NAME" | "CITEXT" => Self::Text,
            "INT2" | "INT4" | "INT8" | "OID" => Self::Integer,
            "FLOAT4" | "FLOAT8" | "NUMERIC" => Self::Number,
            "BOOL" => Self::Boolean,
            "DATE" => Self::Date,
            "TIMESTAMP" => Self::Timestamp,
            "TIMESTAMPTZ" => Self::TimestampTz,
            "UUID" => Self::Uuid,
            "JSON" | "JSONB" => Self::Json,
            other => Self::Other(other.to_owned()),
        }
    }

    /// The family of a type of MySQL or MariaDB, by the driver's name.
    pub fn of_mysql(name: &str) -> Self {
        let name = name.to_ascii_uppercase();
        match name.strip_suffix(" UNSIGNED").unwrap_or(&name) {
            "CHAR" | "VARCHAR" | "TINYTEXT" | "TEXT" | "MEDIUMTEXT" | "LONGTEXT" | "ENUM" | "SET" => Self::Text,
            "TINYINT" | "SMALLINT" | "MEDIUMINT" | "INT" | "BIGINT" | "YEAR" | "BIT" => Self::Integer,
            "FLOAT" | "DOUBLE" | "DECIMAL" => Self::Number,
            "BOOLEAN" => Self::Boolean,
            "DATE" => Self::Date,
            "DATETIME" => Self::Timestamp,
            "TIMESTAMP" => Self::TimestampTz,
            "JSON" => Self::Json,
            other => Self::Other(other.to_owned()),
        }
    }

    /// The family of a declared type of SQLite.
    pub fn of_sqlite(name: &str) -> Self {
        match name.to_ascii_uppercase().as_str() {
            "TEXT" => Self::Text,
            "INTEGER" => Self::Integer,
            "REAL" | "NUMERIC" => Self::Number,
            "BOOLEAN" => Self::Boolean,
            "DATE" => Self::Date,
            "DATETIME" => Self::Timestamp,
            other => Self::Other(other.to_owned()),
        }
    }
}
