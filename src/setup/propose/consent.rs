//! Finds opt-outs. A proposal must never read a consent column the wrong way round. Pure.

use crate::config::{FieldRule, WhenNull};
use crate::conversica::lead::LeadKey;
use crate::db;
use crate::setup::introspect::table::{InspectedTable, TableColumn};
use crate::setup::propose::dialect::SqlDialect;
use crate::setup::propose::draft::{DraftPart, PartOrigin, ProposalDraft};
use crate::setup::propose::flag::{self, FlagMeaning, NO_WORDS};
use crate::setup::propose::names;
use crate::setup::propose::proposal::{OperatorWishes, RowsKept, UnmappedColumn};
use crate::setup::propose::shape::{self, ShapeFit, TruthSense, is_time_column};

/// Uses columns of the table itself. If several mean the same, one `true` is enough.
pub fn by_name(draft: &mut ProposalDraft<'_>, wishes: &OperatorWishes) {
    let is_given = wishes.given.iter().any(|(key, _)| *key == LeadKey::OptOut);
    for key in [LeadKey::OptOut, LeadKey::SmsOptOut, LeadKey::SmsOptIn] {
        let mut found: Vec<(u32, &TableColumn)> = Vec::new();
        for column in draft.free() {
            let Some(likeness) = names::likeness(&column.name, names::of(key)) else { continue };
            let time = is_time_column(column) && key == LeadKey::OptOut;
            if time
                || shape::fit(column, |text| shape::truth(text).is_some()) != ShapeFit::Misfits
                    && !is_time_column(column)
            {
                found.push((likeness, column));
            } else {
                leave(draft, column, "is called like an opt-out, but its values are neither yes nor no");
            }
        }
        if key != LeadKey::OptOut {
            found.truncate(1);
        }
        found.sort_by_key(|(likeness, _)| std::cmp::Reverse(*likeness));
        let found: Vec<&TableColumn> = found.into_iter().map(|(_, column)| column).collect();
        if found.is_empty() || !draft.wants(key) {
            for column in found {
                leave(draft, column, "would fill the same key as what is mapped");
            }
            continue;
        }
        let part = part(draft, &found);
        found.iter().for_each(|column| draft.take(&column.name));
        draft.fill(key, part);
    }
    for column in draft.free() {
        let meaning = flag::find_meaning(column);
        let is_opt_in = names::likeness(&column.name, names::OPT_IN).is_some();
        if meaning == Some(FlagMeaning::Permission) || is_opt_in && meaning.is_none() {
            let why = "says who agreed to messages, the opposite of an opt-out: a \"no\" there may mean that the person was never asked";
            let yes_or_no = flag::is_yes_or_no(column);
            let mut unmapped = UnmappedColumn::new(&column.name, why);
            unmapped.inverse_of = (!is_given && yes_or_no).then_some(LeadKey::OptOut);
            unmapped.rule = (!is_given && yes_or_no).then(|| opt_out_rule(column, TruthSense::Opposite));
            unmapped.kept = yes_or_no.then_some(RowsKept::Set);
            draft.take(&column.name);
            draft.consent.push(unmapped);
        } else if names::likeness(&column.name, names::OTHER_CONSENT).is_some() {
            let why = "is about consent or reachability, but Conversica has no key for it";
            let mut unmapped = UnmappedColumn::new(&column.name, why);
            unmapped.kept = flag::is_yes_or_no(column).then_some(RowsKept::Unset);
            draft.take(&column.name);
            draft.consent.push(unmapped);
        }
    }
}

/// Lists every remaining column about consent or rows out of use as unmapped; returns the names of all other remaining columns.
pub fn name_leftovers(draft: &mut ProposalDraft<'_>) -> Vec<String> {
    let has_opt_out = draft.fields.contains_key(&LeadKey::OptOut);
    let mut unmapped = Vec::new();
    let base = draft.base;
    let left: Vec<&TableColumn> = base.columns.iter().filter(|column| !draft.is_taken(&column.name)).collect();
    for column in left {
        if draft.consent.iter().any(|known| known.column == column.name) {
            continue;
        }
        let is_time = is_time_column(column);
        let meaning = flag::find_meaning(column).filter(|_| column.readable);
        let why = match meaning {
            Some(FlagMeaning::Refusal) if is_time => "may be the time at which a person refused messages",
            Some(FlagMeaning::Refusal) => "may say who refuses messages",
            Some(FlagMeaning::OutOfUse) if is_time => {
                "may be the time at which a row, an address or a person went out of use"
            }
            Some(FlagMeaning::OutOfUse | FlagMeaning::InUse | FlagMeaning::StaffMark) => {
                "may say which rows, addresses or people are out of use, and are not to be written to"
            }
            Some(FlagMeaning::Permission) => "may say who agreed to messages",
            None if !names::speaks_of_consent_or_use(&column.name) => {
                unmapped.push(column.name.clone());
                continue;
            }
            None if is_time => "is a time, and its name speaks of consent: [consent] given_at may be meant",
            None => "is not used, but its name speaks of consent, or of rows out of use",
        };
        let mut named = UnmappedColumn::new(&column.name, why);
        named.kept = meaning.map(|meaning| match meaning {
            FlagMeaning::Refusal | FlagMeaning::OutOfUse | FlagMeaning::StaffMark => RowsKept::Unset,
            FlagMeaning::InUse => RowsKept::NotDenied,
            FlagMeaning::Permission => RowsKept::Set,
        });
        let may_be_opt_out = matches!(meaning, Some(FlagMeaning::Refusal | FlagMeaning::OutOfUse));
        named.rule = (may_be_opt_out && !is_time && !has_opt_out).then(|| opt_out_rule(column, TruthSense::Same));
        draft.consent.push(named);
    }
    unmapped
}

/// The rule by which a yes-or-no column fills optOut. A value that is neither a plain yes nor a plain no is an opt-out.
fn opt_out_rule(column: &TableColumn, sense: TruthSense) -> FieldRule {
    let mut map = shape::truth_map(column, sense);
    let inverted = sense == TruthSense::Opposite;
    if inverted {
        map.insert("*".to_owned(), "true".to_owned());
    }
    let default = inverted.then(|| "true".to_owned());
    FieldRule::Column { column: column.name.clone(), default, map, when_null: WhenNull::Omit }
}

fn leave(draft: &mut ProposalDraft<'_>, column: &TableColumn, why: &str) {
    draft.take(&column.name);
    draft.consent.push(UnmappedColumn::new(&column.name, why));
}

fn part(draft: &ProposalDraft<'_>, found: &[&TableColumn]) -> DraftPart {
    // An inherited column of the same name counts as well.
    let all: Vec<(&str, &TableColumn)> = found.iter().flat_map(|column| draft.find_columns(&column.name)).collect();
    match (found, all.as_slice()) {
        ([column], [_]) if !is_time_column(column) => {
            let mut part = DraftPart::new(PartOrigin::Column(column.name.clone()), why(column));
            part.map = shape::truth_map(column, TruthSense::Same);
            if shape::fit(column, |text| shape::truth(text).is_some()) == ShapeFit::Unsure
                && column.values().next().is_some()
            {
                part = part
                    .doubt("not every sampled value reads as yes or no: rows with others are invalid, and not sent");
            }
            part
        }
        _ => {
            let is_true = all
                .iter()
                .map(|(alias, column)| is_true(&format!("{alias}.{}", db::quote(&column.name)), column, draft.dialect));
            let names: Vec<String> = found.iter().map(|column| format!("\"{}\"", column.name)).collect();
            let sql = format!("CASE WHEN {} THEN 1 ELSE 0 END", is_true.collect::<Vec<_>>().join(" OR "));
            let how = if all.len() > 1 { "; one of them is enough" } else { ": a time there is an opt-out" };
            DraftPart::new(PartOrigin::Sql(sql, "opt_out"), format!("column name: {}{how}", names.join(", ")))
        }
    }
}

fn why(column: &TableColumn) -> String {
    match shape::fit(column, |text| shape::truth(text).is_some()) {
        ShapeFit::Fits if column.values().next().is_some() => "column name, and its values are yes and no".to_owned(),
        _ => "column name".to_owned(),
    }
}

/// The condition for an opt-out, whatever the type.
pub fn is_true(name: &str, column: &TableColumn, dialect: SqlDialect) -> String {
    if is_time_column(column) {
        // A text may be blank instead of NULL.
        return match dialect {
            SqlDialect::Postgres => format!("{name} IS NOT NULL"),
            // A zero date is no time.
            SqlDialect::Mysql => {
                format!("coalesce(nullif(CAST({name} AS text), ''), '0000') NOT LIKE '0000%'")
            }
            SqlDialect::Sqlite => format!("coalesce({name}, '') <> ''"),
        };
    }
    // Any value that is not a plain no counts as an opt-out: an unforeseen word must not let messages through.
    format!("lower(trim(coalesce(CAST({name} AS text), ''))) NOT IN ('', {NO_WORDS})")
}

/// Opt-outs that well-known CRMs keep in other tables, with the time of their last change.
pub fn elsewhere(draft: &mut ProposalDraft<'_>) {
    blacklist(draft);
    address_book(draft);
    name_tables_of_excluded_people(draft);
}

/// Names every table that may list people who want no messages: the operator decides how to use it.
fn name_tables_of_excluded_people(draft: &mut ProposalDraft<'_>) {
    let tables = draft.catalog.iter().enumerate();
    let unused = tables.filter(|(index, table)| names::may_list_excluded_people(&table.name) && !draft.is_read(*index));
    let doubts: Vec<String> = unused
        .map(|(_, table)| {
            format!(
                "the table {} may list people who want no messages, or who are out of use, and nothing is made of it: if so, \
                 leave them out by a condition under [source] before anything is sent",
                table.setting()
            )
        })
        .collect();
    draft.doubts.extend(doubts);
}

fn sibling(draft: &ProposalDraft<'_>, name: &str, columns: &[&str]) -> Option<usize> {
    draft.catalog.iter().position(|table| {
        table.name == name
            && table.schema == draft.base.schema
            && columns.iter().all(|column| table.columns.iter().any(|known| known.name == *column))
    })
}

/// Odoo has one blacklist of addresses for all records.
fn blacklist(draft: &mut ProposalDraft<'_>) {
    let Some(table) = sibling(draft, "mail_blacklist", &["email", "active", "write_date"]) else { return };
    if draft.base.column("email_normalized").is_none() || !draft.wants(LeadKey::OptOut) {
        return;
    }
    let address = draft.qualified("email_normalized");
    let alias = draft.join(table, "blacklist", |alias| format!("{alias}.\"email\" = {address}"));
    let why =
        "an address on Odoo's blacklist (mail_blacklist) gets no messages; the time of the listing counts as a change";
    draft.fill(
        LeadKey::OptOut,
        DraftPart::new(PartOrigin::Sql(format!("coalesce({alias}.\"active\", false)"), "is_blacklisted"), why),
    );
    draft.stamps.push(format!("{alias}.\"write_date\""));
}

/// SuiteCRM and SugarCRM keep addresses in a table of their own, each with its opt-out.
fn address_book(draft: &mut ProposalDraft<'_>) {
    let Some(tables) = address_tables(draft.catalog, draft.base) else { return };
    let key = draft.base.primary_key().unwrap_or("id").to_owned();
    if draft.base.column(&key).is_none() {
        return;
    }
    let own = draft.qualified(&key);
    let (alias, entry) = join_addresses(draft, tables, &own, "address");
    let why = "the primary address in email_addresses";
    draft.fill(LeadKey::Email, DraftPart::new(PartOrigin::Sql(format!("{alias}.\"email_address\""), "email"), why));
    let why = "the opt-out of the primary address in email_addresses; its time of change counts as a change";
    draft.fill(LeadKey::OptOut, DraftPart::new(PartOrigin::Sql(format!("{alias}.\"opt_out\""), "email_opt_out"), why));
    draft.stamps.push(format!("{alias}.\"date_modified\""));
    draft.stamps.push(format!("{entry}.\"date_modified\""));
    if draft.catalog[tables.book].column("invalid_email").is_some() {
        draft.doubts.push("email_addresses also has invalid_email, for which Conversica has no key".to_owned());
    }
}

/// Where SuiteCRM and SugarCRM keep addresses.
#[derive(Debug, Clone, Copy)]
pub struct AddressTables {
    /// `email_addresses`, by its place in the catalog.
    pub book: usize,
    /// `email_addr_bean_rel`, by its place in the catalog.
    pub entries: usize,
    /// The owner's table as the entries name it.
    pub module: &'static str,
}

/// The address tables for the rows of this table.
pub fn address_tables(catalog: &[InspectedTable], owner: &InspectedTable) -> Option<AddressTables> {
    const MODULES: [(&str, &str); 4] =
        [("leads", "Leads"), ("contacts", "Contacts"), ("prospects", "Prospects"), ("users", "Users")];
    let module = MODULES.iter().find(|(table, _)| *table == owner.name)?.1;
    let find = |name: &str, columns: &[&str]| {
        catalog.iter().position(|table| {
            table.name == name
                && table.schema == owner.schema
                && columns.iter().all(|column| table.column(column).is_some())
        })
    };
    let book = find("email_addresses", &["id", "email_address", "opt_out", "date_modified", "deleted"])?;
    let entries = ["id", "bean_id", "bean_module", "email_address_id", "primary_address", "date_modified", "deleted"];
    Some(AddressTables { book, entries: find("email_addr_bean_rel", &entries)?, module })
}

/// Joins the primary address of the person with this key; returns the aliases of address and entry.
pub fn join_addresses(draft: &mut ProposalDraft<'_>, tables: AddressTables, key: &str, hint: &str) -> (String, String) {
    let AddressTables { book, entries, module } = tables;
    let (entries_sql, yes, no) = (draft.catalog[entries].sql(), "1", "0");
    // At most one row per lead: two primary addresses would make two leads of one key.
    let entry = draft.join(entries, &format!("{hint}_entry"), |alias| {
        format!(
            "{alias}.\"id\" = (SELECT min(e.\"id\") FROM {entries_sql} AS e WHERE e.\"bean_id\" = {key} \
             AND e.\"bean_module\" = '{module}' AND {} = {yes} AND {} = {no})",
            number("e", "primary_address"),
            number("e", "deleted"),
        )
    });
    let alias = draft.join(book, hint, |alias| {
        format!("{alias}.\"id\" = {entry}.\"email_address_id\" AND {} = {no}", number(alias, "deleted"))
    });
    (alias, entry)
}

/// A flag as a number, whether the copied table has a number or a boolean.
fn number(alias: &str, column: &str) -> String {
    format!("coalesce(CAST({alias}.{} AS integer), 0)", db::quote(column))
}
