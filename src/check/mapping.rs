//! `check` of the mapping: how many real rows make a valid lead, why the others do not, and which important keys are unmapped.
//! Reasons name keys and columns; no value of a row is shown.

use std::collections::BTreeMap;

use crate::check::item::CheckItem;
use crate::check::names;
use crate::config::ServiceSettings;
use crate::console::printable;
use crate::conversica::lead::LeadKey;
use crate::db::discreet;
use crate::rules::contact_quality;
use crate::rules::line::RowLine;
use crate::rules::name_counts::LeadNames;
use crate::rules::read_scope::ReadScope;
use crate::source::columns;
use crate::source::crm::ConnectedCrm;
use crate::source::read::{PreparedReading, number};
use crate::source::source_db::SourceDb;

const SECTION: &str = "mapping";
/// Rows in the sample.
const SAMPLE_ROWS: usize = 1000;
/// Reasons that are shown, the most frequent first.
const REASONS: usize = 5;
/// Rows that are named per reason.
const NAMED: usize = 3;

/// Rows that make no lead for the same reason.
#[derive(Default)]
struct InvalidRows {
    rows: u64,
    first: Vec<String>,
}

pub(super) async fn of_rows(crm: &ConnectedCrm) -> anyhow::Result<Vec<CheckItem>> {
    let fitting = crm.fitting().await?;
    let mut batches = PreparedReading::new(crm, &fitting, ReadScope::All).sample(SAMPLE_ROWS).start(&crm.db);
    let (mut rows, mut valid) = (0_u64, 0_u64);
    let mut reasons: BTreeMap<String, InvalidRows> = BTreeMap::new();
    let mut notes: BTreeMap<String, InvalidRows> = BTreeMap::new();
    let mut doubts: BTreeMap<String, InvalidRows> = BTreeMap::new();
    let mut names = LeadNames::default();
    while let Some(batch) = batches.next().await? {
        for row in batch.lines().map(RowLine::row) {
            rows += 1;
            // `keys` counts rows without a key.
            let Some(key) = &row.key else { continue };
            let mapped = crm.mapping.map(&row);
            if let Ok(content) = &mapped.desired {
                valid += 1;
                names.add(content);
                for doubt in contact_quality::doubts(content) {
                    doubts.entry(doubt).or_default().add(key);
                }
            }
            for reason in mapped.desired.err().into_iter().flatten() {
                reasons.entry(reason).or_default().add(key);
            }
            for note in mapped.notes {
                notes.entry(note).or_default().add(key);
            }
        }
    }
    let text = format!("{valid} of {rows} sample rows make a valid lead");
    let mut items = vec![match (rows, valid) {
        (0, _) => CheckItem::warn(SECTION, "rows", "the source has no rows"),
        (_, 0) => CheckItem::fail(SECTION, "rows", text).cure("fix [lead], or the rows: the reasons follow"),
        _ => CheckItem::ok(SECTION, "rows", text),
    }];
    items.extend(most_frequent("reason", reasons));
    items.extend(most_frequent("note", notes));
    items.extend(most_frequent("doubt", doubts));
    items.extend(names::of_sample(&names));
    Ok(items)
}

impl InvalidRows {
    fn add(&mut self, key: &str) {
        self.rows += 1;
        if self.first.len() < NAMED {
            self.first.push(printable(key).into_owned());
        }
    }
}

/// The most frequent reasons, and the number of the others.
fn most_frequent(name: &'static str, reasons: BTreeMap<String, InvalidRows>) -> Vec<CheckItem> {
    let mut items = Vec::new();
    let mut reasons: Vec<_> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, unfit)| std::cmp::Reverse(unfit.rows));
    let more = reasons.len().saturating_sub(REASONS);
    for (why, InvalidRows { rows, first }) in reasons.into_iter().take(REASONS) {
        let ids = if u64::try_from(first.len()).is_ok_and(|named| named < rows) { "the first" } else { "id" };
        let text = format!("{rows} row(s): {why}; {ids}: {}", first.join(", "));
        items.push(CheckItem::warn(SECTION, name, text));
    }
    if more > 0 {
        let text = format!("{more} more {name}(s)");
        items.push(
            CheckItem::warn(SECTION, name, text)
                .cure(format!("`conversica-sync plan` shows each row with its {name}s")),
        );
    }
    items
}

/// Mapped columns that store whole numbers as floating-point ones, as in tables imported from a spreadsheet.
pub(super) async fn of_whole_numbers(crm: &ConnectedCrm) -> anyhow::Result<Vec<CheckItem>> {
    let fitting = crm.fitting().await?;
    let mut names: Vec<&str> = Vec::new();
    let mut tests = Vec::new();
    for name in crm.mapping.columns() {
        let Some(column) = columns::find(&crm.db, &fitting.columns, name) else { continue };
        let quoted = format!("t.{}", crm.db.dialect().quote(&column.name));
        let test = match &crm.db {
            SourceDb::Sqlite(_) if number::may_be_real(&column.plain_type) => number::is_whole(&quoted),
            SourceDb::Postgres(_) if number::is_float(&column.plain_type) => {
                format!("{quoted} = trunc({quoted}::float8)")
            }
            SourceDb::Mysql(_) if column.plain_type == "float" || column.plain_type == "double" => {
                format!("{quoted} = truncate({quoted}, 0)")
            }
            SourceDb::Sqlite(_) | SourceDb::Postgres(_) | SourceDb::Mysql(_) => continue,
        };
        names.push(name);
        tests.push(format!("case when {test} then 1 else 0 end"));
    }
    let mut found = Vec::new();
    let from = columns::from_clause(&crm.source);
    for (name, test) in names.into_iter().zip(tests) {
        let sql =
            format!("select count(*) from (select {test} as f from {from} limit {SAMPLE_ROWS}) as s where s.f = 1");
        if crm.db.fetch_number(sql).await.map_err(discreet::of_source)? > 0 {
            found.push(format!("\"{}\"", printable(name)));
        }
    }
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let text = format!(
        "column(s) {} hold whole numbers as floating-point ones (REAL): they are sent as whole numbers, 7 and not 7.0",
        found.join(", ")
    );
    Ok(vec![CheckItem::ok(SECTION, "whole_numbers", text)])
}

/// Optional keys that an operator misses later. The settings' own warnings cover `conversationId`.
pub(super) fn of_keys(settings: &ServiceSettings) -> Vec<CheckItem> {
    if settings.lead.published.contains_key(&LeadKey::OptOut) {
        return Vec::new();
    }
    let text = "optOut is not mapped: a person who has opted out in the CRM is written to all the same";
    vec![CheckItem::warn(SECTION, "optOut", text).cure("add under [lead]: optOut = \"<column>\"")]
}
