//! Ranks the tables by how likely they hold the leads. Pure.

use crate::conversica::lead::LeadKey;
use crate::setup::introspect::table::InspectedTable;
use crate::setup::propose::shape::{self, ShapeFit};
use crate::setup::propose::{consent, contact, lineage, names, staff};

/// How likely a table holds leads, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableCandidate {
    /// The index in the catalog.
    pub table: usize,
    pub score: i32,
    pub why: String,
}

/// A table below this score holds no people.
pub const LEAST: i32 = 30;
/// The lead over the next table that a table needs to be chosen without a question.
pub const AHEAD: i32 = 12;

/// Every table that may hold leads, the likeliest first, without tables of users and staff.
pub fn candidates(catalog: &[InspectedTable]) -> Vec<TableCandidate> {
    let mut found: Vec<TableCandidate> = (0..catalog.len()).filter_map(|index| candidate(catalog, index)).collect();
    // A table of leads ranks above the table of all persons that it inherits from.
    let inherited: Vec<usize> = found
        .iter()
        .filter(|candidate| names::table_likeness(&catalog[candidate.table].name) > 0)
        .flat_map(|candidate| lineage::trace_ancestors(catalog, candidate.table).ancestors)
        .map(|ancestor| ancestor.table)
        .collect();
    let parents = found.iter_mut().filter(|candidate| inherited.contains(&candidate.table));
    parents.for_each(|parent| parent.score -= FOR_A_CHILD);
    found.sort_by(|a, b| {
        b.score.cmp(&a.score).then_with(|| catalog[a.table].setting().cmp(&catalog[b.table].setting()))
    });
    found
}

/// The table to choose without a question.
pub fn clear_winner(candidates: &[TableCandidate]) -> Option<&TableCandidate> {
    let first = candidates.first()?;
    let next = candidates.get(1).map_or(0, |next| next.score);
    (first.score >= LEAST && first.score >= next + AHEAD).then_some(first)
}

/// Whether tables of users and staff have e-mail addresses.
pub fn has_addresses_of_staff(catalog: &[InspectedTable]) -> bool {
    (0..catalog.len()).any(|index| {
        let table = &catalog[index];
        let is_called = |name: &str| names::likeness(name, names::of(LeadKey::Email)).is_some();
        staff::is_staff_in(catalog, index) && table.columns.iter().any(|column| is_called(&column.name))
    })
}

/// The deduction for a table from which another table of people inherits.
const FOR_A_CHILD: i32 = 15;

fn candidate(catalog: &[InspectedTable], index: usize) -> Option<TableCandidate> {
    // Users and staff are never leads, whatever the other evidence.
    if staff::is_staff_in(catalog, index) {
        return None;
    }
    let lineage = lineage::trace_ancestors(catalog, index);
    let table = lineage.table.as_ref();
    let has = |list: &str| table.columns.iter().any(|column| names::likeness(&column.name, list).is_some());
    let looks_like_email = table
        .columns
        .iter()
        .any(|column| column.values().next().is_some() && shape::fit(column, shape::is_email) == ShapeFit::Fits);
    let mut score = names::table_likeness(&table.name);
    let mut why = Vec::new();
    if score > 0 {
        why.push("its name");
    }
    let own = has(names::of(LeadKey::Email)) || looks_like_email || consent::address_tables(catalog, table).is_some();
    // A lead may have its address through a person; for an order or a ticket that proves nothing.
    let may_borrow = names::table_likeness(&table.name) > 0;
    let email = own || may_borrow && contact::find_contact(catalog, table, index).is_some();
    for (holds, worth, what) in [
        (email, 20, "e-mail addresses"),
        (has(names::of(LeadKey::FirstName)), 10, "first names"),
        (has(names::of(LeadKey::LastName)), 5, "last names"),
        (has(names::of(LeadKey::HomePhone)) || has(names::of(LeadKey::CellPhone)), 4, "telephone numbers"),
        (has(names::of(LeadKey::LeadSource)), 6, "sources"),
        (has(names::of(LeadKey::RepId)) || has(names::of(LeadKey::RepName)), 4, "owners"),
        (has(names::of(LeadKey::OptOut)), 6, "opt-outs"),
        (has(names::CHANGED_AT), 4, "times of change"),
    ] {
        if holds {
            score += worth;
            why.push(what);
        }
    }
    if table.rows == Some(0) {
        score -= 10;
        why.push("but no rows");
    }
    // A table without samples yet may hold addresses under an unknown name.
    ((email || table.rows.is_none()) && score > 0).then(|| TableCandidate { table: index, score, why: why.join(", ") })
}
