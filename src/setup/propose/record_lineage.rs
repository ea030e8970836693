//! A table with the tables that it inherits from.

use std::borrow::Cow;

use crate::setup::introspect::table::InspectedTable;

/// A table with all that it inherits.
pub struct RecordLineage<'a> {
    /// The columns of the table and of its ancestors combined, each name once, from the nearest table.
    pub table: Cow<'a, InspectedTable>,
    /// The nearest first.
    pub ancestors: Vec<RecordAncestor>,
}

/// A table that another inherits from.
pub struct RecordAncestor {
    /// The index in the catalog.
    pub table: usize,
    pub alias: String,
    /// The SQL condition that joins its row of the same record.
    pub on: String,
}

/// The table's name in a query.
pub const BASE: &str = "l";
