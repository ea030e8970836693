//! Joined inheritance: the primary key of a table is also a reference to the key of another table (Django's multi-table
//! inheritance, SQLAlchemy, Doctrine, Hibernate). Both rows are one record, and the parent's columns count as the table's own.
//! Pure.

use std::borrow::Cow;

use crate::db;
use crate::setup::introspect::table::leads_to;
use crate::setup::introspect::table::{InspectedTable, TableColumn};
use crate::setup::propose::record_lineage::BASE;
use crate::setup::propose::record_lineage::{RecordAncestor, RecordLineage};
use crate::setup::propose::{flag, names, staff};

/// The table at this index, and the tables that it inherits from, over any number of levels.
pub fn trace_ancestors(catalog: &[InspectedTable], base: usize) -> RecordLineage<'_> {
    let mut lineage = RecordLineage { table: Cow::Borrowed(&catalog[base]), ancestors: Vec::new() };
    let (mut child, mut alias) = (base, BASE.to_owned());
    let mut seen = vec![base];
    while let Some((column, parent, target)) = find_parent(catalog, child) {
        if seen.contains(&parent) {
            break;
        }
        seen.push(parent);
        let own = free_alias(&catalog[parent].name, &lineage.ancestors);
        let on = format!("{own}.{} = {alias}.{}", db::quote(&target), db::quote(&column));
        lineage.ancestors.push(RecordAncestor { table: parent, alias: own.clone(), on });
        inherit_columns(lineage.table.to_mut(), catalog, parent);
        (child, alias) = (parent, own);
    }
    lineage
}

/// From a table of staff the record inherits only columns that take rows out of use: staff data is never sent.
fn inherit_columns(table: &mut InspectedTable, catalog: &[InspectedTable], parent: usize) {
    let is_staff = staff::is_staff_in(catalog, parent);
    let parent = &catalog[parent];
    let key = parent.primary_key();
    for column in &parent.columns {
        let known = table.columns.iter().any(|known| known.name.eq_ignore_ascii_case(&column.name));
        if known || key == Some(column.name.as_str()) || is_staff && !says_whether_in_use(column) {
            continue;
        }
        table.columns.push(column.clone());
        table.references.extend(parent.references.iter().filter(|known| known.column == column.name).cloned());
    }
}

fn says_whether_in_use(column: &TableColumn) -> bool {
    let is = |list: &str| names::likeness(&column.name, list).is_some();
    is(names::DELETED) || is(names::ACTIVE) || is(names::CHANGED_AT) || flag::find_meaning(column).is_some()
}

/// The column of the primary key, the parent that it refers to, and the parent's key.
fn find_parent(catalog: &[InspectedTable], child: usize) -> Option<(String, usize, String)> {
    let table = &catalog[child];
    let key = table.primary_key()?;
    let declared = table.references.iter().find(|reference| reference.column == key);
    if let Some(reference) = declared {
        let parent = catalog.iter().position(|other| leads_to(reference, other))?;
        let primary = catalog[parent].primary_key()?;
        let target = reference.target.as_deref().unwrap_or(primary);
        return target.eq_ignore_ascii_case(primary).then(|| (key.to_owned(), parent, primary.to_owned()));
    }
    // A copied table may have lost its references; Django's column name is enough evidence.
    let folded = names::folded(key);
    let stem = folded.strip_suffix("ptrid").filter(|stem| !stem.is_empty())?;
    let fits = |index: &usize| {
        let other = &catalog[*index];
        let same_type = || Some(other.column(other.primary_key()?)?.family == table.column(key)?.family);
        *index != child
            && other.schema == table.schema
            && names::words(&other.name).last().is_some_and(|last| last == stem || names::folded(&other.name) == stem)
            && same_type() == Some(true)
    };
    let mut found = (0..catalog.len()).filter(fits);
    let parent = found.next()?;
    let primary = catalog[parent].primary_key()?.to_owned();
    found.next().is_none().then(|| (key.to_owned(), parent, primary))
}

fn free_alias(name: &str, ancestors: &[RecordAncestor]) -> String {
    let plain: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
    let starts_well = plain.starts_with(|c: char| c.is_ascii_alphabetic());
    let plain = if starts_well && plain.len() > 1 { plain.to_ascii_lowercase() } else { "parent".to_owned() };
    // No SQL keyword ends in `_base`: `order_base`, `user_base`.
    let hint = format!("{plain}_base");
    let numbered = (2..).map(|number| format!("{hint}_{number}"));
    let is_free = |alias: &String| ancestors.iter().all(|ancestor| ancestor.alias != *alias);
    std::iter::once(hint.clone()).chain(numbered).find(is_free).unwrap_or(hint)
}
