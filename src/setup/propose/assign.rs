//! Assigns columns to keys: the surest name first, each column once, and no name that contradicts its values. Pure.

use crate::conversica::lead::{LeadKey, ValueKind};
use crate::rules::source_column::TypeFamily;
use crate::setup::introspect::table::{InspectedTable, TableColumn};
use crate::setup::propose::dialect::SqlDialect;
use crate::setup::propose::draft::{DraftPart, PartOrigin, ProposalDraft};
use crate::setup::propose::names;
use crate::setup::propose::proposal::{GivenValue, OperatorWishes};
use crate::setup::propose::shape::{self, ShapeFit, TruthSense, is_time_column};

/// The operator's choices take precedence.
pub fn given(draft: &mut ProposalDraft<'_>, wishes: &OperatorWishes) {
    for (key, given) in &wishes.given {
        let name = |asked: &str| draft.base.column(asked).map_or(asked.to_owned(), |column| column.name.clone());
        match given {
            GivenValue::Column(column) => {
                let name = name(column);
                let mut part = DraftPart::new(PartOrigin::Column(name.clone()), "as you said");
                if let (ValueKind::Boolean, Some(column)) = (key.kind(), draft.base.column(&name)) {
                    part.map = shape::truth_map(column, TruthSense::Same);
                }
                draft.fill(*key, part);
            }
            GivenValue::Inverted(column) => {
                let name = name(column);
                let map = draft
                    .base
                    .column(&name)
                    .map(|column| shape::truth_map(column, TruthSense::Opposite))
                    .unwrap_or_default();
                let why = "as you said: the opposite of the column; no value there counts as an opt-out";
                let mut part = DraftPart::new(PartOrigin::Column(name), why);
                part.map = map;
                part.default = Some("true".to_owned());
                draft.fill(*key, part);
            }
            // With a column, the given value only replaces blanks; see `defaults`.
            GivenValue::Value(value) if *key == LeadKey::ConversationId => {
                draft.fill(*key, DraftPart::new(PartOrigin::Value(value.clone()), "as you said"));
            }
            GivenValue::Value(_) => {}
            GivenValue::Nothing => draft.barred.push(*key),
        }
    }
}

/// Values that the operator gave: for every lead, or where the chosen column is blank.
pub fn defaults(draft: &mut ProposalDraft<'_>, wishes: &OperatorWishes) {
    for (key, given) in &wishes.given {
        let GivenValue::Value(value) = given else { continue };
        match draft.fields.get_mut(key) {
            Some(part) if !matches!(part.origin, PartOrigin::Value(_)) => part.default = Some(value.clone()),
            Some(_) => {}
            None => draft.fill(*key, DraftPart::new(PartOrigin::Value(value.clone()), "as you said")),
        }
    }
}

pub fn by_name(draft: &mut ProposalDraft<'_>) {
    let free = draft.free();
    let is_address = |key: LeadKey| free.iter().any(|column| names::likeness(&column.name, names::of(key)).is_some());
    let has_address = is_address(LeadKey::City) || is_address(LeadKey::Zip);
    let mut pairs: Vec<(u32, LeadKey, &TableColumn, String)> = Vec::new();
    for column in &free {
        for key in LeadKey::ALL.iter().copied().filter(|key| key.kind() != ValueKind::Boolean) {
            let Some(likeness) = names::likeness(&column.name, names::of(key)) else { continue };
            // `state` is a place beside a city, and otherwise the progress of a lead.
            if names::folded(&column.name) == "state" && (key == LeadKey::State) != has_address {
                continue;
            }
            match fits(draft.base, key, column) {
                Ok(why) => {
                    let confirmed = if why.is_empty() { 0 } else { 20 };
                    pairs.push((likeness + confirmed, key, column, format!("column name{why}")));
                }
                Err(Some(why)) => draft.doubts.push(format!("\"{}\" is not used as {key}: {why}", column.name)),
                Err(None) => {}
            }
        }
    }
    // Stable: between equals, the first column wins.
    pairs.sort_by_key(|(score, ..)| std::cmp::Reverse(*score));
    for (_, key, column, why) in pairs {
        if draft.wants(key) && !draft.is_taken(&column.name) {
            let mut part = DraftPart::new(PartOrigin::Column(column.name.clone()), why);
            part.doubt = doubt(key, column, draft);
            draft.fill(key, part);
        }
    }
}

/// Whether the database declares that a column refers to another table.
pub fn is_reference(table: &InspectedTable, column: &TableColumn) -> bool {
    table.references.iter().any(|reference| reference.column == column.name)
}

fn is_numeric(column: &TableColumn) -> bool {
    matches!(column.family, TypeFamily::Integer | TypeFamily::Number)
}

/// Keys that hold an id of the CRM.
fn is_id(key: LeadKey) -> bool {
    use LeadKey::{AltRepId, BdcRepId, ClientId, Id, RepId, ServiceRepId};
    matches!(key, Id | ClientId | RepId | BdcRepId | ServiceRepId | AltRepId)
}

/// Keys whose texts may be figures.
fn takes_numbers(key: LeadKey) -> bool {
    use LeadKey::{CellPhone, HomePhone, WorkPhone, Year, Zip};
    is_id(key) || key.kind() != ValueKind::Text || matches!(key, HomePhone | WorkPhone | CellPhone | Zip | Year)
}

/// Whether a column has the name of a text key but holds no text of its own.
fn is_only_called(table: &InspectedTable, key: LeadKey, column: &TableColumn) -> bool {
    let numbers = is_numeric(column) || column.family == TypeFamily::Uuid;
    !is_id(key)
        && key.kind() == ValueKind::Text
        && (is_reference(table, column) || numbers && !takes_numbers(key))
        && names::likeness(&column.name, names::of(key)).is_some()
}

/// Adds a doubt for each column that is left out because it has the name of a text but holds an id or a number.
pub fn name_left_out(draft: &mut ProposalDraft<'_>) {
    for column in draft.free() {
        let start = format!("\"{}\" ", column.name);
        if draft.doubts.iter().any(|doubt| doubt.starts_with(&start)) {
            continue;
        }
        let called = LeadKey::ALL.iter().copied().filter(|key| is_only_called(draft.base, *key, column));
        let Some(key) = called.max_by_key(|key| names::likeness(&column.name, names::of(*key))) else { continue };
        let reference = draft.base.references.iter().find(|reference| reference.column == column.name);
        draft.doubts.push(match reference {
            Some(reference) => format!(
                "{start}refers to {}, and its value is not sent as {key}: where {key} is wanted, join that table in a query",
                reference.table
            ),
            None => format!(
                "{start}holds numbers, which are not sent as {key}: where they are, give each its word: \
                 {key} = {{ column = \"…\", map = {{ \"1\" = \"…\" }} }}"
            ),
        });
    }
}

/// The reason that the values add to the name (empty where there are too few), or the reason against it.
fn fits(table: &InspectedTable, key: LeadKey, column: &TableColumn) -> Result<&'static str, Option<&'static str>> {
    // The meaning of a reference or a number is in another table, if anywhere.
    if is_reference(table, column) && !is_id(key) || is_numeric(column) && !takes_numbers(key) {
        return Err(None);
    }
    let some = column.values().next().is_some();
    let said = |fit: ShapeFit, yes: &'static str, no: &'static str| match fit {
        ShapeFit::Fits if some => Ok(yes),
        ShapeFit::Misfits => Err(Some(no)),
        ShapeFit::Fits | ShapeFit::Unsure => Ok(""),
    };
    let number = is_numeric(column);
    if matches!(column.family, TypeFamily::Json | TypeFamily::Boolean) {
        return Err(None);
    }
    use LeadKey::{
        Address, AltEmail, AppointmentDate, CellPhone, City, Date, Email, FirstName, HomeEmail, HomePhone, LastName,
        LeadSource, LeadStatus, LeadSubStatus, LeadType, RepEmail, RepName, State, WorkEmail, WorkPhone,
    };
    match key {
        Email | RepEmail | HomeEmail | WorkEmail | AltEmail => said(
            shape::fit(column, shape::is_email),
            ", and its values look like e-mail addresses",
            "its values do not look like e-mail addresses",
        ),
        HomePhone | WorkPhone | CellPhone => said(
            shape::fit(column, shape::is_phone),
            ", and its values look like telephone numbers",
            "its values do not look like telephone numbers",
        ),
        Date | AppointmentDate => {
            if number && shape::fit(column, shape::is_time) != ShapeFit::Fits {
                return Err(None);
            }
            said(
                shape::fit(column, shape::is_time),
                ", and its values are times",
                "its values are no times that can be read",
            )
        }
        FirstName | LastName | RepName if number || column.family == TypeFamily::Uuid => Err(None),
        FirstName | LastName => said(shape::fit(column, shape::is_words), "", "its values are no words"),
        // An id in a text column needs a join.
        RepName
            if shape::fit(column, shape::is_words) == ShapeFit::Misfits
                || shape::fit(column, shape::is_uuid) == ShapeFit::Fits && some =>
        {
            Err(None)
        }
        // An id or a code stored as text is no word either.
        LeadSource | LeadStatus | LeadType | LeadSubStatus | State | City | Address
            if column.family == TypeFamily::Uuid || shape::fit(column, is_code) == ShapeFit::Fits && some =>
        {
            Err(Some("its values are numbers or ids, and no words"))
        }
        _ => Ok(""),
    }
}

/// Whether a text is digits alone, or a UUID.
fn is_code(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) || shape::is_uuid(text)
}

fn doubt(key: LeadKey, column: &TableColumn, draft: &ProposalDraft<'_>) -> Option<String> {
    let folded = names::folded(&column.name);
    if column.values().next().is_none() && draft.base.sampled > 0 {
        return Some("no sampled row has a value".to_owned());
    }
    if folded == "phonesprimaryphonenumber" {
        return Some("the country code is in \"phonesPrimaryPhoneCallingCode\"".to_owned());
    }
    if key == LeadKey::Email && shape::fit(column, shape::is_email) == ShapeFit::Unsure {
        return Some("not all sampled values look like e-mail addresses".to_owned());
    }
    if key == LeadKey::Email && folded == "emailnormalized" {
        return Some("blank where email_from holds several addresses".to_owned());
    }
    (key == LeadKey::FirstName && column.values().any(|name| name.contains(' ')) && !has_last_name(draft))
        .then(|| "some values have several words".to_owned())
}

fn has_last_name(draft: &ProposalDraft<'_>) -> bool {
    draft.base.columns.iter().any(|column| names::likeness(&column.name, names::of(LeadKey::LastName)).is_some())
}

/// Finds a column of e-mail addresses that has an unknown name.
pub fn email_by_shape(draft: &mut ProposalDraft<'_>) {
    if !draft.wants(LeadKey::Email) {
        return;
    }
    let work = [LeadKey::WorkEmail, LeadKey::HomeEmail, LeadKey::AltEmail];
    if let Some(key) = work.into_iter().find(|key| draft.fields.contains_key(key)) {
        if let Some(part) = draft.fields.remove(&key) {
            draft.fill(LeadKey::Email, part.doubt(format!("the only address there is; by its name, {key}")));
        }
        return;
    }
    let found: Vec<&TableColumn> = draft
        .free()
        .into_iter()
        .filter(|column| column.values().next().is_some() && shape::fit(column, shape::is_email) == ShapeFit::Fits)
        .collect();
    let Some(first) = found.first() else { return };
    let mut part = DraftPart::new(PartOrigin::Column(first.name.clone()), "sample values look like e-mail addresses");
    if found.len() > 1 {
        let others: Vec<String> = found.iter().skip(1).map(|column| format!("\"{}\"", column.name)).collect();
        part = part.doubt(format!("so do those of {}", others.join(", ")));
    }
    draft.fill(LeadKey::Email, part);
}

/// Fills first and last name from one column, where there is no other.
pub fn person(draft: &mut ProposalDraft<'_>) {
    if !draft.wants(LeadKey::FirstName) {
        return;
    }
    let base = draft.base;
    let is_name = |column: &&TableColumn| !is_time_column(column) && fits(base, LeadKey::FirstName, column).is_ok();
    let full = draft.free().into_iter().filter(is_name);
    let full = full.filter_map(|column| Some((names::likeness(&column.name, names::FULL_NAME)?, column)));
    let Some((_, column)) = full.max_by_key(|(likeness, _)| *likeness) else { return };
    draft.take(&column.name);
    let order = NameOrder::of(column);
    let (first, last) = split(&format!("trim({})", draft.qualified(&column.name)), order, draft.dialect);
    let how = if order == NameOrder::LastFirst { "what follows the comma" } else { "the first word" };
    let why = format!("{how} of \"{}\", the only name there is", column.name);
    let part = DraftPart::new(PartOrigin::Sql(first, "first_name"), why);
    draft.fill(LeadKey::FirstName, part.doubt("names of several words, titles and companies are split wrongly"));
    let part = DraftPart::new(PartOrigin::Sql(last, "last_name"), format!("the rest of \"{}\"", column.name));
    draft.fill(LeadKey::LastName, part);
}

/// How a column writes a whole name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameOrder {
    FirstLast,
    /// With a comma between them.
    LastFirst,
}

impl NameOrder {
    pub fn of(column: &TableColumn) -> Self {
        let has_comma =
            column.values().next().is_some() && shape::fit(column, |name| name.contains(", ")) == ShapeFit::Fits;
        if has_comma { Self::LastFirst } else { Self::FirstLast }
    }
}

/// The two halves of a name, in SQL.
pub fn split(name: &str, order: NameOrder, dialect: SqlDialect) -> (String, String) {
    let mark = match order {
        NameOrder::FirstLast => " ",
        NameOrder::LastFirst => ",",
    };
    let (before, after) = match dialect {
        SqlDialect::Postgres => {
            let before = format!("split_part({name}, '{mark}', 1)");
            let after = format!("nullif(trim(substr({name}, length({before}) + 2)), '')");
            (before, after)
        }
        SqlDialect::Sqlite | SqlDialect::Mysql => {
            let at = format!("instr({name}, '{mark}')");
            (
                format!("CASE WHEN {at} > 0 THEN substr({name}, 1, {at} - 1) ELSE {name} END"),
                format!("CASE WHEN {at} > 0 THEN nullif(trim(substr({name}, {at} + 1)), '') END"),
            )
        }
    };
    match order {
        NameOrder::FirstLast => (before, after),
        NameOrder::LastFirst => (format!("coalesce({after}, {name})"), before),
    }
}
