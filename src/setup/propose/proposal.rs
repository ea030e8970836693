//! What `init` proposes.

use crate::config::FieldRule;
use crate::conversica::lead::LeadKey;
use crate::db;
use crate::setup::introspect::table::InspectedTable;

/// How a person fills a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GivenValue {
    Column(String),
    /// Of a yes-or-no column, the opposite.
    Inverted(String),
    /// The same for every lead; of a column that is mapped, where that is blank.
    Value(String),
    Nothing,
}

/// What a person has said already.
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
    /// The key that it could fill the other way round.
    pub inverse_of: Option<LeadKey>,
    /// How it would fill optOut, if an operator says that it means that.
    pub rule: Option<FieldRule>,
    /// The condition, in SQL, that would leave out the rows it speaks of.
    pub condition: Option<String>,
    pub(crate) kept: Option<RowsKept>,
}

impl UnmappedColumn {
    /// Whom its condition leaves out, in words.
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

/// Where rows come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowsPlace {
    Table { filter: Option<String> },
    Query(String),
}

/// What is proposed for one table.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceProposal {
    /// The CRM that the table looks like.
    pub system: Option<&'static str>,
    /// As `[source] table` names it.
    pub table: String,
    pub place: RowsPlace,
    /// `None` where only a person can say.
    pub key: Option<ProposedChoice>,
    pub changed_at: Option<ProposedChoice>,
    pub client: Option<String>,
    /// Why rows are left out.
    pub filters: Vec<String>,
    /// In the order of [`LeadKey::ALL`], each key once.
    pub fields: Vec<ProposedField>,
    /// What a person should look at.
    pub doubts: Vec<String>,
    /// Columns about consent that nothing is made of, with the reason.
    pub consent: Vec<UnmappedColumn>,
    /// All other columns that nothing is made of.
    pub unmapped: Vec<String>,
    /// The tables that it reads, as indices of the catalog.
    pub reads: Vec<usize>,
}

impl SourceProposal {
    /// The keys without which no lead can be sent, and which nothing fills.
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

/// What says when a row has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeStamp {
    pub(crate) from: StampSource,
    pub why: String,
}

impl ChangeStamp {
    /// The column, where it is one alone.
    pub fn column(&self) -> Option<&str> {
        match &self.from {
            StampSource::Column { name, .. } => Some(name),
            StampSource::Either { .. } | StampSource::Expression(_) => None,
        }
    }

    /// As `[source] changed_at` names it beside a table.
    pub fn setting(&self) -> String {
        match &self.from {
            StampSource::Column { name, .. } => name.clone(),
            StampSource::Either { first, second, .. } => {
                format!("coalesce({}, {})", db::quote(first), db::quote(second))
            }
            StampSource::Expression(text) => format!("({text})"),
        }
    }

    /// As a query selects it.
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

/// Which rows a condition leaves in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowsKept {
    /// Those without a yes, or without a time.
    Unset,
    /// Those without a plain no.
    NotDenied,
    /// Those with a yes.
    Set,
    /// Those that refer to nothing.
    WithoutReference,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StampSource {
    /// A column of the record, with the alias of its table.
    Column { alias: String, name: String },
    /// The second column of that table where the first is NULL.
    Either { alias: String, first: String, second: String },
    /// An operator's own words.
    Expression(String),
}
