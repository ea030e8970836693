//! What the source was when it was first looked at, and what has become of it since. Pure.
//!
//! Somebody changes the CRM's tables while we run. Values of another type make other Lead objects of the same rows, or
//! nothing at all of them: so that stops the pass, until the column is as it was or a person has had a look.

use crate::crm::columns::{Column, Relation};
use crate::nearest::nearest;

/// Types whose values have the same texts. Within a family a column may change: `varchar(50)` to `text`, `int4` to `int8`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Family {
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

impl Family {
    /// Of a type of PostgreSQL, by its plain name.
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

    /// Of a declared type of SQLite.
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

/// The source at one look: what it is, and the columns that are used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    pub relation: Option<Relation>,
    pub used: Vec<Used>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Used {
    /// The setting that names it, as people write it: `[lead] email`.
    pub by: String,
    pub column: Column,
}

/// What is no longer as it was, in words; none when all is.
pub fn since(
    first: &Look,
    relation: Option<Relation>,
    find: impl Fn(&str) -> Option<Column>,
    names: &[&str],
) -> Vec<String> {
    let mut changes = Vec::new();
    if let (Some(was), Some(is)) = (first.relation, relation)
        && was != is
    {
        changes.push(format!("it was a {was} and is now a {is}"));
    }
    let mut said: Vec<&str> = Vec::new();
    for Used { by, column: was } in &first.used {
        if said.contains(&was.name.as_str()) {
            continue;
        }
        said.push(&was.name);
        match find(&was.name) {
            None => {
                let near = nearest(&was.name, names.iter().copied());
                let hint = near.map(|near| format!("; there is \"{near}\"")).unwrap_or_default();
                let (name, kind) = (&was.name, &was.type_name);
                changes.push(format!("column \"{name}\" ({kind}), which {by} asks for, is not there any more{hint}"));
            }
            Some(is) if is.family != was.family => changes.push(format!(
                "column \"{}\", which {by} asks for, was of type {} and is now of type {}",
                was.name, was.type_name, is.type_name
            )),
            Some(_) => {}
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_one_family_have_the_same_texts() {
        assert_eq!(Family::of_postgres("VARCHAR"), Family::of_postgres("TEXT"));
        assert_eq!(Family::of_postgres("INT4"), Family::of_postgres("INT8"));
        for (one, other) in [("INT8", "NUMERIC"), ("TIMESTAMP", "TIMESTAMPTZ"), ("TEXT", "UUID"), ("DATE", "TIMESTAMP")]
        {
            assert_ne!(Family::of_postgres(one), Family::of_postgres(other));
        }
        assert_ne!(Family::of_postgres("inet"), Family::of_postgres("money"));
    }
}
