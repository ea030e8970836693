//! Finds the person behind a record that has no address of its own: an opportunity that refers to a contact, or to a party whose
//! addresses are contact mechanisms, one row each, with a type. Pure.

use crate::conversica::lead::LeadKey;
use crate::db;
use crate::rules::source_column::TypeFamily;
use crate::setup::introspect::table::{InspectedTable, TableColumn, leads_to};
use crate::setup::propose::assign::NameOrder;
use crate::setup::propose::draft::{DraftPart, PartOrigin, ProposalDraft};
use crate::setup::propose::proposal::RowsKept;
use crate::setup::propose::shape::{self, is_time_column};
use crate::setup::propose::{assign, consent, flag, join, names, staff, stamp};

/// Names of columns by which a record refers to its person, the surest first.
const PERSON: &str = "contactid contact personid person partyid party leadpersonid customerid customer clientid client partnerid partner prospectid \
    primarycontactid maincontactid kontaktid kontakt kundeid kundenid clienteid contactoid personaid";
/// Names of the columns of a contact mechanism.
const TYPE: &str = "type kind contacttype mechanism mechanismtype channel typ art tipo";
const VALUE: &str = "value data contact wert valeur valor detail";

/// The person that a record refers to.
pub struct RecordContact<'a> {
    /// The column of the record; `None` where the record is the person itself.
    column: Option<&'a str>,
    /// The person's table, as an index of the catalog.
    person: usize,
    mechanism: Option<ContactMechanism<'a>>,
}

/// A table of addresses and numbers of persons.
struct ContactMechanism<'a> {
    table: usize,
    key: &'a str,
    /// The column that refers to the person.
    holder: &'a str,
    kind: &'a TableColumn,
    value: &'a str,
}

/// The person behind a record, where an address leads through one.
pub fn find_contact<'a>(
    catalog: &'a [InspectedTable],
    record: &'a InspectedTable,
    index: usize,
) -> Option<RecordContact<'a>> {
    if let Some(mechanism) = find_mechanism(catalog, index) {
        return Some(RecordContact { column: None, person: index, mechanism: Some(mechanism) });
    }
    let mut named: Vec<(u32, &TableColumn)> = record
        .columns
        .iter()
        .filter(|column| column.readable && assign::is_reference(record, column))
        .filter_map(|column| Some((names::likeness(&column.name, PERSON)?, column)))
        .collect();
    named.sort_by_key(|(likeness, _)| std::cmp::Reverse(*likeness));
    let found = named.into_iter().filter_map(|(_, column)| {
        let reference = record.references.iter().find(|reference| reference.column == column.name)?;
        let person = catalog.iter().position(|table| leads_to(reference, table))?;
        let is_whole_key =
            reference.target.as_deref().is_none_or(|target| catalog[person].primary_key() == Some(target));
        if person == index || !is_whole_key || staff::is_staff_in(catalog, person) {
            return None;
        }
        let mechanism = find_mechanism(catalog, person);
        let has_address = find_text(&catalog[person], names::of(LeadKey::Email)).is_some();
        (has_address || mechanism.is_some()).then_some((column, person, mechanism))
    });
    // Several references may lead to the same kind of person: prefer a column that is filled.
    let mut found: Vec<_> = found.collect();
    found.sort_by_key(|(column, ..)| column.values().next().is_none());
    let (column, person, mechanism) = found.into_iter().next()?;
    Some(RecordContact { column: Some(&column.name), person, mechanism })
}

fn find_mechanism(catalog: &[InspectedTable], person: usize) -> Option<ContactMechanism<'_>> {
    catalog.iter().enumerate().find_map(|(index, table)| {
        let of = |list: &str| {
            let texts = table.columns.iter().filter(|column| column.readable && column.family == TypeFamily::Text);
            texts
                .filter(|column| names::is_listed(&column.name, list))
                .find(|column| !assign::is_reference(table, column))
        };
        let (kind, value, key) = (of(TYPE)?, of(VALUE)?, table.primary_key()?);
        let holders = table.references.iter().filter(|reference| leads_to(reference, &catalog[person]));
        let holder = holders.map(|reference| reference.column.as_str()).next()?;
        // A table without samples yet may be a contact mechanism.
        let fits = table.rows.is_none() || find_kind(kind, "mail").is_some();
        (fits && index != person).then_some(ContactMechanism { table: index, key, holder, kind, value: &value.name })
    })
}

/// The word in the rows that names a mechanism's kind.
fn find_kind<'a>(kind: &'a TableColumn, part: &str) -> Option<&'a str> {
    kind.samples.iter().flatten().map(String::as_str).find(|word| names::folded(word).contains(part))
}

/// Fills address, name and numbers from the person behind the record.
pub fn follow_contact(draft: &mut ProposalDraft<'_>, index: usize) {
    if !draft.wants(LeadKey::Email) {
        return;
    }
    let catalog = draft.catalog;
    let base = draft.base;
    let Some(contact) = find_contact(catalog, base, index) else { return };
    let person = &catalog[contact.person];
    let Some(person_key) = person.primary_key() else { return };
    let (alias, why) = match contact.column {
        None => (None, format!("the contact mechanisms of {}", person.setting())),
        Some(column) => {
            let on = format!("{} = {}", db::quote(person_key), draft.qualified(column));
            let alias = draft.join(contact.person, "contact", |alias| format!("{alias}.{on}"));
            draft.take(column);
            (Some(alias), format!("\"{column}\" refers to {} (declared reference)", person.setting()))
        }
    };
    if let Some(alias) = &alias {
        keep_only_persons_in_use(draft, person, alias);
        leave_out_staff(draft, contact.person, alias);
        fill_from_person(draft, person, alias, &why);
        take_consent(draft, person, alias);
        add_stamp(draft, person, alias);
    }
    let Some(mechanism) = contact.mechanism else { return };
    let holder = match &alias {
        Some(alias) => format!("{alias}.{}", db::quote(person_key)),
        None => draft.qualified(person_key),
    };
    for (key, part, name) in [
        (LeadKey::Email, "mail", "email"),
        (LeadKey::CellPhone, "mobile", "cell_phone"),
        (LeadKey::HomePhone, "phone", "home_phone"),
    ] {
        if !draft.wants(key) {
            continue;
        }
        let word = match (find_kind(mechanism.kind, part), part) {
            (Some(word), _) => word,
            // Before the table's values are sampled; the proposal is made again afterwards.
            (None, "mail") => "email",
            (None, _) => continue,
        };
        join_mechanism(draft, &mechanism, &holder, (key, word, name));
    }
}

/// Joins the first usable entry of one kind: two would make two leads of one key.
fn join_mechanism(
    draft: &mut ProposalDraft<'_>,
    mechanism: &ContactMechanism<'_>,
    holder: &str,
    (key, word, name): (LeadKey, &str, &'static str),
) {
    let table = &draft.catalog[mechanism.table];
    let word = word.replace('\'', "''");
    let of = |column: &str| format!("e.{}", db::quote(column));
    let conditions: String = ways_out(table)
        .map(|(column, kept)| format!(" AND {}", flag::write_condition(column, kept, draft.dialect, "e.")))
        .collect();
    let first = format!(
        "(SELECT min({}) FROM {} AS e WHERE {} = {holder} AND {} = '{word}'{conditions})",
        of(mechanism.key),
        table.sql(),
        of(mechanism.holder),
        of(&mechanism.kind.name),
    );
    let own = db::quote(mechanism.key);
    let alias = draft.join(mechanism.table, &format!("{name}_entry"), |alias| format!("{alias}.{own} = {first}"));
    let why = format!("the first entry of type \"{word}\" in {}", table.setting());
    let sql = format!("{alias}.{}", db::quote(mechanism.value));
    draft.fill(
        key,
        DraftPart::new(PartOrigin::Sql(sql, name), why).doubt("where there are several, the first is taken"),
    );
    if key == LeadKey::Email {
        add_stamp(draft, table, &alias);
    }
}

fn find_text<'t>(table: &'t InspectedTable, list: &str) -> Option<&'t TableColumn> {
    let texts = table.columns.iter().filter(|column| join::is_text_of_its_own(table, column));
    let named = texts.filter_map(|column| Some((names::likeness(&column.name, list)?, column)));
    named.max_by_key(|(likeness, _)| *likeness).map(|(_, column)| column)
}

fn fill_from_person(draft: &mut ProposalDraft<'_>, person: &InspectedTable, alias: &str, why: &str) {
    let of = |column: &TableColumn| format!("{alias}.{}", db::quote(&column.name));
    for (key, name) in [
        (LeadKey::Email, "email"),
        (LeadKey::FirstName, "first_name"),
        (LeadKey::LastName, "last_name"),
        (LeadKey::CellPhone, "cell_phone"),
        (LeadKey::HomePhone, "home_phone"),
    ] {
        if let Some(column) = find_text(person, names::of(key)) {
            draft.fill(key, DraftPart::new(PartOrigin::Sql(of(column), name), why));
        }
    }
    if let Some(email) = draft.fields.get_mut(&LeadKey::Email) {
        email.doubt = Some("two records of one person are two leads with one address".to_owned());
    }
    if !draft.wants(LeadKey::FirstName) {
        return;
    }
    let Some(full) = find_text(person, names::FULL_NAME) else { return };
    let (first, last) = assign::split(&format!("trim({})", of(full)), NameOrder::of(full), draft.dialect);
    let first =
        DraftPart::new(PartOrigin::Sql(first, "first_name"), format!("{why}, the first word of its \"{}\"", full.name));
    draft.fill(LeadKey::FirstName, first.doubt("names of several words, titles and companies are split wrongly"));
    let last = DraftPart::new(PartOrigin::Sql(last, "last_name"), format!("{why}, the rest of its \"{}\"", full.name));
    draft.fill(LeadKey::LastName, last);
}

/// The person's own opt-out counts for each of their records; other columns about consent there become doubts.
fn take_consent(draft: &mut ProposalDraft<'_>, person: &InspectedTable, alias: &str) {
    let is_refusal = |column: &&TableColumn| {
        names::likeness(&column.name, names::of(LeadKey::OptOut)).is_some()
            && (is_time_column(column)
                || shape::fit(column, |text| shape::truth(text).is_some()) != shape::ShapeFit::Misfits)
    };
    let readable: Vec<&TableColumn> = person.columns.iter().filter(|column| column.readable).collect();
    let refusals: Vec<&TableColumn> = readable.iter().copied().filter(is_refusal).collect();
    let of = |column: &TableColumn| format!("{alias}.{}", db::quote(&column.name));
    let mut all: Vec<String> =
        refusals.iter().map(|column| consent::is_true(&of(column), column, draft.dialect)).collect();
    // The record's own opt-out counts as well.
    let own = draft.fields.get(&LeadKey::OptOut).map(|part| match &part.origin {
        PartOrigin::Column(name) => draft.find_columns(name).first().map(|(alias, column)| {
            consent::is_true(&format!("{alias}.{}", db::quote(&column.name)), column, draft.dialect)
        }),
        PartOrigin::Sql(..) | PartOrigin::Value(_) => None,
    });
    let is_given = matches!(own, Some(None));
    all.extend(own.flatten());
    if !refusals.is_empty() && !is_given {
        let sql = format!("CASE WHEN {} THEN 1 ELSE 0 END", all.join(" OR "));
        let why = format!("an opt-out of the person in {} counts for each of the records", person.setting());
        draft.fields.remove(&LeadKey::OptOut);
        draft.fill(LeadKey::OptOut, DraftPart::new(PartOrigin::Sql(sql, "opt_out"), why));
    }
    for column in readable {
        let is_used = stamp::find_way_out(person, column).is_some()
            || !is_given && refusals.iter().any(|known| known.name == column.name);
        let speaks = flag::find_meaning(column).is_some() || names::speaks_of_consent_or_use(&column.name);
        if speaks && !is_used {
            draft.doubts.push(format!(
                "CONSENT: \"{}\" of {} speaks of consent or of people out of use, and is not used: decide before anything is sent",
                column.name,
                person.setting()
            ));
        }
    }
}

fn ways_out(table: &InspectedTable) -> impl Iterator<Item = (&TableColumn, RowsKept)> {
    let readable = table.columns.iter().filter(|column| column.readable);
    readable.filter_map(|column| Some((column, stamp::find_way_out(table, column)?)))
}

/// Leaves out deleted persons, whatever the record says.
fn keep_only_persons_in_use(draft: &mut ProposalDraft<'_>, person: &InspectedTable, alias: &str) {
    for (column, kept) in ways_out(person) {
        let condition = flag::write_condition(column, kept, draft.dialect, &format!("{alias}."));
        let why = format!("\"{}\" of {} says that the person is out of use: left out", column.name, person.setting());
        draft.conditions.push((condition, why));
    }
}

fn leave_out_staff(draft: &mut ProposalDraft<'_>, person: usize, alias: &str) {
    let Some(key) = draft.catalog[person].primary_key() else { return };
    for (values, why) in staff::find_staff_among(draft.catalog, &[person]) {
        // A missing person makes no lead anyway.
        draft.conditions.push((format!("coalesce({alias}.{} NOT IN ({values}), TRUE)", db::quote(key)), why));
    }
}

fn add_stamp(draft: &mut ProposalDraft<'_>, table: &InspectedTable, alias: &str) {
    let columns = table.columns.iter().filter(|column| column.readable);
    let named = columns.filter_map(|column| Some((names::likeness(&column.name, names::CHANGED_AT)?, column)));
    if let Some((_, column)) = named.max_by_key(|(likeness, _)| *likeness) {
        stamp::add_moment(draft, table, column, alias);
    }
}
