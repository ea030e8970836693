//! Proposes a configuration from the names and sampled values of a database: table, key, change column, filter, and the column
//! for each key of the Lead object. Each part has its reason and its doubts. Pure.
//!
//! A proposal is a guess and says so. It never reads consent the wrong way round: a column that says yes to messages is no
//! opt-out, and it names every unmapped column that may concern consent.

mod assign;
mod consent;
mod contact;
pub mod dialect;
mod draft;
mod flag;
mod join;
mod lineage;
pub(crate) mod mysql_sql;
pub mod names;
pub mod proposal;
pub mod rank;
pub mod record_lineage;
pub mod shape;
pub mod staff;
mod stamp;

use crate::setup::introspect::table::InspectedTable;
use crate::setup::propose::proposal::{OperatorWishes, SourceProposal};

pub use crate::setup::propose::dialect::SqlDialect;
use draft::ProposalDraft;

/// The proposal for the table at this index of the catalog.
pub fn propose(
    catalog: &[InspectedTable],
    base: usize,
    dialect: SqlDialect,
    wishes: &OperatorWishes,
) -> SourceProposal {
    let lineage = lineage::trace_ancestors(catalog, base);
    let mut draft = ProposalDraft::new(catalog, base, &lineage, dialect);
    let named = |asked: &String| draft.base.column(asked).map_or(asked.clone(), |column| column.name.clone());
    draft.client = wishes.client.as_ref().map(named);
    if staff::is_staff_in(catalog, base) {
        draft.doubts.push(
            "the table looks like one of users or staff: the people in it would get messages as leads".to_owned(),
        );
    }
    for ancestor in &lineage.ancestors {
        if staff::is_staff_in(catalog, ancestor.table) {
            draft.doubts.push(format!(
                "each row is also one of {}, which looks like a table of users or staff: nothing of it is sent",
                catalog[ancestor.table].setting()
            ));
        }
    }
    let key = stamp::key(&draft, wishes);
    if let Some(key) = &key {
        draft.take(&key.what);
    }
    assign::given(&mut draft, wishes);
    stamp::deleted(&mut draft);
    staff::leave_out_staff(&mut draft);
    let changed_at = stamp::changed_at(&mut draft, wishes);
    consent::by_name(&mut draft, wishes);
    assign::by_name(&mut draft);
    assign::email_by_shape(&mut draft);
    consent::elsewhere(&mut draft);
    contact::follow_contact(&mut draft, base);
    assign::person(&mut draft);
    join::owner(&mut draft);
    join::labels(&mut draft);
    join::addresses(&mut draft);
    assign::defaults(&mut draft, wishes);
    assign::name_left_out(&mut draft);
    let unmapped = consent::name_leftovers(&mut draft);
    let proposal = draft.finish(key, changed_at, unmapped);
    match dialect {
        SqlDialect::Sqlite | SqlDialect::Postgres => proposal,
        SqlDialect::Mysql => mysql_sql::rewrite_proposal(proposal),
    }
}

/// The tables that the one at this index inherits from, as indices of the catalog.
pub fn ancestors(catalog: &[InspectedTable], base: usize) -> Vec<usize> {
    lineage::trace_ancestors(catalog, base).ancestors.into_iter().map(|ancestor| ancestor.table).collect()
}
