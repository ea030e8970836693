//! What to sync, proposed from the names and sampled values of a database: table, key, change column, filter, and which
//! column fills which key of the Lead object; each with the reason, and with what is unsure about it. Pure.
//!
//! A proposal is a guess that says so. Consent is never guessed at the wrong way round: a column that says yes to messages
//! is not taken for an opt-out, and whatever smells of consent and is not mapped is named.

mod assign;
mod consent;
mod contact;
mod draft;
mod flag;
mod join;
mod lineage;
pub mod names;
pub mod rank;
pub mod shape;
pub mod staff;
mod stamp;

use crate::config::FieldRule;
use crate::conversica::lead::LeadKey;
use crate::setup::introspect::Table;

pub use draft::Dialect;
use draft::Draft;
use flag::RowsKept;

/// What a person has said already.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    pub key: Option<String>,
    pub changed_at: Option<String>,
    pub client: Option<String>,
    pub given: Vec<(LeadKey, Given)>,
}

/// How a person fills a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Given {
    Column(String),
    /// Of a yes-or-no column, the opposite.
    Inverted(String),
    /// The same for every lead; of a column that is mapped, where that is blank.
    Value(String),
    Nothing,
}

/// What is proposed for one table.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    /// The CRM that the table looks like.
    pub system: Option<&'static str>,
    /// As `[source] table` names it.
    pub table: String,
    pub place: Place,
    /// `None` where only a person can say.
    pub key: Option<Choice>,
    pub changed_at: Option<Choice>,
    pub client: Option<String>,
    /// Why rows are left out.
    pub filters: Vec<String>,
    /// In the order of [`LeadKey::ALL`], each key once.
    pub fields: Vec<Field>,
    /// What a person should look at.
    pub doubts: Vec<String>,
    /// Columns about consent that nothing is made of, with the reason.
    pub consent: Vec<Unmapped>,
    /// All other columns that nothing is made of.
    pub unmapped: Vec<String>,
    /// The tables that it reads, as indices of the catalog.
    pub reads: Vec<usize>,
}

/// Where rows come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Table { filter: Option<String> },
    Query(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// A column, or an expression over columns.
    pub what: String,
    pub why: String,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    pub key: LeadKey,
    pub rule: FieldRule,
    pub why: String,
    pub doubt: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmapped {
    pub column: String,
    pub why: String,
    /// The key that it could fill the other way round.
    pub inverse_of: Option<LeadKey>,
    /// How it would fill optOut, if an operator says that it means that.
    pub rule: Option<FieldRule>,
    /// The condition, in SQL, that would leave out the rows it speaks of.
    pub condition: Option<String>,
    kept: Option<RowsKept>,
}

impl Unmapped {
    /// Whom its condition leaves out, in words.
    pub fn who_is_left_out(&self) -> &'static str {
        match self.kept {
            Some(RowsKept::Set) => "people without a yes there",
            Some(RowsKept::NotDenied) => "people with a no there",
            Some(RowsKept::Unset | RowsKept::WithoutReference) | None => "people with a yes or a time there",
        }
    }

    fn new(column: &str, why: impl Into<String>) -> Self {
        Self { column: column.to_owned(), why: why.into(), inverse_of: None, rule: None, condition: None, kept: None }
    }
}

impl Proposal {
    /// The keys without which no lead can be sent, and which nothing fills.
    pub fn missing(&self) -> Vec<LeadKey> {
        let required = [LeadKey::FirstName, LeadKey::Email, LeadKey::LeadSource, LeadKey::RepName];
        required.into_iter().filter(|key| self.field(*key).is_none()).collect()
    }

    pub fn field(&self, key: LeadKey) -> Option<&Field> {
        self.fields.iter().find(|field| field.key == key)
    }
}

/// What is proposed for the table at this index of the catalog.
pub fn propose(catalog: &[Table], base: usize, dialect: Dialect, wishes: &Wishes) -> Proposal {
    let lineage = lineage::trace_ancestors(catalog, base);
    let mut draft = Draft::new(catalog, base, &lineage, dialect);
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
    draft.finish(key, changed_at)
}

/// The tables that the one at this index inherits from, as indices of the catalog.
pub fn ancestors(catalog: &[Table], base: usize) -> Vec<usize> {
    lineage::trace_ancestors(catalog, base).ancestors.into_iter().map(|ancestor| ancestor.table).collect()
}

/// The CRM that a table with these columns belongs to.
pub fn system(table: &Table) -> Option<&'static str> {
    let has = |names: &[&str]| names.iter().all(|name| table.columns.iter().any(|column| column.name == *name));
    if table.name == "crm_lead" && has(&["stage_id", "write_date", "email_from"]) {
        Some("Odoo")
    } else if has(&["assigned_user_id", "date_entered", "date_modified", "deleted"]) {
        Some("SuiteCRM")
    } else if has(&["nameFirstName", "emailsPrimaryEmail"]) {
        Some("Twenty")
    } else {
        None
    }
}
