//! Reads other tables: the owner of a lead, and the words behind numbers. Pure.
//!
//! The proposal follows references that the database declares. If it declares none (in many CRMs), it follows those that names
//! suggest: `owner_id` to `users`.

use crate::conversica::lead::LeadKey;
use crate::db;
use crate::rules::source_column::TypeFamily;
use crate::setup::introspect::table::{InspectedTable, TableColumn, leads_to};
use crate::setup::propose::dialect::SqlDialect;
use crate::setup::propose::draft::{DraftPart, PartOrigin, ProposalDraft};
use crate::setup::propose::names::{self, is_person};
use crate::setup::propose::shape::{self, ShapeFit};
use crate::setup::propose::{assign, consent, flag, staff};

const COMPANY: [&str; 4] = ["companyid", "accountid", "organizationid", "organisationid"];
const LABEL: [&str; 11] = [
    "name",
    "label",
    "title",
    "bezeichnung",
    "nom",
    "nombre",
    "libelle",
    "fullname",
    "displayname",
    "description",
    "value",
];

/// The person who wrote a row does not own its lead.
const CLERKS: [&str; 11] = [
    "created",
    "updated",
    "modified",
    "entered",
    "changed",
    "deleted",
    "imported",
    "erstellt",
    "geaendert",
    "cree",
    "modifi",
];

/// The table and column that a column refers to.
struct JoinTarget {
    table: usize,
    column: String,
    declared: bool,
}

fn target(
    catalog: &[InspectedTable],
    from: &InspectedTable,
    column: &TableColumn,
    is_likely: &dyn Fn(&InspectedTable) -> bool,
) -> Option<JoinTarget> {
    let usable = |index: usize, name: Option<&str>| {
        let table: &InspectedTable = &catalog[index];
        let found = table.column(name.or_else(|| table.primary_key())?)?;
        // On PostgreSQL a number never equals a text.
        (found.family == column.family && found.readable).then(|| found.name.clone())
    };
    let declared = from.references.iter().find(|reference| reference.column == column.name);
    if let Some(reference) = declared {
        let table = catalog.iter().position(|table| leads_to(reference, table))?;
        return Some(JoinTarget { table, column: usable(table, reference.target.as_deref())?, declared: true });
    }
    let folded = names::folded(&column.name);
    let stem = folded.strip_suffix("id").or_else(|| folded.strip_prefix("id")).unwrap_or(&folded);
    let named = |table: &InspectedTable| {
        let name = names::folded(&table.name);
        let plural = |word: &str| [word.to_owned(), format!("{word}s"), format!("{word}es")].contains(&name);
        is_likely(table)
            || (!stem.is_empty() && (plural(stem) || plural(&format!("lead{stem}")) || plural(&format!("crm{stem}"))))
    };
    let near = |index: &usize| catalog[*index].schema == from.schema && catalog[*index].name != from.name;
    (0..catalog.len())
        .filter(near)
        .filter(|index| named(&catalog[*index]))
        .find_map(|table| Some(JoinTarget { table, column: usable(table, None)?, declared: false }))
}

/// SQL for a person's name and e-mail address in a table.
#[derive(Default)]
struct PersonColumns {
    name: Option<String>,
    email: Option<String>,
}

/// Fills the lead's owner: id, name and e-mail address.
pub fn owner(draft: &mut ProposalDraft<'_>) {
    if !draft.wants(LeadKey::RepName) && !draft.wants(LeadKey::RepEmail) {
        return;
    }
    let base = draft.base;
    if let Some((column, target)) = owner_column(draft, base) {
        let own = draft.qualified(&column.name);
        let why = reference(draft, &column.name, &target);
        follow(draft, &own, &target, &why);
        draft.fill(LeadKey::RepId, DraftPart::new(PartOrigin::Column(column.name.clone()), why));
        draft.take(&column.name);
        return;
    }
    // The owner of the lead's company.
    let is_company = |table: &InspectedTable| ["companies", "accounts"].contains(&names::folded(&table.name).as_str());
    let company = base.columns.iter().filter(|column| COMPANY.contains(&names::folded(&column.name).as_str()));
    for column in company {
        let Some(company) = target(draft.catalog, base, column, &is_company) else { continue };
        let table: &InspectedTable = &draft.catalog[company.table];
        let Some((owner, target)) = owner_column(draft, table) else { continue };
        let on = format!("{} = {}", db::quote(&company.column), draft.qualified(&column.name));
        let alias = draft.join(company.table, "company", |alias| format!("{alias}.{on}"));
        let why = format!("the owner of the company: {}", reference(draft, &owner.name, &target));
        let own = format!("{alias}.{}", db::quote(&owner.name));
        follow(draft, &own, &target, &why);
        draft.fill(LeadKey::RepId, DraftPart::new(PartOrigin::Sql(own, "owner_id"), "the owner of the company"));
        draft.take(&column.name);
        return;
    }
}

fn owner_column<'t>(draft: &ProposalDraft<'_>, table: &'t InspectedTable) -> Option<(&'t TableColumn, JoinTarget)> {
    let mut named: Vec<(u32, &TableColumn)> = table
        .columns
        .iter()
        .filter(|column| column.readable && !flag::is_staff_mark(&column.name))
        .filter_map(|column| {
            let of = |key| names::likeness(&column.name, names::of(key));
            Some((of(LeadKey::RepId).or_else(|| of(LeadKey::RepName))?, column))
        })
        .collect();
    named.sort_by_key(|(likeness, _)| std::cmp::Reverse(*likeness));
    let is_staff = |table: &InspectedTable| staff::by_name(&table.name) == Some(true);
    let named =
        named.into_iter().find_map(|(_, column)| Some((column, target(draft.catalog, table, column, &is_staff)?)));
    named.or_else(|| sole_reference_to_staff(draft.catalog, table))
}

/// Without a telling name: the only declared reference to a table of staff.
fn sole_reference_to_staff<'t>(
    catalog: &[InspectedTable],
    table: &'t InspectedTable,
) -> Option<(&'t TableColumn, JoinTarget)> {
    let is_of_a_clerk = |column: &TableColumn| {
        let name = names::folded(&column.name);
        CLERKS.iter().any(|done| name.contains(done)) || flag::is_staff_mark(&column.name)
    };
    let columns = table.columns.iter().filter(|column| column.readable && !is_of_a_clerk(column));
    let mut leading = columns.filter_map(|column| {
        let target = target(catalog, table, column, &|_| false).filter(|target| target.declared)?;
        (staff::by_name(&catalog[target.table].name) == Some(true)).then_some((column, target))
    });
    let first = leading.next()?;
    leading.next().is_none().then_some(first)
}

fn reference(draft: &ProposalDraft<'_>, column: &str, target: &JoinTarget) -> String {
    let table = draft.catalog[target.table].setting();
    let how = if target.declared { "declared reference" } else { "by their names; the database declares no reference" };
    format!("\"{column}\" leads to {table} ({how})")
}

fn follow(draft: &mut ProposalDraft<'_>, own: &str, target: &JoinTarget, why: &str) {
    let on = format!("{} = {own}", db::quote(&target.column));
    let alias = draft.join(target.table, "owner", |alias| format!("{alias}.{on}"));
    let person = person(draft, target.table, &alias);
    if let Some(name) = person.name {
        draft.fill(LeadKey::RepName, DraftPart::new(PartOrigin::Sql(name, "owner_name"), why));
    }
    if let Some(email) = person.email {
        draft.fill(LeadKey::RepEmail, DraftPart::new(PartOrigin::Sql(email, "owner_email"), why));
    }
}

fn person(draft: &mut ProposalDraft<'_>, index: usize, alias: &str) -> PersonColumns {
    let table: &InspectedTable = &draft.catalog[index];
    let mut found = own_person(table, alias, draft.dialect);
    if found.name.is_none() {
        // A user may link to a partner, as in Odoo; or a record inherits from a person.
        let key = table.primary_key();
        let is_link = |column: &&TableColumn| {
            is_person(&column.name) || key == Some(column.name.as_str()) && assign::is_reference(table, column)
        };
        let mut links = table.columns.iter().filter(is_link);
        let hop = links.find_map(|column| Some((column, target(draft.catalog, table, column, &|_| false)?)));
        if let Some((column, target)) = hop {
            let on = format!("{} = {alias}.{}", db::quote(&target.column), db::quote(&column.name));
            let alias = draft.join(target.table, &format!("{alias}_person"), |alias| format!("{alias}.{on}"));
            let further = own_person(&draft.catalog[target.table], &alias, draft.dialect);
            found = PersonColumns { name: further.name, email: further.email.or(found.email) };
        }
    }
    if found.email.is_none()
        && let Some(tables) = consent::address_tables(draft.catalog, table)
        && let Some(key) = table.primary_key()
    {
        let key = format!("{alias}.{}", db::quote(key));
        let (book, _) = consent::join_addresses(draft, tables, &key, &format!("{alias}_address"));
        found.email = Some(format!("{book}.\"email_address\""));
    }
    found
}

/// Whether people can read a column's values: no number, no id, no reference.
pub fn is_text_of_its_own(table: &InspectedTable, column: &TableColumn) -> bool {
    column.readable
        && matches!(column.family, TypeFamily::Text | TypeFamily::Json | TypeFamily::Other(_))
        && !assign::is_reference(table, column)
}

fn own_person(table: &InspectedTable, alias: &str, dialect: SqlDialect) -> PersonColumns {
    let best = |list: &str| {
        let named = table.columns.iter().filter(|column| is_text_of_its_own(table, column));
        let named = named.filter_map(|column| Some((names::likeness(&column.name, list)?, column)));
        named.max_by_key(|(likeness, _)| *likeness).map(|(_, column)| format!("{alias}.{}", db::quote(&column.name)))
    };
    let (first, last) = (best(names::of(LeadKey::FirstName)), best(names::of(LeadKey::LastName)));
    let name = match (first, last) {
        (Some(first), Some(last)) => Some(match dialect {
            SqlDialect::Mysql => format!("trim(concat(coalesce({first}, ''), ' ', coalesce({last}, '')))"),
            SqlDialect::Sqlite | SqlDialect::Postgres => {
                format!("trim(coalesce({first}, '') || ' ' || coalesce({last}, ''))")
            }
        }),
        (first, last) => best(names::FULL_NAME).or(first).or(last),
    };
    PersonColumns { name, email: best(names::of(LeadKey::Email)) }
}

/// Joins the words behind `source_id`, `stage_id`, `state_id`, and behind every other reference with the name of a text key.
pub fn labels(draft: &mut ProposalDraft<'_>) {
    let kinds: [(LeadKey, &str, &[&str], &[&str]); 8] = [
        (
            LeadKey::LeadSource,
            "source_name",
            &["sourceid", "leadsourceid", "source", "idsource", "quelleid", "originid"],
            &["utmsource"],
        ),
        (
            LeadKey::LeadStatus,
            "status_name",
            &["statusid", "leadstatusid", "stageid", "status", "stage", "idstatus"],
            &["statuses"],
        ),
        (LeadKey::State, "state_name", &["stateid", "regionid", "provinceid", "state"], &["rescountrystate"]),
        (LeadKey::City, "city_name", &["cityid", "townid"], &["cities"]),
        (LeadKey::LeadType, "type_name", &["typeid", "leadtypeid"], &[]),
        (LeadKey::LeadSubStatus, "sub_status_name", &[], &[]),
        (LeadKey::Zip, "zip_code", &[], &[]),
        (LeadKey::Address, "street", &[], &[]),
    ];
    for (key, hint, columns, likely) in kinds {
        if !draft.wants(key) {
            continue;
        }
        let is_likely = |table: &InspectedTable| likely.contains(&names::folded(&table.name).as_str());
        for column in draft.free() {
            let folded = names::folded(&column.name);
            let declared = assign::is_reference(draft.base, column) && is_called(&folded, key);
            if !declared && !columns.contains(&folded.as_str()) {
                continue;
            }
            let Some(target) = target(draft.catalog, draft.base, column, &is_likely) else {
                if column.family == TypeFamily::Integer && key != LeadKey::State {
                    draft.doubts.push(format!(
                        "\"{}\" holds numbers: to send it, give each a name: {key} = {{ column = \"…\", map = {{ \"1\" = \"…\" }} }}",
                        column.name
                    ));
                }
                continue;
            };
            let table: &InspectedTable = &draft.catalog[target.table];
            // A row of staff is no source, status or place.
            if staff::is_staff_in(draft.catalog, target.table) {
                continue;
            }
            let Some(label) = find_label(table, key, &target) else { continue };
            let Some(sql) = text(label, draft.dialect) else { continue };
            let on = format!("{} = {}", db::quote(&target.column), draft.qualified(&column.name));
            let alias = draft.join(target.table, hint.trim_end_matches("_name"), |alias| format!("{alias}.{on}"));
            let why = format!("{}, its \"{}\"", reference(draft, &column.name, &target), label.name);
            draft.fill(key, DraftPart::new(PartOrigin::Sql(sql(&alias), hint), why));
            draft.take(&column.name);
            break;
        }
    }
}

/// Whether a reference has this key's name, with or without "id" at either end.
fn is_called(folded: &str, key: LeadKey) -> bool {
    let stem = folded.strip_suffix("id").or_else(|| folded.strip_prefix("id"));
    let mut called = [Some(folded), stem].into_iter().flatten();
    // A reference named `state` leads to a place.
    called
        .any(|name| names::likeness(name, names::of(key)).is_some() && (key != LeadKey::LeadStatus || name != "state"))
}

/// The column of a table that a person reads. An address table has none: [`addresses`] uses its parts.
fn find_label<'t>(table: &'t InspectedTable, key: LeadKey, target: &JoinTarget) -> Option<&'t TableColumn> {
    let named = |list: &&str| {
        let mut columns = table.columns.iter();
        columns.find(|column| is_text_of_its_own(table, column) && names::folded(&column.name) == **list)
    };
    if key != LeadKey::Address
        && let Some(label) = LABEL.iter().find_map(named)
    {
        return Some(label);
    }
    // If the values of the key itself are words, people read the key.
    let is_word = |column: &&TableColumn| {
        is_text_of_its_own(table, column)
            && column.values().next().is_some()
            && shape::fit(column, shape::is_words) == ShapeFit::Fits
    };
    table.column(&target.column).filter(is_word)
}

/// Joins street, city, state and postcode of an address table.
pub fn addresses(draft: &mut ProposalDraft<'_>) {
    const COLUMNS: [&str; 12] = [
        "address",
        "addressid",
        "primaryaddressid",
        "mainaddressid",
        "billingaddressid",
        "billingaddress",
        "homeaddressid",
        "mailingaddressid",
        "shippingaddressid",
        "anschriftid",
        "adresseid",
        "direccionid",
    ];
    let parts = [
        (LeadKey::Address, "street"),
        (LeadKey::City, "city"),
        (LeadKey::State, "state_name"),
        (LeadKey::Zip, "zip_code"),
    ];
    let is_address = |table: &InspectedTable| {
        ["addresses", "adressen", "anschriften"].contains(&names::folded(&table.name).as_str())
    };
    let mut found = Vec::new();
    for column in draft.free() {
        let Some(place) = COLUMNS.iter().position(|known| names::folded(&column.name) == *known) else { continue };
        let Some(target) = target(draft.catalog, draft.base, column, &is_address) else { continue };
        found.push((place, column, target));
    }
    found.sort_by_key(|(place, ..)| *place);
    for (_, column, target) in found {
        let table: &InspectedTable = &draft.catalog[target.table];
        if staff::is_staff_in(draft.catalog, target.table) || !parts.iter().any(|(key, _)| draft.wants(*key)) {
            continue;
        }
        let best = |key: LeadKey| {
            let texts = table.columns.iter().filter(|column| {
                is_text_of_its_own(table, column) || key == LeadKey::Zip && column.family == TypeFamily::Integer
            });
            let named = texts.filter_map(|column| Some((names::likeness(&column.name, names::of(key))?, column)));
            named.max_by_key(|(likeness, _)| *likeness).map(|(_, column)| column)
        };
        let columns: Vec<_> = parts.iter().filter_map(|(key, hint)| Some((*key, *hint, best(*key)?))).collect();
        if columns.is_empty() {
            continue;
        }
        let on = format!("{} = {}", db::quote(&target.column), draft.qualified(&column.name));
        let alias = draft.join(target.table, "address", |alias| format!("{alias}.{on}"));
        let why = reference(draft, &column.name, &target);
        for (key, hint, part) in columns {
            let sql = format!("{alias}.{}", db::quote(&part.name));
            draft.fill(key, DraftPart::new(PartOrigin::Sql(sql, hint), why.clone()));
        }
        draft.take(&column.name);
    }
}

/// A label as text: English first if there are several languages. `None` for JSON of another kind.
fn text(label: &TableColumn, dialect: SqlDialect) -> Option<impl Fn(&str) -> String + use<>> {
    let translated = shape::fit(label, shape::is_translations) == ShapeFit::Fits && label.values().next().is_some();
    if label.family == TypeFamily::Json && !translated {
        return None;
    }
    let name = db::quote(&label.name);
    Some(move |alias: &str| {
        let value = format!("{alias}.{name}");
        match (translated, dialect) {
            (false, _) => value,
            (true, SqlDialect::Postgres) => format!(
                "coalesce({value}::jsonb ->> 'en_US', (SELECT v.value FROM jsonb_each_text({value}::jsonb) AS v LIMIT 1))"
            ),
            (true, SqlDialect::Mysql) => format!(
                "coalesce(json_unquote(json_extract({value}, '$.en_US')), \
                 json_unquote(json_extract(json_extract({value}, '$.*'), '$[0]')))"
            ),
            (true, SqlDialect::Sqlite) => {
                format!(
                    "coalesce(json_extract({value}, '$.en_US'), (SELECT v.value FROM json_each({value}) AS v LIMIT 1))"
                )
            }
        }
    })
}
