//! What `check` says of the mapping: how many real rows make a valid lead, why the others do not, and which keys that matter
//! nobody maps. Reasons name keys and columns; no value of a row is shown.

use std::collections::BTreeMap;

use crate::check::item::Item;
use crate::config::Settings;
use crate::console::printable;
use crate::conversica::lead::LeadKey;
use crate::crm::Crm;
use crate::crm::read::line::Line;
use crate::crm::read::{Reading, Scope};

const SECTION: &str = "mapping";
/// Rows that are mapped as a sample.
const SAMPLE_ROWS: usize = 1000;
/// Reasons that are shown, the most frequent first.
const REASONS: usize = 5;
/// Rows that are named for each.
const NAMED: usize = 3;

/// Rows that make no lead for the same reason.
#[derive(Default)]
struct Unfit {
    rows: u64,
    first: Vec<String>,
}

pub(super) async fn of_rows(crm: &Crm) -> anyhow::Result<Vec<Item>> {
    let fitting = crm.fitting().await?;
    let mut batches = Reading::new(crm, &fitting, Scope::All).sample(SAMPLE_ROWS).start(&crm.db);
    let (mut rows, mut valid) = (0, 0);
    let mut reasons: BTreeMap<String, Unfit> = BTreeMap::new();
    while let Some(batch) = batches.next().await? {
        for row in batch.lines().map(Line::row) {
            rows += 1;
            let Some(key) = &row.key else { return Err(crm.missing_keys().await?.into()) };
            match crm.mapping.map(&row).desired {
                Ok(_) => valid += 1,
                Err(why) => {
                    for reason in why {
                        let unfit = reasons.entry(reason).or_default();
                        unfit.rows += 1;
                        if unfit.first.len() < NAMED {
                            unfit.first.push(printable(key).into_owned());
                        }
                    }
                }
            }
        }
    }
    let text = format!("{valid} of {rows} sample rows make a valid lead");
    let mut items = vec![match (rows, valid) {
        (0, _) => Item::warn(SECTION, "rows", "the source has no rows"),
        (_, 0) => Item::fail(SECTION, "rows", text).cure("mend [lead], or the rows: the reasons follow"),
        _ => Item::ok(SECTION, "rows", text),
    }];
    let mut reasons: Vec<_> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, unfit)| std::cmp::Reverse(unfit.rows));
    let more = reasons.len().saturating_sub(REASONS);
    for (why, Unfit { rows, first }) in reasons.into_iter().take(REASONS) {
        let ids = if u64::try_from(first.len()).is_ok_and(|named| named < rows) { "the first" } else { "id" };
        let text = format!("{rows} row(s): {why}; {ids}: {}", first.join(", "));
        items.push(Item::warn(SECTION, "reason", text));
    }
    if more > 0 {
        let text = format!("{more} more reason(s)");
        items.push(Item::warn(SECTION, "reason", text).cure("`conversica-sync plan` shows each row with its reasons"));
    }
    Ok(items)
}

/// Keys that may be left out, and are missed later. Of `conversationId` the settings' own warnings speak.
pub(super) fn of_keys(settings: &Settings) -> Vec<Item> {
    if settings.lead.published.contains_key(&LeadKey::OptOut) {
        return Vec::new();
    }
    let text = "optOut is not mapped: whoever has opted out in the CRM is written to all the same";
    vec![Item::warn(SECTION, "optOut", text).cure("add under [lead]: optOut = \"<column>\"")]
}
