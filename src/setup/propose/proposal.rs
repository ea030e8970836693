//! The configuration that `init` proposes.

use crate::config::FieldRule;
use crate::conversica::lead::LeadKey;
use crate::db;
use crate::setup::introspect::table::InspectedTable;

/// The operator's choice for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GivenValue {
    Column(String),
    /// The opposite of a yes-or-no column.
    Inverted(String),
    /// The same value for every lead; with a mapped column, the value for its blanks.
    Value(String),
    Nothing,
}

/// The operator's choices so far.
#[derive(Debug, Clone, Default)]
pub struct OperatorWishes {
    pub key: Option<String>,
    pub changed_at: Option<String>,
    pub client: Option<String>,
    pub given: Vec<(LeadKey, GivenValue)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnmappedColumn {
    pub column: String,
    pub why: String,
    /// The key that the column could fill with its values inverted.
    pub inverse_of: Option<LeadKey>,
    /// How it would fill optOut, if the operator confirms that meaning.
    pub rule: Option<FieldRule>,
    /// The SQL condition that would leave out the marked rows.
    pub condition: Option<String>,
    pub(crate) kept: Option<RowsKept>,
}

impl UnmappedColumn {
    /// The people that its condition leaves out, in words.
    pub fn who_is_left_out(&self) -> &'static str {
        match self.kept {
            Some(RowsKept::Set) => "people without a yes there",
            Some(RowsKept::NotDenied) => "people with a no there",
            Some(RowsKept::Unset | RowsKept::WithoutReference) | None => "people with a yes or a time there",
        }
    }

    pub(crate) fn new(column: &str, why: impl Into<String>) -> Self {
        Self { column: column.to_owned(), why: why.into(), inverse_of: None, rule: None, condition: None, kept: None }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProposedChoice {
    /// A column, or an expression over columns.
    pub what: String,
    pub why: String,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ProposedField {
    pub key: LeadKey,
    pub rule: FieldRule,
    pub why: String,
    pub doubt: Option<String>,
}

/// The origin of the rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowsPlace {
    Table { filter: Option<String> },
    Query(String),
}

/// The proposal for one table.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceProposal {
    /// The CRM that the table looks like.
    pub system: Option<&'static str>,
    /// The name for `[source] table`.
    pub table: String,
    pub place: RowsPlace,
    /// `None` where only the operator can decide.
    pub key: Option<ProposedChoice>,
    pub changed_at: Option<ProposedChoice>,
    pub client: Option<String>,
    /// Why rows are left out.
    pub filters: Vec<String>,
    /// In the order of [`LeadKey::ALL`], each key once.
    pub fields: Vec<ProposedField>,
    /// Doubts that the operator should check.
    pub doubts: Vec<String>,
    /// Unused columns about consent, with the reason.
    pub consent: Vec<UnmappedColumn>,
    /// All other unused columns.
    pub unmapped: Vec<String>,
    /// The tables that it reads, as indices of the catalog.
    pub reads: Vec<usize>,
}

impl SourceProposal {
    /// The required keys that nothing fills.
    pub fn missing(&self) -> Vec<LeadKey> {
        let required = [LeadKey::FirstName, LeadKey::Email, LeadKey::LeadSource, LeadKey::RepName];
        required.into_iter().filter(|key| self.field(*key).is_none()).collect()
    }

    pub fn field(&self, key: LeadKey) -> Option<&ProposedField> {
        self.fields.iter().find(|field| field.key == key)
    }
}

/// The CRM that a table with these columns belongs to.
pub fn system(table: &InspectedTable) -> Option<&'static str> {
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

/// The change stamp: the column or expression that shows when a row changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeStamp {
    pub(crate) from: StampSource,
    pub why: String,
}

impl ChangeStamp {
    /// The column, if the stamp is a single one.
    pub fn column(&self) -> Option<&str> {
        match &self.from {
            StampSource::Column { name, .. } => Some(name),
            StampSource::Either { .. } | StampSource::Expression(_) => None,
        }
    }

    /// The value of `[source] changed_at` for a table.
    pub fn setting(&self) -> String {
        match &self.from {
            StampSource::Column { name, .. } => name.clone(),
            StampSource::Either { first, second, .. } => {
                format!("coalesce({}, {})", db::quote(first), db::quote(second))
            }
            StampSource::Expression(text) => format!("({text})"),
        }
    }

    /// The expression in a query.
    pub fn sql(&self) -> String {
        match &self.from {
            StampSource::Column { alias, name } => format!("{alias}.{}", db::quote(name)),
            StampSource::Either { alias, first, second } => {
                format!("coalesce({alias}.{}, {alias}.{})", db::quote(first), db::quote(second))
            }
            StampSource::Expression(text) => format!("({text})"),
        }
    }
}

/// The rows that a condition keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowsKept {
    /// Those without a yes, or without a time.
    Unset,
    /// Those without a plain no.
    NotDenied,
    /// Those with a yes.
    Set,
    /// Those without the reference.
    WithoutReference,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StampSource {
    /// A column of the record, with the alias of its table.
    Column { alias: String, name: String },
    /// The second column of that table where the first is NULL.
    Either { alias: String, first: String, second: String },
    /// The operator's own expression.
    Expression(String),
}
