//! Reads a lead's row from the source by its key: one row, and only if the source answers soon. Writes nothing.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::config::ServiceSettings;
use crate::conversica::lead::LeadId;
use crate::rules::mapping::MappedRow;
use crate::rules::read_scope::ReadScope;
use crate::send::merge::interest::MergeInterest;
use crate::send::merge::{MergeItem, MergeRequest, RowMerge};
use crate::source::crm::ConnectedCrm;
use crate::store::state_db::StateDb;

/// The longest wait for the source, when an operator asks about one lead.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same for notes, which are optional.
const BRIEFLY: Duration = Duration::from_secs(2);

/// The notes on the lead's present row: cleaned values and omitted keys. `None` where the source does not answer soon.
pub async fn read_notes(
    settings: &ServiceSettings,
    state: &StateDb,
    lead: &LeadId,
    now: DateTime<Utc>,
) -> Option<Vec<String>> {
    let rows = find_rows(settings, state, &lead.id, Some(&lead.client_id), now);
    let rows = tokio::time::timeout(BRIEFLY, rows).await.ok()??;
    Some(rows.into_iter().flat_map(|row| row.notes).collect())
}

/// The rows with that id, of every client unless one is named; `None` where the source does not answer.
pub async fn find_rows(
    settings: &ServiceSettings,
    state: &StateDb,
    id: &str,
    client: Option<&str>,
    now: DateTime<Utc>,
) -> Option<Vec<MappedRow>> {
    let lead = LeadId { id: id.to_owned(), client_id: client.unwrap_or_default().to_owned() };
    let rows = async {
        let crm = ConnectedCrm::open(settings).await?;
        let fitting = crm.fitting().await?;
        let scope = ReadScope::Keys(vec![lead]);
        let mut merge =
            RowMerge::begin(&crm, state, &fitting, MergeRequest { scope, interest: MergeInterest::Everything, now })
                .await?;
        let mut rows = Vec::new();
        while let Some(item) = merge.next().await? {
            if let MergeItem::Row(mapped, _) = item {
                rows.push(*mapped);
            }
        }
        drop(merge);
        crm.db.close().await;
        anyhow::Ok(rows)
    };
    let mut rows = tokio::time::timeout(PATIENCE, rows).await.ok()?.ok()?;
    rows.retain(|row| client.is_none_or(|client| row.lead.client_id == client));
    Some(rows)
}
