//! `check` of the names that Conversica matches to the letter: conversations and reps.

use crate::check::item::CheckItem;
use crate::console::printable;
use crate::rules::line::RowLine;
use crate::rules::name_counts::{LeadNames, NameCounts};
use crate::rules::read_scope::ReadScope;
use crate::source::crm::ConnectedCrm;
use crate::source::read::PreparedReading;
use crate::wording::number;

const SECTION: &str = "mapping";
/// Names and pairs in one item.
const NAMED: usize = 5;

/// The names in all valid rows of the source.
pub async fn of_all_rows(crm: &ConnectedCrm) -> anyhow::Result<LeadNames> {
    let fitting = crm.fitting().await?;
    let mut batches = PreparedReading::new(crm, &fitting, ReadScope::All).start(&crm.db);
    let mut names = LeadNames::default();
    while let Some(batch) = batches.next().await? {
        for row in batch.lines().map(RowLine::row) {
            if let Ok(content) = crm.mapping.map(&row).desired {
                names.add(&content);
            }
        }
    }
    Ok(names)
}

/// The items for the names in the sample.
pub(super) fn of_sample(names: &LeadNames) -> Vec<CheckItem> {
    let lists = [("conversations", &names.conversations), ("reps", &names.reps)];
    lists.into_iter().flat_map(|(name, counts)| of_names(name, counts)).collect()
}

fn of_names(name: &'static str, counts: &NameCounts) -> Vec<CheckItem> {
    let list = counts.list();
    let shown: Vec<String> = list
        .iter()
        .take(NAMED)
        .map(|counted| format!("{} ({})", quoted(&counted.name), number(counted.leads)))
        .collect();
    if shown.is_empty() || list.iter().all(|counted| counted.name.is_empty()) {
        return Vec::new();
    }
    let more = if list.len() > NAMED { format!(" and {} more", list.len() - NAMED) } else { String::new() };
    let mut items = vec![CheckItem::ok(SECTION, name, format!("{name} in the sample: {}{more}", shown.join(", ")))];
    let near = counts.near();
    if !near.is_empty() {
        let pairs: Vec<String> =
            near.iter().take(NAMED).map(|[a, b]| format!("{} and {}", quoted(a), quoted(b))).collect();
        let text = format!("{name} that look like one: {}", pairs.join(", "));
        let cure = format!(
            "Conversica matches names to the letter: compare with its own, fix the rows or translate them with `map`, and list the right \
             ones in [conversica] {name}"
        );
        items.push(CheckItem::warn(SECTION, name, text).cure(cure));
    }
    items
}

fn quoted(name: &str) -> String {
    if name.is_empty() { "(none)".to_owned() } else { format!("\"{}\"", printable(name)) }
}
