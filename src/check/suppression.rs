//! `check` of `[consent] suppression_query`: whether it can be read, and how many it names.

use crate::check::item::CheckItem;
use crate::config::ServiceSettings;
use crate::rules::contact::ContactPoint;
use crate::source::crm::ConnectedCrm;
use crate::source::suppression_query::SuppressionValues;
use crate::wording::number;

/// Reads the whole answer; nothing without a query.
pub(super) async fn of_query(crm: &ConnectedCrm, settings: &ServiceSettings) -> anyhow::Result<Vec<CheckItem>> {
    let query = settings.consent.suppression_query.trim().trim_end_matches(';');
    if query.is_empty() {
        return Ok(Vec::new());
    }
    let (mut named, mut unreadable) = (0, 0);
    let mut values = SuppressionValues::read(&crm.db, query);
    while let Some(values) = values.next().await? {
        for value in values.iter().filter(|value| !value.trim().is_empty()) {
            *(if ContactPoint::parse(value).is_ok() { &mut named } else { &mut unreadable }) += 1;
        }
    }
    let found = |detail: String| format!("suppression_query {detail}");
    Ok(vec![match (named, unreadable) {
        (0, _) => CheckItem::warn("source", "suppression_query", found("returns no usable value".to_owned()))
            .cure("it should return one column of addresses, telephone numbers or domains"),
        (named, 0) => {
            CheckItem::ok("source", "suppression_query", found(format!("returns usable values: {}", number(named))))
        }
        (named, unreadable) => CheckItem::warn(
            "source",
            "suppression_query",
            found(format!("returns usable values: {}, unusable: {}", number(named), number(unreadable))),
        )
        .cure("values are ann@example.com, +15558675309 or example.com"),
    }])
}
